"""Rules of other kinds than limits: conditions, lists of what may be used, and running in circles."""

from __future__ import annotations

from typing import Any

from headgate_graphs.model import AgentGraph
from headgate_protos.v1.control_pb2 import PolicyScope
from tests.e2e.semantics import BILL, Case, Run, each, graph, loop, needs, policy, rule, visits

UNLIMITED = loop(limits={})
"""A loop of calls of 100 tokens and 0.10 USD each."""


def when(
    text: str, *, scope: str = "lifetime", action: str = "abort_lifetime", name: str = "cap"
) -> dict[str, Any]:
    return rule(name, scope, action, when=text)


def row(text: str, calls: int, *, scope: str = "lifetime", on: AgentGraph = UNLIMITED) -> Case:
    """The condition aborts the lifetime when its task has been called so often."""
    return Case(f"{scope}: {text}", (on, policy(when(text, scope=scope))), (text, calls))


FLAKY = loop(type="fail", max_retries=3, backoff="20ms", does={"times": 2}, limits={})
TAGGED = graph("t final", t={"type": "spend", "does": BILL}, tags=("wild",), id="tagged")


@each(
    [
        row("sum(tokens_used) > 150", 2),
        row("sum(tokens_used) >= 300", 3),
        row("sum(cost_usd) > 0.25", 3),
        row("sum(latency_ms) >= 0", 0),
        row("count() >= 4", 2),
        row("count() > 3", 2, scope="tenant"),
        row("sum(tokens_used) > 150", 2, scope="tenant"),
        row("max(tokens_used) >= 100 && count() > 3", 2),
        row("max(cost_usd) > 0.09", 1, scope="tenant"),
        row("avg(tokens_used) > 45.0", 1),
        row("avg(cost_usd) > 0.01 && sum(tokens_used) == 200", 2),
        row("max(latency_ms) >= 0 && avg(latency_ms) >= 0.0 && node.id == 't' && iteration == 3", 2),
        row("tokens_used > 99", 1, scope="execution"),
        row("cost_usd > 0.09 && success", 1, scope="execution"),
        row("latency_ms >= 0 && node.id == 't' && input_tokens == 0 && output_tokens == 0", 1),
        row("payload_bytes > 1 && node.kind == 'task'", 1, scope="execution"),
        row("!success", 1, on=FLAKY),
        row("attempt == 3", 2, scope="execution", on=FLAKY),
        row("iteration > 2 && node.kind == 'task'", 2, scope="execution"),
        row("node.type == 'spend' && node.queue == ''", 0, scope="execution"),
        row("'wild' in graph.tags && graph.version == '1.0.0'", 0, scope="execution", on=TAGGED),
        row("lifetime_id == 'run' && count() == 1", 0),
        row("tenant_id.startsWith('tenant-') && node.id == 't'", 0, scope="execution"),
        row("graph.id == 'g' && model == 'large'", 1, on=loop(does=BILL | {"usage": {"model": "large"}})),
    ]
)
def test_a_condition_that_holds_stops_the_lifetime(run: Run, case: Case) -> None:
    text, calls = case.want
    run.start()
    run.ends("aborted")
    violation = run.violation("ABORT_LIFETIME")
    scope = case.documents[1].rules[0].scope
    assert (violation.expression, violation.scope) == (
        text,
        PolicyScope.Value(f"POLICY_SCOPE_{scope.upper()}"),
    )
    assert len(run.calls("t")) == calls
    assert f"rule cap: {text}" in run.event("ABORT_LIFETIME").reason


@needs(UNLIMITED, policy(when("sum(tokens_used) > 150")))
def test_a_condition_that_only_compares_a_sum_shows_its_numbers(run: Run) -> None:
    run.start()
    violation = run.violation("ABORT_LIFETIME")
    assert (violation.metric, violation.measured, violation.limit) == ("tokens_used", 200, 150)


@needs(loop(times=2), policy(when("sum(tokens_used) > 200 || tokens_used > 100 || attempt > 1")))
def test_a_condition_that_does_not_hold_changes_nothing(run: Run) -> None:
    run.start()
    run.ends("completed")
    assert not run.events()


@needs(loop(), policy(when("node.colour == 'red'", scope="execution", action="pause_lifetime")))
def test_a_condition_that_cannot_be_evaluated_counts_as_broken(run: Run) -> None:
    run.start()
    run.becomes("paused")
    assert run.violation("PAUSE_LIFETIME").expression == "node.colour == 'red'"
    assert not run.calls()


# -- lists ---------------------------------------------------------------------------------------------

