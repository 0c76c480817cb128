"""What the fold alone costs, in CPU time, in one process and without a log: part of `make bench`."""

from __future__ import annotations

import gc
import statistics
import time
from array import array
from collections import deque
from collections.abc import Callable
from typing import Any

import psutil

from benchmarks.replaying import replay_per_s
from benchmarks.rules import BEGIN_MS, RULES, STEP_MS, TENANT, Log, graph, policy, policy_record, record_of
from headgate_guardrails.fold.engine import GuardrailEngine
from headgate_guardrails.fold.snapshot import Capturing
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.shard import LOOK_S, SLICE_S, look
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import execution_pb2
from headgate_streams.collector import spare_the_collector

MANY = 10_000
FEW = 100
_LOOK_MS = int(LOOK_S * 1000)


class Timed(Log):
    """A fold whose lifetimes are answered at once; what each record cost is kept.

    Of the lifetimes above FEW the inputs are not kept: they are with workers, and nobody answers them here.
    """

    def __init__(self, lifetimes: int, rounds: int) -> None:
        self.rounds = rounds
        self.engine = GuardrailEngine(PartitionState(0, 1))
        self.engine.apply(policy_record(policy(*RULES)))
        self.records = range(0)  # counted, not kept: memory is measured, too
        self.spent_ns = array("q")
        loop = graph(rounds)
        registered = execution_pb2.GraphRegistered(
            graph_id=loop.metadata.id, version=loop.metadata.version, definition_json=loop.canonical_json()
        )
        self._append("", graph_registered=registered)
        self._todo: deque[Any] = deque()
        for number in range(lifetimes):
            start = execution_pb2.LifetimeStart(graph_id="loop", input=pb.Payload(json='{"n": 1}'))
            start.issued_at.FromMilliseconds(BEGIN_MS)
            inputs = self._append(f"run-{number}", lifetime_start=start)
            if number < FEW:
                self._todo += inputs
            self._tidy()

    def _tidy(self) -> None:
        """Look for lifetimes to lay to rest as often as the gate does, by the log's time."""
        if len(self.records) * STEP_MS // _LOOK_MS > (len(self.records) - 1) * STEP_MS // _LOOK_MS:
            self.lay_to_rest()

    def lay_to_rest(self) -> None:
        """Look once."""
        for _ in look(self.engine.state):
            pass

    def _append(self, lifetime_id: str, **payload: Any) -> list[Any]:
        record = record_of(lifetime_id, len(self.records), **payload)
        self.records = range(len(self.records) + 1)
        begin = time.process_time_ns()
        outputs = self.engine.apply(record)
        self.spent_ns.append(time.process_time_ns() - begin)
        return [output.message for output in outputs if output.topic.endswith("inputs")]

    def go(self, lifetimes: int, events: int) -> float:
        """Let the first lifetimes go on for so many events; return the mean CPU time of one in µs."""
        turn = deque(self._todo.popleft() for _ in range(min(lifetimes, len(self._todo))))
        begin = len(self.spent_ns)
        while turn and len(self.spent_ns) - begin < events:
            turn += self._answer(turn.popleft())
        self._todo.extendleft(reversed(turn))
        spent = self.spent_ns[begin:]
        return sum(spent) / len(spent) / 1000

    def checkpoint_ms(self) -> tuple[float, float]:
        """Return the CPU time of the longest slice of a capture, and of all of it.

        Every lifetime is whole and has changed since the last one, as far as the fold can know.
        """
        for _ in self.engine.state.tenants[TENANT].lifetimes.values():
            pass
        slices = []
        begin = time.process_time()
        steps = Capturing(self.engine.state).steps()
        for _ in steps:
            if time.process_time() - begin >= SLICE_S:
                slices.append(time.process_time() - begin)
                begin = time.process_time()
        slices.append(time.process_time() - begin)
        return max(slices) * 1000, sum(slices) * 1000


def measure(progress: Callable[[str], None] = print) -> dict[str, float]:
    """Return the figures of the fold, in a process that treats the garbage collector as a gate's does."""
    gc.collect()
    spare_the_collector()
    # First of all: memory that others have freed would be taken again, and not be counted.
    figures = _growth(progress)
    few = Timed(FEW, 1_000)
    event_us = [few.go(FEW, 2_000) for _ in range(5)]
    figures["fold_us"] = statistics.median(event_us)
    progress(
        f"fold: {figures['fold_us']:.1f} us an event (each: {', '.join(f'{one:.1f}' for one in event_us)})"
    )
    figures["replay_per_s"] = replay_per_s(progress)
    return figures


def _growth(progress: Callable[[str], None]) -> dict[str, float]:
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    many = Timed(MANY, 1_000)
    gc.collect()
    alive = len(many.engine.state.tenants[TENANT].lifetimes)
    if alive != MANY:
        raise SystemExit(f"{alive} lifetimes are alive, not {MANY}")
    idle_kb = (process.memory_info().rss - before) / 1024 / MANY
    captures = [many.checkpoint_ms() for _ in range(3)]
    pause_ms, whole_ms = (statistics.median(one) for one in zip(*captures, strict=True))
    few, long = Timed(FEW, 1_000), Timed(2, 1_100)
    pairs = [(few.go(FEW, 1_500), many.go(FEW, 1_500)) for _ in range(3)]
    long.go(2, 2 * 3 * 940)
    turns = [(_young_us(), long.go(2, 54)) for _ in range(5)]
    aged = statistics.median(old / young for young, old in turns)
    growth = statistics.median(one / other for other, one in pairs)
    progress(f"fold: {growth:.2f} times the cost with {MANY:,} alive, {aged:.2f} times after 950 rounds")
    progress(
        f"an idle lifetime: {idle_kb:.2f} KB; a checkpoint of {MANY:,}: {pause_ms:.1f} ms at a time, "
        f"{whole_ms:.0f} ms in all"
    )
    return {
        "growth_alive": growth,
        "growth_long": aged,
        "idle_lifetime_kb": idle_kb,
        "checkpoint_ms": pause_ms,
    }


def _young_us() -> float:
    fresh = Timed(2, 1_100)
    fresh.go(2, 12)  # what is asked once for each node is asked
    return fresh.go(2, 54)


if __name__ == "__main__":
    measure()
