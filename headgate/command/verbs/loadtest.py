"""How fast, how far, how fair, and where it breaks: the verbs of `headgate loadtest`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.command.load_options import (
    FAILED,
    Asked,
    finish,
    lab_of,
    load_options,
    progress,
    write_out,
)
from headgate.command.place import Place
from headgate.command.verb import verb

if TYPE_CHECKING:
    from headgate_loadtest.result import LoadResult

Repeats = Annotated[
    int, typer.Option("--repeats", metavar="N", min=1, help="Medians are taken over so many.")
]


def run(place: Place, asked: Asked) -> int:
    """Run one load: arrivals are fixed beforehand, and nothing that comes back slows them down.

    Topics of their own and processes are made for it, unless --attach says that both are there. It ends with
    a check of the raw topics; the exit code is 1 when something was lost or doubled, or when the sender could
    not keep to its plan.
    """
    scenario = asked.load()
    with lab_of(place, asked) as lab:
        result = lab.run(scenario, checked=True)
    return finish(place, f"Load: {scenario.name}", [result], asked)


def soak(place: Place, asked: Asked) -> int:
    """Run one load for long (an hour unless --duration says otherwise), and say what grew meanwhile."""
    from dataclasses import replace

    from headgate.command.printing import say

    scenario = (asked if asked.duration else replace(asked, duration="1h")).load()
    with lab_of(place, asked) as lab:
        result = lab.run(scenario, checked=True)
    code = finish(place, f"Soak: {scenario.name}", [result], asked)
    if not place.json:
        for name, values in sorted(result.readings["rss_mb"].items()):
            quarter = max(1, len(values) // 4)
            first, last = values[quarter : 2 * quarter] or values, values[-quarter:]
            grown = sum(last) / len(last) - sum(first) / len(first)
            say(f"  {name}: {values[-1]:,.0f} MB, {grown:+,.1f} MB from the second quarter to the last")
    return code


def knee(
    place: Place,
    asked: Asked,
    p99: Annotated[
        float, typer.Option("--p99", metavar="MS", min=1, help="A rate above this p99 does not hold.")
    ] = 1_000.0,
    trial: Annotated[
        float, typer.Option("--trial", metavar="SECONDS", min=1, help="How long each rate is tried.")
    ] = 8.0,
    repeats: Repeats = 3,
) -> int:
    """Find the highest rate that is served in time: double until it is not, then bisect to 5 %."""
    from headgate.command.printing import say, say_json
    from headgate_loadtest.knee import Search, find_knee

    scenario = asked.load()
    with lab_of(place, asked) as lab:
        found = find_knee(scenario, Search(p99, trial, repeats), lab.run, progress)
        at_half = lab.run(
            scenario.model_copy(update={"name": "half-the-knee", "rate": max(found.rate / 2, 0.1)})
        )
    steps = found.rate * scenario.steps
    if place.json:
        say_json({"knee_runs_per_s": found.rate, "knee_steps_per_s": steps, "each": found.rates})
    else:
        each = ", ".join(f"{rate:,.1f}" for rate in found.rates)
        say(f"knee: {found.rate:,.1f} runs/s, {steps:,.0f} steps/s ({each})")
        response, loop = at_half.response.p99_ms, at_half.loop.p99_ms
        say(f"at half of it: response p99 {response:,.1f} ms, loop p99 {loop:,.1f} ms")
    if asked.out is not None:
        write_out(asked.out, f"Knee: {scenario.name}", [at_half], knee=found)
    return FAILED if at_half.faults or not found.rate else 0


def backlog(
    place: Place,
    asked: Asked,
    runs: Annotated[
        int, typer.Option("--runs", metavar="N", min=1, help="Runs that are built up.")
    ] = 100_000,
) -> int:
    """Build a backlog of runs while nothing serves, then start gate and workers and see it drained."""
    from headgate_loadtest.backlog import drain_backlog

    result = drain_backlog(place.settings(), asked.load(), runs, asked.how(), progress)
    return finish(place, f"Backlog of {runs:,} runs", [result], asked)


def fairness(
    place: Place,
    asked: Asked,
    factor: Annotated[
        float, typer.Option("--factor", metavar="N", min=1, help="How many times its share one tenant asks.")
    ] = 20.0,
    repeats: Repeats = 3,
) -> int:
    """Run a load without and with one tenant at twenty times its share, in turn; compare the others' p99."""
    from headgate.command.printing import say
    from headgate_loadtest.fairness import measure_fairness, others_p99_ms

    with lab_of(place, asked) as lab:
        found = measure_fairness(asked.load(), lab.run, factor, repeats)
    code = finish(place, "Fairness", found.results, asked)
    if not place.json:
        calm, noisy = others_p99_ms(found.calm), others_p99_ms(found.noisy)
        say(
            f"others' p99 with one tenant at {factor:g}x: {found.ratio:.2f} times what it was without"
            f" ({noisy:,.1f} ms, {calm:,.1f} ms)"
        )
    return code


def concurrency(
    place: Place,
    asked: Asked,
    runs: Annotated[int, typer.Option("--runs", metavar="N", min=1, help="Runs alive at once.")] = 10_000,
) -> int:
    """Keep so many runs alive at once, each in steps of 5 s unless --step-time says otherwise."""
    from headgate_loadtest.alive import alive_at_once

    with lab_of(place, asked) as lab:
        result = lab.run(alive_at_once(asked.load(), runs), checked=True)
    return finish(place, f"{runs:,} runs alive at once", [result], asked)


