"""Graph semantics as the fold carries them out."""

from __future__ import annotations

import itertools
import json

import pytest

from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2
from tests.unit.guardrails.graphs_for_tests import FORK, LINE, LOOP, PAID, graph
from tests.unit.guardrails.world import World


def test_a_line_runs_to_completed_and_the_plans_value_is_the_outcome() -> None:
    world = World(LINE)
    world.start("g", data={"issue": 1})
    world.answer("p1", {"do": "it"}, next=["t1"])
    task = world.take("t1")
    assert json.loads(task.input_data.json) == {"do": "it"}
    assert json.loads(task.start_input.json) == {"issue": 1}
    world.report(task, {"done": True})
    plan = world.take("p2")
    assert [u.headers.node_id for u in plan.upstream_task_executions] == ["t1"]
    world.report(plan, "all good", next=["end"])
    assert world.status() == "COMPLETED"
    assert json.loads(world.view().outcome.json) == "all good"
    world.refold()


def test_a_plan_with_a_final_edge_that_names_nothing_ends_the_lifetime() -> None:
    world = World(LOOP)
    world.start("g")
    world.answer("p1", "done")
    assert world.status() == "COMPLETED"


def test_a_plan_gives_each_task_its_own_input() -> None:
    world = World(FORK)
    world.start("g")
    world.answer("p1", {"all": 1}, next=["ta", "tb"], inputs={"tb": {"only": "b"}})
    assert json.loads(world.take("ta").input_data.json) == {"all": 1}
    assert json.loads(world.take("tb").input_data.json) == {"only": "b"}


@pytest.mark.parametrize("order", list(itertools.permutations(["ta", "tb", "tc"])))
def test_a_join_fires_once_with_all_branches_in_dispatch_order(order: tuple[str, ...]) -> None:
    world = World(FORK)
    world.start("g")
    world.answer("p1", next=["ta", "tb", "tc"])
    for name in order:
        assert "p2" not in world.waiting()
        world.answer(name, name)
    plan = world.take("p2")
    assert [u.headers.node_id for u in plan.upstream_task_executions] == ["ta", "tb", "tc"]
    assert not world.inputs


def test_a_join_waits_only_for_the_branches_of_this_visit_and_fires_again_in_a_loop() -> None:
    world = World(FORK, restoring=True)
    world.start("g")
    for visit, branches in enumerate((["ta", "tb"], ["tc"], ["ta", "tb", "tc"]), start=1):
        world.answer("p1", next=branches)
        for name in branches:
            world.answer(name)
        joined = world.take("p2")
        assert joined.headers.iteration == visit
        assert [u.headers.node_id for u in joined.upstream_task_executions] == branches
        world.report(joined, next=["tz"])
        world.answer("tz")
    assert len(world.lifetime().joins) <= 1
    world.refold()


def test_nested_joins_fire_inside_out() -> None:
    nested = graph(
        [
            ("p1", "ta", "parallel"),
            ("p1", "tb", "parallel"),
            ("ta", "p2"),
            ("p2", "tc", "parallel"),
            ("p2", "td", "parallel"),
            ("tc", "p3", "join"),
            ("td", "p3", "join"),
            ("p3", "te"),
            ("te", "p4", "join"),
            ("tb", "p4", "join"),
            ("p4", "end", "final"),
        ],
        entry="p1",
    )
    world = World(nested, restoring=True)
    world.start("g")
    world.answer("p1", next=["ta", "tb"])
    world.answer("ta")
    world.answer("p2", next=["tc", "td"])
    world.answer("td")
    world.answer("tb")
    assert "p4" not in world.waiting()
    world.answer("tc")
    world.answer("p3", next=["te"])
    world.answer("te")
    joined = world.take("p4")
    assert [u.headers.node_id for u in joined.upstream_task_executions] == ["te", "tb"]
    world.report(joined, "ok", next=["end"])
    assert world.status() == "COMPLETED"


def test_a_fast_branch_never_waits_for_a_slow_sibling() -> None:
    free = graph(
        [
            ("p1", "ta", "parallel"),
            ("p1", "tb", "parallel"),
            ("ta", "p2"),
            ("tb", "p2"),
            ("p2", "tz"),
            ("p2", "end", "final"),
        ],
        entry="p1",
    )
    world = World(free)
    world.start("g")
    world.answer("p1", next=["ta", "tb"])
    world.answer("ta")
    world.answer("p2", next=["tz"])
    assert world.waiting() == ["tb", "tz"]
    world.answer("tz")
    assert world.status() == "RUNNING"
    world.answer("tb")
    world.answer("p2", next=["end"])
    assert world.status() == "COMPLETED"


