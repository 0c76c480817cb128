"""Gate and workers in this process, on a log in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from headgate import (
    AgentGraph,
    Decision,
    Edge,
    EdgeKind,
    GraphMetadata,
    Headgate,
    HeadgateError,
    Plan,
    PlanContext,
    Task,
    TaskContext,
    UserError,
    plan,
    task,
)
from headgate.embedding import Service
from headgate.outcome import NotCompleted
from headgate_graphs.model import TaskConfiguration


@task("double")
def double(ctx: TaskContext, data: Any) -> int:
    ctx.usage.add(tokens_used=5, cost_usd="0.001", model="none")
    return int(data) * 2


@task("large")
async def large(ctx: TaskContext, data: Any) -> str:
    return "x" * 200_000


@plan("finish")
async def finish(ctx: PlanContext) -> Decision:
    return Decision(next=["end"], output=ctx.upstream_one.value)


def graph(name: str = "double", queue: str | None = None) -> AgentGraph:
    return AgentGraph(
        metadata=GraphMetadata(id=f"one-{name}", version="1.0.0"),
        entry="work",
        tasks=(Task(id="work", type=name, config=TaskConfiguration(queue=queue)),),
        plans=(Plan(id="decide", type="finish"),),
        edges=(
            Edge(source="work", target="decide"),
            Edge(source="decide", target="end", type=EdgeKind.FINAL),
        ),
    )


@pytest.fixture
def embedded() -> Iterator[Headgate]:
    with Headgate(":memory:", handlers=[double, large, finish]) as running:
        yield running


def test_a_run_gives_its_outcome_and_its_spend(embedded: Headgate) -> None:
    outcome = embedded.run(graph(), 21, timeout_s=30)
    assert (outcome.completed(), outcome.tokens_used, outcome.cost_usd) == (42, 5, 0.001)


def test_a_large_value_arrives_whole_and_a_named_queue_is_served(embedded: Headgate) -> None:
    outcome = embedded.run(graph("large", "gpu"), timeout_s=30)
    assert outcome.completed() == "x" * 200_000


def test_a_node_without_a_handler_is_refused(embedded: Headgate) -> None:
    with pytest.raises(UserError, match="task work is of type unknown"):
        embedded.run(graph("unknown"))


def test_one_lifetime_id_is_one_run_of_one_graph(embedded: Headgate) -> None:
    assert embedded.run(graph(), 21, lifetime_id="life", timeout_s=30).completed() == 42
    assert embedded.run(graph(), 99, lifetime_id="life", timeout_s=30).completed() == 42
    with pytest.raises(UserError, match="runs graph one-double"):
        embedded.run(graph("large"), lifetime_id="life")


def test_a_run_that_is_not_over_has_no_outcome(embedded: Headgate) -> None:
    outcome = embedded.run(graph(), {"not": "a number"}, timeout_s=0.05)
    assert outcome.status == "running"
    with pytest.raises(NotCompleted, match="is running"):
        outcome.completed()


def test_it_must_be_running_to_run() -> None:
    headgate = Headgate(":memory:", handlers=[double, finish])
    with pytest.raises(HeadgateError, match="with Headgate"):
        headgate.run(graph(), 1)
    headgate.close()


def test_a_service_that_ends_by_itself_is_an_error() -> None:
    service = Service("gate", lambda stop: None, threading.Event())
    service.start()
    with pytest.raises(HeadgateError, match="gate ended"):
        service.join(10)


def test_what_ended_a_service_is_raised() -> None:
    def broken(stop: threading.Event) -> None:
        raise ZeroDivisionError("bug")

    service = Service("gate", broken, threading.Event())
    service.start()
    assert service.done.wait(10)
    with pytest.raises(ZeroDivisionError):
        service.check()


def test_a_service_that_was_asked_to_end_ends_quietly() -> None:
    def obedient(stop: threading.Event) -> None:
        stop.wait(10)

    service = Service("gate", obedient, threading.Event())
    service.start()
    service.stop.set()
    assert service.join(10)
