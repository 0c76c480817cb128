"""Caps, conditions, verdicts and holds as the fold carries them out."""

from __future__ import annotations

from typing import Any

import pytest

from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2
from tests.unit.guardrails.graphs_for_tests import FORK, LINE, LOOP, PAID, graph, policy, rule
from tests.unit.guardrails.world import World, usage

ABORT = control_pb2.CONTROL_TYPE_ABORT_LIFETIME
PAUSE = control_pb2.CONTROL_TYPE_PAUSE_LIFETIME
REJECT = control_pb2.CONTROL_TYPE_REJECT_EXECUTION
RESUME = control_pb2.CONTROL_TYPE_RESUME_LIFETIME


def loop_until_stopped(world: World, tokens: int, most: int = 20) -> int:
    """Go round LOOP or PAID until nothing is dispatched any more; return the tokens spent."""
    for _ in range(most):
        if not world.inputs:
            break
        node = world.inputs[0].headers.node_id
        if node == "p1":
            world.answer("p1", next=["t1"])
        else:
            world.answer("t1", used=usage(tokens))
    return world.view().usage.tokens_used


def test_a_limit_is_compared_before_dispatch_with_the_hold_so_the_cap_is_never_passed() -> None:
    world = World(PAID, policy(rule(limit={"tokens_used": 250})))
    world.start("g")
    assert loop_until_stopped(world, 100) == 200
    assert world.status() == "ABORTED"
    event = world.events()[-1]
    violation = event.violations[0]
    assert (event.type, violation.policy, violation.version, violation.rule) == (ABORT, "caps", 1, "r")
    assert (violation.measured, violation.limit) == (300, 250)
    assert (violation.committed, violation.held, violation.requested) == (200, 0, 100)
    assert "300 > 250" in world.view().reason
    world.refold()


def test_a_cap_without_declared_limits_is_passed_by_no_more_than_what_was_in_flight() -> None:
    world = World(LOOP, policy(rule(limit={"tokens_used": 250})))
    world.start("g")
    assert loop_until_stopped(world, 100) == 300
    assert world.status() == "ABORTED"


def test_parallel_holds_count_together() -> None:
    node = {"limits": {"tokens_used": 100}}
    fork = graph(
        [("p1", "ta", "parallel"), ("p1", "tb", "parallel"), ("ta", "p2", "join"), ("tb", "p2", "join"),
         ("p2", "end", "final")],
        entry="p1", ta=node, tb=node,
    )  # fmt: skip
    world = World(fork, policy(rule(limit={"tokens_used": 150}, action="reject_execution")))
    world.start("g")
    world.answer("p1", next=["ta", "tb"])
    assert world.waiting() == ["ta"]
    world.answer("ta", used=usage(10))
    joined = world.take("p2")
    assert [u.result.error.code for u in joined.upstream_task_executions] == ["", "REJECTED"]


def test_sum_condition_works_as_written() -> None:
    world = World(LOOP, policy(rule(when="sum(tokens_used) > 250")))
    world.start("g")
    assert loop_until_stopped(world, 100) == 300
    assert world.events()[-1].violations[0].expression == "sum(tokens_used) > 250"


@pytest.mark.parametrize(
    "text",
    [
        "count() >= 3",
        "max(tokens_used) > 99",
        "avg(tokens_used) > 9.0",
        "sum(cost_usd) > 0.000000001",
        "!success",
    ],
)
def test_aggregates_and_facts_of_a_settled_execution(text: str) -> None:
    world = World(LOOP, policy(rule(when=text)))
    world.start("g")
    world.answer("p1", next=["t1"])
    assert world.status() == "RUNNING"
    error = {"error": "X"} if text == "!success" else {}
    world.answer("t1", used=usage(100, 5), **error)
    if world.inputs:
        world.answer("p1", next=["t1"])
    assert world.status() == "ABORTED"


def test_a_node_condition_is_asked_before_dispatch_and_the_plan_sees_the_rejection() -> None:
    shell = graph([("p1", "t1"), ("t1", "p2"), ("p2", "end", "final")], entry="p1", t1={"type": "shell"})
    world = World(
        shell,
        policy(
            rule(
                "no-shell",
                "execution",
                "reject_execution",
                when="node.type == 'shell' && !('trusted' in graph.tags)",
            )
        ),
    )
    world.start("g")
    world.answer("p1", next=["t1"])
    assert world.waiting() == ["p2"], "the shell task was never dispatched"
    plan = world.take("p2")
    upstream = plan.upstream_task_executions[0]
    assert upstream.headers.status == pb.EXECUTION_STATUS_REJECTED
    assert upstream.result.error.code == "REJECTED"
    assert "no-shell" in upstream.result.error.message
    assert world.events()[-1].type == REJECT


