from __future__ import annotations

from pathlib import Path

import pytest

from headgate.command.inputs import read_input, read_json
from headgate_graphs.errors import UserError


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (None, None),
        ('{"a": 1}', {"a": 1}),
        ("[1, 2]", [1, 2]),
        ("12", 12),
        ("true", True),
        ("fix the parser", "fix the parser"),
        ('"quoted"', "quoted"),
        ("", ""),
        ("NaN", "NaN"),
    ],
)
def test_input_is_json_or_plain_text(given: str | None, value: object) -> None:
    assert read_input(given) == value


def test_input_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "issue.json").write_text('{"title": "it breaks"}')
    (tmp_path / "issue.txt").write_text("it breaks\n")
    assert read_input(f"@{tmp_path}/issue.json") == {"title": "it breaks"}
    assert read_input(f"@{tmp_path}/issue.txt") == "it breaks\n"


def test_a_json_file_must_be_json(tmp_path: Path) -> None:
    (tmp_path / "issue.json").write_text("it breaks")
    with pytest.raises(UserError, match=r"issue.json:1:1: not JSON"):
        read_input(f"@{tmp_path}/issue.json")


@pytest.mark.parametrize("given", ['{"a": }', "[1,", '{"a": NaN}', "[1e999]", "[" * 5000])
def test_what_begins_like_json_must_be_json(given: str) -> None:
    with pytest.raises(UserError, match="not JSON"):
        read_input(given)


def test_a_missing_file_and_bytes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="No such file"):
        read_input(f"@{tmp_path}/none.json")
    with pytest.raises(UserError, match="not UTF-8"):
        read_input(f"@{tmp_path}/image")


def test_strict_json_takes_no_text() -> None:
    with pytest.raises(UserError, match=r"--answer:1:1: not JSON"):
        read_json("yes please", "--answer")
