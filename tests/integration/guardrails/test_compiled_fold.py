"""The fold as machine code decides what the fold as it is written decides, byte for byte."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hatch_build import compile_fold, compiled

ROOT = Path(__file__).parents[3]
WORLDS, STEPS = 30, 200
FOLDED = f"""
import hashlib, json
from headgate_guardrails.fold.snapshot import digest
from headgate_guardrails.folding import IS_COMPILED
from tests.unit.guardrails.test_fold_properties import world_of

found = []
for seed in range({WORLDS}):
    world = world_of(seed, {STEPS})
    said = hashlib.sha256(b"".join(world.said)).hexdigest()
    found.append([len(world.said), said, digest(world.engine.state)])
print(json.dumps([IS_COMPILED, found]))
"""


def folded(guardrails: Path) -> Any:
    """Return whether a fold is compiled, and what it made of the worlds, each checked by the oracle."""
    environment = {**os.environ, "PYTHONPATH": str(guardrails)}
    done = subprocess.run(
        [sys.executable, "-c", FOLDED],
        cwd=ROOT,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        timeout=300,
    )
    return json.loads(done.stdout)


def source_in(folder: Path) -> Path:
    """Copy what the fold is made from, as it is written."""
    shutil.copytree(
        ROOT / "guardrails", folder / "guardrails", ignore=shutil.ignore_patterns("*.so", "*.pyd")
    )
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder / "guardrails"


@pytest.mark.timeout(900)
def test_compiled_fold_decides_the_same(tmp_path: Path) -> None:
    written, made = source_in(tmp_path / "written"), source_in(tmp_path / "made")
    try:
        libraries = compile_fold(made.parent)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no C compiler with Python's headers: {error}")
    assert libraries == list(compiled(made.parent))
    is_compiled, found = folded(made)
    assert (is_compiled, len(found)) == (True, WORLDS)
    assert folded(written) == [False, found]
