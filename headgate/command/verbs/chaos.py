"""chaos: gates and workers at work on a broker while something breaks, then a verdict."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.command.place import Place
from headgate.command.verb import verb

if TYPE_CHECKING:
    from headgate_resilience.chaos.faults.fault import Fault
    from headgate_resilience.chaos.settings import ChaosSettings

Faults = Annotated[
    list[str] | None,
    typer.Option(
        "--fault",
        metavar="NAME",
        help="What to break: F1 to F21, one by its full name, mix, or none; repeatable. (default mix)",
    ),
]
Duration = Annotated[
    str, typer.Option("--duration", metavar="TIME", help="How long to break things, such as 60s or 30m.")
]
Kills = Annotated[
    int, typer.Option("--kills", metavar="N", min=0, help="Go on until so many processes were killed.")
]
Seed = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="Where every choice is drawn from. (default: drawn)")
]
Gates = Annotated[int, typer.Option("--gates", metavar="N", min=1, max=50)]
Workers = Annotated[int, typer.Option("--workers", metavar="N", min=2, max=200, help="Half for tasks.")]
Tenants = Annotated[int, typer.Option("--tenants", metavar="N", min=1, max=10_000)]
Rate = Annotated[float, typer.Option("--rate", metavar="N", min=0.1, help="Lifetimes started a second.")]
AtOnce = Annotated[int, typer.Option("--at-once", metavar="N", min=1, max=10, help="Faults at a time.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Where report and logs go. (default chaos-SEED)"),
]
List = Annotated[bool, typer.Option("--list", help="Explain the faults and do nothing.")]


def chaos(
    place: Place,
    fault: Faults = None,
    seed: Seed = None,
    duration: Duration = "60s",
    kills: Kills = 0,
    gates: Gates = 2,
    workers: Workers = 4,
    tenants: Tenants = 20,
    rate: Rate = 10.0,
    at_once: AtOnce = 1,
    out: Out = None,
    list_: List = False,
) -> int | None:
    """Break things while gates and workers are at work, then check every promise from the raw topics.

    It makes topics of its own on the broker, starts gates and workers as processes, starts lifetimes, injects
    faults drawn from the seed, heals, waits until all has ended, and lets the checker judge. The report, with
    recovery times and a plot, is in the directory it names. Exit code 1 when a promise was broken.
    """
    from headgate_resilience.chaos.faults.catalogue import named
    from headgate_resilience.chaos.settings import ChaosSettings

    if list_:
        _list(place)
        return None
    chosen = named(fault or ["mix"])
    seed = int(time.time()) % 100_000 if seed is None else seed
    settings = ChaosSettings(
        seed=seed,
        gates=gates,
        workers=workers,
        tenants=tenants,
        rate=rate,
        duration_s=_seconds(duration),
        kills=kills,
        at_once=at_once,
        out=out or Path(f"chaos-{seed}"),
    )
    return _run(place, settings, chosen)


def _run(place: Place, settings: ChaosSettings, faults: list[Fault]) -> int:
    from headgate.command.faults import one_line
    from headgate.command.printing import say, say_json
    from headgate_resilience.chaos.run import Wanted, run_chaos

    began = time.monotonic()

    def tell(line: str) -> None:
        typer.echo(one_line(f"{time.monotonic() - began:6.1f} s  {line}"), err=True)

    report = run_chaos(Wanted(settings, place.settings(), faults), tell)
    if place.json:
        say_json(report.to_json())
    else:
        for line in report.lines():
            say(line)
    return int(report.violated)


def _seconds(text: str) -> float:
    from headgate_graphs.errors import UserError
    from headgate_graphs.units import parse_duration

    try:
        return parse_duration(text) / 1000
    except ValueError as error:
        raise UserError(f"--duration: {error}") from None


def _list(place: Place) -> None:
    from headgate.command.printing import say_json, say_table
    from headgate_resilience.chaos.faults.catalogue import faults

    if place.json:
        say_json([{"id": f.id, "name": f.name, "text": f.text, "needs": sorted(f.needs)} for f in faults()])
        return
    rows = [(f.name, f.text, ", ".join(sorted(f.needs))) for f in faults()]
    say_table(("fault", "what it does", "needs"), rows)


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    verb(
        app,
        "chaos",
        example="""
        headgate chaos --list
        headgate chaos --kafka localhost:9092 --fault mix --seed 4711 --duration 60s
        headgate chaos --kafka localhost:9092 --fault F1 --fault F2
        """,
    )(chaos)