def test_a_rejected_result_is_withheld() -> None:
    world = World(LINE, policy(rule("one-call", "execution", "reject_execution", limit={"tokens_used": 50})))
    world.start("g")
    world.answer("p1", next=["t1"])
    world.answer("t1", {"secret": 1}, used=usage(51))
    upstream = world.take("p2").upstream_task_executions[0]
    assert not upstream.result.success
    assert upstream.result.json_result == ""
    assert world.lifetime().spend.tokens == 51


def test_an_execution_that_declares_more_than_is_allowed_is_rejected_before_dispatch() -> None:
    world = World(PAID, policy(rule("one-call", "execution", "reject_execution", limit={"tokens_used": 99})))
    world.start("g")
    world.answer("p1", next=["t1"])
    assert world.waiting() == ["p1"]


def test_a_rejected_plan_fails_the_lifetime() -> None:
    world = World(LINE, policy(rule("no", "execution", "reject_execution", when="node.kind == 'plan'")))
    world.start("g")
    assert world.status() == "FAILED"
    assert "rule no" in world.view().reason


@pytest.mark.parametrize("restoring", [False, True])
def test_pause_keeps_everything_and_a_raised_budget_goes_on_with_no_call_repeated(restoring: bool) -> None:
    world = World(
        PAID, policy(rule(limit={"tokens_used": 250}, action="pause_lifetime")), restoring=restoring
    )
    world.start("g")
    loop_until_stopped(world, 100)
    assert world.status() == "PAUSED"
    assert (world.events()[-1].type, world.view().pause_generation) == (PAUSE, 1)
    world.command(
        raise_budget=control_pb2.RaiseBudget(policy="caps", rule="r", metric="tokens_used", value=400)
    )
    assert world.events()[-1].type == RESUME
    world.command(resume=control_pb2.ResumeLifetime(pause_generation=1))
    assert world.waiting() == ["t1"]
    assert world.inputs[0].headers.iteration == 3
    loop_until_stopped(world, 100)
    assert world.view().usage.tokens_used == 400
    iterations = [m.headers.iteration for m in world.said("task-inputs")]
    assert iterations == [1, 2, 3, 4], "every visit was dispatched once"
    world.refold()


def test_resuming_under_a_cap_that_still_stands_pauses_again_at_once() -> None:
    world = World(PAID, policy(rule(limit={"tokens_used": 50}, action="pause_lifetime")))
    world.start("g")
    world.answer("p1", next=["t1"])
    assert world.status() == "PAUSED"
    world.command(resume=control_pb2.ResumeLifetime())
    assert world.status() == "PAUSED"
    assert world.view().pause_generation == 2
    assert not world.inputs


def test_a_resume_that_answers_an_older_pause_is_ignored() -> None:
    world = World(PAID, policy(rule(limit={"tokens_used": 50}, action="pause_lifetime")))
    world.start("g")
    world.answer("p1", next=["t1"])
    world.command(resume=control_pb2.ResumeLifetime(pause_generation=7))
    assert world.view().pause_generation == 1


def test_results_that_arrive_during_a_pause_are_settled_and_parked() -> None:
    world = World(LINE)
    world.start("g")
    world.answer("p1", next=["t1"])
    world.command(pause=control_pb2.PauseLifetime(reason="wait"))
    world.answer("t1", used=usage(5))
    assert world.lifetime().spend.tokens == 5
    assert not world.inputs
    world.command(resume=control_pb2.ResumeLifetime())
    assert world.waiting() == ["p2"]


def test_a_pause_turns_into_an_abort_after_its_ttl() -> None:
    terms = {"limit": {"tokens_used": 50}, "action": "pause_lifetime", "pause": {"ttl": "1h"}}
    world = World(PAID, policy(rule(**terms)))
    world.start("g")
    world.answer("p1", next=["t1"])
    assert world.events()[-1].pause_expires_at.seconds == (world.clock + 3_600_000) // 1000
    world.tick(3_599_999)
    assert world.status() == "PAUSED"
    world.tick(1)
    assert world.status() == "ABORTED"
    assert "PAUSE_EXPIRED" in world.view().reason


