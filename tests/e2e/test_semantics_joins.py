"""Joins: each strategy, what comes too late or never, and that a join fires once for each visit."""

from __future__ import annotations

from typing import Any

from headgate_graphs.model import AgentGraph
from tests.e2e.semantics import BILL, LIMITS, Case, Run, each, graph, needs, visits

FAILS = {"type": "slow", "max_retries": 0, "does": {"times": 9}}
SHORT_MS = 250


def fan(*failing: str, **join: Any) -> AgentGraph:
    """p sends ta, tb and tc out to the join at j; each waits for its door, and tz behind the join too."""
    tasks = {name: FAILS if name in failing else {"type": "slow"} for name in ("ta", "tb", "tc", "tz")}
    return graph(
        "p parallel ta,tb,tc",
        "ta,tb,tc join j",
        "j normal tz",
        "tz normal q",
        "q final",
        p=visits("ta,tb,tc"),
        j={"join": join},
        **tasks,
    )


def arrives(run: Run, node: str) -> None:
    """Let a task go, and return when the gate has taken its result."""
    done = len(run.results(node))
    run.open(node)
    run.waits_until(lambda: len(run.results(node)) > done)
    run.barrier()


def case(name: str, order: str, upstream: list[str], *failing: str, **join: Any) -> Case:
    """The join goes on with `upstream` when the last of `order` has come, and not before."""
    return Case(name, (fan(*failing, **join),), (order.split(), upstream))


@each(
    [
        case("all", "tc ta tb", ["ta", "tb", "tc"], strategy="all"),
        case("all counts failures", "tc ta tb", ["ta", "tb:HANDLER_ERROR", "tc"], "tb", strategy="all"),
        case("any", "tb", ["tb"], strategy="any"),
        case("any waits for a success", "ta tb", ["ta:HANDLER_ERROR", "tb"], "ta", strategy="any"),
        case(
            "any when all have failed",
            "ta tb tc",
            ["ta:HANDLER_ERROR", "tb:HANDLER_ERROR", "tc:HANDLER_ERROR"],
            *("ta", "tb", "tc"),
            strategy="any",
        ),
        case("majority", "tc ta", ["ta", "tc"], strategy="majority"),
        case(
            "majority of successes",
            "tb tc ta",
            ["ta", "tb:HANDLER_ERROR", "tc"],
            "tb",
            strategy="majority",
        ),
        case("quorum of two", "tb ta", ["ta", "tb"], strategy="quorum", min_inputs=2),
        case(
            "quorum goes on at its max", "tc tb", ["tb", "tc"], strategy="quorum", min_inputs=1, max_inputs=2
        ),
        case("quorum of all", "ta tb tc", ["ta", "tb", "tc"], strategy="quorum", min_inputs=3),
    ]
)
def test_a_join_goes_on_when_it_has_enough(run: Run, case: Case) -> None:
    order, upstream = case.want
    run.start()
    for node in order[:-1]:
        arrives(run, node)
        assert not run.dispatched("j"), f"went on after {node}"
    run.open(order[-1])
    assert run.upstream("j") == upstream
    run.open()
    run.ends("completed", settled=False)
    assert len(run.dispatched("j")) == 1


# -- time ---------------------------------------------------------------------------------------------------


@each(
    [
        Case("all", (fan(strategy="all", timeout="250ms", on_timeout="proceed"),), ["tb"]),
        Case("majority", (fan(strategy="majority", timeout="250ms", on_timeout="proceed"),), ["tb"]),
        Case(
            "quorum with its min",
            (fan(strategy="quorum", min_inputs=1, max_inputs=3, timeout="250ms", on_timeout="fail"),),
            ["tb"],
        ),
    ]
)
def test_a_join_whose_time_is_up_proceeds_with_what_came(run: Run, case: Case) -> None:
    run.start()
    arrives(run, "tb")
    assert run.upstream("j") == case.want
    waited_ms = run.dispatched("j")[0].at_ms - run.results("tb")[0].at_ms
    assert waited_ms >= SHORT_MS
    run.open()
    run.ends("completed", settled=False)


@each(
    [
        Case("all", (fan(strategy="all", timeout="250ms"),), "1 of 3"),
        Case("quorum", (fan(strategy="quorum", min_inputs=2, timeout="250ms", on_timeout="fail"),), "1 of 3"),
        Case("any with failures", (fan("tb", strategy="any", timeout="250ms"),), "1 of 3"),
    ]
)
def test_a_join_whose_time_is_up_fails_the_lifetime(run: Run, case: Case) -> None:
    run.start()
    arrives(run, "tb")
    view = run.ends("failed")
    assert view.reason == f"JOIN_TIMEOUT: nothing more is waited for to j: {case.want} branches arrived"
    assert run.was_stopped("ta")
    assert not run.dispatched("j")


def astray(**join: Any) -> AgentGraph:
    """ta can leave its branch over x, so that nothing of it comes to the join at j."""
    return graph(
        "p parallel ta,tb",
        ("ta normal x", "success"),
        ("ta join j", "!success"),
        "tb join j",
        "x normal tx",
        "j final",
        p=visits("ta,tb"),
        j={"join": join},
    )


@needs(astray(strategy="all", on_timeout="fail"))
def test_a_join_to_which_nothing_more_can_come_fails_the_lifetime(run: Run) -> None:
    run.start()
    reason = "JOIN_STARVED: nothing more can come to j: 1 of 2 branches arrived"
    assert run.ends("failed").reason == reason


@needs(astray(strategy="all", on_timeout="proceed"))
def test_a_join_to_which_nothing_more_can_come_proceeds_if_it_may(run: Run) -> None:
    run.start("x")
    run.ends("completed", outcome={"tb": "x"})


