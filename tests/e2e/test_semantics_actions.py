"""What each action does at each scope and for each kind of rule; several policies, shadow, platform."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.words import scope_word
from headgate_graphs.ids import EVERY_TENANT
from headgate_guardrails.policy import Policy
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_streams.topics import partition_for
from tests.e2e.semantics import (
    BILL,
    Case,
    Run,
    each,
    graph,
    loop,
    needs,
    numbers,
    policy,
    rule,
    visits,
)
from tests.e2e.stage import PARTITIONS, Stage

ACTIONS = ("warn", "throttle", "reject_execution", "pause_lifetime", "abort_lifetime")
SCOPES = ("execution", "lifetime", "tenant")
SOON = {"throttle": {"delay": "60ms"}}
"""Terms of a throttle that asks again soon."""


def acting(action: str, scope: str, **kind: Any) -> dict[str, Any]:
    return rule(scope=scope, action=action, **kind, **(SOON if action == "throttle" else {}))


# -- limits: every action at every scope ---------------------------------------------------------------

TIMES = 4
CAPS = {"execution": 50, "lifetime": 250, "tenant": 250}
"""Caps on tokens that a loop of calls of 100 passes at the first, or at the third, call."""


def at_every_scope(action: str) -> list[Case]:
    return [
        Case(scope, (loop(TIMES), policy(acting(action, scope, limit={"tokens_used": CAPS[scope]}))), scope)
        for scope in SCOPES
    ]


def broken_at(case: Case) -> dict[str, int]:
    """Return the numbers with which the loop breaks the rule."""
    committed = 0 if case.want == "execution" else 200
    return {"committed": committed, "held": 0, "requested": 100, "limit": CAPS[case.want]}


def proves(run: Run, kind: str, case: Case) -> None:
    proof = numbers(run.violation(kind))
    assert {name: proof[name] for name in broken_at(case)} == broken_at(case)
    assert proof["scope"] == case.want


def go_on(run: Run, case: Case) -> None:
    """Raise the cap far enough for all calls."""
    run.raise_budget("tokens_used", 10_000, lifetime=None if case.want == "tenant" else "run")


@each(at_every_scope("warn"))
def test_warn_says_so_and_stops_nothing(run: Run, case: Case) -> None:
    run.start()
    run.ends("completed")
    proves(run, "WARN", case)
    assert len(run.calls("t")) == TIMES
    # About one execution each time, before it and after it; about more than one once in a lifetime.
    assert len(run.events()) == (2 * TIMES if case.want == "execution" else 1)


@each(at_every_scope("throttle"))
def test_throttle_puts_a_dispatch_off_until_there_is_room(run: Run, case: Case) -> None:
    done = broken_at(case)["committed"] // 100
    run.start()
    proves(run, "THROTTLE_EXECUTION", case)
    run.barrier()
    assert len(run.dispatched("t")) == done
    assert run.view().reason == ""
    go_on(run, case)
    run.ends("completed")
    asked_ms = run.event("THROTTLE_EXECUTION").decided_at.ToMilliseconds()
    assert run.dispatched("t")[done].at_ms - asked_ms >= 60
    assert len(run.calls("t")) == TIMES
    assert {event.type for event in run.events()} == {run.event("THROTTLE_EXECUTION").type}


@each(at_every_scope("reject_execution"))
def test_reject_gives_the_next_plan_a_failure_in_place_of_the_execution(run: Run, case: Case) -> None:
    done = broken_at(case)["committed"] // 100
    run.start()
    run.ends("completed", outcome={"t": "REJECTED"})
    proves(run, "REJECT_EXECUTION", case)
    assert len(run.calls("t")) == done
    given = run.dispatched("p")[-1].message.upstream_task_executions[0]
    assert "rule cap" in given.result.error.message
    run.never_over("tokens_used", CAPS[case.want] if done else 0, None)


@each(at_every_scope("pause_lifetime"))
def test_pause_keeps_everything_and_a_raised_budget_goes_on_with_no_call_repeated(
    run: Run, case: Case
) -> None:
    done = broken_at(case)["committed"] // 100
    run.start()
    view = run.becomes("paused")
    proves(run, "PAUSE_LIFETIME", case)
    assert view.violations[0].rule == "cap"
    assert len(run.calls("t")) == done
    run.never_over("tokens_used", CAPS[case.want] if done else 0, None)
    go_on(run, case)
    run.ends("completed")
    assert [call.iteration for call in run.calls("t")] == list(range(1, TIMES + 1))
    assert run.view().usage.tokens_used == 100 * TIMES


@each(at_every_scope("pause_lifetime"))
def test_a_resume_while_the_cap_still_stands_pauses_again(run: Run, case: Case) -> None:
    run.start()
    run.becomes("paused")
    run.resume()
    run.waits_until(lambda: len(run.events("PAUSE_LIFETIME")) == 2)
    assert [event.pause_generation for event in run.events("PAUSE_LIFETIME")] == [1, 2]
    run.barrier()
    assert run.becomes("paused").pause_generation == 2
    assert len(run.dispatched("t")) == broken_at(case)["committed"] // 100


@each(at_every_scope("abort_lifetime"))
def test_abort_ends_the_lifetime(run: Run, case: Case) -> None:
    run.start()
    view = run.ends("aborted")
    proves(run, "ABORT_LIFETIME", case)
    assert view.usage.tokens_used == broken_at(case)["committed"]
    run.never_over("tokens_used", CAPS[case.want], None)


PAUSE_TTL = policy(rule(action="pause_lifetime", limit={"tokens_used": 250}, pause={"ttl": "250ms"}))


@needs(loop(), PAUSE_TTL)
def test_a_pause_that_nobody_answers_in_time_turns_into_an_abort(run: Run) -> None:
    run.start()
    view = run.ends("aborted")
    assert view.reason.startswith("PAUSE_EXPIRED: policy caps v1, rule cap: lifetime tokens_used 300 > 250")
    told = run.event("PAUSE_LIFETIME")
    assert told.pause_expires_at.ToMilliseconds() - told.decided_at.ToMilliseconds() == 250
    assert view.ended_at.ToMilliseconds() >= told.pause_expires_at.ToMilliseconds()
    assert len(run.calls("t")) == 2


BESIDE = graph(
    "p parallel ta,tb",
    "ta normal q",
    "tb normal q",
    "q normal tz",
    "q final",
    p=visits("ta,tb"),
    q=visits("tz"),
    ta={"type": "slow", "does": BILL},
    tb={"type": "slow", "does": {"usage": {"tokens_used": 7}}},
)


@needs(BESIDE, policy(rule(limit={"tokens_used": 50})))
def test_an_abort_stops_what_runs_beside_and_its_spend_counts(run: Run) -> None:
    run.start()
    run.begins("tb")
    run.begins("ta")
    run.open("ta")
    view = run.ends("aborted")
    assert run.was_stopped("tb")
    assert view.usage.tokens_used == 107
    assert view.HasField("stop_latency")


# -- other kinds: every action -------------------------------------------------------------------------

KINDS: dict[str, dict[str, Any]] = {
    "when": {"when": "node.type == 'spend'"},
    "allow": {"allow": {"task_types": ["echo"]}},
    "deny": {"deny": {"task_types": ["spend"]}},
}
PLAIN = loop(2, limits={})
EVENTS = {
    "warn": ("WARN", "completed"),
    "throttle": ("THROTTLE_EXECUTION", "running"),
    "reject_execution": ("REJECT_EXECUTION", "completed"),
    "pause_lifetime": ("PAUSE_LIFETIME", "paused"),
    "abort_lifetime": ("ABORT_LIFETIME", "aborted"),
}


@each(
    Case(f"{kind} {action}", (PLAIN, policy(acting(action, "execution", **terms))), action)
    for kind, terms in KINDS.items()
    for action in ACTIONS
)
def test_every_action_follows_from_conditions_and_lists(run: Run, case: Case) -> None:
    kind, status = EVENTS[case.want]
    run.start()
    violation = run.violation(kind)
    assert violation.expression in ("node.type == 'spend'", "task type spend")
    assert (violation.action, scope_word(violation.scope)) == (case.want, "execution")
    run.becomes(status)
    assert len(run.calls("t")) == (2 if case.want == "warn" else 0)
    if case.want == "throttle":
        # Nothing but another version of the policy lets it go on.
        run.use(policy(rule(when="false"), version=2))
        run.ends("completed")


CIRCLE = graph(
    "p normal t",
    "t normal p",
    "p final",
    p={"does": {"visits": [["t"]] * 4 + [["end"]], "outputs": ["the same"]}},
)


@each(
    Case(action, (CIRCLE, policy(rule("stuck", action=action, no_progress={}))), action)
    for action in ACTIONS
    if action != "throttle"
)
def test_every_action_but_waiting_follows_from_no_progress(run: Run, case: Case) -> None:
    kind, status = EVENTS[case.want]
    run.start()
    assert run.violation(kind, "stuck").expression == "node t made the same step 3 times"
    run.becomes(status)
    assert len(run.calls("t")) == (4 if status == "completed" else 3)


# -- several policies ----------------------------------------------------------------------------------


def one_each(*actions: str, name: str, mode: str = "enforce") -> Policy:
    rules = [rule(f"to-{one}", action=one, limit={"tokens_used": 50}) for one in actions]
    return policy(*rules, name=name, mode=mode)


def together(strongest: str, *policies: Policy) -> Case:
    return Case(strongest, (loop(), *policies), strongest)


@each(
    [
        together("abort_lifetime", one_each("pause_lifetime", name="a"), one_each(*ACTIONS, name="b")),
        together(
            "pause_lifetime", one_each("pause_lifetime", name="a"), one_each("reject_execution", name="b")
        ),
        together(
            "reject_execution", one_each("throttle", "reject_execution", name="a"), one_each("warn", name="b")
        ),
        together("throttle", one_each("warn", name="a"), one_each("throttle", name="b")),
    ]
)
def test_the_strongest_verdict_of_all_policies_wins_and_every_match_is_told(run: Run, case: Case) -> None:
    kind, status = EVENTS[case.want]
    run.start()
    run.becomes(status)
    told = run.event(kind).violations
    assert told[0].action == case.want
    wanted = {(p.name, r.name) for p in case.documents[1:] for r in p.rules}
    mentioned = {(v.policy, v.rule) for event in run.events() for v in event.violations}
    assert mentioned == wanted
    assert not run.calls("t")


# -- shadow --------------------------------------------------------------------------------------------


@each(
    Case(action, (loop(3), policy(rule(action=action, limit={"tokens_used": 150}), mode="shadow")), action)
    for action in ACTIONS
)
def test_a_shadow_verdict_looks_the_same_and_is_never_obeyed(run: Run, case: Case) -> None:
    run.start()
    run.ends("completed")
    [event] = run.events()
    assert event.shadow
    assert event.type == run.event(EVENTS[case.want][0]).type
    assert (event.violations[0].measured, event.violations[0].limit) == (200, 150)
    assert len(run.calls("t")) == 3


@needs(
    BESIDE,
    policy(rule(limit={"tokens_used": 50}), mode="shadow"),
    policy(rule(action="pause_lifetime", limit={"tokens_used": 60}), name="real"),
)
def test_a_shadow_abort_cancels_nothing_and_a_weaker_rule_in_force_is_obeyed(run: Run) -> None:
    run.start()
    run.begins("tb")
    run.open("ta")
    run.becomes("paused")
    assert [event.shadow for event in run.events("ABORT_LIFETIME")] == [True]
    assert not [event for event in run.events("PAUSE_LIFETIME") if event.shadow]
    run.open("tb")
    run.waits_until(lambda: run.results("tb"))
    assert run.results("tb")[0].message.result.success


# -- versions ------------------------------------------------------------------------------------------


FIRST = policy(rule(action="pause_lifetime", limit={"tokens_used": 150}))


@needs(loop(5), FIRST)
def test_the_version_in_force_is_on_each_event_and_an_older_one_can_be_put_back(run: Run) -> None:
    run.start()
    run.becomes("paused")
    run.use(policy(rule(action="abort_lifetime", limit={"tokens_used": 350}), version=2))
    run.resume()
    run.ends("aborted")
    told = [(v.version, v.limit) for event in run.events() for v in event.violations]
    assert told == [(1, 150), (2, 350)]
    run.use(FIRST)
    run.start(lifetime="again")
    run.becomes("paused", "again")
    assert run.violation("PAUSE_LIFETIME", lifetime="again").version == 1


def test_a_policy_that_cannot_be_is_refused_and_the_last_good_one_stays(run: Run) -> None:
    run.letters = ["BAD_POLICY", "BAD_POLICY"]
    run.use(loop(), policy(rule(limit={"tokens_used": 150})))
    same_version = policy(rule(limit={"tokens_used": 10_000}))
    run.use(same_version)
    broken = ExecutionEnvelope(tenant_id=run.tenant)
    broken.policy_set.name, broken.policy_set.version = "caps", 2
    broken.policy_set.document_json = json.dumps({"kind": "GuardrailPolicy", "rules": []})
    run.client.submit(broken)
    run.start()
    run.ends("aborted")
    assert numbers(run.violation("ABORT_LIFETIME"))["limit"] == 150


# -- the platform --------------------------------------------------------------------------------------

FORBIDDEN = graph("t normal p", "p final", id="marked", tags=("platform-test",), t={"max_retries": 0})
PLATFORM = "'platform-test' in graph.tags && node.kind == 'task'"
"""Only graphs with this tag are concerned: the policy holds for the tenants of all other tests too."""


def tenants_everywhere(prefix: str) -> dict[int, str]:
    """Return a tenant in each partition."""
    found: dict[int, str] = {}
    for number in range(10_000):
        name = f"{prefix[:32]}-{number}"
        found.setdefault(partition_for(name, PARTITIONS), name)
        if len(found) == PARTITIONS:
            return found
    raise AssertionError("no tenant found for a partition")


@needs(FORBIDDEN)
def test_a_platform_policy_holds_for_every_tenant_in_every_partition(stage: Stage, run: Run) -> None:
    rules = policy(rule("forbidden", "execution", "reject_execution", when=PLATFORM), name="platform")
    before = len([one for one in stage.watch.by_tenant[EVERY_TENANT] if set_by(one.message)])
    run.client.apply_policy(rules, EVERY_TENANT)
    run.barrier()
    written = [one for one in stage.watch.by_tenant[EVERY_TENANT] if set_by(one.message)][before:]
    assert sorted(one.partition for one in written) == list(range(PARTITIONS))
    for tenant in tenants_everywhere(run.tenant).values():
        theirs = Run(stage, tenant)
        theirs.use(FORBIDDEN)
        theirs.start()
        theirs.ends("completed", outcome={"t": "REJECTED"})
        assert theirs.violation("REJECT_EXECUTION", "forbidden").policy == "platform"
        theirs.close()


def set_by(message: Any) -> bool:
    return isinstance(message, ExecutionEnvelope) and message.WhichOneof("payload") == "policy_set"


@pytest.mark.parametrize(
    ("own", "kind", "status"),
    [("abort_lifetime", "ABORT_LIFETIME", "aborted"), ("warn", "REJECT_EXECUTION", "completed")],
)
@needs(FORBIDDEN)
def test_a_platform_policy_and_the_tenants_own_are_judged_together(
    run: Run, own: str, kind: str, status: str
) -> None:
    rules = policy(rule("forbidden", "execution", "reject_execution", when=PLATFORM), name="platform")
    run.client.apply_policy(rules, EVERY_TENANT)
    run.use(policy(rule("mine", "execution", own, deny={"task_types": ["echo"]})))
    run.start()
    run.ends(status)
    assert run.event(kind).violations[0].policy == ("caps" if own == "abort_lifetime" else "platform")
    mentioned = {(v.policy, v.rule) for event in run.events() for v in event.violations}
    assert mentioned == {("platform", "forbidden"), ("caps", "mine")}
