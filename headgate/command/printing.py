"""Writes answers: JSON for scripts, tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from headgate.command.faults import one_line

if TYPE_CHECKING:
    from rich.console import Console


def console(*, stderr: bool = False) -> Console:
    """Return a console; as wide as the text needs when the output is not a terminal."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    return (
        made
        if made.is_terminal
        else Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=200, soft_wrap=True)
    )


def say(text: str) -> None:
    """Write one escaped line to stdout, at once."""
    sys.stdout.write(one_line(text) + "\n")
    sys.stdout.flush()


def say_json(value: Any) -> None:
    """Write one JSON document to stdout, on one line, at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def say_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Write a table; the columns named in `right` hold numbers."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(one_line(cell) for cell in row))
    console().print(table)


def message_to_dict(message: Any) -> dict[str, Any]:
    """Return a protobuf message as plain data with the IDL's field names."""
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=False
    )
