"""Runs a graph and watches it: `headgate run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headgate.command.place import Place
from headgate.command.verb import verb

Priority = Annotated[
    int,
    typer.Option(
        "--priority",
        metavar="N",
        min=-(2**31),
        max=2**31 - 1,
        help="Higher goes first where the graph caps what is in flight.",
    ),
]


def run(
    place: Place,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="A directory with graph.yaml and handlers, a YAML file, or a module."
        ),
    ],
    input: Annotated[
        str | None,
        typer.Option(
            "--input", metavar="JSON|@FILE|TEXT", help="What the run works on: JSON, @file, or plain text."
        ),
    ] = None,
    policy: Annotated[
        list[Path] | None,
        typer.Option(
            "--policy",
            metavar="FILE",
            help="Policy to put in force; repeatable. (default: policy.yaml in PATH, if any)",
        ),
    ] = None,
    lifetime: Annotated[
        str | None,
        typer.Option("--lifetime", metavar="ID", help="Go on with this lifetime, or give a new one its id."),
    ] = None,
    handlers: Annotated[
        list[Path] | None,
        typer.Option("--handlers", metavar="PATH", help="More handlers, beside those in PATH; repeatable."),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="DURATION", help="Stop watching after this time, such as 10m."),
    ] = None,
    priority: Priority = 0,
) -> int:
    """Run a graph to its end and show what it does and spends.

    On the embedded log the gate and the workers run inside this command. On Kafka it registers, starts and
    follows; `headgate gate` and `headgate worker` do the work.

    Exit codes: 0 completed, 3 aborted, 4 paused, 5 failed, 6 still running when --timeout was over,
    2 when what you gave is wrong.
    """
    from headgate.command.watching import RunRequest, run_and_watch

    return run_and_watch(
        place,
        RunRequest(path, input, tuple(policy or ()), lifetime, tuple(handlers or ()), timeout, priority),
    )


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    verb(
        app,
        "run",
        example="""headgate run demo
        headgate run examples/coding_agent --policy examples/coding_agent/policies/tight.yaml
        headgate run demo --input '{"topic": "logs"}' --timeout 10m --json
        headgate run demo --kafka localhost:9092 --tenant acme""",
    )(run)
