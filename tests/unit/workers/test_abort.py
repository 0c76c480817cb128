from __future__ import annotations

import asyncio
import threading
import time

from headgate_protos.v1.control_pb2 import ControlType
from headgate_workers import Cancelled, TaskContext, task
from tests.support import eventually
from tests.unit.workers.bench import ABORTED, COMPLETED, Bench, registry


@task
async def quick(ctx: TaskContext) -> str:
    return "done"


def test_abort_cancels_a_running_async_handler_and_counts_what_it_spent(bench: Bench) -> None:
    begun, cleaned = threading.Event(), threading.Event()

    @task
    async def sleeps(ctx: TaskContext) -> None:
        ctx.usage.add(tokens_used=5)
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.set()

    with bench.worker(registry(sleeps)):
        given = bench.give_task("sleeps", leased=True)
        assert begun.wait(10)
        began_s = time.monotonic()
        bench.abort()
        report = bench.report(given)
        assert time.monotonic() - began_s < 5
    assert report.headers.status == ABORTED
    assert report.result.error.code == "ABORTED"
    assert report.resource_usage.tokens_used == 5
    assert cleaned.is_set()


def test_abort_is_seen_by_a_synchronous_handler(bench: Bench) -> None:
    begun = threading.Event()
    seen: list[str] = []

    @task
    def loops(ctx: TaskContext) -> None:
        begun.set()
        try:
            while True:
                ctx.cancelled.wait(20)
                ctx.check_cancelled()
        except Cancelled:
            ctx.usage.add(tokens_used=9)
            seen.append(ctx.execution_id)
            raise

    with bench.worker(registry(loops)):
        given = bench.give_task("loops")
        assert begun.wait(10)
        bench.abort()
        report = bench.report(given)
    assert report.headers.status == ABORTED
    assert report.resource_usage.tokens_used == 9
    assert seen == [given]


def test_what_was_aborted_before_is_not_begun_and_costs_nothing(bench: Bench) -> None:
    runs: list[str] = []

    @task
    async def counts(ctx: TaskContext) -> None:
        runs.append(ctx.execution_id)

    plain = bench.give_task("counts", hold_tokens=10)
    leased = bench.give_task("counts", leased=True)
    other = bench.give_task("counts", lifetime_id="lifetime-2")
    bench.abort()
    with bench.worker(registry(counts)):
        reports = [bench.report(id) for id in (plain, leased)]
        assert bench.report(other).headers.status == COMPLETED
        eventually(lambda: bench.committed_offset() == 3)
    assert [report.headers.status for report in reports] == [ABORTED] * 2
    assert {report.result.error.code for report in reports} == {"NOT_BEGUN"}
    assert not any(report.resource_usage.unpriced for report in reports)
    assert runs == [other]
    assert not any(envelope.HasField("execution_started") for envelope in bench.envelopes())


def test_shadow_verdicts_and_other_lifetimes_change_nothing(bench: Bench) -> None:
    with bench.worker(registry(quick)):
        bench.report(bench.give_task("quick"))
        bench.abort(shadow=True)
        bench.abort("lifetime-9")
        topic = bench.topics.control_events
        bench.give_raw(topic, 0, b"acme", b"rubbish", ())
        assert bench.value(bench.give_task("quick")) == "done"


def test_a_lifetime_whose_id_is_used_again_is_not_the_one_that_was_aborted(bench: Bench) -> None:
    bench.abort()
    with bench.worker(registry(quick)):
        assert bench.value(bench.give_task("quick")) == "done"


def test_a_rejected_execution_is_cancelled_and_its_lifetime_goes_on(bench: Bench) -> None:
    begun = threading.Event()

    @task
    async def sleeps(ctx: TaskContext) -> None:
        begun.set()
        await asyncio.sleep(60)

    with bench.worker(registry(sleeps, quick)):
        given = bench.give_task("sleeps")
        assert begun.wait(10)
        bench.control(ControlType.CONTROL_TYPE_REJECT_EXECUTION, lifetime_id="lifetime-1", execution_id=given)
        assert bench.report(given).headers.status == ABORTED
        assert bench.value(bench.give_task("quick")) == "done"


def test_a_handler_that_ignores_the_abort_is_left_behind(bench: Bench) -> None:
    begun, release = threading.Event(), threading.Event()

    @task
    def deaf(ctx: TaskContext) -> None:
        begun.set()
        release.wait(30)

    with bench.worker(registry(deaf, quick), cancel_grace_s=0.05):
        given = bench.give_task("deaf")
        assert begun.wait(10)
        bench.abort()
        assert bench.report(given).headers.status == ABORTED
        assert bench.value(bench.give_task("quick", lifetime_id="lifetime-2")) == "done"
        release.set()
