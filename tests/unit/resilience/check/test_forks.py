"""A fork's history counts as accepted: nothing of it may run, and nothing else may travel on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headgate_protos.v1.plan_pb2 import PlanInput
from headgate_resilience.check import Report, Verdict
from tests.unit.guardrails.graphs_for_tests import FORK, LOOP
from tests.unit.guardrails.test_forks_in_fold import EXTERNAL, fork, go_round, world
from tests.unit.guardrails.world import World
from tests.unit.resilience.check.topics_in_memory import MemoryTopics, checked


def topics_of(run: World) -> MemoryTopics:
    topics = MemoryTopics()
    topics.fold(run.records)
    return topics


def violated(report: Report) -> set[str]:
    """Return the invariants that are violated, I11 aside: it sees every change of what a gate says."""
    found = {one.id for one in report.invariants.values() if one.verdict is Verdict.FAIL}
    return found - {"I11"}


def forked_in_a_join() -> World:
    run = world(FORK)
    run.start("g")
    for _ in range(2):
        run.answer("p1", next=["ta", "tb", "tc"])
        for node in ("tc", "ta", "tb"):
            run.answer(node, node)
        run.answer("p2", next=["tz"])
        run.answer("tz")
    run.answer("p1", next=["ta", "tb", "tc"])
    run.answer("tb", "B")
    fork(run, "tb#3", FORK)
    for node in ("ta", "tc"):
        run.answer(node, node)
    run.answer("p2", next=["end"])
    assert run.status("run-2") == "COMPLETED"
    return run


def forked_with_effects() -> World:
    run = world(EXTERNAL)
    run.start("g")
    go_round(run, 2)
    fork(run, "t1#1", EXTERNAL)
    run.answer("p1", next=["t1"])
    run.answer("p1", next=["t1"])
    run.answer("p1", next=["end"])
    return run


@pytest.mark.parametrize("make", [forked_in_a_join, forked_with_effects])
def test_a_sound_fork_breaks_no_promise(make: object) -> None:
    assert callable(make)
    report = checked(topics_of(make()), settled=False)
    assert not report.violated, "\n".join(report.lines())


def test_what_travels_on_must_be_what_was_recorded() -> None:
    run = world(LOOP)
    run.start("g")
    go_round(run, 2)
    fork(run, "t1#1", LOOP)
    topics = topics_of(run)
    inputs = topics.records[topics.topics.plan_inputs()][0]
    told = PlanInput.FromString(inputs[-1].value or b"")
    assert told.headers.lifetime_id == "run-2"
    told.upstream_task_executions[0].result.json_result = '"another"'
    inputs[-1] = replace(inputs[-1], value=told.SerializeToString())
    assert "I2" in violated(checked(topics, settled=False))


def test_what_was_recorded_must_not_run_again() -> None:
    run = world(LOOP)
    run.start("g")
    go_round(run, 2)
    fork(run, "t1#1", LOOP)
    topics = topics_of(run)
    told = topics.topics.plan_inputs()
    repeated = topics.records[told][0]
    first = PlanInput.FromString(repeated[0].value or b"")
    last = PlanInput.FromString(repeated[-1].value or b"")
    first.headers.lifetime_id = "run-2"
    first.source.CopyFrom(last.source)
    repeated[-1] = replace(repeated[-1], value=first.SerializeToString())
    assert violated(checked(topics, settled=False)) & {"I2", "I7"}
