from __future__ import annotations

import asyncio
import itertools
import threading
import time

import pytest

from headgate_streams.port import LogProducer
from headgate_workers import TaskContext, task
from tests.support import eventually
from tests.unit.workers.bench import COMPLETED, FAILED, Bench, registry


@task
async def quick(ctx: TaskContext) -> str:
    return ctx.run_id


def kinds(bench: Bench) -> list[str]:
    return [str(envelope.WhichOneof("payload")) for envelope in bench.envelopes()]


def test_run_is_announced_before_it_begins_and_reports_the_same_run(bench: Bench) -> None:
    begun: list[list[str]] = []

    @task
    def looks(ctx: TaskContext) -> str:
        begun.append(kinds(bench))
        return ctx.run_id

    with bench.worker(registry(looks), name="w-1"):
        given = bench.give_task("looks", leased=True)
        run_id = bench.value(given)
    assert begun == [["execution_started"]]
    started = bench.envelopes()[0].execution_started
    assert (started.execution_id, started.run_id, started.worker) == (given, run_id, "w-1")
    assert started.ticket == b"ticket"
    assert bench.report(given).headers.run_id == run_id


def test_offset_is_committed_on_pickup(bench: Bench) -> None:
    release = threading.Event()
    offsets: list[int] = []

    @task
    def looks(ctx: TaskContext) -> None:
        offsets.append(bench.committed_offset())
        release.wait(20)

    with bench.worker(registry(looks), commit_interval_s=60):
        given = bench.give_task("looks", leased=True)
        eventually(lambda: offsets)
        assert not bench.reports(given)
        release.set()
        bench.report(given)
    assert offsets == [1]


def test_announcement_past_start_by_is_dropped_without_a_run(bench: Bench) -> None:
    with bench.worker(registry(quick)):
        late = bench.give_task("quick", leased=True, start_by_ms=1)
        eventually(lambda: bench.committed_offset() == 1)
        bench.report(bench.give_task("quick"))
    assert bench.reports(late) == []
    assert kinds(bench)[0] == "execution_started"


def test_heartbeats_carry_every_run_of_a_tenant_with_partial_usage(bench: Bench) -> None:
    release = threading.Event()

    @task
    def spends(ctx: TaskContext) -> None:
        ctx.usage.add(tokens_used=7)
        release.wait(20)

    def beats() -> list[set[str]]:
        return [
            {run.execution_id for run in envelope.heartbeat.runs if run.partial_usage.tokens_used == 7}
            for envelope in bench.envelopes()
            if envelope.HasField("heartbeat")
        ]

    with bench.worker(registry(spends)):
        ids = {bench.give_task("spends", leased=True, lease_ms=180) for _ in range(2)}
        eventually(lambda: beats().count(ids) >= 2)
        release.set()
        for id in ids:
            bench.report(id)


def test_spend_above_the_hold_is_told_at_once_and_only_when_it_grows(bench: Bench) -> None:
    spend, release = threading.Event(), threading.Event()

    @task
    def spends(ctx: TaskContext) -> None:
        ctx.usage.add(tokens_used=10)
        spend.wait(20)
        ctx.usage.add(tokens_used=1)
        release.wait(20)

    def beats() -> list[int]:
        return [
            run.partial_usage.tokens_used
            for envelope in bench.envelopes()
            if envelope.HasField("heartbeat")
            for run in envelope.heartbeat.runs
        ]

    with bench.worker(registry(spends, quick)):
        given = bench.give_task("spends", leased=True, lease_ms=60_000, hold_tokens=10)
        bench.report(bench.give_task("quick", leased=True))
        time.sleep(0.5)  # nothing must come, so there is nothing to wait for
        assert beats() == []
        spend.set()
        eventually(beats)
        time.sleep(0.5)
        assert beats() == [11]
        release.set()
        bench.report(given)


