"""Is everything as it must be? `check` recomputes the invariants from the raw topics and says what is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.command.inputs import need_directory, need_log
from headgate.command.place import Place
from headgate.command.progress import reading_progress, write_report
from headgate.command.verb import verb

if TYPE_CHECKING:
    from headgate_resilience.check import Report

VIOLATED = 1
"""Exit code when an invariant is broken."""


def check(
    place: Place,
    settled: Annotated[
        bool,
        typer.Option(
            "--settled",
            help="The workload is over: what has not ended is lost, and what is not read is a violation.",
        ),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Write the report to this file, too, as JSON."),
    ] = None,
    canary: Annotated[
        list[str] | None,
        typer.Option(
            "--canary",
            metavar="TENANT=STRING",
            help="A string that only this tenant may have; give it again for more. "
            "What reads canary-<tenant>-… is found by itself.",
        ),
    ] = None,
    logs: Annotated[
        Path | None,
        typer.Option("--logs", metavar="DIR", help="Search these log files for canaries, too."),
    ] = None,
) -> int:
    """Check the invariants I1 to I14 on the raw topics, with a verdict on each.

    Everything is worked out anew from the records, by code of its own: what was started and what ended, what
    each run cost, what was dispatched after a stop, which join went on with what. Nothing is written. It may
    run beside gates and workers: then it looks at what the gates have committed.

    With --tenant it judges the records of that tenant alone. The exit code is 1 when an invariant is broken.
    """
    from headgate.client import Client
    from headgate.command.printing import say_json
    from headgate_resilience.check import check_log

    canaries = canaries_of(canary or ())
    if logs is not None:
        need_directory(logs, "--logs")
    settings = place.settings()
    need_log(settings)
    with Client.open(settings) as client, reading_progress(place) as progress:
        found = check_log(
            client.log,
            client.blobs,
            settings,
            settled=settled,
            canaries=canaries,
            progress=progress,
            logs=logs,
            tenant=place.tenant or "",
        )
    if report is not None:
        write_report(report, found.to_json())
    if place.json:
        say_json(found.to_json())
    else:
        _say(found)
    return VIOLATED if found.violated else 0


def canaries_of(given: Sequence[str]) -> dict[str, str]:
    """Return the strings by tenant; raises UserError."""
    from headgate_graphs.errors import UserError
    from headgate_graphs.ids import is_tenant_id

    found = {}
    for one in given:
        tenant, equals, text = one.partition("=")
        if not equals or not is_tenant_id(tenant) or len(text) < 4:
            raise UserError(
                f"--canary {one[:64]!a}: write TENANT=STRING, with a string of 4 or more characters"
            )
        found[tenant] = text
    return found


def _say(found: Report) -> None:
    from headgate.command.printing import say

    for line in found.lines():
        say(line)


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    example = "headgate check --settled --report report.json\nheadgate check --kafka localhost:9092 --json"
    verb(app, "check", example=example)(check)
