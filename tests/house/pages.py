"""Reads the pages that people read: their tables, their code blocks, what they name in code.

A table that a test checks stands behind a comment that says what it is about:

    <!-- table: model headgate_graphs.model.GraphLimits -->
    | field | type | default | meaning |

The first word says which test checks it, the rest is its subject.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, NamedTuple

from tests.house.tree import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

_TABLE = re.compile(r"^<!-- table: (\w+) ?(.*?) -->\n+((?:\|.*\n)+)", re.MULTILINE)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CELL = re.compile(r"(?<!\\)\|")


class Table(NamedTuple):
    """One table that is checked."""

    page: str
    kind: str
    subject: str
    rows: list[dict[str, str]]
    """Cells by the column's heading, lower case."""

    def first(self) -> list[str]:
        """Return what the first column names, without back-quotes."""
        return [code(next(iter(row.values())))[0] for row in self.rows]


def tables(kind: str) -> list[Table]:
    """Return every checked table of a kind, on all pages."""
    return [table for page in PAGES for table in _tables(page) if table.kind == kind]


def table_of(kind: str, subject: str) -> Table:
    """Return the one table of a kind about a subject."""
    found = [table for table in tables(kind) if table.subject == subject]
    assert len(found) == 1, f"{len(found)} tables {kind} {subject}, not one"
    return found[0]


def _tables(page: Path) -> list[Table]:
    name = page.relative_to(ROOT).as_posix()
    return [
        Table(name, kind, subject, _rows(body)) for kind, subject, body in _TABLE.findall(page.read_text())
    ]


def _rows(body: str) -> list[dict[str, str]]:
    lines = [[cell.strip() for cell in _CELL.split(line)[1:-1]] for line in body.splitlines()]
    headings = [heading.lower() for heading in lines[0]]
    assert all(len(line) == len(headings) for line in lines), f"a row of another width under {headings}"
    return [dict(zip(headings, line, strict=True)) for line in lines[2:]]


def code(cell: str) -> list[str]:
    """Return what a cell or a page names between back-quotes."""
    return [text.replace("\\|", "|") for text in re.findall(r"`([^`]+)`", cell)]


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language; "" for those that name none."""
    return [text for named, text in _BLOCK.findall(page.read_text()) if named == language]


def named(dotted: str) -> Any:
    """Return the object with a dotted name."""
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)
