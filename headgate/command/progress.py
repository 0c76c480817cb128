"""How far a long reading is, on a terminal, and its report in a file. Used by what reads whole logs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headgate.command.place import Place


@contextmanager
def reading_progress(place: Place) -> Iterator[Callable[[int, int], None] | None]:
    """Show on a terminal how far the reading is."""
    from headgate.command.printing import console

    shown = console(stderr=True)
    if place.json or not shown.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("records"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=shown, transient=True) as bar:
        task = bar.add_task("records", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def write_report(path: Path, found: dict[str, Any]) -> None:
    """Write what `--report` asks for, as JSON; raises UserError."""
    from headgate_graphs.errors import UserError

    try:
        path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--report {path}: cannot be written: {error.strerror}") from error
