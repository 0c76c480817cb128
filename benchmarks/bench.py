"""`make bench` and `make bench-full`: every figure of the table, on a broker started for it, and the report.

The short set takes less than five minutes on two quiet cores; the full set repeats more, keeps 10,000
lifetimes alive at once, and writes its report to docs/results.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.servers import kafka
from deploy.servers.cache import ServerUnavailable
from deploy.servers.processes import stop
from headgate_graphs.errors import HeadgateError
from headgate_guardrails.folding import FOLD
from headgate_loadtest.alive import alive_at_once
from headgate_loadtest.bare.loop import Loop
from headgate_loadtest.bare.running import raw_client
from headgate_loadtest.baseline import Side, compare_with_bare_loop
from headgate_loadtest.breach import measure_breaches
from headgate_loadtest.fairness import FACTOR, measure_fairness
from headgate_loadtest.figures import rows_of, table_lines
from headgate_loadtest.installation import Installation
from headgate_loadtest.knee import Knee, Search, find_knee
from headgate_loadtest.lab import How, Lab, opened
from headgate_loadtest.machine import machine
from headgate_loadtest.processes import Crew, embedded
from headgate_loadtest.report.page import write_report
from headgate_loadtest.result import LoadResult
from headgate_loadtest.samples import percentile
from headgate_loadtest.scenario import Scenario, altered
from headgate_loadtest.steady import measure_steady
from headgate_replay.pages import table
from headgate_streams.opening import open_log
from headgate_streams.port import TopicDescription
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import Topics

ROOT = Path(__file__).parents[1]
PARTITIONS = 4
"""As the bare loop of the design has it, for both sides."""


@dataclass
class Bench:
    """What is measured with, and what was found."""

    settings: StreamSettings
    scratch: Path
    full: bool
    seconds: float
    repeats: int
    figures: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """Why a part could not be measured."""
    results: list[LoadResult] = field(default_factory=list)
    knee: Knee | None = None

    @property
    def how(self) -> How:
        """Return how loads are served: one gate, one worker of each kind."""
        return How(Crew(concurrency=256), logs=self.scratch / "logs")


def say(line: str) -> None:
    """Write one line of progress."""
    print(f"  {line}", file=sys.stderr, flush=True)


def beside_the_bare_loop(bench: Bench) -> None:
    """Measure the ratios: throughput, with every batch synced, and one lifetime at a time."""
    short = (256, bench.seconds, bench.repeats)
    fewer = bench.repeats if bench.full else max(1, bench.repeats - 1)
    sides = [Side(*short), Side(1, bench.seconds, fewer), Side(256, bench.seconds, fewer, synced=True)]
    for one in compare_with_bare_loop(
        bench.settings, Scenario(), sides, bench.how.crew, bench.scratch / "logs", say
    ):
        for line in one.lines():
            say(line)
        if one.side.in_flight == 1:
            bench.figures["step_ratio"] = one.step_ratio
        else:
            bench.figures["ratio_synced" if one.side.synced else "ratio"] = one.ratio


def client_alone(bench: Bench) -> None:
    """Measure what the client does with no loop at all; said, not judged."""
    with Installation(bench.settings) as installation:
        loop = Loop(bench.settings.kafka or "", f"raw-{int(time.time())}", PARTITIONS)
        installation.log.create_topics([TopicDescription(loop.inputs, PARTITIONS, {})])
        say(f"the client alone: {raw_client(loop)}")


def under_load(bench: Bench) -> None:
    """Measure what needs a lab: leased tasks, the knee, half of it, breaches, fairness."""
    with opened(bench.settings, bench.how, lambda _line: None) as lab:
        plain, leased = Scenario(), altered(Scenario(), work={"leased": True})
        pairs = [[_steady(lab, one, bench.seconds) for one in (plain, leased)] for _ in range(bench.repeats)]
        bench.figures["leased_ratio"] = statistics.median(b / a for a, b in pairs)
        say(f"leased over plain: {bench.figures['leased_ratio']:.2f}")
        guess = max(1.0, round(statistics.median(a for a, _ in pairs) / Scenario().steps / 2, 1))
        search = Search(trial_s=8.0 if bench.full else 4.0, repeats=3 if bench.full else 1)
        bench.knee = find_knee(altered(Scenario(), rate=guess), search, lab.run, say)
        rate = max(1.0, bench.knee.rate / 2)
        half = altered(Scenario(), name="half-the-knee", rate=rate, duration="30s" if bench.full else "10s")
        bench.results.append(_with_breaches(lab, half, bench))
        _fairness(lab, bench)


def _steady(lab: Lab, scenario: Scenario, seconds: float) -> float:
    return measure_steady(lab.installation, lab.serving, scenario, 256, seconds).steps_per_s


def _with_breaches(lab: Lab, scenario: Scenario, bench: Bench) -> LoadResult:
    """Return the load, caps being broken meanwhile by runs of other tenants."""
    found: list[LoadResult] = []
    thread = threading.Thread(target=lambda: found.append(lab.run(scenario)))
    thread.start()
    with Installation(lab.installation.settings) as beside:
        time.sleep(1)
        seconds = scenario.duration_ms / 1000 - 2
        breaches = measure_breaches(beside, int(seconds * 10), 10)
    thread.join()
    heard, stopped = len(breaches.event_ns), len(breaches.stop_ns)
    say(f"breaches: {breaches.asked} asked for, {heard} heard of, {stopped} stopped")
    bench.figures |= {
        "breach_event_p99_ms": percentile(breaches.event_ns, 99) / 1e6,
        "breach_stop_p99_ms": percentile(breaches.stop_ns, 99) / 1e6,
        "loop_p99_ms": found[0].loop.p99_ms,
    }
    if len(breaches.stop_ns) < breaches.asked:
        bench.failures["breaches"] = (
            f"{breaches.asked - len(breaches.stop_ns)} handlers were not seen to stop"
        )
    return found[0]


def _fairness(lab: Lab, bench: Bench) -> None:
    # With the noisy tenant it is half the knee, where the other latencies are measured, too.
    share = 1 + (FACTOR - 1) / Scenario().tenants.count
    rate = max(1.0, (bench.knee.rate if bench.knee else 10) / 2 / share)
    scenario = altered(Scenario(), name="fairness", rate=rate, duration="15s" if bench.full else "6s")
    found = measure_fairness(scenario, lab.run, FACTOR)
    bench.figures["noisy_ratio"] = found.ratio
    bench.results += [found.calm[0], found.noisy[0]]
    say(f"others' p99 beside a noisy tenant: {found.ratio:.2f} times")


def alive(bench: Bench) -> None:
    """Keep 10,000 lifetimes alive at once, and check the log afterwards."""
    how = How(Crew(concurrency=10_000), logs=bench.scratch / "logs")
    with opened(bench.settings, how, say) as lab:
        scenario = altered(alive_at_once(Scenario(), 10_000), name="ten-thousand-alive")
        result = lab.run(scenario, checked=True)
    bench.results.append(result)
    most = max(result.readings["in_flight"], default=0)
    say(f"{most:,} alive at once, {result.lost_count} lost, loop p99 {result.loop.p99_ms:,.1f} ms")
    if result.lost_count == 0 and result.repeated == 0 and most >= 9_900:
        bench.figures["alive_loop_p99_ms"] = result.loop.p99_ms


def on_the_embedded_log(bench: Bench) -> None:
    """Measure the embedded log: durable, gate and workers in one process."""
    settings = StreamSettings(kafka=None, local=bench.scratch / "embedded", partitions=PARTITIONS)
    with Installation(settings) as installation:
        installation.create_topics()
        with embedded(installation) as serving:
            for key, in_flight in (("embedded_per_s", 256), ("embedded_p50_ms", 1)):
                paces = [
                    measure_steady(installation, serving, Scenario(), in_flight, bench.seconds)
                    for _ in range(bench.repeats)
                ]
                name = "p50_ms" if in_flight == 1 else "steps_per_s"
                bench.figures[key] = statistics.median(getattr(pace, name) for pace in paces)
                say(f"embedded log, {in_flight} lifetimes: {bench.figures[key]:,.2f} {name}")


def cold_start(bench: Bench) -> None:
    """Measure how long `headgate run` takes from nothing to the first dispatch."""
    project = bench.scratch / "demo"
    headgate = [sys.executable, "-m", "headgate"]
    subprocess.run([*headgate, "init", str(project)], check=True, capture_output=True, timeout=60)
    times = []
    for number in range(max(3, bench.repeats)):
        log = bench.scratch / f"cold-{number}"
        begin = time.time()
        subprocess.run(
            [*headgate, "run", str(project), "--local", str(log)], check=True, capture_output=True, timeout=60
        )
        times.append(_first_dispatch_s(log) - begin)
    bench.figures["cold_start_s"] = statistics.median(times)
    say(f"cold start: {', '.join(f'{one:.2f}' for one in times)} s")


def _first_dispatch_s(local: Path) -> float:
    settings = StreamSettings(kafka=None, local=local)
    log, topics = open_log(settings), Topics(settings.topic_prefix)
    with Installation(settings) as installation:
        reader = log.reader()
        places = [
            *installation.partitions_of(topics.task_inputs()),
            *installation.partitions_of(topics.plan_inputs()),
        ]
        reader.assign(dict.fromkeys(places, 0))
        first = min(record.timestamp_ms for record in reader.poll(5.0, 1_000))
        reader.close()
    log.close()
    return first / 1000


def the_fold(bench: Bench) -> None:
    """Measure the fold alone, in a process of its own, so that its memory is its own."""
    code = (
        "import json; from benchmarks.folding import measure; print(json.dumps(measure(lambda line: None)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300, cwd=ROOT
    )
    found = json.loads(done.stdout.splitlines()[-1])
    bench.figures |= found
    say(f"fold: {found['fold_us']:.1f} us an event, idle lifetime {found['idle_lifetime_kb']:.2f} KB")
    say(f"replay: {found['replay_per_s']:,.0f} records/s")


@contextmanager
def broker(home: Path) -> Iterator[str]:
    """Yield the address of a broker that is made for this run and thrown away after it."""
    running = kafka.run(home)
    try:
        yield running.address
    finally:
        stop(running)
        shutil.rmtree(home, ignore_errors=True)


def measure(bench: Bench) -> None:
    """Measure everything; what fails is said and leaves its rows empty."""
    parts: list[Callable[[Bench], None]] = [
        beside_the_bare_loop,
        under_load,
        the_fold,
        on_the_embedded_log,
        cold_start,
    ]
    for part in [*parts, client_alone, alive] if bench.full else parts:
        begin = time.monotonic()
        try:
            part(bench)
        except (HeadgateError, subprocess.SubprocessError, OSError, ValueError) as error:
            bench.failures[part.__name__] = f"{type(error).__name__}: {error}"
            say(f"{part.__name__} failed: {error}")
        say(f"({part.__name__} took {time.monotonic() - begin:.0f} s)")


def write(bench: Bench, directory: Path) -> None:
    """Write the page and the raw summary."""
    tables = [table(("figure", "measured", "floor", "target", "stretch", "verdict"), rows_of(bench.figures))]
    write_report(directory / "load.html", "Load and speed", bench.results, tables, bench.knee)
    summary = {"machine": machine(), "figures": bench.figures, "failures": bench.failures}
    summary["knee"] = (
        [(one.rate, one.result.response.p99_ms, one.held) for one in bench.knee.trials] if bench.knee else []
    )
    (directory / "load.json").write_text(json.dumps(summary, indent=1) + "\n")
    for result in bench.results:
        result.write(directory / f"load-{result.name}.json")
    print(f"\nreport: {directory}/load.html")


def main() -> int:
    """Measure, print the table, write the report of the full set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the full set, with its report")
    parser.add_argument("--out", type=Path, default=None, help="where the report goes")
    parser.add_argument("--kafka", default=None, help="use this broker and start none")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    begin = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is stopped
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as name:
        scratch = Path(name)
        try:
            if given.kafka:
                bench = _bench(given, given.kafka, scratch)
                measure(bench)
            else:
                with broker(scratch / "kafka") as address:
                    bench = _bench(given, address, scratch)
                    measure(bench)
        except ServerUnavailable as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        print("\n".join(table_lines(bench.figures)))
        print(f"\nmeasured in {time.monotonic() - begin:.0f} s, the fold {FOLD}")
        for name_, why in bench.failures.items():
            print(f"not measured: {name_}: {why}")
        if given.full or given.out:
            write(bench, given.out or ROOT / "docs/results")
    return 1 if bench.failures or any(one.lost_count for one in bench.results) else 0


def _bench(given: argparse.Namespace, address: str, scratch: Path) -> Bench:
    settings = StreamSettings(kafka=address, local=scratch / "blobs", partitions=PARTITIONS)
    return Bench(settings, scratch, given.full, given.seconds, given.repeats)


if __name__ == "__main__":
    sys.exit(main())
