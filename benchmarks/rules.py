"""What evaluating ten typical rules costs per event of the fold: `make bench-rules`.

A log is made by a fold and by handlers that answer at once; then the same log is folded anew, again and
again: without a policy, with the policy, and with the policy while a clock stands around the evaluator. It
prints and judges nothing: times belong to the machine they were taken on.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from time import perf_counter_ns
from typing import Any, NamedTuple

from headgate_graphs.model import AgentGraph
from headgate_guardrails.fold.engine import GuardrailEngine
from headgate_guardrails.fold.evaluator import PolicyEvaluator
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.fold.turn import Output
from headgate_guardrails.policy import Policy
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import execution_pb2, plan_pb2, task_pb2
from headgate_streams.codec import encode
from headgate_streams.port import LogRecord

TENANT = "acme"
BEGIN_MS = 1_700_000_000_000
STEP_MS = 37
"""Log time between two records: some 1,600 records a minute, so that windows do move on."""
DAY_MS = 86_400_000
RULES: list[dict[str, Any]] = [
    {"name": "run-tokens", "scope": "lifetime", "limit": {"tokens_used": 10**9}, "action": "abort_lifetime"},
    {"name": "run-dollars", "scope": "lifetime", "limit": {"cost_usd": 1000}, "action": "pause_lifetime"},
    {
        "name": "tenant-tokens",
        "scope": "tenant",
        "limit": {"tokens_used": 10**12},
        "action": "pause_lifetime",
    },
    {
        "name": "day-dollars",
        "scope": "tenant",
        "limit": {"cost_usd": 100_000},
        "window": "1d",
        "action": "pause_lifetime",
    },
    {
        "name": "minute-tokens",
        "scope": "tenant",
        "limit": {"tokens_used": 10**12},
        "window": "1m",
        "sliding": True,
        "action": "throttle",
    },
    {
        "name": "one-call",
        "scope": "execution",
        "limit": {"tokens_used": 4000, "latency_ms": 60_000},
        "action": "reject_execution",
    },
    {
        "name": "big-answer",
        "scope": "execution",
        "limit": {"payload_bytes": 5_000_000},
        "action": "reject_execution",
    },
    {
        "name": "no-shell",
        "scope": "execution",
        "when": "node.type == 'shell' && !('trusted' in graph.tags)",
        "action": "reject_execution",
    },
    {"name": "sum", "scope": "lifetime", "when": "sum(tokens_used) > 1000000000", "action": "abort_lifetime"},
    {"name": "loop", "scope": "lifetime", "limit": {"iterations": 1000}, "action": "abort_lifetime"},
]
"""Ten, none of which is broken: that is the hot path."""
IN_CEL = {"name": "failing", "scope": "lifetime", "when": "!success && count() > 20", "action": "warn"}
"""One that looks at each result and that only CEL can answer."""


def policy(*rules: dict[str, Any]) -> Policy:
    """Return a policy of these rules."""
    document = {"kind": "GuardrailPolicy", "metadata": {"name": "bench", "version": 1}, "rules": rules}
    return Policy.model_validate(document)


def graph(rounds: int) -> AgentGraph:
    """Return a loop of a plan and a task that is paid for, hence held and leased."""
    limits = {"tokens_used": 2000, "cost_usd": "0.01"}
    return AgentGraph.model_validate(
        {
            "metadata": {"id": "loop", "version": "1.0.0", "tags": ["bench"]},
            "entry": "decide",
            "limits": {"max_iterations": rounds + 1},
            "tasks": [{"id": "call", "type": "model", "config": {"limits": limits}}],
            "plans": [{"id": "decide", "type": "decide"}],
            "edges": [
                {"from": "decide", "to": "call"},
                {"from": "call", "to": "decide"},
                {"from": "decide", "to": "end", "type": "final"},
            ],
        }
    ).for_tenant(TENANT)


class Log:
    """Records, made by folding each as soon as it is there and answering what that dispatches.

    Each day so many lifetimes begin, go their rounds and end.
    """

    def __init__(self, lifetimes: int, rounds: int, days: int = 1) -> None:
        self.records: list[LogRecord] = []
        self.rounds = rounds
        self._idle_ms = 0
        self.engine = GuardrailEngine(PartitionState(0, 1))
        loop = graph(rounds)
        meta = loop.metadata
        registered = execution_pb2.GraphRegistered(
            graph_id=meta.id, version=meta.version, definition_json=loop.canonical_json()
        )
        self._append("", graph_registered=registered)
        for day in range(days):
            self._idle_ms = day * DAY_MS
            todo: list[Any] = []
            for number in range(day * lifetimes, (day + 1) * lifetimes):
                start = execution_pb2.LifetimeStart(graph_id="loop", input=pb.Payload(json='{"n": 1}'))
                start.issued_at.FromMilliseconds(BEGIN_MS + self._idle_ms)
                todo += self._append(f"run-{number}", lifetime_start=start)
            while todo:  # in turn, as it is when many lifetimes are under way
                todo += self._answer(todo.pop(0))

    def _append(self, lifetime_id: str, **payload: Any) -> list[Any]:
        outputs = self._fold(lifetime_id, **payload)
        return [output.message for output in outputs if output.topic.endswith("inputs")]

    def _fold(self, lifetime_id: str, **payload: Any) -> list[Output]:
        record = record_of(lifetime_id, len(self.records), self._idle_ms, **payload)
        self.records.append(record)
        return self.engine.apply(record)

    def _answer(self, message: Any) -> list[Any]:
        headers, run_id = message.headers, f"r{len(self.records):031d}"
        if message.leased:
            started = execution_pb2.ExecutionStarted(
                execution_id=headers.execution_id, run_id=run_id, worker="w"
            )
            started.node_id, started.iteration, started.attempt = (
                headers.node_id,
                headers.iteration,
                headers.attempt,
            )
            self._append(headers.lifetime_id, execution_started=started)
        is_plan = isinstance(message, plan_pb2.PlanInput)
        execution: Any = (plan_pb2.PlanExecution if is_plan else task_pb2.TaskExecution)(tenant_id=TENANT)
        execution.headers.CopyFrom(headers)
        execution.headers.run_id, execution.headers.status = run_id, pb.EXECUTION_STATUS_COMPLETED
        execution.result.success = True
        execution.result.json_result = '{"text": "' + "x" * 200 + '"}'
        execution.resource_usage.latency_ms = 12
        if is_plan:
            execution.result.next_task_ids.append("end" if headers.iteration > self.rounds else "call")
            return self._append(headers.lifetime_id, plan_execution=execution)
        execution.resource_usage.tokens_used, execution.resource_usage.cost_nano_usd = 1200, 3_000_000
        return self._append(headers.lifetime_id, task_execution=execution)


def record_of(lifetime_id: str, offset: int, idle_ms: int = 0, **payload: Any) -> LogRecord:
    """Return a record of the log; `idle_ms` is for how long in all nothing came before it."""
    envelope = execution_pb2.ExecutionEnvelope(
        envelope_id=f"e{offset}", tenant_id=TENANT, lifetime_id=lifetime_id, **payload
    )
    value, headers = encode(envelope, TENANT)
    timestamp_ms = BEGIN_MS + idle_ms + offset * STEP_MS
    return LogRecord("executions", 0, offset, timestamp_ms, TENANT.encode(), value, headers)


def policy_record(rules: Policy) -> LogRecord:
    """Return the record that puts a policy in force, before all others."""
    text = rules.canonical_json()
    given = execution_pb2.PolicySet(name=rules.name, version=rules.version, document_json=text)
    given.sha256 = hashlib.sha256(text.encode()).hexdigest()
    return record_of("", -1, policy_set=given)


class Cost(NamedTuple):
    """Medians in µs."""

    asking: float
    """Time in the evaluator, of the events that ask it; 0 when it was not measured."""
    mean: float
    """Time in the evaluator, mean over all events."""
    whole: float
    """The fold's whole time for one of these events."""
    per_event: float
    """The whole log's time over the number of its events."""