def test_stop_reports_leased_runs_that_outlast_the_drain(bench: Bench) -> None:
    begun = threading.Event()

    @task
    async def sleeps(ctx: TaskContext) -> None:
        ctx.usage.add(tokens_used=3)
        begun.set()
        await asyncio.sleep(60)

    with bench.worker(registry(sleeps), drain_s=0.05):
        given = bench.give_task("sleeps", leased=True)
        assert begun.wait(10)
    report = bench.report(given)
    assert report.headers.status == FAILED
    assert (report.result.error.code, report.result.error.retryable) == ("WORKER_STOPPED", True)
    assert report.resource_usage.tokens_used == 3


def test_plain_work_that_is_older_holds_the_offset_back(bench: Bench) -> None:
    release = threading.Event()

    @task
    def waits(ctx: TaskContext) -> None:
        release.wait(20)

    with bench.worker(registry(waits, quick)):
        bench.give_task("waits")
        report = bench.report(bench.give_task("quick", leased=True))
        assert report.headers.status == COMPLETED
        assert bench.committed_offset() == 0
        release.set()
        eventually(lambda: bench.committed_offset() == 2)


def test_what_is_announced_counts_as_one_that_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    make = bench.log.producer

    def patient(**_options: object) -> LogProducer:
        """Return a producer that mostly reports deliveries to who waits, as a distant broker does."""
        made = make()
        poll, hasty = made.poll, itertools.count(1)

        def later(timeout_s: float = 0.0) -> int:
            return poll(timeout_s) if timeout_s or next(hasty) % 20 == 0 else 0

        made.poll = later  # type: ignore[method-assign]
        return made

    monkeypatch.setattr(bench.log, "producer", patient)
    running: list[str] = []
    most: list[int] = []

    @task
    async def counts(ctx: TaskContext) -> None:
        running.append(ctx.run_id)
        most.append(len(running))
        await asyncio.sleep(0.02)
        running.remove(ctx.run_id)

    ids = [bench.give_task("counts", leased=True) for _ in range(30)]
    with bench.worker(registry(counts), concurrency=2):
        eventually(lambda: len(bench.reports()) == len(ids))
    assert max(most) == 2


def test_a_stop_withdraws_what_is_announced_and_not_begun_and_leaves_its_input(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, may_deliver = bench.log.producer, threading.Event()

    def silent(**_options: object) -> LogProducer:
        """Return a producer that reports no delivery until it is told."""
        made = make()
        poll = made.poll
        made.poll = lambda timeout_s=0.0: poll(timeout_s) if may_deliver.is_set() else 0  # type: ignore[method-assign]
        return made

    monkeypatch.setattr(bench.log, "producer", silent)
    with bench.worker(registry(quick)) as stop:
        given = bench.give_task("quick", leased=True, hold_tokens=10)
        time.sleep(0.3)  # it waits for a delivery that does not come
        stop.set()
        threading.Timer(0.3, may_deliver.set).start()
    [report] = bench.reports(given)
    assert report.result.error.code == "WITHDRAWN"
    assert report.headers.run_id == bench.envelopes()[0].execution_started.run_id
    assert not report.resource_usage.unpriced
    assert bench.committed_offset() == 0
    monkeypatch.undo()
    with bench.worker(registry(quick)):
        eventually(lambda: len(bench.reports(given)) == 2)
    assert bench.reports(given)[1].headers.status == COMPLETED


def test_early_leased_work_begins_when_it_is_committed_and_not_before(bench: Bench) -> None:
    # Its handler may have ended the process of the partition's last owner: begun uncommitted, it would be
    # begun by the next one, too.
    release, begun = threading.Event(), threading.Event()
    offsets: list[int] = []

    @task
    def waits(ctx: TaskContext) -> None:
        begun.set()
        release.wait(20)

    @task
    def looks(ctx: TaskContext) -> None:
        offsets.append(bench.committed_offset())

    older, leased, younger = (
        bench.task_input("waits"),
        bench.task_input("looks", leased=True),
        bench.task_input("quick"),
    )
    for one in (older, leased, younger):
        bench.give(one)
    with bench.worker(registry(waits, looks, quick), commit_interval_s=60):
        assert begun.wait(20)
        bench.report(younger.headers.execution_id)
        assert "execution_started" not in kinds(bench)
        release.set()
        bench.report(leased.headers.execution_id)
    assert offsets[0] >= 2
