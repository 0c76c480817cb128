from __future__ import annotations

import itertools
from typing import Any

import pytest

from headgate.command.views.state import LifetimeState
from headgate_catalog.happening import Happening
from headgate_protos.v1.common_pb2 import ResourceUsage
from headgate_protos.v1.control_pb2 import OperatorCommand, RaiseBudget
from headgate_protos.v1.execution_pb2 import ExecutionStarted, NodeView
from tests.unit.headgate.records import (
    COMPLETED,
    PAUSED,
    RUNNING,
    event,
    plan_done,
    task_done,
    task_input,
    view,
)


def happened(message: Any, offset: int = 0, when_ms: int = 1000) -> Happening:
    return Happening(when_ms, (offset, 0, 0), message)


def state_after(*messages: Any) -> LifetimeState:
    state = LifetimeState()
    for message in messages:
        state.apply(happened(message))
    return state


def test_spend_is_counted_once_per_run_and_every_run_is_counted() -> None:
    once = task_done()
    state = state_after(once, once, task_done(run_id="another-run"), plan_done())
    assert state.spend["write"].tokens_used == 20
    assert state.spend["write"].runs == 2
    assert state.total.cost_nano_usd == 20_000_000


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_result_closes_its_attempt_in_whatever_order_the_topics_are_read(order: tuple[int, ...]) -> None:
    messages = [task_input(), ExecutionStarted(execution_id="write-1"), task_done()]
    state = state_after(*(messages[n] for n in order))
    assert state.attempts["write-1"].status == "completed"
    assert state.in_flight == []


def test_what_the_ledger_charged_for_a_run_that_died_is_counted() -> None:
    charged = ResourceUsage(tokens_used=210, cost_nano_usd=30_000_000)
    ledger = view(RUNNING, usage=charged, nodes=[NodeView(node_id="write", usage=charged)])
    state = state_after(task_done(tokens=10), ledger)
    assert state.settled()["write"].tokens_used == state.settled_total().tokens_used == 210
    late = state_after(ledger, task_done(tokens=500))
    assert late.settled_total().tokens_used == 500


def test_what_is_dispatched_is_in_flight() -> None:
    state = state_after(task_input(), task_input(iteration=2), task_done())
    assert [one.execution_id for one in state.in_flight] == ["write-2"]


def test_a_failed_attempt_says_why_and_a_plan_says_where_to() -> None:
    state = state_after(task_done(error="TIMEOUT"), plan_done(next_ids=("write", "test")))
    assert state.attempts["write-1"].why == "TIMEOUT: no"
    assert state.attempts["review-1"].why == "→ write, test"


def test_the_newest_view_counts_and_an_end_is_final() -> None:
    state = state_after(view(RUNNING, 5), view(PAUSED, 3))
    assert state.status == "running"
    state = state_after(view(PAUSED, 5), view(COMPLETED, 9), view(RUNNING, 12))
    assert (state.status, state.view_offset) == ("completed", 9)
    assert LifetimeState().status == "starting"


def test_a_repeated_control_event_is_told_once() -> None:
    state = LifetimeState()
    assert state.apply(happened(event()))
    assert not state.apply(happened(event()))
    assert len(state.events) == 1


def test_a_rejected_dispatch_is_no_longer_in_flight() -> None:
    rejected = event("CONTROL_TYPE_REJECT_EXECUTION")
    rejected.execution_id = "write-1"
    state = state_after(task_input(), rejected)
    assert (state.attempts["write-1"].status, state.in_flight) == ("rejected", [])


def test_a_raised_budget_is_remembered() -> None:
    order = RaiseBudget(policy="tight", rule="run-dollars", metric="cost_usd", value=7)
    state = state_after(OperatorCommand(command_id="c", raise_budget=order))
    assert state.caps == {("tight", "run-dollars", "cost_usd"): 7}