class Stopwatch:
    """Stands around the evaluator's two methods; what it costs itself is taken off."""

    METHODS = ("at_admission", "at_settlement")

    def __init__(self) -> None:
        self.spent_ns = 0
        self.calls = 0
        self._plain = {name: getattr(PolicyEvaluator, name) for name in self.METHODS}
        self.own_ns = statistics.median(self._around(lambda: None) for _ in range(20_000))

    def _around(self, function: Callable[[], Any]) -> int:
        begin = perf_counter_ns()
        function()
        return perf_counter_ns() - begin

    def __enter__(self) -> Stopwatch:
        for name, plain in self._plain.items():
            setattr(PolicyEvaluator, name, self._timed(plain))
        return self

    def __exit__(self, *_: object) -> None:
        for name, plain in self._plain.items():
            setattr(PolicyEvaluator, name, plain)

    def _timed(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any) -> Any:
            begin = perf_counter_ns()
            found = plain(*given)
            self.spent_ns += perf_counter_ns() - begin
            self.calls += 1
            return found

        return timed

    def lap(self) -> tuple[int, float]:
        """Return how often it was asked since the last lap, and the time in ns without the clock's own."""
        calls, spent = self.calls, self.spent_ns - self.calls * self.own_ns
        self.calls = self.spent_ns = 0
        return calls, max(0.0, spent)