def test_final_ends_the_lifetime_while_others_run_and_their_spend_still_counts() -> None:
    free = graph([("p1", "ta", "parallel"), ("p1", "tb", "parallel"), ("ta", "end", "final")], entry="p1")
    world = World(free)
    world.start("g")
    world.answer("p1", next=["ta", "tb"])
    late = world.take("tb")
    world.answer("ta", "first")
    assert world.status() == "COMPLETED"
    assert world.events()[-1].type == control_pb2.CONTROL_TYPE_ABORT_LIFETIME
    assert world.view().open_holds == 1
    world.report(late, used=pb.ResourceUsage(tokens_used=7))
    assert world.view().open_holds == 0
    assert world.view().usage.tokens_used == 7


def test_a_lifetime_that_runs_dry_is_completed() -> None:
    world = World(graph([("p1", "t1"), ("p1", "end", "final")], entry="p1"))
    world.start("g")
    world.answer("p1", next=["t1"])
    world.answer("t1")
    assert world.status() == "COMPLETED"


def test_edge_conditions_choose_by_priority_and_see_result_and_metadata() -> None:
    by_result = graph(
        [
            ("t1", "p1", "normal", "metadata.kind == 'a' && result.n > 1"),
            ("t1", "p2"),
            ("p1", "end", "final"),
            ("p2", "end", "final"),
        ],
        entry="t1",
    )
    for value, expected in (({"n": 2}, "p1"), ({"n": 1}, "p2")):
        world = World(by_result)
        world.start("g")
        world.answer("t1", value, metadata={"kind": "a"})
        assert world.waiting() == [expected]


def test_a_condition_that_cannot_be_evaluated_fails_the_lifetime_and_names_the_edge() -> None:
    world = World(graph([("t1", "p1", "normal", "result.missing == 1"), ("p1", "end", "final")], entry="t1"))
    world.start("g")
    world.answer("t1", {})
    assert world.status() == "FAILED"
    assert "t1 -> p1" in world.view().reason


def test_a_failed_task_is_retried_with_backoff_and_then_delivered_to_the_plan() -> None:
    world = World(
        graph([("t1", "p1"), ("p1", "end", "final")], entry="t1", t1={"max_retries": 2, "backoff": "1s"})
    )
    world.start("g")
    first = world.take("t1")
    world.report(first, error="HANDLER_ERROR", retryable=True)
    assert not world.inputs
    world.tick(999)
    assert not world.inputs
    world.tick(300)
    second = world.take("t1")
    assert (second.headers.attempt, second.headers.iteration) == (2, 1)
    assert second.headers.parent_execution_id == first.headers.execution_id
    world.report(second, error="HANDLER_ERROR", retryable=True)
    world.tick(3000)
    world.answer("t1", error="HANDLER_ERROR", retryable=True)
    plan = world.take("p1")
    assert not plan.upstream_task_executions[0].result.success
    assert plan.upstream_task_executions[0].headers.attempt == 3


def test_a_failure_that_no_retry_can_help_is_delivered_at_once() -> None:
    world = World(LINE)
    world.start("g")
    world.answer("p1", next=["t1"])
    world.answer("t1", error="NO_HANDLER", retryable=False)
    assert world.waiting() == ["p2"]


def test_a_failure_with_no_edge_fails_the_lifetime() -> None:
    world = World(graph([("p1", "t1"), ("p1", "end", "final")], entry="p1"))
    world.start("g")
    world.answer("p1", next=["t1"])
    world.answer("t1", error="HANDLER_ERROR")
    assert world.status() == "FAILED"
    assert "t1" in world.view().reason


@pytest.mark.parametrize(
    ("next_ids", "code"),
    [(["nowhere"], "NOT_AN_EDGE"), (["ta", "tb"] * 40, "FANOUT"), (["p1"], "NOT_AN_EDGE")],
)
def test_a_decision_the_graph_does_not_allow_is_retried_and_then_fails(
    next_ids: list[str], code: str
) -> None:
    world = World(FORK)
    world.start("g")
    for _ in range(3):
        world.answer("p1", next=next_ids)
        world.tick(120_000)
    assert world.status() == "FAILED"
    assert code in world.view().reason


def test_a_plan_that_names_a_flood_of_tasks_is_a_fault_and_makes_nothing() -> None:
    world = World(FORK)
    world.start("g")
    before = len(world.outputs)
    world.answer("p1", next=["ta"] * 100_000)
    assert len(world.outputs) == before
    assert not world.inputs
    for _ in range(2):
        world.tick(120_000)
        world.answer("p1", next=["ta"] * 100_000)
    assert "FANOUT: plan p1 named 100000 tasks" in world.view().reason


def test_the_graphs_iteration_cap_ends_a_loop() -> None:
    world = World(LOOP)
    world.start("g")
    for _ in range(5):
        world.answer("p1", next=["t1"])
        world.answer("t1")
    assert world.status() == "ABORTED"
    assert world.view().violations[0].rule == "max_iterations"
    assert not world.inputs


