from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest

from headgate_graphs.model import NodeKind
from headgate_protos.v1.common_pb2 import Source
from headgate_protos.v1.task_pb2 import TaskInput
from headgate_workers import Decision, PlanContext, TaskContext, plan, task
from tests.support import eventually
from tests.unit.workers.bench import ABORTED, COMPLETED, Bench, registry

PARTITIONS = itertools.count(1)
"""Sources of their own, so that nothing is a repeat."""


@task
async def quick(ctx: TaskContext) -> str:
    return "done"


def is_given_back(report: Any) -> bool:
    usage = report.resource_usage
    return (
        report.headers.status == ABORTED
        and report.result.error.code == "PAUSED"
        and not (usage.tokens_used or usage.cost_nano_usd or usage.latency_ms or usage.unpriced)
    )


@pytest.mark.parametrize("whom", [{"lifetime_id": "lifetime-1"}, {"graph_id": "graph"}, {}])
@pytest.mark.parametrize("leased", [True, False])
def test_what_was_paused_before_it_began_is_given_back_unannounced(
    bench: Bench, whom: dict[str, str], leased: bool
) -> None:
    before = bench.give_task("quick", leased=leased, hold_tokens=10)
    bench.pause(**whom)
    after = bench.give_task("quick", leased=leased)
    with bench.worker(registry(quick)):
        assert is_given_back(bench.report(before))
        assert bench.report(after).headers.status == COMPLETED
        eventually(lambda: bench.committed_offset() == 2)
    announced = [
        e.execution_started.execution_id for e in bench.envelopes() if e.HasField("execution_started")
    ]
    assert announced == ([after] if leased else [])


def test_a_plan_is_given_back_as_well(bench: Bench) -> None:
    @plan
    async def decide(ctx: PlanContext) -> Decision:
        return Decision(next=["end"])

    given = bench.give(bench.plan_input("decide", []))
    bench.pause()
    with bench.worker(registry(decide), NodeKind.PLAN):
        assert is_given_back(bench.report(given))


def test_what_runs_goes_on_in_a_pause_and_what_waits_behind_it_is_given_back(bench: Bench) -> None:
    begun, release = threading.Event(), threading.Event()

    @task
    def waits(ctx: TaskContext) -> str:
        begun.set()
        assert release.wait(20)
        assert not ctx.cancelled.is_set()
        return "done"

    with bench.worker(registry(waits, quick), concurrency=1):
        running = bench.give_task("waits")
        assert begun.wait(10)
        behind = bench.task_input("quick")
        waiting = bench.give(behind)
        bench.pause("lifetime-1")
        other = bench.give_task("quick", lifetime_id="lifetime-2")
        eventually(lambda: bench.knows_halt(behind))
        release.set()
        assert bench.value(running) == "done"
        assert is_given_back(bench.report(waiting))
        assert bench.value(other) == "done"


def older_input(bench: Bench) -> TaskInput:
    """Return an input that every pause concerns, to see whether the worker has read one."""
    made = bench.task_input("quick")
    made.source.CopyFrom(Source(partition=next(PARTITIONS), offset=0, index=0))
    return made


def test_a_pause_that_comes_while_large_input_is_fetched_is_in_time(bench: Bench) -> None:
    fetching, release = threading.Event(), threading.Event()
    get = bench.blobs.get

    def slow(*arguments: Any, **more: Any) -> bytes:
        fetching.set()
        assert release.wait(20)
        return get(*arguments, **more)

    @task
    async def reads(ctx: TaskContext, data: dict[str, str]) -> int:
        return len(data["text"])

    bench.blobs.get = slow  # type: ignore[method-assign]
    with bench.worker(registry(reads, quick)):
        given = bench.give_task("reads", {"text": "x" * 5000}, leased=True)
        assert fetching.wait(10)
        bench.pause()
        eventually(lambda: is_given_back(bench.report(bench.give(older_input(bench)))))
        release.set()
        assert is_given_back(bench.report(given))


def test_a_worker_that_starts_late_reads_the_pauses_since_its_oldest_input(bench: Bench) -> None:
    for number in range(20):
        bench.give_task("quick", lifetime_id=f"lifetime-{number % 4}")
    bench.pause("lifetime-2")
    with bench.worker(registry(quick)):
        eventually(lambda: len(bench.reports()) == 20)
    given_back = [r.headers.lifetime_id for r in bench.reports() if is_given_back(r)]
    assert given_back == ["lifetime-2"] * 5
