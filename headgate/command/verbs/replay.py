"""The log once more: replay verify, backtest. No handler is called, and nothing is written to the log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.command.inputs import need_log
from headgate.command.moments import read_moment
from headgate.command.place import Place
from headgate.command.progress import reading_progress, write_report
from headgate.command.verb import verb
from headgate.command.verbs import fork, what_if

if TYPE_CHECKING:
    from headgate_replay.reading.moments import Moment, Range

DIVERGED = 1
"""Exit code when the log does not lead to what was said."""

From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="WHERE",
        help="Begin with this offset, or with this time: an age such as 2h, or ISO 8601.",
    ),
]
To = Annotated[
    str | None, typer.Option("--to", metavar="WHERE", help="End before this offset or time; so, too.")
]
FromCheckpoint = Annotated[
    bool,
    typer.Option(
        "--from-checkpoint",
        help="Take the state before it from the newest checkpoint, not from the log's beginning.",
    ),
]
Rate = Annotated[
    float,
    typer.Option("--rate", metavar="N", min=0, help="Read at most so many records a second."),
]
Partitions = Annotated[
    list[int] | None,
    typer.Option("--partition", metavar="N", min=0, help="Only this partition; give it again for more."),
]
Processes = Annotated[
    int | None,
    typer.Option("--processes", metavar="N", min=1, help="Work in so many; the default is one a core."),
]
Report = Annotated[
    Path | None, typer.Option("--report", metavar="FILE", help="Write the report to this file, too, as JSON.")
]


def replay_verify(
    place: Place,
    first: From = None,
    end: To = None,
    from_checkpoint: FromCheckpoint = False,
    partition: Partitions = None,
    processes: Processes = None,
    rate: Rate = 0.0,
    report: Report = None,
) -> int:
    """Fold the log again and compare every output and every checkpoint with what was said then.

    Dispatches, control events, views and dead letters are compared byte for byte, the states with the digests
    of the checkpoints. The first difference of each partition is named with both values, the record it comes
    from and the rules that spoke. With --tenant, that tenant's outputs alone are compared. No group is
    joined.

    The exit code is 1 when something differs.
    """
    from headgate.client import Client
    from headgate.command.printing import say, say_json
    from headgate_replay.verify import VerifyInput, verify_log
    from headgate_streams.collector import spare_the_collector

    settings = place.settings()
    need_log(settings)
    asked = VerifyInput(
        range=_range(first, end),
        tenant=place.tenant or "",
        partitions=frozenset(partition or ()),
        from_checkpoint=from_checkpoint,
        processes=processes or os.cpu_count() or 1,
        records_per_s=rate,
    )
    with Client.open(settings) as client, reading_progress(place) as progress:
        spare_the_collector()
        found = verify_log(client.log, client.blobs, settings, asked, progress)
    if report is not None:
        write_report(report, found.to_json())
    if place.json:
        say_json(found.to_json())
    else:
        for line in found.lines():
            say(line)
    return DIVERGED if found.divergences else 0


def replay_backtest(
    place: Place,
    policy: Annotated[
        list[Path],
        typer.Option("--policy", metavar="FILE", help="The draft; give it again to compare several."),
    ],
    first: From = None,
    end: To = None,
    add: Annotated[
        bool,
        typer.Option("--add", help="Put it in force from the beginning, also where none has its name."),
    ] = False,
    from_checkpoint: FromCheckpoint = False,
    rate: Rate = 0.0,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw the course of spend: .png, .svg, .pdf."),
    ] = None,
    report: Report = None,
) -> None:
    """Try a draft of a policy on what has happened: what it would have rejected, paused, aborted, throttled.

    The draft takes the place of the policy of its name, wherever that is in force; --tenant tries it for one
    tenant alone. What came of executions that it would not have dispatched is left out, and is what it saves.
    Runs that completed, and that it would have stopped, are named. The policy that was live gives exactly the
    live verdicts. Nothing is written to the log, no handler is called, no group is joined.
    """
    from headgate.client import Client
    from headgate.command.printing import say_json
    from headgate.command.views.backtest import say_backtest
    from headgate_guardrails.policy import load_policy
    from headgate_replay.backtest import BacktestInput, backtest_log
    from headgate_replay.backtest.chart import check_plot, draw
    from headgate_streams.collector import spare_the_collector

    if plot is not None:
        check_plot(plot)
    settings = place.settings()
    need_log(settings)
    asked = BacktestInput(
        drafts=[(str(path), load_policy(path)) for path in policy],
        range=_range(first, end),
        tenant=place.tenant or "",
        added=add,
        from_checkpoint=from_checkpoint,
        records_per_s=rate,
    )
    with Client.open(settings) as client, reading_progress(place) as progress:
        spare_the_collector()
        found = backtest_log(client.log, client.blobs, settings, asked, progress)
    if plot is not None:
        draw(found, plot)
    if report is not None:
        write_report(report, found.to_json())
    if place.json:
        say_json(found.to_json())
    else:
        say_backtest(found)


def _range(first: str | None, end: str | None) -> Range:
    from headgate_replay.reading.moments import Range

    return Range(_moment(first, "--from"), _moment(end, "--to"))


def _moment(given: str | None, option: str) -> Moment | None:
    """Return what "1200", "2h" (so long ago) or "2026-01-31T12:00" mean; raises UserError."""
    from headgate_replay.reading.moments import Moment

    if given is not None and given.isascii() and given.isdigit():
        return Moment(offset=int(given[:18]))
    time_ms = read_moment(given, option)
    return Moment(time_ms=time_ms) if time_ms is not None else None


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    replay = typer.Typer(
        no_args_is_help=True,
        help="Read the log again: verify it, try policies or prices on it, or fork a run.",
    )
    verb(
        replay,
        "verify",
        example="""headgate replay verify --kafka localhost:9092 --report verify.json
        headgate replay verify --from 2h --from-checkpoint --tenant acme""",
    )(replay_verify)
    verb(
        replay,
        "backtest",
        example="""headgate replay backtest --policy draft.yaml --from 7d --plot spend.png
        headgate replay backtest --policy a.yaml --policy b.yaml --tenant acme --json""",
    )(replay_backtest)
    what_if.add_to(replay)
    fork.add_to(replay)
    app.add_typer(replay, name="replay")
