"""A fork takes another lifetime's history without dispatching it, and runs only what comes after."""

from __future__ import annotations

from typing import Any

import pytest

from headgate_graphs.model import AgentGraph
from headgate_guardrails.fold.engine import ALONE
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, execution_pb2
from headgate_replay.forking import fork_of, offset_of
from headgate_replay.history import History, watched_engine
from tests.unit.guardrails.graphs_for_tests import FORK, LOOP, graph, policy, rule
from tests.unit.guardrails.world import TENANT, World

EXTERNAL = graph([("p1", "t1"), ("t1", "p1"), ("p1", "end", "final")], entry="p1", t1={"effects": "external"})
IMPATIENT = graph(
    [
        ("p1", "ta", "parallel"), ("p1", "tb", "parallel"), ("ta", "p2", "join"), ("tb", "p2", "join"),
        ("p2", "tz"), ("tz", "p3"), ("p3", "end", "final"),
    ],
    entry="p1", p2={"join": {"strategy": "all", "timeout": "10s", "on_timeout": "proceed"}},
)  # fmt: skip


def world(graph_: AgentGraph, *policies: Any, restoring: bool = False) -> World:
    made = World(graph_, *policies, restoring=restoring)
    made.envelope(tenant="*", logic_version=execution_pb2.LogicVersionActivated(version=2))
    return made


def history(of: World, lifetime: str = "run-1") -> History:
    found = History(TENANT, lifetime)
    engine = watched_engine(found, 0, 1, ALONE)
    for record in of.records:
        found.take(engine, record)
    return found


def fork(
    of: World, at: str, graph_: AgentGraph, *, name: str = "run-2", origin: str = "run-1", **more: Any
) -> execution_pb2.LifetimeFork:
    """Start a fork of a lifetime in the same world; return what it began with."""
    known = history(of, origin)
    given = fork_of(known, offset_of(known, at), graph_, more.pop("allowed", ()))
    given.budgets.extend(more.pop("budgets", ()))
    given.policy_json = more.pop("policy_json", "")
    start = execution_pb2.LifetimeStart(graph_id="g", input=pb.Payload(json="null"), fork=given)
    start.issued_at.FromMilliseconds(of.clock)
    of.inputs.clear()
    of.envelope(name, lifetime_start=start)
    return given


def go_round(of: World, rounds: int, lifetime: str = "run-1") -> None:
    """Go round the loop, telling each round apart by its value; then end."""
    for number in range(1, rounds + 1):
        of.answer("p1", {"plan": number}, next=["t1"])
        of.answer("t1", {"round": number}, used=pb.ResourceUsage(tokens_used=10))
    of.answer("p1", "done", next=["end"])


