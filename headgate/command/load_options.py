"""The options that every `headgate loadtest` verb has, and what each says and writes at its end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.command.place import Place

if TYPE_CHECKING:
    from headgate_loadtest.lab import How, Lab
    from headgate_loadtest.result import LoadResult
    from headgate_loadtest.scenario import Scenario

FAILED = 1
"""Exit code when something was lost or doubled, an invariant is broken, or the load was not as planned."""

ScenarioFile = Annotated[
    Path | None, typer.Option("--scenario", metavar="FILE", help="YAML of the load; options win over it.")
]
Rate = Annotated[
    float | None, typer.Option("--rate", metavar="N", min=0.01, help="Runs asked for in a second.")
]
Duration = Annotated[
    str | None, typer.Option("--duration", metavar="TIME", help="How long runs are asked for, such as 30s.")
]
Seed = Annotated[
    int | None, typer.Option("--seed", metavar="N", min=0, help="All that is drawn comes from it.")
]
Rounds = Annotated[
    int | None, typer.Option("--rounds", metavar="N", min=0, help="Rounds of plan and task in each run.")
]
FanOut = Annotated[
    int | None,
    typer.Option("--fan-out", metavar="N", min=1, max=16, help="Tasks at once in a round, joined."),
]
Payload = Annotated[
    int | None, typer.Option("--payload-bytes", metavar="N", min=0, help="Size of each task's result.")
]
StepTime = Annotated[
    str | None,
    typer.Option("--step-time", metavar="KIND:MS", help="none, fixed:50, lognormal:50 or heavy:50."),
]
Tenants = Annotated[int | None, typer.Option("--tenants", metavar="N", min=1, help="How many tenants ask.")]
Zipf = Annotated[float | None, typer.Option("--zipf", metavar="S", min=0.0, help="Spread them by Zipf.")]
Leased = Annotated[bool, typer.Option("--leased", help="Tasks have limits, so runs are announced and held.")]
NoPolicies = Annotated[bool, typer.Option("--no-policies", help="Leave out the ten rules.")]
Attach = Annotated[
    bool, typer.Option("--attach", help="Load what runs already; start nothing, keep the topic prefix.")
]
Embedded = Annotated[bool, typer.Option("--embedded", help="Run gate and workers inside this process.")]
Workers = Annotated[int, typer.Option("--workers", metavar="N", min=1, help="Workers of each kind.")]
Gates = Annotated[int, typer.Option("--gates", metavar="N", min=1, help="Gates; they share the partitions.")]
Concurrency = Annotated[
    int, typer.Option("--concurrency", metavar="N", min=1, help="Handlers at once in each.")
]
Drain = Annotated[
    float, typer.Option("--drain", metavar="SECONDS", min=0.1, help="Longest wait for the rest.")
]
NoCheck = Annotated[bool, typer.Option("--no-check", help="Do not check the raw topics at the end.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Write report.html, result.json and latencies.hlog here."),
]


@dataclass(frozen=True)
class Asked:
    """What the options of a load say, apart from the place."""

    scenario: Path | None = None
    rate: float | None = None
    duration: str | None = None
    seed: int | None = None
    rounds: int | None = None
    fan_out: int | None = None
    payload_bytes: int | None = None
    step_time: str | None = None
    tenants: int | None = None
    zipf: float | None = None
    leased: bool = False
    no_policies: bool = False
    attach: bool = False
    embedded: bool = False
    workers: int = 1
    gates: int = 1
    concurrency: int = 256
    drain: float = 60.0
    no_check: bool = False
    out: Path | None = None

    def load(self) -> Scenario:
        """Return the scenario; raises ScenarioInvalid for what is wrong with it."""
        from headgate_loadtest.scenario import Scenario, altered, load_scenario

        base = load_scenario(self.scenario) if self.scenario is not None else Scenario()
        given: dict[str, Any] = {
            "rate": self.rate, "duration": self.duration, "seed": self.seed,
            "policies": False if self.no_policies else None,
        }  # fmt: skip
        work = {"rounds": self.rounds, "fan_out": self.fan_out, "payload_bytes": self.payload_bytes}
        work["leased"] = self.leased or None
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        changes["work"] = {
            name: value for name, value in work.items() if value is not None
        } | self._step_time()
        tenants = {"count": self.tenants, "exponent": self.zipf, "spread": "zipf" if self.zipf else None}
        changes["tenants"] = {name: value for name, value in tenants.items() if value is not None}
        return altered(base, **changes)

    def _step_time(self) -> dict[str, Any]:
        if self.step_time is None:
            return {}
        kind, _, ms = self.step_time.partition(":")
        from headgate_graphs.errors import UserError

        try:
            return {"step_time": {"kind": kind, "ms": float(ms or 0)}}
        except ValueError:
            raise UserError(f"--step-time {self.step_time[:40]!a}: say KIND:MS, such as fixed:50") from None

    def how(self) -> How:
        """Return how the load is served and judged."""
        from headgate_loadtest.lab import How
        from headgate_loadtest.load import Bounds
        from headgate_loadtest.processes import Crew

        crew = Crew(self.gates, self.workers, self.workers, self.concurrency)
        return How(crew, self.attach, self.embedded, not self.no_check, Bounds(self.drain))


def progress(line: str) -> None:
    """Write one line of progress to stderr, over the last one on a terminal."""
    from headgate.command.faults import one_line

    end = "\x1b[K\r" if sys.stderr.isatty() else "\n"
    sys.stderr.write(f"  {one_line(line)}{end}")
    sys.stderr.flush()


@contextmanager
def lab_of(place: Place, asked: Asked) -> Iterator[Lab]:
    """Yield the lab that the options ask for."""
    from headgate_loadtest.lab import opened

    with opened(place.settings(), asked.how(), progress) as lab:
        yield lab


def finish(place: Place, title: str, results: list[LoadResult], asked: Asked, **more: Any) -> int:
    """Say what came out, write the report when it is wanted, and return the exit code."""
    from headgate.command.printing import say

    if place.json:
        _say_json(results)
    else:
        for result in results:
            for line in result_lines(result):
                say(line)
    if asked.out is not None:
        write_out(asked.out, title, results, **more)
        progress(f"wrote {asked.out}/report.html")
    return FAILED if any(result.faults for result in results) else 0


def _say_json(results: list[LoadResult]) -> None:
    from dataclasses import asdict

    from headgate.command.printing import say_json

    left_out = ("samples", "readings", "series")
    said = [{k: v for k, v in asdict(one).items() if k not in left_out} for one in results]
    say_json(said[0] if len(said) == 1 else said)


def result_lines(result: LoadResult) -> list[str]:
    """Return what people read of one load."""
    r, loop, lag = result.response, result.loop, result.lag
    lines = [
        f"{result.name}: {result.asked:,} runs at {result.offered_rate:,.1f}/s, {result.steps:,} steps, "
        f"{result.steps_per_s:,.0f} steps/s",
        f"  response  p50 {r.p50_ms:,.1f}  p90 {r.p90_ms:,.1f}  p99 {r.p99_ms:,.1f}  max {r.max_ms:,.1f} ms",
        f"  loop      p50 {loop.p50_ms:,.1f}  p90 {loop.p90_ms:,.1f}  p99 {loop.p99_ms:,.1f}"
        f"  max {loop.max_ms:,.1f} ms"
        if loop.count
        else "  loop      not measured: no run went round twice",
        f"  sender    lag p99 {lag.p99_ms:,.2f} ms   Little's law {result.little['ratio']:.2f}",
        f"  lost {result.lost_count}, doubled {result.conflicts}, repeated {result.repeated}; "
        f"most in flight {max(result.readings['in_flight'], default=0):,}",
    ]
    lines += [f"  {line}" for line in result.check if "FAIL" in line or line.endswith("violation")]
    return lines + [f"  FAILED: {fault}" for fault in result.faults]


def write_out(directory: Path, title: str, results: list[LoadResult], **more: Any) -> None:
    """Write the page, each result as JSON, and the latencies for other tools."""
    from headgate_loadtest.report.page import write_report
    from headgate_loadtest.samples import unpacked, write_hdr_log

    write_report(directory / "report.html", title, results, **more)
    for number, result in enumerate(results):
        suffix = f"-{number + 1}" if len(results) > 1 else ""
        result.write(directory / f"result{suffix}.json")
        named = [
            (name, unpacked(result.samples[name])) for name in ("response", "loop") if name in result.samples
        ]
        write_hdr_log(directory / f"latencies{suffix}.hlog", named, 0.0, result.took_s)


def load_options(function: Callable[..., int]) -> Callable[..., int]:
    """Give a verb every option of a load, gathered into its parameter `asked`."""
    import functools
    import inspect

    own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "asked"]
    kinds: dict[str, Any] = {
        "scenario": ScenarioFile, "rate": Rate, "duration": Duration, "seed": Seed, "rounds": Rounds,
        "fan_out": FanOut, "payload_bytes": Payload, "step_time": StepTime, "tenants": Tenants, "zipf": Zipf,
        "leased": Leased, "no_policies": NoPolicies, "attach": Attach, "embedded": Embedded,
        "workers": Workers, "gates": Gates, "concurrency": Concurrency, "drain": Drain, "no_check": NoCheck,
        "out": Out,
    }  # fmt: skip
    defaults = Asked()
    names = [p.name for p in own]

    @functools.wraps(function)
    def wrapped(place: Place, **given: Any) -> int:
        mine = {name: given.pop(name) for name in names if name in given}
        return function(place, asked=Asked(**given), **mine)

    more = [
        inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=getattr(defaults, n), annotation=kind)
        for n, kind in kinds.items()
        if n not in names
    ]
    parameters = [own[0], *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own[1:]), *more]
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    del wrapped.__wrapped__
    return wrapped
