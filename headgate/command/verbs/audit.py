"""The group `audit`: what is kept of the log, and what is erased from it."""

from __future__ import annotations

import typer

from headgate.command.verbs import archives, erase


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    audit = typer.Typer(no_args_is_help=True, help="Archives of the log; erase what was sealed.")
    archives.add_to(audit)
    erase.add_to(audit)
    app.add_typer(audit, name="audit")
