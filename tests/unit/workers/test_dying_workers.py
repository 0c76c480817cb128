"""Plain work that ends its worker: how its partition's next owners come to know of it, and what they do."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from headgate_graphs.errors import DeliveryFailed, LogUnavailable, UserError
from headgate_guardrails.fold.terms import LEASE_MS
from headgate_protos.v1.task_pb2 import TaskInput
from headgate_streams.port import Committed, TopicPartition
from headgate_workers import TaskContext, task
from headgate_workers.leases import DEFAULT_LEASE_S
from headgate_workers.share import MANY_DEATHS, Share
from headgate_workers.work import Work
from tests.support import eventually
from tests.unit.workers.bench import ABORTED, TENANT, Bench, registry

PLACE = TopicPartition("t", 0)


def share(committed: Committed | None, end: int = 10, room: int = 3) -> Share:
    return Share(PLACE, committed, (0, end), room)


def plain(owned: Share, offset: int) -> Work:
    work = Work(TaskInput(), owned, offset, f"run-{offset}")
    owned.tracker.track(offset)
    owned.take_up(work)
    return work


def claimed(committed: Committed | None) -> tuple[Share, Committed]:
    owned = share(committed)
    claim = owned.claim()
    owned.committed_ok(claim)
    return owned, claim


def after_deaths(count: int) -> Committed | None:
    """Return what is committed when so many owners in a row have claimed a partition and died."""
    at: Committed | None = None
    for _ in range(count):
        _, at = claimed(at)
    return at


def test_suspicion_begins_with_the_second_owner_that_dies_and_never_with_the_first() -> None:
    assert [share(after_deaths(n)).is_feared for n in range(4)] == [False, False, True, True]
    assert MANY_DEATHS == 2


def test_a_commit_of_something_done_ends_the_count() -> None:
    owned, _ = claimed(after_deaths(MANY_DEATHS))
    plain(owned, 0)
    owned.settle(0)
    done = owned.progress()
    assert done == Committed(1, "0/")
    assert not share(done).is_feared
    owned.committed_ok(done)
    assert share(owned.claim()).is_feared is False


def test_who_leaves_with_nothing_in_hand_leaves_no_suspicion() -> None:
    owned, _ = claimed(after_deaths(MANY_DEATHS))
    left = owned.farewell()
    assert left == Committed(0, "-1/")
    _, claim = claimed(left)
    assert claim == after_deaths(1)


def test_who_leaves_unfinished_work_neither_adds_to_the_deaths_nor_clears_them() -> None:
    # Else a handler that takes a while to end its worker would never be suspected: the worker that comes back
    # takes the partition from a sound one in between.
    owned, claim = claimed(after_deaths(MANY_DEATHS))
    plain(owned, 0)
    assert share(owned.farewell()).claim() == claim


def test_the_first_inputs_that_were_there_are_suspects_and_no_more_than_a_worker_has_in_hand() -> None:
    owned = share(after_deaths(MANY_DEATHS), end=2, room=3)
    assert [plain(owned, n).is_suspect for n in range(4)] == [True, True, False, False]
    many = share(after_deaths(MANY_DEATHS), end=9, room=3)
    assert [plain(many, n).is_suspect for n in range(4)] == [True, True, True, False]
    calm = share(after_deaths(MANY_DEATHS - 1))
    assert not plain(calm, 0).is_suspect


def test_metadata_of_another_program_is_refused_in_one_line() -> None:
    for metadata in ("gibberish", "x/1;0:1.1", "1/gibberish"):
        with pytest.raises(UserError, match="something else commits for it"):
            share(Committed(0, metadata))


def test_a_suspects_lease_is_as_long_as_the_gate_takes_it_for() -> None:
    assert DEFAULT_LEASE_S * 1000 == LEASE_MS


def leave_as_the_dead_do(bench: Bench, deaths: int) -> None:
    """Commit what `deaths` owners in a row leave behind that have begun and finished nothing."""
    place = TopicPartition(bench.topics.task_inputs(), 0)
    member = bench.log.consumer("headgate.task-workers")
    member.subscribe([place.topic])
    eventually(lambda: member.poll(0.05, 1) is not None and place in member.assignment())
    left = after_deaths(deaths)
    assert left is not None
    member.commit({place: left})
    member.close()


def test_the_partition_is_claimed_before_anything_of_it_begins(bench: Bench) -> None:
    seen: list[Committed | None] = []

    @task
    def looks(ctx: TaskContext) -> None:
        seen.append(bench.committed())

    given = bench.give_task("looks")
    with bench.worker(registry(looks), commit_interval_s=60):
        bench.report(given)
    assert seen == [Committed(0, "0/")]
    assert (bench.committed() or seen[0]).metadata.startswith("-1/")  # type: ignore[union-attr]


def test_suspects_are_announced_committed_and_run_alone_while_others_go_on(bench: Bench) -> None:
    now: list[str] = []
    together: list[int] = []
    offsets: list[int] = []
    release = threading.Event()

    @task
    async def suspect(ctx: TaskContext) -> None:
        now.append(ctx.execution_id)
        together.append(len(now))
        offsets.append(bench.committed_offset())
        await asyncio.sleep(0.03)
        now.remove(ctx.execution_id)

    @task
    def slow(ctx: TaskContext) -> None:
        release.wait(20)

    @task
    async def other(ctx: TaskContext) -> str:
        return "done"

    ids = [bench.give_task(name) for name in ("suspect", "suspect", "slow", "suspect")]
    leave_as_the_dead_do(bench, MANY_DEATHS)
    with bench.worker(registry(suspect, slow, other), concurrency=4):
        eventually(lambda: len(offsets) == 2)
        later = bench.give_task("other")
        elsewhere = bench.give(bench.task_input("other"), partition=1)
        assert [bench.value(id) for id in (later, elsewhere)] == ["done", "done"]
        assert len(offsets) == 2  # the slow one is tried
        release.set()
        bench.report(ids[-1])
    assert together == [1, 1, 1]
    assert all(offset >= least for offset, least in zip(offsets, (1, 2, 4), strict=True))
    announced = [e.execution_started for e in bench.envelopes() if e.HasField("execution_started")]
    assert [started.execution_id for started in announced] == ids


def test_leased_work_among_suspects_waits_for_its_turn(bench: Bench) -> None:
    order: list[str] = []

    @task
    async def notes(ctx: TaskContext) -> None:
        order.append(ctx.execution_id)
        await asyncio.sleep(0.02)

    ids = [bench.give_task("notes", leased=leased) for leased in (False, True, False, True, False)]
    leave_as_the_dead_do(bench, MANY_DEATHS)
    with bench.worker(registry(notes), concurrency=4):
        for id in ids:
            bench.report(id)
    assert [id for id in order if id != ids[4]] == ids[:4]  # the last is beyond what a worker has in hand


def test_a_suspect_that_outlasts_a_stop_is_given_up_and_is_no_failure(bench: Bench) -> None:
    begun = threading.Event()

    @task
    async def sleeps(ctx: TaskContext) -> None:
        begun.set()
        await asyncio.sleep(60)

    given = bench.give_task("sleeps")
    leave_as_the_dead_do(bench, MANY_DEATHS)
    with bench.worker(registry(sleeps), drain_s=0.05):
        assert begun.wait(10)
    assert bench.report(given).headers.status == ABORTED


def test_a_worker_that_fails_leaves_as_the_dead_do(bench: Bench) -> None:
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
    assert bench.committed() == after_deaths(1)


def test_what_was_read_when_a_claim_could_not_be_committed_is_not_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    @task
    async def quick(ctx: TaskContext) -> str:
        return "done"

    kind = bench.log.consumer("any").__class__
    commit, refusals = kind.commit, [LogUnavailable("for a while")] * 2

    def sometimes(self: object, offsets: object) -> None:
        if refusals:
            raise refusals.pop()
        commit(self, offsets)  # type: ignore[arg-type]

    given = bench.give_task("quick")
    monkeypatch.setattr(kind, "commit", sometimes)
    began_s = time.monotonic()
    with bench.worker(registry(quick)):
        assert bench.value(given) == "done"
    assert refusals == []
    assert len(bench.reports(given)) == 1
    assert time.monotonic() - began_s < 15
    assert bench.reports(given)[0].tenant_id == TENANT
