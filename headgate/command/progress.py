"""How far a long reading is, on a terminal. Used by the commands that read whole logs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