@pytest.mark.parametrize("restoring", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_fork_at_round_k_asks_only_for_what_comes_after(k: int, restoring: bool) -> None:
    run = world(LOOP, restoring=restoring)
    run.start("g")
    go_round(run, 3)
    fork(run, f"t1#{k}", LOOP)
    assert run.waiting() == ["p1"]
    given = run.inputs[0]
    assert given.headers.iteration == k + 1
    assert given.upstream_task_executions[0].result.json_result == f'{{"round": {k}}}'
    calls = 0
    for number in range(k + 1, 4):
        run.answer("p1", {"plan": number}, next=["t1"])
        run.answer("t1", {"round": number}, used=pb.ResourceUsage(tokens_used=10))
        calls += 1
    run.answer("p1", "done", next=["end"])
    assert calls == 3 - k
    assert run.status("run-2") == "COMPLETED"
    assert run.view("run-2").usage.tokens_used == 10 * (3 - k)
    assert run.view("run-2").fork_of.lifetime_id == "run-1"
    assert [n.iterations for n in run.view("run-2").nodes] == [n.iterations for n in run.view().nodes]
    run.refold()


def test_a_fork_of_the_whole_ends_at_once_with_the_same_outcome_and_pays_nothing() -> None:
    run = world(LOOP)
    run.start("g")
    go_round(run, 2)
    fork(run, "p1#3", LOOP)
    assert run.inputs == []
    assert (run.status("run-2"), run.view("run-2").outcome) == ("COMPLETED", run.view().outcome)
    assert run.view("run-2").usage == pb.ResourceUsage()
    assert run.letters() == []


def test_a_fork_before_anything_is_a_new_run() -> None:
    run = world(LOOP)
    run.start("g")
    go_round(run, 1)
    fork(run, "0", LOOP)
    assert [(m.headers.node_id, m.headers.iteration) for m in run.inputs] == [("p1", 1)]


def test_what_was_under_way_in_a_join_is_run_and_what_had_arrived_is_not() -> None:
    run = world(FORK)
    run.start("g")
    run.answer("p1", next=["ta", "tb", "tc"])
    run.answer("tb", "B")
    run.answer("tc", "C")
    fork(run, "tc#1", FORK)
    assert run.waiting() == ["ta"]
    run.answer("ta", "A")
    joined = run.take("p2")
    assert [one.result.json_result for one in joined.upstream_task_executions] == ['"A"', '"B"', '"C"']
    run.report(joined, next=["end"])
    assert run.status("run-2") == "COMPLETED"
    run.refold()


def test_joins_of_every_round_are_taken_with_their_branches() -> None:
    run = world(FORK)
    run.start("g")
    for _ in range(2):
        run.answer("p1", next=["ta", "tb", "tc"])
        for node in ("tc", "ta", "tb"):
            run.answer(node, node)
        run.answer("p2", next=["tz"])
        run.answer("tz")
    fork(run, "tz#2", FORK)
    assert [(m.headers.node_id, m.headers.iteration) for m in run.inputs] == [("p1", 3)]


def test_tries_that_failed_are_not_tried_again_and_a_failure_that_went_on_is_kept() -> None:
    run = world(LOOP)
    run.start("g")
    run.answer("p1", next=["t1"])
    run.answer("t1", error="ODD", retryable=True)
    run.tick(60_000)
    run.answer("t1", "second try")
    run.answer("p1", next=["t1"])
    run.answer("t1", error="FATAL")
    fork(run, "t1#2", LOOP)
    [given] = run.inputs
    assert (given.headers.node_id, given.headers.iteration) == ("p1", 3)
    assert given.upstream_task_executions[0].result.error.code == "FATAL"
    assert [one.visit.node_id for _, _, one in history(run).visits] == ["p1", "t1", "p1", "t1"]


def test_a_join_that_time_decided_is_decided_so_again() -> None:
    run = world(IMPATIENT)
    run.start("g")
    run.answer("p1", next=["ta", "tb"])
    run.answer("ta", "A")
    run.tick(10_001)
    run.answer("p2", next=["tz"])
    fork(run, "p2#1", IMPATIENT)
    assert sorted(run.waiting()) == ["tb", "tz"]
    run.answer("tz")
    run.answer("p3", next=["end"])
    assert run.status("run-2") == "COMPLETED"


def test_a_fork_of_a_fork_repeats_both_histories() -> None:
    run = world(LOOP)
    run.start("g")
    go_round(run, 2)
    fork(run, "t1#1", LOOP)
    run.answer("p1", {"plan": "other"}, next=["t1"])
    run.answer("t1", "other")
    fork(run, "t1#2", LOOP, name="run-3", origin="run-2")
    [given] = run.inputs
    assert given.upstream_task_executions[0].result.json_result == '"other"'
    assert given.headers.iteration == 3


def test_rules_are_not_asked_about_history_and_caps_count_what_runs_after() -> None:
    caps = policy(rule("run", limit={"tokens_used": 25}))
    run = world(LOOP, caps)
    run.start("g")
    for number in (1, 2):
        run.answer("p1", {"plan": number}, next=["t1"])
        run.answer("t1", number, used=pb.ResourceUsage(tokens_used=10))
    fork(run, "t1#2", LOOP)
    run.answer("p1", {"plan": 3}, next=["t1"])
    run.answer("t1", 3, used=pb.ResourceUsage(tokens_used=10))
    assert run.status("run-2") == "RUNNING"


def test_a_cap_may_differ_in_a_fork_and_one_that_is_none_is_refused() -> None:
    caps = policy(rule("run", limit={"tokens_used": 25}))
    run = world(LOOP, caps)
    run.start("g")
    run.answer("p1", next=["t1"])
    run.answer("t1", used=pb.ResourceUsage(tokens_used=10))
    raised = control_pb2.RaiseBudget(policy="caps", rule="run", metric="tokens_used", value=5)
    fork(run, "t1#1", LOOP, budgets=[raised])
    run.answer("p1", next=["t1"])
    run.answer("t1", used=pb.ResourceUsage(tokens_used=10))
    assert run.status("run-2") == "ABORTED"
    wrong = control_pb2.RaiseBudget(policy="caps", rule="other", metric="tokens_used", value=5)
    fork(run, "t1#1", LOOP, name="run-3", budgets=[wrong])
    assert run.status("run-3") == "REJECTED"
    assert run.view("run-3").reason.startswith("BAD_BUDGET")
    assert run.inputs == []


def test_effects_beyond_the_history_are_taken_from_the_record_or_refused() -> None:
    run = world(EXTERNAL)
    run.start("g")
    go_round(run, 2)
    fork(run, "t1#1", EXTERNAL)
    run.answer("p1", next=["t1"])
    given = run.take("p1")
    assert given.upstream_task_executions[0].result.json_result == '{"round": 2}'
    run.report(given, next=["t1"])
    refused = run.take("p1").upstream_task_executions[0]
    assert (refused.result.error.code, refused.headers.iteration) == ("EFFECTS_NOT_ALLOWED", 3)
    assert run.events()[-1].reason.startswith("EFFECTS_NOT_ALLOWED: task t1")
    assert run.view("run-2").usage.tokens_used == 0
    run.refold()


@pytest.mark.parametrize("allowed", ["t1", "*"])
def test_effects_that_are_allowed_happen_again(allowed: str) -> None:
    run = world(EXTERNAL, restoring=True)
    run.start("g")
    go_round(run, 2)
    fork(run, "t1#1", EXTERNAL, allowed=[allowed])
    run.answer("p1", next=["t1"])
    assert run.waiting() == ["t1"]


def test_a_decision_that_the_changed_graph_does_not_have_is_taken_anew() -> None:
    run = world(LOOP)
    run.start("g")
    go_round(run, 2)
    changed = graph([("p1", "t2"), ("t2", "p1"), ("p1", "end", "final")], entry="p1")
    document = changed.model_dump(mode="json", by_alias=True) | {"metadata": {"id": "g", "version": "2.0.0"}}
    run.register(AgentGraph.model_validate(document))
    fork(run, "t1#2", changed)
    assert [(m.headers.node_id, m.headers.iteration) for m in run.inputs] == [("p1", 1)]


def test_an_older_logic_refuses_a_fork() -> None:
    run = World(LOOP)
    run.start("g")
    run.answer("p1", next=["t1"])
    fork(run, "p1#1", LOOP)
    assert run.letters() == ["BAD_COMMAND"]


def test_a_history_that_says_nothing_is_a_dead_letter() -> None:
    run = world(LOOP)
    given = execution_pb2.LifetimeFork(prefix=[execution_pb2.RecordedVisit()])
    start = execution_pb2.LifetimeStart(graph_id="g", fork=given)
    start.issued_at.FromMilliseconds(run.clock)
    run.envelope("run-2", lifetime_start=start)
    assert run.letters() == ["BAD_COMMAND"]


# -- a policy of its own -----------------------------------------------------------------------------------


def one_round(run: World, tokens: int = 10) -> None:
    run.answer("p1", next=["t1"])
    run.answer("t1", used=pb.ResourceUsage(tokens_used=tokens))


@pytest.mark.parametrize("restoring", [False, True])
def test_a_fork_is_judged_by_the_policy_it_brings_and_nobody_else_is(restoring: bool) -> None:
    run = world(LOOP, policy(rule("run", limit={"tokens_used": 25})), restoring=restoring)
    run.start("g")
    one_round(run)
    draft = policy(rule("mine", limit={"tokens_used": 60}), version=2)
    fork(run, "t1#1", LOOP, policy_json=draft.canonical_json())
    for _ in range(2):
        one_round(run, tokens=20)
    assert run.status("run-2") == "RUNNING"  # 40 tokens: the cap of the tenant's policy of that name is 25
    run.answer("p1", next=["end"])
    run.start("g", "run-3")
    for _ in range(2):
        one_round(run, tokens=20)
    assert (run.status("run-2"), run.status("run-3")) == ("COMPLETED", "ABORTED")
    run.refold()


def test_a_stricter_policy_of_a_fork_stops_it_and_is_named() -> None:
    run = world(LOOP, policy(rule("run", limit={"tokens_used": 1_000})))
    run.start("g")
    one_round(run)
    draft = policy(rule("mine", limit={"tokens_used": 15}), version=7)
    fork(run, "t1#1", LOOP, policy_json=draft.canonical_json())
    one_round(run)
    one_round(run)
    assert run.status("run-2") == "ABORTED"
    (said,) = run.events()[-1].violations
    assert (said.policy, said.version, said.rule, said.limit) == ("caps", 7, "mine", 15)
    run.refold()


def test_policies_of_other_names_and_of_the_platform_hold_for_a_fork_as_before() -> None:
    platform = policy(rule("run", limit={"tokens_used": 15}))
    run = world(LOOP)
    run.apply_policy(platform, tenant="*")
    run.start("g")
    one_round(run)
    loose = policy(rule("run", limit={"tokens_used": 1_000}), version=2)
    fork(run, "t1#1", LOOP, policy_json=loose.canonical_json())
    one_round(run)
    one_round(run)
    assert run.status("run-2") == "ABORTED"
    run.refold()


def test_windows_of_other_policies_are_asked_in_a_fork_with_a_policy() -> None:
    hourly = policy(rule("hour", scope="tenant", limit={"tokens_used": 35}, window="1h"), name="hourly")
    run = world(LOOP, policy(rule("tumbling", scope="tenant", limit={"executions": 90}, window="1d")), hourly)
    run.start("g")
    one_round(run)
    fork(run, "t1#1", LOOP, policy_json=policy(rule("mine", limit={"tokens_used": 500})).canonical_json())
    one_round(run)
    one_round(run)
    assert run.status("run-2") == "RUNNING"
    one_round(run)
    assert run.status("run-2") == "ABORTED"
    assert run.events()[-1].violations[0].rule == "hour"
    run.refold()


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (policy(rule("all", scope="tenant", limit={"tokens_used": 5})).canonical_json(), "about the tenant"),
        ("{}", "BAD_POLICY"),
    ],
)
def test_a_policy_that_no_fork_may_bring_is_refused(document: str, why: str) -> None:
    run = world(LOOP)
    run.start("g")
    one_round(run)
    fork(run, "t1#1", LOOP, policy_json=document)
    assert run.status("run-2") == "REJECTED"
    assert run.view("run-2").reason.startswith("BAD_POLICY")
    assert why in run.view("run-2").reason
    assert run.inputs == []
