"""The built wheel, installed alone into an empty environment outside the repository, runs a new project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.e2e.running import ROOT

LEFT_OUT = (".git", ".venv", ".build", "node_modules", ".headgate", ".mypy_cache", ".ruff_cache", "*_pb2.py*")
TIMEOUT_S = 280.0


def run(arguments: list[str | Path], cwd: Path) -> str:
    """Run to the end in an environment without Headgate's variables; return what was printed."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HEADGATE_", "PYTHONPATH"))}
    done = subprocess.run(
        [str(part) for part in arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def test_the_wheel_runs_a_new_project_outside_the_repository(tmp_path: Path) -> None:
    # A copy, because the build makes the protobuf classes beside their sources.
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*LEFT_OUT))
    wheels = tmp_path / "wheels"
    run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", wheels, tree], tmp_path)
    (wheel,) = wheels.glob("headgate-*.whl")
    venv = tmp_path / "venv"
    run([sys.executable, "-m", "venv", venv], tmp_path)
    pinned = ROOT / "constraints.txt"
    run([venv / "bin" / "pip", "install", "--quiet", "-c", pinned, wheel], tmp_path)
    away = tmp_path / "away"
    away.mkdir()
    headgate = venv / "bin" / "headgate"
    run([headgate, "init", "demo"], away)
    assert "COMPLETED" in run([headgate, "run", "demo"], away)
    where = run([venv / "bin" / "python", "-c", "import headgate; print(headgate.__file__)"], away)
    assert where.startswith(str(venv))