# -- too late ---------------------------------------------------------------------------------------------


@each(
    [
        Case("drop", (fan(strategy="any", late="drop"),), 0),
        Case("record", (fan(strategy="any", late="record"),), 2),
    ]
)
def test_what_comes_too_late_is_dropped_or_recorded(run: Run, case: Case) -> None:
    run.start()
    arrives(run, "ta")
    for node in ("tb", "tc"):
        arrives(run, node)
    warnings = run.events("WARN")
    assert len(warnings) == case.want
    assert all(one.reason.startswith("LATE_ARRIVAL: branch t") for one in warnings)
    run.open()
    view = run.ends("completed")
    assert len(run.dispatched("j")) == 1
    assert sum(node.iterations for node in view.nodes) == 7


PAID = {"type": "slow", "limits": LIMITS, "does": {"usage": {"tokens_used": 30, "cost_usd": "0.01"}}}
LOSERS = graph(
    "p parallel ta,tb,tc",
    "ta,tb,tc join j",
    "j normal tz",
    "tz normal q",
    "q final",
    p=visits("ta,tb,tc"),
    j={"join": {"strategy": "any", "cancel_losers": True, "late": "record"}},
    ta={"type": "slow"},
    tb=PAID,
    tc=PAID,
    tz={"type": "slow"},
)


@needs(LOSERS)
def test_losers_are_cancelled_their_holds_released_and_what_they_spent_counts(run: Run) -> None:
    run.start()
    for node in ("ta", "tb", "tc"):
        run.begins(node)
    run.open("ta")
    assert run.was_stopped("tb")
    assert run.was_stopped("tc")
    run.waits_until(lambda: len(run.results("tb") + run.results("tc")) == 2)
    told = run.events("REJECT_EXECUTION")
    assert sorted(one.node_id for one in told) == ["tb", "tc"]
    assert {one.reason for one in told} == {"CANCELLED: the join went on without this branch"}
    run.open("tz")
    view = run.ends("completed")
    assert (view.usage.tokens_used, view.held.tokens_used) == (60, 0)
    assert not run.events("WARN")


# -- visits -----------------------------------------------------------------------------------------------


ROUNDS = graph(
    "p parallel ta,tb,tc",
    "ta,tb,tc join j",
    "j normal tz",
    "j final",
    "tz normal p",
    p=visits("ta,tb", "tc", "ta,tb,tc"),
    j=visits("tz", "tz", "end"),
)


@needs(ROUNDS)
def test_a_join_in_a_loop_fires_once_for_each_visit_and_waits_for_that_visits_branches_alone(
    run: Run,
) -> None:
    run.start()
    run.ends("completed")
    assert [run.upstream("j", visit) for visit in (1, 2, 3)] == [["ta", "tb"], ["tc"], ["ta", "tb", "tc"]]
    assert len(run.calls("j")) == 3


FEW = graph(
    "p parallel ta,tb,tc",
    "ta,tb,tc join j",
    "j final",
    p=visits("ta,tb"),
    j={"join": {"strategy": "quorum", "min_inputs": 3}},
)


@needs(FEW)
def test_a_quorum_of_more_than_were_sent_out_in_a_visit_waits_for_those(run: Run) -> None:
    run.start()
    run.ends("completed")
    assert run.upstream("j") == ["ta", "tb"]


STALE = graph(
    "p parallel ta,tb",
    "ta,tb join j",
    "j normal tz",
    "j final",
    "tz normal p",
    p=visits("ta,tb"),
    j=visits("tz", "end") | {"join": {"strategy": "any", "late": "record"}},
    tb={"type": "slow"},
)


@needs(STALE)
def test_a_late_result_of_one_visit_is_none_of_the_next(run: Run) -> None:
    run.start()
    run.ends("completed", settled=False)
    assert [run.upstream("j", visit) for visit in (1, 2)] == [["ta"], ["ta"]]
    assert len(run.calls("tb")) == 2


NESTED = graph(
    "p parallel ta,tb",
    "ta normal q",
    "q parallel tc,td",
    "tc,td join inner",
    "inner normal te",
    "te,tb join outer",
    "outer final",
    p=visits("ta,tb"),
    q=visits("tc,td"),
    td={"type": "slow"},
    inner={"join": {"strategy": "all"}},
    outer={"join": {"strategy": "all"}},
)


@needs(NESTED)
def test_nested_joins_fire_from_the_inside_out(run: Run) -> None:
    run.start()
    run.begins("td")
    run.barrier()
    assert not run.dispatched("inner")
    run.open("td")
    run.ends("completed")
    assert run.upstream("inner") == ["tc", "td"]
    assert run.upstream("outer") == ["te", "tb"]


TWO_PLANS = graph(
    "p parallel ta,tb",
    "ta normal pa",
    "tb normal pb",
    "pa normal tc",
    "pb normal td",
    "tc,td join j",
    "j final",
    p=visits("ta,tb"),
    j={"join": {"strategy": "all"}},
)


@needs(TWO_PLANS)
def test_a_join_may_be_fed_by_several_plans(run: Run) -> None:
    run.start("x")
    run.ends("completed", outcome={"tc": {"ta": "x"}, "td": {"tb": "x"}})


FROM_TASK = graph(
    "t parallel pa,pb",
    "pa normal ta",
    "pb normal tb",
    "ta,tb join j",
    "j final",
    tb={"type": "slow", "does": BILL, "limits": LIMITS},
)


@needs(FROM_TASK)
def test_branches_that_a_task_sent_out_are_joined_too(run: Run) -> None:
    run.start("x")
    arrives(run, "tb")
    run.ends("completed", outcome={"ta": {"t": "x"}, "tb": {"t": "x"}})
    run.never_over("tokens_used", 100)
