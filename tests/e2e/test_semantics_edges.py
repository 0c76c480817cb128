"""Edges: how results travel, how they do not wait for one another, and what may not travel."""

from __future__ import annotations

import json

import pytest

from tests.e2e.semantics import LIMITS, Case, Run, each, graph, needs, visits

BRANCHES = graph(
    ("t normal by_result", "result.kind == 'a' && result.n > 1", 10),
    ("t normal by_metadata", "metadata.from == 'echo' && result.kind == 'b'", 5),
    ("t normal late_in_line", "result.kind == 'b'", 1),
    "t normal otherwise",
    "by_result,by_metadata,late_in_line,otherwise final",
    t={"does": {"metadata": {"from": "echo"}}},
)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"kind": "a", "n": 2}, "by_result"),
        ({"kind": "a", "n": 1}, "otherwise"),
        ({"kind": "b"}, "by_metadata"),
        ({"kind": "c"}, "otherwise"),
    ],
)
@needs(BRANCHES)
def test_a_result_takes_the_first_edge_by_priority_whose_condition_holds(
    run: Run, given: dict[str, object], taken: str
) -> None:
    run.start(given)
    view = run.ends("completed", outcome={"t": given})
    assert [node.node_id for node in view.nodes] == ["t", taken]


ROUND = graph(
    ("t normal again", "iteration < 3 && success && lifetime.id == 'run' && node.type == 'grow'"),
    ("t normal enough", "error.code == '' && upstream.size() == 1"),
    "again normal t",
    "enough final",
    t={"type": "grow"},
)


@needs(ROUND)
def test_a_condition_sees_iteration_success_node_lifetime_error_and_upstream(run: Run) -> None:
    run.start()
    run.ends("completed", outcome={"t": "xxx"})
    assert [len(run.calls(node)) for node in ("t", "again", "enough")] == [3, 2, 1]


LARGE = graph(
    ("t normal large", "metadata.kind == 'big' && result.size_bytes == 50002"),
    "t normal small",
    "large,small final",
    t={"type": "grow", "does": {"bytes": 50_000, "metadata": {"kind": "big"}}},
)


@needs(LARGE)
def test_of_a_large_result_a_condition_sees_size_and_metadata_and_the_plan_the_value(run: Run) -> None:
    run.start()
    view = run.ends("completed")
    assert view.outcome.WhichOneof("content") == "blob"
    assert run.client.outcome(run.tenant, "run", view).value == {"t": "x" * 50_000}
    assert len(run.calls("large")) == 1


@needs(graph(("t normal p", "result.n > 1"), "p final"))
def test_a_condition_that_cannot_be_evaluated_fails_the_lifetime(run: Run) -> None:
    run.start("no number")
    assert run.ends("failed").reason.startswith("CONDITION: edge t -> p: ")


OWN_INPUTS = graph(
    "p parallel ta,tb",
    "ta,tb join j",
    "j final",
    p={"does": {"visits": [["ta", "tb"]], "inputs": {"tb": "for b"}, "outputs": ["for all"]}},
)


@needs(OWN_INPUTS)
def test_a_plan_sends_several_tasks_out_over_parallel_edges_each_with_its_input(run: Run) -> None:
    run.start()
    run.ends("completed", outcome={"ta": "for all", "tb": "for b"})
    assert run.dispatched("ta")[0].order[0] == run.dispatched("tb")[0].order[0], "not sent out at once"


FREE = graph(
    "p parallel ta,tb",
    "ta,tb normal q",
    "q normal tz",
    "q final",
    p=visits("ta,tb"),
    q=visits("tz", "end"),
    tb={"type": "slow"},
)


@needs(FREE)
def test_a_fast_branch_never_waits_for_a_slow_sibling(run: Run) -> None:
    run.start("x")
    run.begins("tb")
    run.begins("tz")  # ta, q and tz are done while tb has not moved
    assert not run.results("tb")
    run.open("tb")
    run.ends("completed", outcome={"tb": "x"})


FROM_TASK = graph(
    "t parallel pa,pb",
    ("t parallel pc", "result == 'and c'"),
    "pa normal ta",
    "pb normal tb",
    "pc final",
)


@needs(FROM_TASK)
def test_a_task_sends_its_result_to_several_plans_at_once(run: Run) -> None:
    run.start("two")
    run.ends("completed")
    assert [run.upstream(plan) for plan in ("pa", "pb")] == [["t"], ["t"]]
    assert run.calls("ta")
    assert run.calls("tb")
    assert not run.calls("pc")


@needs(FROM_TASK)
def test_a_parallel_edge_is_taken_when_its_condition_holds(run: Run) -> None:
    run.start("and c")
    run.ends("completed", outcome={"t": "and c"})


