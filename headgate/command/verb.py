"""Turns a function into a command with the common options: where, whose, --json, --debug."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from headgate.command.place import Place

_PANEL = "Where and how"

Local = Annotated[
    Path | None,
    typer.Option(
        "--local",
        metavar="DIR",
        help="Use the embedded log in this directory; no server needed. (HEADGATE_LOCAL; default .headgate)",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Kafka = Annotated[
    str | None,
    typer.Option(
        "--kafka",
        metavar="BOOTSTRAP",
        help="Use Kafka at host:port\\[,host:port\\]. (HEADGATE_KAFKA)",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Archive = Annotated[
    str | None,
    typer.Option(
        "--archive",
        metavar="URL",
        help="Read this archive in place of a log: file:///dir or s3://bucket/prefix. (HEADGATE_ARCHIVE)",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
TenantOption = Annotated[
    str | None,
    typer.Option(
        "--tenant",
        metavar="TENANT",
        help="Whose work is meant. (HEADGATE_TENANT; default 'default')",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
PlacementOption = Annotated[
    str | None,
    typer.Option(
        "--placement",
        metavar="TENANT",
        help="Work on the topics of this tenant's own, not on the shared ones. (HEADGATE_PLACEMENT)",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for scripts.", rich_help_panel=_PANEL)]
Debug = Annotated[bool, typer.Option("--debug", help="Show the trace of an error.", rich_help_panel=_PANEL)]

_COMMON: dict[str, tuple[Any, Any]] = {
    "local": (Local, None),
    "kafka": (Kafka, None),
    "archive": (Archive, None),
    "tenant": (TenantOption, None),
    "placement": (PlacementOption, None),
    "json": (Json, False),
    "debug": (Debug, False),
}

Verb = Callable[..., int | None]


def verb(app: typer.Typer, name: str, *, example: str = "") -> Callable[[Verb], Verb]:
    """Register a function as a command of `app`; its first parameter receives the Place.

    The function returns its exit code, None for 0. Its docstring is the help, `example` stands below it.
    """

    def register(function: Verb) -> Verb:
        text = _help(function)
        first = text.partition("\n")[0]
        app.command(name, help=text, epilog=_epilog(example), short_help=first)(_with_place(function))
        return function

    return register


def _with_place(function: Verb) -> Verb:
    @functools.wraps(function)
    def command(**given: Any) -> int | None:
        common = {name: given.pop(name) for name in _COMMON}
        return function(Place(**common), **given)

    own = list(inspect.signature(function).parameters.values())[1:]
    hints = get_type_hints(function, include_extras=True)
    parameters = [
        inspect.Parameter(p.name, p.KEYWORD_ONLY, default=p.default, annotation=hints[p.name]) for p in own
    ] + [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _COMMON.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    del command.__wrapped__
    return command


def _help(function: Verb) -> str:
    """Return the docstring with each paragraph on one line, so that the terminal's width wraps it."""
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _epilog(example: str) -> str | None:
    if not example:
        return None
    lines = [line.strip() for line in example.strip().splitlines()]
    return "[bold]For example[/bold]\n\n" + "\n\n".join(f"  [cyan]{line}[/cyan]" for line in lines)