def baseline(
    place: Place,
    asked: Asked,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="N", min=1, help="How long each is measured.")
    ] = 5.0,
    in_flight: Annotated[
        int, typer.Option("--in-flight", metavar="N", min=1, help="Lifetimes under way in both.")
    ] = 256,
    synced: Annotated[
        bool, typer.Option("--synced", help="Both also with every batch synced (flush.messages=1).")
    ] = False,
    repeats: Repeats = 3,
) -> int:
    """Measure the product beside a hand-written Kafka loop with nothing in it, on one broker, in turn."""
    from headgate.command.printing import say, say_json
    from headgate_loadtest.baseline import Side, compare_with_bare_loop

    sides = [Side(in_flight, seconds, repeats), Side(1, seconds, repeats)]
    sides += [Side(in_flight, seconds, repeats, synced=True)] if synced else []
    how = asked.how()
    found = compare_with_bare_loop(place.settings(), asked.load(), sides, how.crew, how.logs, progress)
    if place.json:
        say_json(
            [
                {"in_flight": one.side.in_flight, "synced": one.side.synced, "ratio": round(one.ratio, 4)}
                | {name: [vars(p) for p in getattr(one, name)] for name in ("bare", "product")}
                for one in found
            ]
        )
        return 0
    for one in found:
        for line in one.lines():
            say(line)
    return 0


def compare(
    place: Place,
    asked: Asked,
    a: Annotated[
        str, typer.Argument(metavar="A", help="A result.json, or a scenario's YAML, or SETTING=VALUE.")
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="What it is compared with, of the same kind.")],
    repeats: Repeats = 3,
) -> int:
    """Compare two results, or two scenarios or two settings, which are run in turn: A, B, A, B."""
    from headgate.command.printing import say_json, say_table
    from headgate_loadtest.comparing import compare as rows_of

    left, right = _both(place, asked, a, b, repeats)
    rows = rows_of(left, right)
    if place.json:
        say_json([dict(zip(("figure", "a", "b", "ratio"), row, strict=True)) for row in rows])
    else:
        shown = [(name, f"{x:,.2f}", f"{y:,.2f}", f"{ratio:.2f}") for name, x, y, ratio in rows]
        say_table(("", a, b, "B/A"), shown, right=(a, b, "B/A"))
    return FAILED if any(one.faults for one in (*left, *right)) else 0


def _both(
    place: Place, asked: Asked, a: str, b: str, repeats: int
) -> tuple[list[LoadResult], list[LoadResult]]:
    from headgate_loadtest.comparing import in_turn
    from headgate_loadtest.result import read_result

    if a.endswith(".json") and b.endswith(".json"):
        return [read_result(Path(a))], [read_result(Path(b))]
    return in_turn(_runner(place, asked, a), _runner(place, asked, b), repeats)


def _runner(place: Place, asked: Asked, what: str) -> Any:
    from dataclasses import replace

    from headgate_graphs.errors import UserError
    from headgate_loadtest.lab import opened

    settings, mine = place.settings(), asked
    name, equals, value = what.partition("=")
    if equals:
        if name not in type(settings).model_fields:
            raise UserError(f"{what[:80]!a}: {name[:40]!a} is not a setting; see headgate config")
        settings = type(settings)(**{**settings.model_dump(exclude_unset=True), name: value})
    elif Path(what).suffix in (".yaml", ".yml"):
        mine = replace(asked, scenario=Path(what))
    else:
        raise UserError(
            f"{what[:80]!a} cannot be run: compare two results, or two of scenario.yaml and SETTING=VALUE"
        )

    def run_once() -> LoadResult:
        with opened(settings, mine.how(), progress) as lab:
            return lab.run(mine.load())

    return run_once


def record(
    place: Place,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the scenario is written.")],
    speed: Annotated[
        str, typer.Option("--speed", metavar="xN", help="How many times as fast as it was, such as x10.")
    ] = "x1",
) -> int:
    """Make a scenario from a real log: its arrivals, and the shape of what its runs did."""
    import yaml

    from headgate.command.printing import say
    from headgate_graphs.errors import UserError
    from headgate_loadtest.installation import Installation
    from headgate_loadtest.recording import record as recorded

    try:
        factor = float(speed.removeprefix("x"))
    except ValueError:
        factor = 0.0
    if not 0 < factor <= 10_000:
        raise UserError(f"--speed {speed[:20]!a}: say xN, such as x10")
    with Installation(place.settings()) as installation:
        made = recorded(installation, factor)
    try:
        file.write_text(yaml.safe_dump(made, sort_keys=False, width=100))
    except OSError as error:
        raise UserError(f"{file}: cannot write: {error.strerror}") from None
    say(f"wrote {file}: {len(made['at']):,} runs; load it with: headgate loadtest run --scenario {file}")
    return 0


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    group = typer.Typer(
        no_args_is_help=True, help="Load the system and measure it: how fast, how far, how fair."
    )
    examples: dict[Callable[..., int], str] = {
        run: "headgate loadtest run --kafka localhost:9092 --rate 50 --duration 30s --out report",
        knee: "headgate loadtest knee --kafka localhost:9092 --rate 20 --out report",
        baseline: "headgate loadtest baseline --kafka localhost:9092 --synced",
        backlog: "headgate loadtest backlog --kafka localhost:9092 --runs 100000 --rounds 1",
        fairness: "headgate loadtest fairness --kafka localhost:9092 --rate 40",
        soak: "headgate loadtest soak --kafka localhost:9092 --rate 10 --duration 8h",
        concurrency: "headgate loadtest concurrency --kafka localhost:9092 --runs 10000",
        compare: "headgate loadtest compare partitions=4 partitions=16 --kafka localhost:9092",
    }
    for function, example in examples.items():
        verb(group, function.__name__, example=example)(load_options(function))
    verb(group, "record", example="headgate loadtest record busy-day.yaml --speed x10")(record)
    app.add_typer(group, name="loadtest")
