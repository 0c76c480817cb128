"""The page on guarantees names tests that exist, and says for every promise which one shows it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.house.pages import code, table_of
from tests.house.tree import ROOT

PAGE = ROOT / "docs/guarantees.md"


@cache
def functions_in(path: Path) -> frozenset[str]:
    """Return the names of a module's test functions."""
    tree = ast.parse(path.read_text())
    return frozenset(one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef))


def shown_by(text: str) -> Iterator[str]:
    """Yield what a text names as a test: a path, or a path and a function."""
    yield from (one for one in code(text) if one.startswith("tests/"))


def exists(named: str) -> bool:
    path, _, function = named.partition("::")
    file = ROOT / path
    return file.is_file() and (not function or function in functions_in(file))


@pytest.mark.parametrize("named", sorted(set(shown_by(PAGE.read_text()))))
def test_a_test_that_the_page_names_exists(named: str) -> None:
    assert exists(named)
    assert re.match(r"test_", Path(named.partition("::")[0]).name)


def test_every_promise_says_which_test_shows_it() -> None:
    rows = table_of("guarantees", "promises").rows
    assert [row["promise"] for row in rows if not list(shown_by(row["shown by"]))] == []


def test_a_name_that_is_not_there_would_be_noticed() -> None:
    assert not exists("tests/house/test_guarantees.py::test_that_nobody_wrote")
    assert not exists("tests/house/test_that_nobody_wrote.py")
