"""A machine without Java, Go and Docker skips and says how to get them; in CI that is a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_without_programs(tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HEADGATE_", "CI", "PYTEST_"))
    }
    bare = {**kept, "PATH": str(tmp_path), "HEADGATE_CACHE": str(tmp_path / "cache"), **env}
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-n0",
        "-p",
        "no:cacheprovider",
        "tests/integration/test_servers.py",
    ]
    return subprocess.run(argv, cwd=ROOT, env=bare, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("server", "program"), [("Kafka", "Java 17"), ("MinIO", "Go")])
def test_missing_server_is_a_skip_that_says_how_to_get_one(tmp_path: Path, server: str, program: str) -> None:
    done = run_without_programs(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "3 skipped" in done.stdout
    lines = [
        line for line in done.stdout.splitlines() if line.startswith("SKIPPED") and f"no {server}" in line
    ]
    assert lines
    assert all(f"install {program}" in line for line in lines)


def test_missing_server_is_a_failure_in_ci(tmp_path: Path) -> None:
    done = run_without_programs(tmp_path, CI="true")
    assert done.returncode == 1
    assert "3 errors" in done.stdout
    assert "in CI this is a failure" in done.stdout