def test_a_tenant_cap_spans_lifetimes_and_only_this_tenant() -> None:
    world = World(PAID, policy(rule("day", "tenant", "pause_lifetime", limit={"tokens_used": 150})))
    world.register(PAID, tenant="globex")
    world.start("g", "one")
    world.start("g", "two")
    world.start("g", "other", tenant="globex")
    for _ in range(3):
        world.answer("p1", next=["t1"])
    statuses = [world.status("one"), world.status("two"), world.status("other", "globex")]
    assert statuses == ["RUNNING", "PAUSED", "RUNNING"]
    assert world.view("two").violations[0].held == 100


def test_a_tenant_window_starts_anew_in_log_time() -> None:
    world = World(
        PAID, policy(rule("day", "tenant", "pause_lifetime", limit={"tokens_used": 150}, window="1h"))
    )
    world.start("g", "one")
    world.answer("p1", next=["t1"])
    world.answer("t1", used=usage(100))
    world.answer("p1", next=["t1"])
    assert world.status("one") == "PAUSED"
    world.tick(3_600_000)
    world.command("one", resume=control_pb2.ResumeLifetime())
    assert world.waiting() == ["t1"]


def test_a_raised_tenant_budget_needs_no_lifetime() -> None:
    world = World(PAID, policy(rule("day", "tenant", "pause_lifetime", limit={"cost_usd": "0.05"})))
    world.start("g")
    world.answer("p1", next=["t1"])
    assert world.status() == "PAUSED"
    order = control_pb2.RaiseBudget(policy="caps", rule="day", metric="cost_usd", value=10**9)
    world.command("", raise_budget=order)
    assert world.waiting() == ["t1"]


@pytest.mark.parametrize(
    "order",
    [
        control_pb2.RaiseBudget(policy="nope", rule="r", metric="tokens_used", value=1),
        control_pb2.RaiseBudget(policy="caps", rule="nope", metric="tokens_used", value=1),
        control_pb2.RaiseBudget(policy="caps", rule="r", metric="cost_usd", value=1),
        control_pb2.RaiseBudget(policy="caps", rule="r", metric="tokens_used", value=-1),
    ],
)
def test_a_budget_that_does_not_exist_cannot_be_raised(order: control_pb2.RaiseBudget) -> None:
    world = World(PAID, policy(rule(limit={"tokens_used": 250})))
    world.start("g")
    world.command(raise_budget=order)
    assert world.letters() == ["BAD_COMMAND"]


def test_a_repeated_command_is_ignored() -> None:
    world = World(LINE)
    world.start("g")
    world.command(command_id="c1", pause=control_pb2.PauseLifetime())
    world.command(command_id="c2", resume=control_pb2.ResumeLifetime())
    world.command(command_id="c1", pause=control_pb2.PauseLifetime())
    assert world.status() == "RUNNING"


def test_the_strongest_verdict_wins_and_every_match_is_reported() -> None:
    world = World(
        PAID,
        policy(rule("soft", action="pause_lifetime", limit={"tokens_used": 50})),
        policy(rule("hard", limit={"tokens_used": 60}), name="second"),
    )
    world.start("g")
    world.answer("p1", next=["t1"])
    event = world.events()[-1]
    assert event.type == ABORT
    assert [v.rule for v in event.violations] == ["hard", "soft"]


def test_a_shadow_policy_is_published_once_and_never_obeyed() -> None:
    world = World(PAID, policy(rule(limit={"tokens_used": 50}), mode="shadow"))
    world.start("g")
    for _ in range(2):
        world.answer("p1", next=["t1"])
        world.answer("t1", used=usage(40))
    assert world.status() == "RUNNING"
    assert [(e.shadow, e.type) for e in world.events()] == [(True, ABORT)]


def test_nothing_is_dispatched_after_an_abort_and_late_results_are_paid() -> None:
    world = World(PAID)
    world.start("g")
    world.answer("p1", next=["t1"])
    message = world.take("t1")
    run_id = world.begin(message)
    world.command(abort=control_pb2.AbortLifetime(reason="stop"))
    assert world.status() == "ABORTED"
    assert world.view().open_holds == 1
    world.report(message, used=usage(42), run_id=run_id, status=pb.EXECUTION_STATUS_ABORTED)
    assert not world.inputs
    assert (world.view().open_holds, world.view().usage.tokens_used) == (0, 42)
    world.refold()