def test_a_deadline_aborts_a_lifetime_in_log_time() -> None:
    world = World(graph([("p1", "t1"), ("p1", "end", "final")], entry="p1", limits={"deadline": "10s"}))
    world.start("g")
    world.tick(9_999)
    assert world.status() == "RUNNING"
    world.tick(1)
    assert world.status() == "ABORTED"
    assert "DEADLINE" in world.view().reason


def test_a_human_task_is_dispatched_to_nobody_and_completed_by_a_command() -> None:
    human = graph([("p1", "t1"), ("t1", "p2"), ("p2", "end", "final")], entry="p1", t1={"type": "human"})
    world = World(human, restoring=True)
    world.start("g")
    world.answer("p1", {"question": "ship it?"}, next=["t1"])
    assert not world.inputs
    waiting = world.view().waiting[0]
    assert json.loads(waiting.json_input) == {"question": "ship it?"}
    world.command(
        complete=control_pb2.CompleteExecution(
            execution_id=waiting.execution_id, outcome=control_pb2.HUMAN_OUTCOME_APPROVED, json_answer='"yes"'
        )
    )
    plan = world.take("p2")
    answer = json.loads(plan.upstream_task_executions[0].result.json_result)
    assert answer == {"outcome": "approved", "answer": "yes"}
    assert not world.view().waiting


def test_a_human_task_that_nobody_answers_times_out_as_a_failed_result() -> None:
    human = graph(
        [("p1", "t1"), ("t1", "p2"), ("p2", "end", "final")],
        entry="p1",
        t1={"type": "human", "timeout": "1m"},
    )
    world = World(human)
    world.start("g")
    world.answer("p1", next=["t1"])
    world.tick(60_000)
    assert world.take("p2").upstream_task_executions[0].result.error.code == "TIMEOUT"


def test_a_leased_run_that_falls_silent_is_dispatched_anew_and_its_hold_stays() -> None:
    world = World(PAID)
    world.start("g")
    world.answer("p1", next=["t1"])
    first = world.take("t1")
    world.begin(first)
    world.tick(10_000)
    second = world.take("t1")
    assert second.headers.attempt == 2
    assert world.lifetime().spend.held_tokens == 200
    world.report(second, run_id=world.begin(second), used=pb.ResourceUsage(tokens_used=30))
    assert world.lifetime().spend.held_tokens == 100
    world.tick(300_000)
    assert world.lifetime().spend.held_tokens == 0
    assert world.lifetime().spend.tokens == 130, "the lost run is charged its hold"
    world.refold()


def test_heartbeats_keep_a_lease() -> None:
    from headgate_protos.v1 import execution_pb2

    world = World(PAID)
    world.start("g")
    world.answer("p1", next=["t1"])
    message = world.take("t1")
    run_id = world.begin(message)
    for _ in range(5):
        world.clock += 9_000
        beat = execution_pb2.RunHeartbeat(
            lifetime_id="run-1",
            execution_id=message.headers.execution_id,
            run_id=run_id,
            partial_usage=pb.ResourceUsage(tokens_used=150),
        )
        world.envelope(heartbeat=execution_pb2.WorkerHeartbeat(worker="w", runs=[beat]))
    assert not world.inputs
    assert world.lifetime().spend.held_tokens == 150, "a run that used more than its hold holds more"


def test_two_tenants_may_use_the_same_lifetime_id() -> None:
    world = World(LINE)
    world.register(LINE, tenant="globex")
    world.start("g")
    world.start("g", tenant="globex")
    inputs = [world.take("p1"), world.take("p1")]
    assert {m.tenant_id for m in inputs} == {"acme", "globex"}
    assert len({m.headers.execution_id for m in inputs}) == 2


def test_the_same_start_twice_is_one_lifetime_even_after_its_end() -> None:
    world = World(LOOP)
    world.start("g")
    world.start("g")
    assert len(world.inputs) == 1
    world.answer("p1")
    world.tick(400_000)
    assert "run-1" not in world.engine.state.tenants["acme"].lifetimes
    world.start("g")
    assert not world.inputs


def test_an_unknown_graph_still_gets_an_answer() -> None:
    world = World(LINE)
    world.start("nothing-like-it")
    assert world.status() == "REJECTED"
    assert "UNKNOWN_GRAPH" in world.view().reason


def test_the_newest_version_runs_when_none_is_named() -> None:
    world = World(LINE)
    newer = LINE.model_copy(update={"metadata": LINE.metadata.model_copy(update={"version": "1.10.0"})})
    world.register(newer)
    world.start("g")
    assert world.take("p1").headers.graph_version == "1.10.0"


def test_a_version_registered_twice_with_other_content_is_refused() -> None:
    world = World(LINE)
    world.register(LINE)
    assert world.letters() == []
    world.register(LOOP)
    assert world.letters() == ["BAD_GRAPH"]