def fold(records: list[LogRecord], rules: Policy | None, watch: Stopwatch | None = None) -> Cost:
    """Fold the log once."""
    engine = GuardrailEngine(PartitionState(0, 1))
    if rules is not None:
        letters = engine.apply(policy_record(rules))
        if letters:
            raise SystemExit(f"the policy is not taken: {letters[0].message.detail}")
    apply = engine.apply
    times: list[int] = []
    laps: list[tuple[int, float]] = []
    gc.collect()
    for record in records:
        begin = perf_counter_ns()
        apply(record)
        times.append(perf_counter_ns() - begin)
        if watch is not None:
            laps.append(watch.lap())
    lifetimes = engine.state.tenants[TENANT].lifetimes.values()
    if {one.status for one in lifetimes} != {pb.LIFETIME_STATUS_COMPLETED}:
        raise SystemExit("a rule was broken: this is not the hot path")
    asking = [spent for calls, spent in laps if calls]
    return Cost(
        statistics.median(asking) / 1000 if asking else 0.0,
        sum(asking) / len(records) / 1000,
        statistics.median(times) / 1000,
        sum(times) / len(records) / 1000,
    )


def measure(records: list[LogRecord], repeats: int) -> Iterable[tuple[str, list[Cost]]]:
    """Return what each way cost in each repeat; the ways take turns."""
    ten, eleven = policy(*RULES), policy(*RULES, IN_CEL)
    watch = Stopwatch()
    found: dict[str, list[Cost]] = {}
    for _ in range(repeats):
        found.setdefault("no rules", []).append(fold(records, None))
        for name, rules in (("ten rules", ten), ("ten, one more in CEL", eleven)):
            plain = fold(records, rules)
            with watch:
                timed = fold(records, rules, watch)
            cost = Cost(timed.asking, timed.mean, plain.whole, plain.per_event)
            found.setdefault(name, []).append(cost)
    return found.items()


def machine() -> Iterator[str]:
    """Yield what the figures belong to."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(": ")[2] if lines else model
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    yield f"machine  {os.cpu_count()} x {model}, {platform.system()} {platform.release()}, load {load}"
    yield f"python   {platform.python_implementation()} {platform.python_version()}"
    names = ("headgate", "protobuf", "cel-expr-python")
    yield "versions " + ", ".join(f"{name} {version(name)}" for name in names)
    changed = " and changes" if _git("status", "--short", "--untracked-files=no") else ""
    yield f"commit   {_git('rev-parse', '--short', 'HEAD')}{changed}"
    yield f"command  python -m benchmarks.rules {' '.join(sys.argv[1:])}".rstrip()


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip() or ("" if done.returncode == 0 else "unknown")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lifetimes", type=int, default=100, help="under way at once")
    parser.add_argument("--rounds", type=int, default=20, help="of each lifetime, 3 events each")
    parser.add_argument("--repeats", type=int, default=7, help="medians are taken over these")
    given = parser.parse_args()
    records = Log(given.lifetimes, given.rounds).records
    print("\n".join(machine()))
    print(f"log      {len(records)} events of {given.lifetimes} lifetimes, folded {given.repeats} times each")
    headings = {"rules, asked": 14, "least": 8, "rules, mean": 14, "event, median": 15, "event, mean": 14}
    print(f"\n{'µs':22}" + "".join(f"{heading:>{width}}" for heading, width in headings.items()))
    for name, costs in measure(records, given.repeats):
        cost = Cost(*(statistics.median(one) for one in zip(*costs, strict=True)))
        asked = f"{cost.asking:14.2f}{min(costs).asking:8.2f}{cost.mean:14.2f}" if cost.asking else " " * 36
        print(f"{name:22}{asked}{cost.whole:15.1f}{cost.per_event:14.1f}")
    print(
        """
rules, asked   time inside PolicyEvaluator.at_admission and at_settlement, summed for each event that calls
               either (a result: both), median over these events; the clock's own time is taken off
rules, mean    the same time over all events, those included that ask nothing (announced runs)
event          the whole of GuardrailEngine.apply, without that clock and without I/O: decode, timers,
               ledger and windows, rules, routing, outputs
least          `rules, asked` of the repeat in which it was least: what a quieter machine would say
All others are medians over the repeats; what moves the windows of rules is in `event` alone."""
    )


if __name__ == "__main__":
    main()