def test_a_missing_usage_is_settled_at_the_hold() -> None:
    world = World(PAID)
    world.start("g")
    world.answer("p1", next=["t1"])
    message = world.take("t1")
    run_id = world.begin(message)
    world.report(message, run_id=run_id, used=pb.ResourceUsage(tokens_used=5, unpriced=True))
    assert (world.lifetime().spend.tokens, world.lifetime().spend.cost) == (5, 100_000_000)


@pytest.mark.parametrize("bad", [{"tokens_used": -1}, {"cost_nano_usd": 2**62}, {"latency_ms": -5}])
def test_a_usage_that_cannot_be_is_charged_the_hold_and_pauses(bad: dict[str, int]) -> None:
    world = World(PAID)
    world.start("g")
    world.answer("p1", next=["t1"])
    message = world.take("t1")
    world.report(message, run_id=world.begin(message), used=pb.ResourceUsage(**bad))
    assert world.status() == "PAUSED"
    assert "USAGE_RANGE" in world.view().reason
    assert world.lifetime().spend.tokens == 100


def test_a_repeated_result_is_dropped_and_a_different_one_of_the_same_run_conflicts() -> None:
    world = World(LINE)
    world.start("g")
    message = world.take("p1")
    world.report(message, next=["t1"], run_id="one")
    record = world.records[-1]
    world.append_raw(record.value, record.headers, record.key)
    assert world.waiting() == ["t1"]
    assert world.letters() == []
    world.report(message, "other", next=["t1"], run_id="one")
    assert world.letters() == ["CONFLICT"]
    assert world.waiting() == ["t1"]


def test_a_second_run_of_an_execution_is_paid_and_not_acted_on() -> None:
    world = World(LINE)
    world.start("g")
    world.answer("p1", next=["t1"])
    message = world.take("t1")
    world.report(message, used=usage(10))
    world.report(message, used=usage(10))
    assert world.lifetime().spend.tokens == 20
    assert world.waiting() == ["p2"]


def test_results_of_what_was_never_dispatched_are_dead_letters() -> None:
    world = World(LINE)
    world.start("g")
    message = world.take("p1")
    forged: Any = type(message)()
    forged.CopyFrom(message)
    forged.headers.execution_id = "f" * 32
    world.report(forged)
    forged.CopyFrom(message)
    forged.headers.node_id = "nowhere"
    world.report(forged)
    forged.CopyFrom(message)
    forged.headers.lifetime_id = "no-such-run"
    world.report(forged)
    assert world.letters() == ["UNKNOWN_NODE", "UNKNOWN_NODE", "UNKNOWN_LIFETIME"]
    assert world.status() == "RUNNING"


def test_what_cannot_be_decoded_becomes_a_dead_letter_with_its_bytes_and_moves_on() -> None:
    world = World(LINE)
    good = world.records[0]
    world.append_raw(b"\xff\xfe junk", good.headers, good.key)
    world.append_raw(None, good.headers, good.key)
    world.append_raw(good.value, (), good.key)
    assert world.letters() == ["DECODE", "EMPTY", "HEADER_MISSING"]
    letter = world.said("dead-letters")[0]
    assert (letter.value, letter.offset) == (b"\xff\xfe junk", 1)
    assert world.engine.state.next_offset == 4


def test_a_policy_that_does_not_load_leaves_the_last_good_one_in_force() -> None:
    from headgate_protos.v1 import execution_pb2

    world = World(PAID, policy(rule(limit={"tokens_used": 50})))
    world.envelope(policy_set=execution_pb2.PolicySet(name="caps", version=2, document_json="{}"))
    assert world.letters() == ["BAD_POLICY"]
    world.start("g")
    world.answer("p1", next=["t1"])
    assert world.status() == "ABORTED"


def test_every_hold_is_closed_when_a_lifetime_has_ended_and_its_grace_is_over() -> None:
    world = World(FORK, policy(rule(limit={"executions": 3})))
    world.start("g")
    world.answer("p1", next=["ta", "tb", "tc"])
    assert world.status() == "ABORTED"
    world.tick(300_000)
    tenant = world.engine.state.tenants["acme"]
    assert (tenant.spend.open_holds, tenant.spend.held_tokens) == (0, 0)
    assert not tenant.lifetimes
    world.refold()
