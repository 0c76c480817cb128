"""Limits: every metric at every scope where it has a meaning, by whom it is broken and with what numbers."""

from __future__ import annotations

from typing import Any

from headgate_graphs.model import AgentGraph
from headgate_protos.v1.execution_pb2 import LifetimeView
from tests.e2e.semantics import (
    BILL,
    LIMITS,
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

VERBS = {
    "reject_execution": ("REJECT_EXECUTION", "completed"),
    "pause_lifetime": ("PAUSE_LIFETIME", "paused"),
    "abort_lifetime": ("ABORT_LIFETIME", "aborted"),
}
"""What each action publishes, and where it leaves a loop whose plan ends at the first failure."""


def row(metric: str, cap: Any, scope: str, action: str, on: AgentGraph, **proof: int) -> Case:
    """Return a row: under this cap the graph is stopped once, with these numbers."""
    rules = policy(rule(scope=scope, action=action, limit={metric: cap}))
    return Case(f"{metric} {scope} {action} {proof.pop('at', '')}".strip(), (on, rules), proof)


def settled(**task: Any) -> AgentGraph:
    """Return a loop whose task declares no limits: what it uses is known only when it is done."""
    return loop(**({"limits": {}} | task))


MONEY = 100_000_000
SLOW = settled(does={"seconds": 0.06})
GROWING = graph(
    "p normal t",
    "t normal p",
    "p final",
    p={"does": {"visits": [["t"]], "on_failure": ["end"], "outputs": [1]}},
    t={"type": "grow", "does": {"bytes": 500}, "max_retries": 0},
)
THREE_WAYS = graph(
    "p parallel ta,tb,tc",
    "p final",
    p={"does": {"visits": [["ta", "tb", "tc"]]}, "max_retries": 0},
)

AT_ADMISSION = [
    row("tokens_used", 50, "execution", "reject_execution", loop(), measured=100, committed=0, requested=100),
    row("tokens_used", 250, "lifetime", "abort_lifetime", loop(), measured=300, committed=200, requested=100),
    row("tokens_used", 250, "tenant", "pause_lifetime", loop(), measured=300, committed=200, requested=100),
    row("cost_usd", "0.05", "execution", "abort_lifetime", loop(), measured=MONEY, requested=MONEY),
    row("cost_usd", "0.25", "lifetime", "pause_lifetime", loop(), measured=3 * MONEY, committed=2 * MONEY),
    row("cost_usd", "0.25", "tenant", "reject_execution", loop(), measured=3 * MONEY, committed=2 * MONEY),
    row("executions", 3, "lifetime", "abort_lifetime", loop(), measured=4, committed=3, requested=1),
    row("executions", 3, "tenant", "pause_lifetime", loop(), measured=4, committed=3, requested=1),
    row("iterations", 2, "lifetime", "abort_lifetime", loop(), measured=3, committed=2, requested=1),
]
AT_SETTLEMENT = [
    row("tokens_used", 50, "execution", "reject_execution", settled(), measured=100, committed=100),
    row("tokens_used", 150, "lifetime", "pause_lifetime", settled(), measured=200, committed=200),
    row("tokens_used", 150, "tenant", "abort_lifetime", settled(), measured=200, committed=200),
    row("cost_usd", "0.05", "execution", "pause_lifetime", settled(), measured=MONEY),
    row("cost_usd", "0.15", "lifetime", "abort_lifetime", settled(), measured=2 * MONEY),
    row("cost_usd", "0.15", "tenant", "pause_lifetime", settled(), measured=2 * MONEY),
    row("latency_ms", 30, "execution", "reject_execution", SLOW),
    row("latency_ms", 90, "lifetime", "abort_lifetime", SLOW),
    row("latency_ms", 90, "tenant", "pause_lifetime", SLOW),
    row("payload_bytes", 1000, "execution", "reject_execution", GROWING, measured=1002),
    row("payload_bytes", 1000, "lifetime", "abort_lifetime", GROWING, measured=1506),
    row("payload_bytes", 1000, "tenant", "pause_lifetime", GROWING, measured=1506),
    row("fan_out", 2, "execution", "abort_lifetime", THREE_WAYS, measured=3),
]


def stopped(run: Run, case: Case) -> LifetimeView:
    """Run until the rule has stopped the lifetime; check what the control event proves."""
    limits = case.documents[1].rules[0]
    [cap] = limits.limit.caps().items()
    kind, status = VERBS[limits.action]
    run.start()
    proof = numbers(run.violation(kind))
    assert (proof["metric"], proof["limit"]) == cap
    assert (proof["scope"], proof["action"]) == (limits.scope, limits.action)
    assert proof["measured"] == proof["committed"] + proof["held"] + proof["requested"] > proof["limit"]
    assert {name: proof[name] for name in case.want} == case.want
    view = run.becomes(status)
    if limits.action != "reject_execution":
        assert numbers(view.violations[0]) == proof
    return view


@each(AT_ADMISSION)
def test_a_limit_that_a_dispatch_would_pass_stops_it(run: Run, case: Case) -> None:
    stopped(run, case)
    event = run.events(rule="cap")[0]
    refused = [one.message.headers.execution_id for one in run.dispatched(event.node_id)]
    assert event.execution_id not in refused, "it was dispatched all the same"
    [(metric, cap)] = case.documents[1].rules[0].limit.caps().items()
    if metric in ("tokens_used", "cost_nano_usd"):
        run.never_over(metric, cap, None)


@each(AT_SETTLEMENT)
def test_a_limit_that_a_result_has_passed_stops_what_follows(run: Run, case: Case) -> None:
    stopped(run, case)
    event = run.events(rule="cap")[0]
    done = [one.message.headers.execution_id for one in run.results(event.node_id)]
    assert event.execution_id == done[-1], "something followed the result that broke the rule"


def test_a_rejected_result_is_paid_for_and_withheld(run: Run) -> None:
    run.use(settled(), policy(rule(scope="execution", action="reject_execution", limit={"tokens_used": 50})))
    run.start()
    view = run.ends("completed", outcome={"t": "REJECTED"})
    assert run.upstream("p", 2) == ["t:REJECTED"]
    assert view.usage.tokens_used == 100


# -- age and depth ----------------------------------------------------------------------------------------

HANGING = graph("t normal p", "p final", t={"type": "slow"})


@each(
    Case(action, (HANGING, policy(rule(action=action, limit={"wall_time": "250ms"}))))
    for action in ("abort_lifetime", "pause_lifetime", "warn")
)
def test_a_lifetime_that_lasts_too_long_is_noticed_although_nothing_happens(run: Run, case: Case) -> None:
    action = case.documents[1].rules[0].action
    kind, status = (VERBS | {"warn": ("WARN", "running")})[action]
    run.start()
    violation = run.violation(kind)
    assert (violation.metric, violation.limit) == ("wall_time_ms", 250)
    assert violation.measured > 250
    run.becomes(status)
    run.open()
    if action == "pause_lifetime":
        run.raise_budget("wall_time_ms", 60_000)
    if action != "abort_lifetime":
        run.ends("completed")


NESTED = graph("t normal p", "p final", id="nested", t={"type": "graph", "does": {"graph": "nested"}})


@each(
    [
        Case(
            action,
            (NESTED, policy(rule(action=action, limit={"depth": 1}))),
            {"t": {"t": f"SUBGRAPH_{code}"}},
        )
        for action, code in (("abort_lifetime", "ABORTED"), ("reject_execution", "FAILED"))
    ]
)
def test_a_sub_graph_too_deep_for_the_policy_goes_no_further(run: Run, case: Case) -> None:
    run.start()
    run.ends("completed", outcome=case.want)
    found = [v for event in run.events(lifetime=None) for v in event.violations if v.rule == "cap"]
    assert (found[0].metric, found[0].measured, found[0].limit) == ("depth", 2, 1)


# -- what is held counts -----------------------------------------------------------------------------------

FIVE = "ta,tb,tc,td,te"
AT_ONCE = graph(
    f"p parallel {FIVE}",
    f"{FIVE} join j",
    "j final",
    p=visits(FIVE),
    **{name: {"type": "slow", "limits": LIMITS, "does": BILL} for name in FIVE.split(",")},
)


@each(
    Case(scope, (AT_ONCE, policy(rule(scope=scope, action="reject_execution", limit={"tokens_used": 250}))))
    for scope in ("lifetime", "tenant")
)
def test_what_is_in_flight_is_counted_before_it_is_spent(run: Run, case: Case) -> None:
    run.start()
    run.begins("tb")
    run.barrier()
    assert [len(run.dispatched(node)) for node in FIVE.split(",")] == [1, 1, 0, 0, 0]
    assert [numbers(event.violations[0])["held"] for event in run.events("REJECT_EXECUTION")] == [200] * 3
    run.open()
    assert run.upstream("j") == ["ta", "tb", "tc:REJECTED", "td:REJECTED", "te:REJECTED"]
    view = run.ends("completed")
    assert view.usage.tokens_used == 200
    run.never_over("tokens_used", 250, None)


@needs(loop(times=2), policy(rule(scope="tenant", action="pause_lifetime", limit={"tokens_used": 250})))
def test_a_cap_of_the_tenant_counts_all_of_its_lifetimes(run: Run) -> None:
    run.start(lifetime="first")
    run.ends("completed", "first")
    run.start(lifetime="second")
    run.start(lifetime="third")
    for name in ("second", "third"):
        assert run.becomes("paused", name).violations[0].rule == "cap"
    run.never_over("tokens_used", 250, None)
    run.raise_budget("tokens_used", 10_000, lifetime=None)
    for name in ("second", "third"):
        run.ends("completed", name)
        assert len(run.calls("t", name)) == 2, "a call was repeated"


@needs(loop(times=4), policy(rule(scope="tenant", action="pause_lifetime", limit={"tokens_used": 1_950})))
def test_many_lifetimes_at_once_do_not_pass_the_cap_of_their_tenant(run: Run) -> None:
    names = [f"run-{number}" for number in range(12)]
    for name in names:
        run.start(lifetime=name)
    run.waits_until(lambda: len(run.events("PAUSE_LIFETIME", None)) >= 3)
    run.waits_until(lambda: sum(len(run.results("t", name)) for name in names) == 19)
    run.barrier()
    run.never_over("tokens_used", 1_950, None)
    run.raise_budget("tokens_used", 10_000, lifetime=None)
    for name in names:
        run.ends("completed", name)
        assert [call.iteration for call in run.calls("t", name)] == [1, 2, 3, 4]


ROOM_FOR_TWO = graph(
    f"p parallel {FIVE}",
    f"{FIVE} join j",
    "j final",
    limits={"max_in_flight": 2},
    p=visits(FIVE),
    **{name: {"limits": LIMITS, "does": {"usage": {"tokens_used": 10}}} for name in FIVE.split(",")},
)


@needs(ROOM_FOR_TWO, policy(rule(limit={"tokens_used": 250})))
def test_what_waits_for_room_is_judged_when_it_has_room(run: Run) -> None:
    run.start()
    view = run.ends("completed")
    assert view.usage.tokens_used == 50
    run.never_over("tokens_used", 250)


OVERSPENT = {"type": "slow", "limits": LIMITS, "max_retries": 0, "does": {"usage": {"tokens_used": 300}}}
FORGETFUL = graph("t normal p", "p final", t=OVERSPENT)


@each(
    Case(action, (FORGETFUL, policy(rule(action=action, limit={"tokens_used": 250}))), status)
    for action, status in (("abort_lifetime", "aborted"), ("pause_lifetime", "paused"))
)
def test_a_run_that_has_used_more_than_it_may_is_noticed_while_it_runs(run: Run, case: Case) -> None:
    run.start()
    view = run.becomes(case.want)
    proof = numbers(view.violations[0])
    assert (proof["measured"], proof["held"], proof["limit"]) == (300, 300, 250)
    if case.want == "aborted":
        assert run.was_stopped("t")
        assert run.ends("aborted").usage.tokens_used == 300
    else:
        assert not run.results("t")


@needs(
    loop(times=4, does={"usage": {"tokens_used": 10}}),
    policy(rule(action="pause_lifetime", limit={"tokens_used": 130})),
)
def test_a_hold_is_closed_at_what_was_really_used(run: Run) -> None:
    run.start()
    view = run.ends("completed")
    assert view.usage.tokens_used == 40
    assert view.usage.cost_nano_usd == 0
    run.never_over("tokens_used", 130)


@needs(loop(times=2, does={}), policy(rule(action="pause_lifetime", limit={"cost_usd": "0.15"})))
def test_a_run_that_says_nothing_of_its_cost_is_charged_its_hold(run: Run) -> None:
    run.start()
    view = run.becomes("paused")
    assert (view.usage.tokens_used, view.usage.cost_nano_usd) == (100, MONEY)
    assert numbers(view.violations[0])["committed"] == MONEY


# -- windows -----------------------------------------------------------------------------------------------

WINDOW_MS = 359
"""No multiple of sixty: a sliding window forgets in sixtieths, and may not be shorter than it says."""


def windowed(action: str, **more: Any) -> Any:
    return policy(
        rule(scope="tenant", action=action, limit={"tokens_used": 250}, window=f"{WINDOW_MS}ms", **more)
    )


def spends(run: Run) -> list[tuple[int, int]]:
    """Return (log time, tokens) of all that was settled."""
    return [(one.at_ms, one.message.resource_usage.tokens_used) for one in run.results()]


@needs(loop(times=7), windowed("throttle"))
def test_a_tumbling_window_lets_no_more_through_than_its_cap_and_goes_on_in_the_next(run: Run) -> None:
    run.start()
    run.ends("completed")
    assert len(run.calls("t")) == 7
    sums: dict[int, int] = {}
    for at_ms, tokens in spends(run):
        sums[at_ms // WINDOW_MS] = sums.get(at_ms // WINDOW_MS, 0) + tokens
    assert max(sums.values()) <= 250
    assert sum(sums.values()) == 700
    assert run.violation("THROTTLE_EXECUTION").measured == 300


@needs(loop(times=6), windowed("throttle", sliding=True))
def test_a_sliding_window_lets_no_more_through_than_its_cap_in_any_stretch_of_its_length(run: Run) -> None:
    run.start()
    run.ends("completed")
    assert len(run.calls("t")) == 6
    spent = spends(run)
    for end_ms, _ in spent:
        stretch = [tokens for at_ms, tokens in spent if end_ms - WINDOW_MS < at_ms <= end_ms]
        assert sum(stretch) <= 250


@each(
    Case(name, (loop(times=9), windowed("reject_execution", sliding=sliding)))
    for name, sliding in (("tumbling", False), ("sliding", True))
)
def test_a_window_that_is_full_rejects_and_has_room_again_later(run: Run, case: Case) -> None:
    run.start(lifetime="first")
    run.ends("completed", "first")
    assert run.event("REJECT_EXECUTION", "first").violations[0].measured == 300

    def has_room() -> bool:
        name = f"again-{len(run.said(LifetimeView))}"
        run.start(lifetime=name)
        run.ends("completed", name)
        return bool(run.calls("t", name))

    run.waits_until(has_room)
