"""Tests of a copy really run, and nothing around it has a say."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

WRONG = {"file": "lib.py", "find": "a - b", "replace": "a * b"}
RIGHT = {"file": "lib.py", "find": "a - b", "replace": "a + b"}


def _copy(workspace: ModuleType, repo: Path, target: Path, *edits: dict[str, str]) -> Path:
    workspace.copy_with([workspace.Edit(**edit) for edit in edits], repo, target)
    return target


async def _tests_pass(workspace: ModuleType, directory: Path) -> bool:
    return (await workspace.run_pytest(directory, sys.executable, 60)).passed


@pytest.mark.parametrize(("edit", "passes"), [(None, False), (WRONG, False), (RIGHT, True)])
def test_the_tests_of_a_copy_decide_about_a_patch(workspace, repo, tmp_path, run, edit, passes):
    copy = _copy(workspace, repo, tmp_path / "work/round-1", *([edit] if edit else []))
    assert run(_tests_pass(workspace, copy)) is passes
    assert "a - b" in (repo / "lib.py").read_text()


def test_tests_that_hang_are_killed(workspace, repo, run):
    (repo / "tests/test_lib.py").write_text("import time\n\ndef test_hangs():\n    time.sleep(600)\n")
    report = run(workspace.run_pytest(repo, sys.executable, 2))
    assert not report.passed
    assert "within 2 s" in report.output


def test_code_under_test_sees_no_keys(workspace, repo, run, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    (repo / "tests/test_lib.py").write_text(
        "import os\n\ndef test_no_key():\n    assert 'OPENAI_API_KEY' not in os.environ\n"
    )
    assert run(_tests_pass(workspace, repo))


def test_settings_of_a_project_around_the_copy_do_not_count(workspace, repo, run):
    (repo.parent / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    (repo.parent / "conftest.py").write_text("raise RuntimeError('not ours')\n")
    (repo / "lib.py").write_text("def add(a, b):\n    return a + b\n")
    assert run(_tests_pass(workspace, repo))
