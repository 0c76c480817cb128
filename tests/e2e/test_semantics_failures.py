"""What fails: tries and back-off, time limits, failures that a plan can take, and those that nobody can."""

from __future__ import annotations

from typing import Any

from headgate_graphs.model import AgentGraph
from tests.e2e.semantics import BILL, LIMITS, Case, Run, each, graph, needs, statuses, visits


def line(**task: Any) -> AgentGraph:
    """Return a task that fails as told, and a plan that ends with what it was given."""
    return graph("t normal p", "p final", t={"type": "fail", "backoff": "40ms", **task})


@needs(line(max_retries=3, does={"times": 2, "value": "third time"}))
def test_a_task_is_tried_again_with_growing_waits_until_it_succeeds(run: Run) -> None:
    run.start()
    run.ends("completed", outcome={"t": "third time"})
    results, inputs = run.results("t"), run.dispatched("t")
    assert statuses(results) == ["failed", "failed", "completed"]
    assert [one.message.headers.attempt for one in inputs] == [1, 2, 3]
    ids = [one.message.headers.execution_id for one in inputs]
    assert [one.message.headers.parent_execution_id for one in inputs] == ["", *ids[:2]]
    # No wait is shorter than the back-off; jitter adds up to a quarter, and the machine what it wants.
    waits = [after.at_ms - before.at_ms for before, after in zip(results, inputs[1:], strict=False)]
    assert waits[0] >= 40
    assert waits[1] >= 80


@needs(line(max_retries=9, max_backoff="30ms", backoff="25ms", does={"times": 4, "value": 1}))
def test_no_wait_is_longer_than_max_backoff_says(run: Run) -> None:
    run.start()
    run.ends("completed", outcome={"t": 1})
    assert [call.attempt for call in run.calls("t")] == [1, 2, 3, 4, 5]


@each(
    [
        Case("after its tries", (line(max_retries=1),), [1, 2]),
        Case("at once when no retry can help", (line(max_retries=5, does={"for_good": True}),), [1]),
        Case("at once without retries", (line(max_retries=0),), [1]),
    ]
)
def test_a_failure_is_given_to_the_next_plan(run: Run, case: Case) -> None:
    run.start()
    run.ends("completed", outcome={"t": "HANDLER_ERROR"})
    assert [call.attempt for call in run.calls("t")] == case.want
    [given] = run.dispatched("p")
    error = given.message.upstream_task_executions[0].result.error
    assert (error.code, error.message) == ("HANDLER_ERROR", "told to fail: t")


QUICKLY = {"backoff": "30ms", "max_backoff": "40ms"}
REPLAN = graph(
    "p normal ta,tb",
    "ta,tb normal p",
    "p final",
    p={"does": {"visits": [["ta"], ["end"]], "on_failure": ["tb"]}},
    ta={"type": "fail", "max_retries": 0},
)


@needs(REPLAN)
def test_an_agent_can_plan_anew_after_a_failure(run: Run) -> None:
    run.start("x")
    run.ends("completed", outcome={"tb": {"ta": "HANDLER_ERROR"}})


@each(
    [
        Case(
            "a task without edges",
            (graph("p normal t", "p final", p=visits("t"), t={"type": "fail", "max_retries": 0}),),
            "task t: HANDLER_ERROR: told to fail: t",
        ),
        Case(
            "a task that only ends",
            (graph("t final", t={"type": "fail", "max_retries": 0}),),
            "task t: HANDLER_ERROR: told to fail: t",
        ),
        Case(
            "a plan",
            (graph("p normal t", "p final", p={"does": {"times": 9}, "max_retries": 2} | QUICKLY),),
            "plan p: HANDLER_ERROR: told to fail: p",
        ),
        Case(
            "a plan that takes too long",
            (graph("p final", p={"does": {"seconds": 9}, "timeout": "150ms", "max_retries": 1} | QUICKLY),),
            "plan p: TIMEOUT: the handler ran longer than 0.15 s",
        ),
        Case(
            "no handler",
            (graph("t final", t={"type": "unheard-of"}),),
            "task t: NO_HANDLER: no handler for task type 'unheard-of'",
        ),
    ]
)
def test_a_failure_that_nobody_can_take_fails_the_lifetime(run: Run, case: Case) -> None:
    run.start()
    assert run.ends("failed").reason.startswith(case.want)


@each(
    [
        Case("plain", (line(type="slow", timeout="200ms", max_retries=0),), False),
        Case("leased", (line(type="slow", timeout="200ms", max_retries=0, leased=True),), True),
        Case("paid", (line(type="slow", timeout="200ms", max_retries=0, limits=LIMITS, does=BILL),), True),
    ]
)
def test_a_run_that_takes_too_long_is_cancelled_and_has_failed(run: Run, case: Case) -> None:
    run.start()
    run.ends("completed", outcome={"t": "TIMEOUT"})
    assert run.was_stopped("t")
    assert run.dispatched("t")[0].message.leased is case.want
    assert statuses(run.results("t")) == ["failed"]


@needs(line(type="slow", timeout="150ms", max_retries=1))
def test_a_run_that_took_too_long_is_tried_again(run: Run) -> None:
    run.start()
    run.begins("t")
    assert run.was_stopped("t")
    run.open("t")
    run.ends("completed", outcome={"t": None})
    assert [call.attempt for call in run.calls("t")] == [1, 2]


# -- bounds of every lifetime ----------------------------------------------------------------------------


@needs(graph("t normal p", "p final", t={"type": "slow"}, limits={"deadline": "300ms"}))
def test_a_lifetime_is_aborted_at_its_deadline_and_what_runs_is_stopped(run: Run) -> None:
    run.start()
    view = run.ends("aborted")
    assert view.reason == "DEADLINE: the lifetime outlived its graph's deadline"
    assert run.was_stopped("t")
    assert statuses(run.results("t")) == ["aborted"]
    assert view.ended_at.ToMilliseconds() - view.started_at.ToMilliseconds() >= 300
    assert not run.calls("p")


ENDLESS = graph("p normal t", "t normal p", "p final", p=visits("t"), limits={"max_iterations": 3})


@needs(ENDLESS)
def test_a_lifetime_that_visits_a_node_too_often_is_aborted(run: Run) -> None:
    run.start()
    run.ends("aborted")
    violation = run.violation("ABORT_LIFETIME", "max_iterations")
    assert (violation.policy, violation.metric) == ("graph", "iterations")
    assert (violation.measured, violation.limit, violation.action) == (4, 3, "abort_lifetime")
    assert [len(run.calls(node)) for node in ("p", "t")] == [3, 3]


# -- starts ----------------------------------------------------------------------------------------------


@needs(graph("t final"))
def test_the_same_start_twice_is_one_run(run: Run) -> None:
    run.start("first")
    run.start("second")
    run.ends("completed", outcome="first")
    run.start("third")
    run.barrier()
    assert len(run.calls("t")) == 1


@needs(graph("t final"))
def test_a_start_that_cannot_begin_is_answered(run: Run) -> None:
    run.start(graph="nowhere", lifetime="one")
    run.start(version="9.9.9", lifetime="two")
    assert run.ends("rejected", "one").reason.startswith("UNKNOWN_GRAPH: 'nowhere'")
    assert run.ends("rejected", "two").reason.startswith("UNKNOWN_GRAPH: 'g' 9.9.9")