RULES = graph(
    "p normal ta,tb",
    "p final",
    "ta,tb normal p",
    p={
        "type": "rules",
        "rules": [
            {"when": "iteration == 1", "next": ["ta"]},
            {"when": "success && result == 'x' && upstream[0].node_id == 'ta'", "next": ["tb"]},
            {"when": "iteration >= 4", "next": ["end"], "priority": 9},
        ],
        "default": ["ta"],
    },
)


@needs(RULES)
def test_a_rules_plan_goes_by_priority_then_order_then_default(run: Run) -> None:
    run.start("x")
    run.ends("completed", outcome="x")
    assert [call.node for call in run.calls()] == ["ta", "tb", "ta"]


STRAY = {"visits": [["elsewhere"]]}
SEVERAL = {"visits": [["ta", "tb"]]}


@each(
    [
        Case(
            "an unknown node",
            (graph("p normal t", "p final", p={"does": STRAY, "max_retries": 0}),),
            ("NOT_AN_EDGE", "plan p named 'elsewhere', it may name t, end"),
        ),
        Case(
            "several over normal edges",
            (graph("p normal ta,tb", "p final", p={"does": SEVERAL, "max_retries": 0}),),
            ("NOT_AN_EDGE", "plan p named 2 tasks, several at once only over parallel edges"),
        ),
        Case(
            "more than max_fan_out",
            (
                graph(
                    "p parallel ta,tb",
                    "p final",
                    limits={"max_fan_out": 1},
                    p={"does": SEVERAL, "max_retries": 0},
                ),
            ),
            ("FANOUT", "plan p named 2 tasks, the graph allows 1"),
        ),
    ]
)
def test_a_plan_that_names_what_it_may_not_has_failed(run: Run, case: Case) -> None:
    run.start()
    reason = run.ends("failed").reason
    code, detail = case.want
    assert reason == f"plan p: {code}: {detail}"
    assert [call.node for call in run.calls()] == ["p"]


SECOND_TRY = graph("p normal t", "p final", p={"does": STRAY, "max_retries": 2, "backoff": "20ms"})


@needs(SECOND_TRY)
def test_a_decision_that_cannot_be_is_retried_as_a_failure(run: Run) -> None:
    run.start()
    run.ends("failed")
    assert [call.attempt for call in run.calls("p")] == [1, 2, 3]


# -- FINAL -------------------------------------------------------------------------------------------------


@needs(graph("t final"))
def test_a_final_edge_of_a_task_gives_the_outcome(run: Run) -> None:
    run.start({"n": 1})
    run.ends("completed", outcome={"n": 1})


@needs(
    graph(
        ("t final", "result == 'enough'", 5), "t normal p", "p normal t", p={"does": {"outputs": ["enough"]}}
    )
)
def test_a_final_edge_of_a_task_may_have_a_condition(run: Run) -> None:
    run.start("more")
    run.ends("completed", outcome="enough")
    assert len(run.calls("t")) == 2


@needs(graph("p normal t", "p final", p={"does": {"visits": [[]]}}))
def test_a_plan_with_a_final_edge_that_names_nothing_ends_the_lifetime(run: Run) -> None:
    run.start("x")
    run.ends("completed", outcome="x")


RACE = graph(
    "p parallel ta,tb,tc",
    "ta normal q",
    "tb,tc normal q",
    "q final",
    p=visits("ta,tb,tc"),
    ta={"type": "slow"},
    tb={"type": "slow", "limits": LIMITS, "does": {"usage": {"tokens_used": 30, "cost_usd": "0.01"}}},
    tc={"type": "slow"},
)


@needs(RACE)
def test_final_ends_what_still_runs_and_its_spend_still_counts(run: Run) -> None:
    run.start("x")
    for node in ("ta", "tb", "tc"):
        run.begins(node)
    run.open("ta")
    view = run.ends("completed", outcome={"ta": "x"})
    assert run.was_stopped("tb")
    assert run.was_stopped("tc")
    assert (view.usage.tokens_used, view.usage.cost_nano_usd) == (30, 10_000_000)
    assert json.loads(view.outcome.json) == {"ta": "x"}
    [told] = run.events()
    assert (told.type, told.reason) == (run.ABORT, "the lifetime completed")
    assert view.HasField("stop_latency")


@needs(graph("p parallel ta,tb", "p final", p=visits("ta,tb")))
def test_a_lifetime_in_which_nothing_is_left_to_do_is_completed(run: Run) -> None:
    run.start("x")
    run.ends("completed", outcome=None)
    assert len(run.calls("ta") + run.calls("tb")) == 2
