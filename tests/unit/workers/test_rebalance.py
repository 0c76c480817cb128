from __future__ import annotations

import asyncio
import threading

import pytest

from headgate_graphs.errors import DeliveryFailed, LogUnavailable, UserError
from headgate_graphs.model import NodeKind
from headgate_streams.port import TopicDescription
from headgate_workers import TaskContext, task
from tests.support import eventually
from tests.unit.workers.bench import Bench, registry


def test_work_ends_within_the_drain_when_its_partition_moves(bench: Bench) -> None:
    runs: list[str] = []
    begun, release = threading.Event(), threading.Event()

    @task
    def waits(ctx: TaskContext) -> str:
        runs.append(ctx.execution_id)
        if len(runs) == 2:
            begun.set()
        release.wait(20)
        return "done"

    with bench.worker(registry(waits), drain_s=10.0):
        ids = [bench.give(bench.task_input("waits"), partition=p) for p in (0, 1)]
        assert begun.wait(10)
        threading.Timer(0.3, release.set).start()
        with bench.worker(registry(waits)):
            assert [bench.value(id) for id in ids] == ["done", "done"]
            later = [bench.give(bench.task_input("waits"), partition=p) for p in (0, 1)]
            assert [bench.value(id) for id in later] == ["done", "done"]
    assert sorted(runs) == sorted(ids + later)


def test_work_that_outlasts_the_drain_is_begun_again_by_the_new_owner(bench: Bench) -> None:
    runs: list[tuple[str, str]] = []

    def handler(owner: str, ends: bool) -> object:
        @task("shared")
        async def shared(ctx: TaskContext) -> str:
            runs.append((owner, ctx.execution_id))
            await asyncio.sleep(0 if ends else 60)
            return owner

        return shared

    with bench.worker(registry(handler("old", False)), drain_s=0.05):
        ids = {bench.give(bench.task_input("shared"), partition=p) for p in (0, 1)}
        eventually(lambda: {id for _, id in runs} == ids)
        with bench.worker(registry(handler("new", True))):
            moved = eventually(lambda: [id for owner, id in runs if owner == "new"])
            assert bench.value(moved[0]) == "new"
    # The other partition stayed where it was, and so did its work.
    assert len(moved) == 1


def test_a_refused_append_ends_the_worker_and_commits_nothing(bench: Bench) -> None:
    @task
    async def quick(ctx: TaskContext) -> None:
        return None

    def refuse(self: object) -> int:
        raise DeliveryFailed("refused")

    with pytest.MonkeyPatch.context() as monkeypatch:
        bench.give_task("quick")
        monkeypatch.setattr(bench.log.producer().__class__, "_write", refuse)
        with pytest.raises(DeliveryFailed, match="refused"), bench.worker(registry(quick)):
            eventually(lambda: "worker-under-test" not in [t.name for t in threading.enumerate()])
    assert bench.committed_offset() == 0


def test_a_producer_that_is_full_for_a_while_loses_nothing(bench: Bench) -> None:
    @task
    async def quick(ctx: TaskContext) -> str:
        return "done"

    kind = bench.log.producer().__class__
    write, refusals = kind._write, [LogUnavailable("full")] * 3

    def sometimes(self: object) -> int:
        if refusals and threading.current_thread().name == "worker-under-test":
            raise refusals.pop()
        return int(write(self))  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(kind, "_write", sometimes)
        with bench.worker(registry(quick)):
            given = bench.give_task("quick")
            assert bench.value(given) == "done"
        assert len(bench.reports(given)) == 1
    assert refusals == []


def test_topics_with_another_partition_count_are_refused(bench: Bench) -> None:
    bench.log.create_topics([TopicDescription("headgate.task-inputs.odd", 5, {})])
    with pytest.raises(UserError, match="odd"), bench.worker(registry(), NodeKind.TASK, queues=("odd",)):
        pass


def test_control_events_are_read_from_the_age_of_the_oldest_input(bench: Bench) -> None:
    runs: list[str] = []

    @task
    async def counts(ctx: TaskContext) -> None:
        runs.append(ctx.lifetime_id)

    for number in range(5):
        bench.give_task("counts", lifetime_id=f"lifetime-{number}")
        bench.abort(f"lifetime-{number}")
    with bench.worker(registry(counts)):
        eventually(lambda: len(bench.reports()) == 5)
        bench.report(bench.give_task("counts", lifetime_id="lifetime-9"))
    assert runs == ["lifetime-9"]