SPENDING = graph("p normal t", "t normal q", "q final", p=visits("t"), t={"type": "spend", "max_retries": 0})
ASIDE = graph("t normal q", "q final", t={"type": "aside", "queue": "side", "max_retries": 0})
NAMED = graph(
    "t normal q", "q final", t={"type": "spend", "max_retries": 0, "does": {"model": "large", "usage": {}}}
)
BILLED = graph(
    "t normal q", "q final", t={"type": "spend", "max_retries": 0, "does": {"usage": {"model": "large"}}}
)


@each(
    Case(
        f"{kind} {names} {graph_.nodes['t'].type}",
        (graph_, policy(rule("list", "execution", "reject_execution", **{kind: names}))),
        (why, calls),
    )
    for kind, names, graph_, why, calls in [
        ("deny", {"task_types": ["echo", "spend"]}, SPENDING, "task type spend", 0),
        ("allow", {"task_types": ["echo"]}, SPENDING, "task type spend", 0),
        ("allow", {"task_types": ["spend"]}, SPENDING, "", 1),
        ("deny", {"task_types": ["echo"]}, SPENDING, "", 1),
        ("deny", {"queues": ["side"]}, ASIDE, "queue side", 0),
        ("allow", {"queues": ["side", ""]}, ASIDE, "", 1),
        ("deny", {"models": ["large"]}, NAMED, "model large", 0),
        ("allow", {"models": ["small"]}, NAMED, "model large", 0),
        ("deny", {"models": ["large"]}, BILLED, "model large", 1),
        ("allow", {"models": ["small"]}, BILLED, "model large", 1),
        ("allow", {"models": ["large"]}, BILLED, "", 1),
    ]
)
def test_a_list_says_what_may_be_used(run: Run, case: Case) -> None:
    why, calls = case.want
    run.start()
    run.ends("completed")
    assert len(run.calls("t")) == calls
    assert run.upstream("q") == (["t:REJECTED"] if why else ["t"])
    assert [v.expression for event in run.events() for v in event.violations] == ([why] if why else [])


@needs(ASIDE, policy(rule("list", "execution", "reject_execution", allow={"queues": ["side"]})))
def test_a_plan_whose_queue_is_not_allowed_ends_the_lifetime(run: Run) -> None:
    run.start()
    assert run.ends("failed").reason.startswith(
        "plan q was rejected: policy caps v1, rule list: queue default"
    )


# -- running in circles --------------------------------------------------------------------------------


def circle(outputs: list[Any], times: int = 12, **task: Any) -> AgentGraph:
    """Return p -> t -> p, where p gives `outputs` in turn, and t does as told with them."""
    plan = {"does": {"visits": [["t"]] * times + [["end"]], "outputs": outputs}}
    return graph("p normal t", "t normal p", "p final", p=plan, t=task)


def stuck(action: str = "abort_lifetime", **terms: Any) -> dict[str, Any]:
    return rule("stuck", action=action, no_progress=terms)


@each(
    [
        Case(
            "the same step",
            (circle(["again"]), policy(stuck(repeats=3))),
            ("node t made the same step 3 times", 3),
        ),
        Case(
            "the same output of other inputs",
            (
                circle([1, 2, 3, 4, 5], does={"value": "same"}),
                policy(stuck(repeats=4, of=["node", "output"])),
            ),
            ("node t made the same step 4 times", 4),
        ),
        Case(
            "to and fro",
            (circle(["left", "right"]), policy(stuck(repeats=2))),
            ("node t went to and fro 2 times", 4),
        ),
        Case(
            "to and fro between two nodes",
            (circle([0], does={"value": 1}), policy(stuck(repeats=3, of=["output"]))),
            ("the lifetime went to and fro 3 times", 3),
        ),
        Case(
            "failures",
            (
                circle([1, 2, 3, 4], type="fail", max_retries=5, backoff="20ms"),
                policy(stuck(repeats=9, failures=3)),
            ),
            ("3 executions in a row failed", 3),
        ),
    ]
)
def test_a_lifetime_that_goes_round_without_getting_on_is_stopped(run: Run, case: Case) -> None:
    why, calls = case.want
    run.start()
    run.ends("aborted")
    assert run.violation("ABORT_LIFETIME", "stuck").expression == why
    assert len(run.calls("t")) == calls


@each(
    [
        Case(
            "polling whose answer changes",
            (circle(["ask"], times=8, type="grow"), policy(stuck(repeats=3))),
        ),
        Case(
            "the same call in every second round",
            (circle(["a", "b", "c"], times=8), policy(stuck(repeats=3))),
        ),
        Case(
            "failures that are not in a row",
            (
                circle([1, 2, 3], times=3, type="fail", max_retries=2, backoff="20ms", does={"times": 1}),
                policy(stuck(repeats=9, failures=2)),
            ),
        ),
    ]
)
def test_what_gets_on_is_left_alone(run: Run, case: Case) -> None:
    run.start()
    run.ends("completed")
    assert not run.events()
