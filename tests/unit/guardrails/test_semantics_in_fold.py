"""Joins in all strategies, sub-graphs, room, freezing, and the rule kinds beyond caps and conditions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate_graphs.model import AgentGraph
from headgate_guardrails.fold import admission
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, execution_pb2
from tests.support import needs_source
from tests.unit.guardrails.graphs_for_tests import LINE, LOOP, PAID, graph, policy, rule
from tests.unit.guardrails.world import World, usage

WARN = control_pb2.CONTROL_TYPE_WARN


def fan(join: dict[str, Any], branches: int = 4, **limits: Any) -> AgentGraph:
    """Return a fork into so many branches that join at p2."""
    names = [f"t{i}" for i in range(branches)]
    edges = [("p1", n, "parallel") for n in names] + [(n, "p2", "join") for n in names]
    return graph([*edges, ("p2", "end", "final")], entry="p1", limits=limits, p2={"join": join})


def forked(join: dict[str, Any], branches: int = 4, restoring: bool = True) -> World:
    world = World(fan(join, branches), restoring=restoring)
    world.start("g")
    world.answer("p1", next=[f"t{i}" for i in range(branches)])
    return world


def joined(world: World) -> list[str]:
    return [u.headers.node_id for u in world.take("p2").upstream_task_executions]


# -- joins -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("join", "arrivals", "expected"),
    [
        ({"strategy": "any"}, ["t2"], ["t2"]),
        ({"strategy": "majority"}, ["t3", "t0", "t1"], ["t0", "t1", "t3"]),
        ({"strategy": "quorum", "min_inputs": 2}, ["t3", "t1"], ["t1", "t3"]),
        ({"strategy": "quorum", "min_inputs": 2, "max_inputs": 3}, ["t3", "t1", "t2"], ["t1", "t2", "t3"]),
        ({"strategy": "all"}, ["t3", "t1", "t2", "t0"], ["t0", "t1", "t2", "t3"]),
    ],
)
def test_a_join_goes_on_exactly_when_its_strategy_is_satisfied(
    join: dict[str, Any], arrivals: list[str], expected: list[str]
) -> None:
    world = forked(join)
    for name in arrivals:
        assert "p2" not in world.waiting()
        world.answer(name)
    assert joined(world) == expected
    for message in list(world.inputs):
        world.answer(message.headers.node_id)
    assert "p2" not in world.waiting(), "it fires once"
    world.refold()


def test_a_failed_result_counts_for_all_and_not_for_a_quorum() -> None:
    world = forked({"strategy": "any"})
    world.answer("t0", error="BROKEN")
    assert "p2" not in world.waiting()
    world.answer("t1")
    assert joined(world) == ["t0", "t1"]


def test_a_join_whose_branches_have_all_failed_goes_on_with_the_failures() -> None:
    world = forked({"strategy": "majority"}, branches=2)
    world.answer("t0", error="BROKEN")
    world.answer("t1", error="BROKEN")
    assert joined(world) == ["t0", "t1"]


@pytest.mark.parametrize(
    ("join", "arrivals", "outcome"),
    [
        ({"strategy": "all", "timeout": "10s", "on_timeout": "proceed"}, 2, "goes on"),
        ({"strategy": "all", "timeout": "10s"}, 2, "JOIN_TIMEOUT"),
        ({"strategy": "quorum", "min_inputs": 2, "max_inputs": 4, "timeout": "10s"}, 2, "goes on"),
        ({"strategy": "quorum", "min_inputs": 3, "timeout": "10s"}, 2, "JOIN_TIMEOUT"),
    ],
)
def test_a_timeout_goes_on_with_what_came_or_fails(join: dict[str, Any], arrivals: int, outcome: str) -> None:
    world = forked(join)
    for i in range(arrivals):
        world.answer(f"t{i}")
    world.tick(9_999)
    assert "p2" not in world.waiting()
    world.tick(1)
    if outcome == "goes on":
        assert joined(world) == ["t0", "t1"]
    else:
        assert world.status() == "FAILED"
        assert outcome in world.view().reason


def test_a_late_arrival_is_recorded_where_the_join_says_so() -> None:
    world = forked({"strategy": "any", "late": "record"})
    world.answer("t0")
    world.answer("t1")
    assert [(e.type, e.node_id) for e in world.events()] == [(WARN, "t1")]


def test_losers_are_cancelled_and_their_holds_close_when_they_report() -> None:
    limits = {"limits": {"tokens_used": 100}}
    race = graph(
        [("p1", "ta", "parallel"), ("p1", "tb", "parallel"), ("ta", "p2", "join"), ("tb", "p2", "join"),
         ("p2", "tz"), ("tz", "end", "final")],
        entry="p1", p2={"join": {"strategy": "any", "cancel_losers": True}}, ta=limits, tb=limits,
    )  # fmt: skip
    world = World(race, restoring=True)
    world.start("g")
    world.answer("p1", next=["ta", "tb"])
    loser = world.take("tb")
    run_id = world.begin(loser)
    world.answer("ta", used=usage(10))
    cancelled = [e for e in world.events() if "CANCELLED" in e.reason]
    assert [e.execution_id for e in cancelled] == [loser.headers.execution_id]
    assert world.lifetime().spend.held_tokens == 100
    world.report(loser, run_id=run_id, status=pb.EXECUTION_STATUS_ABORTED, used=usage(3))
    assert (world.lifetime().spend.held_tokens, world.lifetime().spend.tokens) == (0, 13)
    assert world.waiting() == ["p2"]


def test_a_person_whose_branch_lost_is_not_asked_any_more_and_a_lost_run_is_charged_in_time() -> None:
    race = graph(
        [("p1", "ta", "parallel"), ("p1", "tb", "parallel"), ("p1", "tc", "parallel"), ("ta", "p2", "join"),
         ("tb", "p2", "join"), ("tc", "p2", "join"), ("p2", "tz"), ("tz", "end", "final")],
        entry="p1", p2={"join": {"strategy": "any", "cancel_losers": True}}, tb={"type": "human"},
        tc={"limits": {"tokens_used": 100}},
    )  # fmt: skip
    world = World(race, restoring=True)
    world.start("g")
    world.answer("p1", next=["ta", "tb", "tc"])
    assert [waiting.node_id for waiting in world.view().waiting] == ["tb"]
    world.begin(world.take("tc"))
    world.answer("ta")
    assert not world.view().waiting
    world.tick(300_000)
    assert (world.lifetime().spend.held_tokens, world.lifetime().spend.tokens) == (0, 100)


def test_a_join_that_nothing_feeds_any_more_is_decided_at_once() -> None:
    elsewhere = graph(
        [("p1", "ta", "parallel"), ("p1", "tb", "parallel"), ("ta", "p2", "join"),
         ("tb", "p2", "join", "result.go"), ("p2", "end", "final")],
        entry="p1", p2={"join": {"on_timeout": "proceed"}},
    )  # fmt: skip
    world = World(elsewhere, restoring=True)
    world.start("g")
    world.answer("p1", next=["ta", "tb"])
    world.answer("ta")
    world.answer("tb", {"go": False})
    assert joined(world) == ["ta"]


# -- sub-graphs --------------------------------------------------------------------------------------


def family(**child_limits: Any) -> tuple[AgentGraph, AgentGraph]:
    parent = graph(
        [("p1", "t1"), ("t1", "p2"), ("p2", "end", "final")],
        entry="p1",
        limits=child_limits,
        t1={"type": "graph", "params": {"graph": "child"}},
    )
    inner = graph([("ta", "pa"), ("pa", "tb"), ("tb", "end", "final")], entry="ta",
                  ta={"limits": {"tokens_used": 100}}, tb={"limits": {"tokens_used": 100}})  # fmt: skip
    metadata = inner.metadata.model_copy(update={"id": "child"})
    return parent, inner.model_copy(update={"metadata": metadata})


def descended(*policies: Any, **limits: Any) -> World:
    parent, child = family(**limits)
    world = World(parent, *policies, restoring=True)
    world.register(child)
    world.start("g")
    world.answer("p1", {"n": 1}, next=["t1"])
    return world


def test_a_sub_graph_runs_as_a_lifetime_whose_outcome_is_the_tasks_result() -> None:
    world = descended()
    first = world.take("ta")
    child_id = first.headers.lifetime_id
    assert world.view(child_id).parent_lifetime_id == "run-1"
    assert json.loads(first.input_data.json) == {"n": 1}
    world.report(first, run_id=world.begin(first), used=usage(40))
    world.answer("pa", next=["tb"])
    world.answer("tb", {"made": 2}, used=usage(2))
    assert world.status(child_id) == "COMPLETED"
    plan = world.take("p2")
    assert json.loads(plan.upstream_task_executions[0].result.json_result) == {"made": 2}
    assert world.lifetime().spend.tokens == 42, "its spend counts in the parent's sums"
    world.report(plan, next=["end"])
    assert world.status() == "COMPLETED"
    world.refold()


def test_the_parents_cap_stops_what_the_sub_graph_would_dispatch() -> None:
    world = descended(policy(rule(limit={"tokens_used": 150})))
    first = world.take("ta")
    world.report(first, run_id=world.begin(first), used=usage(100))
    world.answer("pa", next=["tb"])
    child_id = first.headers.lifetime_id
    assert (world.status(child_id), world.status()) == ("ABORTED", "ABORTED")
    assert not world.inputs


def test_a_pause_of_the_parent_by_its_cap_is_lifted_by_raising_it() -> None:
    parent, child = family()
    world = World(parent, policy(rule(limit={"executions": 3}, action="pause_lifetime")), restoring=True)
    world.register(child)
    world.start("g")
    world.answer("p1", next=["t1"])
    child_id = world.inputs[0].headers.lifetime_id
    world.answer("ta")
    assert (world.status(), world.status(child_id)) == ("PAUSED", "RUNNING")
    assert not world.inputs
    order = control_pb2.RaiseBudget(policy="caps", rule="r", metric="executions", value=20)
    world.command(raise_budget=order)
    assert world.status() == "RUNNING"
    assert world.waiting() == ["pa"]


def test_a_sub_graph_that_is_aborted_is_a_failed_result() -> None:
    world = descended()
    child_id = world.take("ta").headers.lifetime_id
    world.command(child_id, abort=control_pb2.AbortLifetime())
    upstream = world.take("p2").upstream_task_executions[0]
    assert upstream.result.error.code == "SUBGRAPH_ABORTED"


def test_a_parent_is_remembered_for_as_long_as_a_hold_below_it_is_open() -> None:
    world = descended()
    first = world.take("ta")
    world.command(abort=control_pb2.AbortLifetime())
    grace = 300_000
    world.tick(grace - 1_000)
    world.begin(first)  # a late announcement: what the child may spend is held once more
    world.tick(2_000)
    assert world.lifetime().spend.open_holds == 1
    world.tick(grace)
    assert world.view().open_holds == 0
    assert world.view().usage.tokens_used == 100
    world.tick()
    assert not world.engine.state.tenants["acme"].lifetimes
    world.refold()


def test_a_sub_graph_that_ends_at_once_does_not_end_what_its_parent_has_yet_to_dispatch() -> None:
    inner = graph([("pc", "tc"), ("pc", "end", "final")], entry="pc")
    inner = inner.model_copy(update={"metadata": inner.metadata.model_copy(update={"id": "child"})})
    outer = graph(
        [("p1", "tg", "parallel"), ("p1", "tb", "parallel"), ("tg", "p2", "join"), ("tb", "p2", "join"),
         ("p2", "end", "final")],
        entry="p1", tg={"type": "graph", "params": {"graph": "child"}},
    )  # fmt: skip
    world = World(outer, policy(rule("no", "execution", "reject_execution", when="node.id == 'pc'")))
    world.register(inner)
    world.start("g")
    world.answer("p1", next=["tg", "tb"])
    world.answer("tb")
    codes = [u.result.error.code for u in world.take("p2").upstream_task_executions]
    assert codes == ["SUBGRAPH_FAILED", ""]


def test_a_fired_join_is_remembered_while_a_straggler_waits_to_be_admitted() -> None:
    two = graph(
        [("p1", "ta", "parallel"), ("p1", "tc", "parallel"), ("p1", "tx", "parallel"),
         ("ta", "pj", "join"), ("tc", "pj", "join"), ("tx", "pk", "join"),
         ("pj", "end", "final"), ("pk", "end", "final")],
        entry="p1", pj={"join": {"strategy": "any"}}, ta={"max_retries": 0}, tc={"backoff": "1s"},
    )  # fmt: skip
    world = World(two)
    world.start("g")
    world.answer("p1", next=["ta", "tc", "tx"])
    world.command(pause=control_pb2.PauseLifetime())
    for name in ("tx", "tc"):
        message = world.take(name)
        world.report(message, status=pb.EXECUTION_STATUS_ABORTED, error="PAUSED")
    world.answer("ta")
    world.apply_policy(policy(rule("no", "execution", "reject_execution", when="node.id == 'tx'")))
    world.command(resume=control_pb2.ResumeLifetime())
    world.answer("tc")
    assert sorted(world.waiting()) == ["pj", "pk"], "pj fired once"


def test_the_terminal_views_above_are_shown_again_when_the_last_hold_below_closes() -> None:
    world = descended()
    first = world.take("ta")
    run_id = world.begin(first)
    world.command(abort=control_pb2.AbortLifetime())
    assert world.view().open_holds == 1
    world.report(first, run_id=run_id, status=pb.EXECUTION_STATUS_ABORTED, used=usage(60))
    assert (world.view().open_holds, world.view().usage.tokens_used) == (0, 60)


def test_a_repeated_policy_record_does_not_bring_an_old_version_back() -> None:
    world = World(PAID, policy(rule(limit={"tokens_used": 1000})))
    old = world.records[-1]
    world.apply_policy(policy(rule(limit={"tokens_used": 50}), version=2))
    world.append_raw(old.value, old.headers, old.key)
    world.start("g")
    world.answer("p1", next=["t1"])
    assert world.status() == "ABORTED"
    world.apply_policy(policy(rule(limit={"tokens_used": 60}), version=2))
    assert world.letters() == ["BAD_POLICY"]


def test_a_repeated_start_does_not_run_again_as_long_as_it_is_not_stale() -> None:
    world = World(LOOP)
    start = execution_pb2.LifetimeStart(graph_id="g")
    start.issued_at.FromMilliseconds(world.clock + 3_600_000)
    world.envelope("run-1", lifetime_start=start)
    record = world.records[-1]
    world.answer("p1")
    for _ in range(2):
        world.tick(86_000_000)
        world.start("g", f"other-{world.clock}")
        world.answer("p1")
        world.append_raw(record.value, record.headers, record.key)
        assert not world.inputs


def test_a_record_in_another_tenants_partition_is_a_dead_letter() -> None:
    world = World(LINE)
    world.engine.state.partitions = 16
    world.start("g")
    assert world.letters() == ["WRONG_PARTITION"]


def test_a_new_version_of_a_policy_is_the_last_word_on_its_caps() -> None:
    world = World(PAID, policy(rule(limit={"tokens_used": 150})))
    world.start("g")
    world.command(
        raise_budget=control_pb2.RaiseBudget(policy="caps", rule="r", metric="tokens_used", value=900)
    )
    world.apply_policy(policy(rule(limit={"tokens_used": 50}), version=2))
    world.answer("p1", next=["t1"])
    assert world.status() == "ABORTED"


def test_an_abort_follows_down_and_a_pause_holds_below() -> None:
    world = descended()
    first = world.take("ta")
    child_id = first.headers.lifetime_id
    run_id = world.begin(first)
    world.command(pause=control_pb2.PauseLifetime())
    world.report(first, run_id=run_id)
    assert not world.inputs, "nothing is dispatched below a paused lifetime"
    world.command(resume=control_pb2.ResumeLifetime())
    assert world.waiting() == ["pa"]
    world.command(abort=control_pb2.AbortLifetime())
    assert (world.status(child_id), world.status()) == ("ABORTED", "ABORTED")
    world.tick(300_000)
    assert world.engine.state.tenants["acme"].spend.open_holds == 0


def test_an_unknown_sub_graph_and_one_too_deep_are_failed_results() -> None:
    parent, _ = family()
    world = World(parent)
    world.start("g")
    world.answer("p1", next=["t1"])
    assert world.take("p2").upstream_task_executions[0].result.error.code == "UNKNOWN_GRAPH"
    world = descended(max_depth=0)
    assert world.take("p2").upstream_task_executions[0].result.error.code == "DEPTH"


# -- room, priority, freezing ------------------------------------------------------------------------


def crowd(limits: dict[str, Any], restoring: bool = True) -> World:
    world = World(
        graph([("t1", "p1"), ("p1", "end", "final")], entry="t1", limits=limits), restoring=restoring
    )
    for name in ("a", "b", "c"):
        world.start("g", name)
    return world


def test_room_is_shared_turn_by_turn_and_given_as_it_becomes_free() -> None:
    world = crowd({"max_in_flight": 2})
    assert [m.headers.lifetime_id for m in world.inputs] == ["a", "b"]
    world.answer("t1")
    assert [m.headers.lifetime_id for m in world.inputs] == ["b", "c"], "a's plan goes to the end of the line"
    for _ in range(10):
        if world.inputs:
            world.answer(world.inputs[0].headers.node_id)
    assert [world.status(name) for name in ("a", "b", "c")] == ["COMPLETED"] * 3
    assert world.engine.state.tenants["acme"].busy == {}
    world.refold()


@needs_source
def test_a_long_line_costs_no_more_than_a_short_one() -> None:
    world = crowd({"max_in_flight": 1}, restoring=False)
    for i in range(1_000):
        world.start("g", f"more-{i}")
    looked_at = 0
    before = admission._has_room

    def counting(*arguments: Any) -> bool:
        nonlocal looked_at
        looked_at += 1
        return before(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(admission, "_has_room", counting)
        world.tick()
        world.envelope("a", heartbeat=execution_pb2.WorkerHeartbeat(worker="w"))
        assert looked_at == 0, "nothing was freed"
        world.answer("t1")
    assert looked_at < 10


def test_room_by_type_holds_back_only_that_type() -> None:
    world = crowd({"max_in_flight_by_type": {"work": 1}})
    assert len(world.inputs) == 1


def test_the_higher_priority_goes_first() -> None:
    world = World(LINE.model_copy(update={"limits": LINE.limits.model_copy(update={"max_in_flight": 1})}))
    world.start("g", "first")
    for name, priority in (("low", 0), ("high", 5)):
        start = execution_pb2.LifetimeStart(graph_id="g", priority=priority)
        start.issued_at.FromMilliseconds(world.clock)
        world.envelope(name, lifetime_start=start)
    world.command("first", abort=control_pb2.AbortLifetime())
    assert [m.headers.lifetime_id for m in world.inputs] == ["first", "high"]


@pytest.mark.parametrize("graph_id", ["", "g"])
def test_a_frozen_tenant_or_graph_dispatches_nothing_until_it_is_resumed(graph_id: str) -> None:
    world = World(LINE, restoring=True)
    world.start("g", "one")
    world.command("", pause=control_pb2.PauseLifetime(reason="incident", graph_id=graph_id))
    event = world.events()[-1]
    assert (event.lifetime_id, event.graph_id, event.reason) == ("", graph_id, "incident")
    world.start("g", "two")
    world.answer("p1", next=["t1"])
    assert not world.inputs
    world.command("", resume=control_pb2.ResumeLifetime(graph_id=graph_id))
    assert sorted(world.waiting()) == ["p1", "t1"]
    world.refold()


# -- rule kinds --------------------------------------------------------------------------------------


def rounds(world: World, values: list[Any], asked: list[Any]) -> str:
    """Go round LOOP: the plan asks for `asked`, the task answers `values`; return the status at the end."""
    world.start("g")
    for value, ask in zip(values, asked, strict=True):
        world.answer("p1", ask, next=["t1"])
        world.answer("t1", value)
    return world.status()


PROGRESS = {"name": "stuck", "scope": "lifetime", "action": "abort_lifetime"}


@pytest.mark.parametrize(
    ("terms", "values", "asked", "status"),
    [
        ({"repeats": 3, "of": ["node", "output"]}, ["same"] * 3, [1, 2, 3], "ABORTED"),
        ({"repeats": 3, "of": ["node", "output"]}, ["a", "a", "b", "b"], [1, 2, 3, 4], "RUNNING"),
        ({"repeats": 2, "of": ["node", "output"]}, ["a", "b", "a", "b"], [1, 2, 3, 4], "ABORTED"),
        ({"repeats": 2, "of": ["node", "output"]}, ["a", "b", "c", "b"], [1, 2, 3, 4], "RUNNING"),
        ({"repeats": 3, "of": ["node", "input"]}, ["x", "y", "z"], ["same"] * 3, "ABORTED"),
        ({"repeats": 2, "of": ["output"]}, ["a", "b"], ["c", "d"], "RUNNING"),
    ],
)
def test_no_progress_tells_repeats_and_ping_pong_from_getting_on(
    terms: dict[str, Any], values: list[Any], asked: list[Any], status: str
) -> None:
    world = World(LOOP, policy({**PROGRESS, "no_progress": terms}), restoring=True)
    assert rounds(world, values, asked) == status
    world.refold()


def test_polling_whose_output_changes_is_legal() -> None:
    terms = {"repeats": 3, "of": ["node", "input", "output"]}
    world = World(LOOP, policy({**PROGRESS, "no_progress": terms}))
    world.start("g")
    for i in range(5):
        world.answer("p1", {"ask": i}, next=["t1"])
        world.answer("t1", {"progress": i})
    assert "stuck" not in world.view().reason


def test_a_streak_of_failures_is_no_progress() -> None:
    world = World(
        graph([("p1", "t1"), ("t1", "p1"), ("p1", "end", "final")], entry="p1", t1={"max_retries": 5}),
        policy({**PROGRESS, "no_progress": {"failures": 3}}),
    )
    world.start("g")
    world.answer("p1", next=["t1"])
    for _ in range(3):
        world.answer("t1", error="BROKEN", retryable=True)
        world.tick(60_000)
    assert world.status() == "ABORTED"
    assert "3 executions in a row failed" in world.view().reason


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        ({"deny": {"task_types": ["shell"]}}, True),
        ({"allow": {"task_types": ["work"]}}, True),
        ({"allow": {"task_types": ["shell"]}}, False),
        ({"deny": {"queues": ["gpu"]}}, True),
        ({"allow": {"models": ["small"]}}, True),
        ({"deny": {"models": ["small"]}}, False),
    ],
)
def test_lists_of_names_are_asked_before_dispatch(names: dict[str, Any], refused: bool) -> None:
    shell = {"type": "shell", "queue": "gpu", "params": {"model": "large"}}
    world = World(
        graph([("p1", "t1"), ("t1", "p2"), ("p2", "end", "final")], entry="p1", t1=shell),
        policy({"name": "names", "scope": "execution", "action": "reject_execution", **names}),
    )
    world.start("g")
    world.answer("p1", next=["t1"])
    assert world.waiting() == (["p2"] if refused else ["t1"])


def test_the_billed_model_is_asked_when_it_is_settled() -> None:
    world = World(LINE, policy({"name": "m", "scope": "execution", "action": "abort_lifetime",
                                "deny": {"models": ["big"]}}))  # fmt: skip
    world.start("g")
    world.answer("p1", next=["t1"])
    world.answer("t1", used=usage(1, model="big"))
    assert world.status() == "ABORTED"


@pytest.mark.parametrize(
    ("limit", "scope"),
    [
        ({"fan_out": 1}, "execution"),
        ({"payload_bytes": 10}, "execution"),
        ({"payload_bytes": 10}, "lifetime"),
        ({"latency_ms": 5}, "lifetime"),
        ({"executions": 2}, "tenant"),
        ({"iterations": 1}, "lifetime"),
    ],
)
def test_every_metric_has_its_scope(limit: dict[str, int], scope: str) -> None:
    world = World(fan({}, 2), policy(rule(scope=scope, limit=limit)))
    world.start("g")
    world.answer("p1", "a long enough value", next=["t0", "t1"], used=usage(latency_ms=9))
    if limit == {"iterations": 1}:
        assert world.status() == "RUNNING"
    else:
        assert world.status() == "ABORTED"
        assert world.events()[-1].violations[0].metric == next(iter(limit))


def test_wall_time_stops_a_lifetime_in_which_nothing_happens() -> None:
    world = World(LINE, policy(rule(limit={"wall_time": "10s"})), restoring=True)
    world.start("g")
    world.tick(10_000)
    assert world.status() == "RUNNING"
    world.tick(1)
    assert world.status() == "ABORTED"
    assert world.view().violations[0].metric == "wall_time_ms"


def test_a_warning_is_published_once_and_stops_nothing() -> None:
    world = World(PAID, policy(rule(limit={"tokens_used": 50}, action="warn")))
    world.start("g")
    for _ in range(2):
        world.answer("p1", next=["t1"])
        world.answer("t1", used=usage(40))
    assert [e.type for e in world.events()] == [WARN]
    assert world.status() == "RUNNING"


def test_a_throttled_dispatch_waits_for_the_next_window() -> None:
    burn = rule("burn", "tenant", "throttle", limit={"tokens_used": 150}, window="1m")
    world = World(PAID, policy(burn), restoring=True)
    world.clock -= world.clock % 60_000
    world.start("g")
    world.answer("p1", next=["t1"])
    world.answer("t1", used=usage(100))
    world.answer("p1", next=["t1"])
    assert not world.inputs
    assert world.events()[-1].type == control_pb2.CONTROL_TYPE_THROTTLE_EXECUTION
    world.tick(59_999)
    assert not world.inputs
    world.tick(1)
    assert world.waiting() == ["t1"]
    world.refold()


def test_a_sliding_window_forgets_bit_by_bit() -> None:
    burn = rule("burn", "tenant", "reject_execution", limit={"tokens_used": 150}, window="1m", sliding=True)
    world = World(PAID, policy(burn), restoring=True)
    world.start("g")
    world.answer("p1", next=["t1"])
    world.answer("t1", used=usage(100))
    world.tick(30_000)
    world.answer("p1", next=["t1"])
    assert world.waiting() == ["p1"], "100 of half a minute ago still count"
    world.tick(31_000)
    world.answer("p1", next=["t1"])
    assert world.waiting() == ["t1"]
    world.refold()


def test_a_sliding_window_forgets_nothing_early() -> None:
    burn = rule("burn", "tenant", "throttle", limit={"tokens_used": 150}, window="359ms", sliding=True)
    for offset in range(0, 60, 7):
        world = World(PAID, policy(burn))
        world.clock += offset
        world.start("g")
        world.answer("p1", next=["t1"])
        world.answer("t1", used=usage(100))
        spent_at = world.clock
        world.answer("p1", next=["t1"])
        while not world.inputs:
            world.tick(1)
        assert 359 < world.clock - spent_at <= 359 + 2 * 6


def test_room_that_a_timer_frees_is_given_away_at_once() -> None:
    world = World(
        graph([("p1", "t1"), ("t1", "p1"), ("p1", "end", "final")], entry="p1", limits={"max_in_flight": 1},
              p1={"leased": True})
    )  # fmt: skip
    world.start("g")
    world.start("g", "run-2")
    world.begin(world.take("p1"))
    world.tick(10_000)
    assert [m.headers.lifetime_id for m in world.inputs] == ["run-2"]


def test_a_platform_policy_holds_for_every_tenant_beside_its_own() -> None:
    import hashlib

    world = World(PAID, policy(rule("own", limit={"tokens_used": 1000})), restoring=True)
    platform = policy(rule("all", limit={"tokens_used": 50}), name="platform")
    text = platform.canonical_json()
    world.envelope(
        tenant="*",
        policy_set=execution_pb2.PolicySet(
            name="platform", version=1, document_json=text, sha256=hashlib.sha256(text.encode()).hexdigest()
        ),
    )
    world.register(PAID, tenant="globex")
    for tenant in ("acme", "globex"):
        world.start("g", tenant=tenant)
        world.answer("p1", next=["t1"])
        assert world.status(tenant=tenant) == "ABORTED"
    world.refold()


def test_a_platforms_policy_and_a_tenants_of_the_same_name_do_not_share_windows_or_raised_caps() -> None:
    import hashlib

    own = policy(rule(scope="tenant", limit={"tokens_used": 5000}, window="1m"))
    world = World(PAID, own, restoring=True)
    platform = policy(rule(scope="tenant", limit={"tokens_used": 50}, window="1d"))
    text = platform.canonical_json()
    world.envelope(
        tenant="*",
        policy_set=execution_pb2.PolicySet(
            name="caps", version=1, document_json=text, sha256=hashlib.sha256(text.encode()).hexdigest()
        ),
    )
    order = control_pb2.RaiseBudget(policy="caps", rule="r", metric="tokens_used", value=4000)
    world.command("", raise_budget=order)
    world.start("g")
    world.answer("p1", next=["t1"])
    assert world.status() == "ABORTED", "raising the own cap leaves the platform's as it is"
    order.policy = "*caps"
    world.command("", raise_budget=order)
    world.start("g", "run-2")
    world.answer("p1", next=["t1"])
    assert world.status("run-2") == "RUNNING"
    world.refold()


def test_a_person_is_reminded() -> None:
    human = {"type": "human", "timeout": "1h", "reminder": "10m"}
    world = World(graph([("p1", "t1"), ("t1", "p2"), ("p2", "end", "final")], entry="p1", t1=human))
    world.start("g")
    world.answer("p1", next=["t1"])
    for _ in range(3):
        world.tick(600_000)
    assert [e.reason.split(":")[0] for e in world.events()] == ["REMINDER"] * 3


def test_stop_latency_is_told_when_the_last_handler_has_reported() -> None:
    world = World(PAID)
    world.start("g")
    world.answer("p1", next=["t1"])
    message = world.take("t1")
    run_id = world.begin(message)
    world.command(abort=control_pb2.AbortLifetime())
    world.clock += 150
    world.report(message, run_id=run_id, status=pb.EXECUTION_STATUS_ABORTED)
    assert world.view().stop_latency.nanos == 150_000_000


def test_a_run_that_uses_more_than_its_hold_is_stopped_while_it_runs() -> None:
    world = World(PAID, policy(rule(limit={"tokens_used": 120})))
    world.start("g")
    world.answer("p1", next=["t1"])
    message = world.take("t1")
    beat = execution_pb2.RunHeartbeat(
        lifetime_id="run-1",
        execution_id=message.headers.execution_id,
        run_id=world.begin(message),
        partial_usage=usage(130),
    )
    world.envelope(heartbeat=execution_pb2.WorkerHeartbeat(worker="w", runs=[beat]))
    assert world.status() == "ABORTED"
    assert world.view().violations[0].measured == 130
