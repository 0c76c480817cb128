"""Copies, edits and diffs."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

WRONG = {"file": "lib.py", "find": "a - b", "replace": "a * b"}
RIGHT = {"file": "lib.py", "find": "a - b", "replace": "a + b"}


def _copy(workspace: ModuleType, repo: Path, target: Path, *edits: dict[str, str]) -> Path:
    workspace.copy_with([workspace.Edit(**edit) for edit in edits], repo, target)
    return target


def test_a_copy_is_made_once(workspace, repo, tmp_path):
    target = _copy(workspace, repo, tmp_path / "work/round-1", RIGHT)
    assert "a + b" in (_copy(workspace, repo, target, WRONG) / "lib.py").read_text()


def test_a_patch_that_is_refused_leaves_nothing_behind(workspace, repo, tmp_path):
    with pytest.raises(workspace.EditRefused):
        _copy(workspace, repo, tmp_path / "work/round-1", RIGHT, RIGHT)
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ({"file": "../outside.py", "find": "", "replace": "x"}, "outside"),
        ({"file": "/etc/passwd", "find": "root", "replace": "x"}, "outside"),
        ({"file": "lib.py", "find": "not there", "replace": "x"}, "0 times"),
        ({"file": "lib.py", "find": "a", "replace": "x"}, "3 times"),
        ({"file": "missing.py", "find": "a", "replace": "x"}, "0 times"),
        ({"file": "tests/test_lib.py", "find": "== 5", "replace": "!= 5"}, "judge"),
    ],
)
def test_an_edit_that_cannot_be_made_is_refused_with_its_reason(workspace, repo, tmp_path, edit, reason):
    with pytest.raises(workspace.EditRefused, match=reason):
        _copy(workspace, repo, tmp_path / "work/round-1", edit)


def test_a_new_file_may_be_made(workspace, repo, tmp_path):
    edit = {"file": "more/new.py", "find": "", "replace": "x = 1\n"}
    assert (_copy(workspace, repo, tmp_path / "work/round-1", edit) / "more/new.py").read_text() == "x = 1\n"


def test_a_work_directory_inside_the_repository_is_not_copied_into_itself(workspace, repo):
    _copy(workspace, repo, repo / "work/original")
    second = _copy(workspace, repo, repo / "work/round-1")
    assert sorted(path.name for path in second.iterdir()) == ["lib.py", "tests"]


def test_the_diff_names_what_changed(workspace, repo, tmp_path):
    after = _copy(workspace, repo, tmp_path / "work/round-1", RIGHT)
    assert workspace.diff(repo, after).splitlines() == [
        "--- a/lib.py",
        "+++ b/lib.py",
        "@@ -1,2 +1,2 @@",
        " def add(a, b):",
        "-    return a - b",
        "+    return a + b",
    ]
