"""What stops: work that a worker gives back in a pause, sub-graphs below one, how long stopping takes."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2
from tests.unit.guardrails.graphs_for_tests import FORK, LINE, LOOP, PAID, graph, policy, rule
from tests.unit.guardrails.world import World, usage

PAUSE = control_pb2.CONTROL_TYPE_PAUSE_LIFETIME
RESUME = control_pb2.CONTROL_TYPE_RESUME_LIFETIME


def give_back(world: World, message: Any, code: str = "PAUSED", run_id: str = "") -> None:
    world.report(message, error=code, status=pb.EXECUTION_STATUS_ABORTED, run_id=run_id)


@pytest.mark.parametrize("announced", [True, False])
def test_work_given_back_in_a_pause_is_parked_without_its_hold_and_goes_on_with_the_resume(
    announced: bool,
) -> None:
    world = World(PAID, restoring=True)
    world.start("g")
    world.answer("p1", next=["t1"])
    message = world.take("t1")
    run_id = world.begin(message) if announced else ""
    world.command(pause=control_pb2.PauseLifetime())
    give_back(world, message, run_id=run_id)
    spend = world.lifetime().spend
    assert (spend.held_tokens, spend.open_holds, spend.executions) == (0, 0, 1), "only p1 was executed"
    assert not world.inputs
    world.command(resume=control_pb2.ResumeLifetime())
    again = world.take("t1")
    assert (again.headers.attempt, again.headers.iteration) == (2, 1)
    assert again.headers.parent_execution_id == message.headers.execution_id
    world.refold()


def test_what_is_given_back_is_neither_lost_nor_tried_nor_a_failure() -> None:
    stuck = rule("stuck", no_progress={"repeats": 3, "failures": 2, "of": ["node", "input", "output"]})
    world = World(PAID, policy(stuck), restoring=True)
    world.start("g")
    world.answer("p1", next=["t1"])
    for _ in range(12):
        world.command(pause=control_pb2.PauseLifetime())
        give_back(world, world.take("t1"))
        world.command(resume=control_pb2.ResumeLifetime())
    world.answer("t1", error="OUCH", retryable=True)
    assert world.waiting() == ["p1"], "max_retries of 0 still holds, and the failure is the first"
    assert world.status() == "RUNNING"
    world.refold()


def test_what_is_given_back_after_the_resume_is_dispatched_at_once() -> None:
    world = World(LINE)
    world.start("g")
    message = world.take("p1")
    world.command(pause=control_pb2.PauseLifetime())
    world.command(resume=control_pb2.ResumeLifetime())
    give_back(world, message)
    assert world.waiting() == ["p1"]


def test_what_is_given_back_under_a_freeze_waits_for_the_thaw() -> None:
    world = World(LINE, restoring=True)
    world.start("g")
    message = world.take("p1")
    world.command("", pause=control_pb2.PauseLifetime())
    give_back(world, message)
    assert not world.inputs
    world.command("", resume=control_pb2.ResumeLifetime())
    assert world.waiting() == ["p1"]
    world.refold()


def test_a_second_run_that_is_given_back_leaves_the_first_alone() -> None:
    world = World(PAID)
    world.start("g")
    world.answer("p1", next=["t1"])
    message = world.take("t1")
    run_id = world.begin(message)
    world.command(pause=control_pb2.PauseLifetime())
    give_back(world, message)
    world.report(message, 1, run_id=run_id, used=usage(40))
    world.command(resume=control_pb2.ResumeLifetime())
    assert world.waiting() == ["p1"], "no call is repeated"


def test_giving_back_what_was_begun_is_a_loss_that_is_paid() -> None:
    world = World(PAID)
    world.start("g")
    world.answer("p1", next=["t1"])
    message = world.take("t1")
    world.report(message, error="PAUSED", status=pb.EXECUTION_STATUS_ABORTED, used=usage(7))
    assert world.lifetime().spend.tokens == 7
    assert world.waiting() == ["t1"]


def test_stop_latency_is_that_of_handlers_and_not_of_work_that_never_began() -> None:
    world = World(FORK)
    world.start("g")
    world.answer("p1", next=["ta", "tb"])
    running, waiting = world.take("ta"), world.take("tb")
    world.command(abort=control_pb2.AbortLifetime())
    world.clock += 150
    world.report(running, error="ABORTED", status=pb.EXECUTION_STATUS_ABORTED, used=usage(latency_ms=9))
    world.clock += 10_000
    give_back(world, waiting, "NOT_BEGUN")
    assert world.view().open_holds == 0
    assert world.view().stop_latency.nanos == 150_000_000


def test_a_pause_names_the_sub_graphs_below_so_that_workers_hold_their_work_back_too() -> None:
    below = {"type": "graph", "params": {"graph": "g"}}
    outer = graph([("p1", "t1"), ("t1", "p2"), ("p2", "end", "final")], entry="p1", t1=below)
    outer = outer.model_copy(update={"metadata": outer.metadata.model_copy(update={"id": "outer"})})
    world = World(LINE, restoring=True)
    world.register(outer)
    world.start("outer")
    world.answer("p1", next=["t1"])
    message = world.take("p1")
    child_id = message.headers.lifetime_id
    world.command(pause=control_pb2.PauseLifetime())
    assert [(e.type, e.lifetime_id) for e in world.events()] == [(PAUSE, "run-1"), (PAUSE, child_id)]
    give_back(world, message)
    assert not world.inputs
    world.command(resume=control_pb2.ResumeLifetime())
    assert [(e.type, e.lifetime_id) for e in world.events()[2:]] == [(RESUME, "run-1"), (RESUME, child_id)]
    assert world.take("p1").headers.lifetime_id == child_id
    world.refold()


def test_a_withdrawn_run_leaves_its_execution_and_its_hold_to_the_next_worker() -> None:
    world = World(PAID, restoring=True)
    world.start("g")
    world.answer("p1", next=["t1"])
    message = world.take("t1")
    give_back(world, message, "WITHDRAWN", world.begin(message))
    spend = world.lifetime().spend
    assert (spend.held_tokens, spend.open_holds, spend.executions) == (100, 1, 1)
    assert not world.inputs, "its input is still in the topic"
    world.tick(3_600_000)
    assert world.take("t1").headers.attempt == 2, "nobody has read it for an hour"
    world.refold()


def test_a_withdrawn_run_is_nothing_beside_the_one_that_took_its_place() -> None:
    world = World(PAID)
    world.start("g")
    world.answer("p1", next=["t1"])
    message = world.take("t1")
    first, second = world.begin(message), world.begin(message)
    give_back(world, message, "WITHDRAWN", first)
    world.report(message, 1, run_id=second, used=usage(40))
    spend = world.lifetime().spend
    assert (spend.tokens, spend.open_holds) == (40, 1), "the one of p1"
    assert world.waiting() == ["p1"]


@pytest.mark.parametrize("seconds", [-1, 2**40, 2**63 - 1])
def test_a_pause_for_longer_than_can_be_is_refused(seconds: int) -> None:
    world = World(LOOP)
    world.start("g")
    world.command(pause=control_pb2.PauseLifetime(ttl=Duration(seconds=seconds)))
    assert world.letters() == ["BAD_COMMAND"]
    assert world.status() == "RUNNING"
