"""Sub-graphs: a task of type `graph` is a lifetime of its own; spend and abort are its parent's too."""

from __future__ import annotations

from typing import Any

from headgate_graphs.model import AgentGraph
from tests.e2e.semantics import BILL, LIMITS, Run, graph, needs, numbers, policy, rule, visits


def over(child: str, id: str = "over", **given: Any) -> AgentGraph:
    """Return a graph whose task t runs another one, and whose plan q ends with what came of it."""
    task = {"type": "graph", "does": {"graph": child}} | given.pop("t", {})
    return graph("p normal t", "t normal q", "q final", id=id, p=visits("t"), t=task, **given)


PAYS = {"type": "spend", "limits": LIMITS, "does": BILL, "max_retries": 0}
CHILD = graph("t final", id="child", t=PAYS | {"does": BILL | {"value": "from below"}})
FAILING = graph("t final", id="child", t={"type": "fail", "max_retries": 0})
HANGING = graph("t final", id="child", t=PAYS | {"type": "slow"})


def child_of(run: Run, lifetime: str = "run") -> str:
    """Return the id of the lifetime that the task t of another one started."""

    def begun() -> list[str]:
        views = [one.message for one in run.said(type(run.view(lifetime)))]
        return [view.lifetime_id for view in views if view.parent_lifetime_id == lifetime]

    run.waits_until(lambda: run.view(lifetime) and begun())
    return begun()[0]


@needs(over("child"), CHILD)
def test_a_sub_graph_gives_its_outcome_and_its_spend_to_its_parent(run: Run) -> None:
    run.start("x")
    view = run.ends("completed", outcome={"t": "from below"})
    below = run.ends("completed", child_of(run))
    assert (below.graph_id, below.usage.tokens_used) == ("child", 100)
    assert (view.usage.tokens_used, view.usage.cost_nano_usd) == (100, 100_000_000)
    assert not run.dispatched("t"), "the sub-graph was given to a worker"


@needs(over("child"), FAILING)
def test_the_failure_of_a_sub_graph_is_given_to_the_next_plan(run: Run) -> None:
    run.start()
    run.ends("completed", outcome={"t": "SUBGRAPH_FAILED"})
    assert run.ends("failed", child_of(run)).reason == "task t: HANDLER_ERROR: told to fail: t"


@needs(over("child"), HANGING)
def test_the_abort_of_a_sub_graph_is_given_to_the_next_plan(run: Run) -> None:
    run.start()
    child = child_of(run)
    run.begins("t", lifetime=child)
    run.abort(child)
    run.ends("completed", outcome={"t": "SUBGRAPH_ABORTED"})
    assert run.was_stopped("t", child)


@needs(over("middle"), over("child", id="middle"), HANGING)
def test_an_abort_cascades_to_the_last_sub_graph(run: Run) -> None:
    run.start()
    middle = child_of(run)
    child = child_of(run, middle)
    run.begins("t", lifetime=child)
    run.abort()
    view = run.ends("aborted")
    for below in (middle, child):
        assert run.ends("aborted", below).reason.startswith("the lifetime above it ended: ")
    assert run.was_stopped("t", child)
    assert view.usage.tokens_used == 100


@needs(over("child"), CHILD, over("child", id="too-deep", limits={"max_depth": 0}))
def test_a_sub_graph_below_the_depth_that_the_graph_allows_is_refused(run: Run) -> None:
    run.start(graph="too-deep")
    run.ends("completed", outcome={"t": "DEPTH"})


@needs(over("nowhere"))
def test_a_sub_graph_that_is_not_registered_is_a_failure(run: Run) -> None:
    run.start()
    run.ends("completed", outcome={"t": "UNKNOWN_GRAPH"})


@needs(over("over", t={"does": {"graph": "over"}}, limits={"max_depth": 2}))
def test_a_graph_that_runs_itself_ends_at_its_depth(run: Run) -> None:
    run.start()
    run.ends("completed", outcome={"t": {"t": {"t": "DEPTH"}}})


TWICE = graph(
    "p normal t",
    "t normal p",
    "p final",
    id="twice",
    p={"does": {"visits": [["t"]], "on_failure": ["end"]}},
    t={"type": "graph", "does": {"graph": "child"}, "max_retries": 0},
)


@needs(TWICE, CHILD, policy(rule(limit={"tokens_used": 250})))
def test_what_sub_graphs_spend_counts_in_the_caps_of_their_parent(run: Run) -> None:
    run.start()
    view = run.ends("aborted")
    # The third child asks for 100 more: it is its parent, not the child alone, that would be over the cap.
    proof = numbers(run.violation("ABORT_LIFETIME"))
    assert (proof["measured"], proof["limit"], proof["committed"], proof["requested"]) == (300, 250, 200, 100)
    assert view.usage.tokens_used == 200
    run.never_over("tokens_used", 250, None)


@needs(TWICE, CHILD, policy(rule(action="pause_lifetime", limit={"tokens_used": 250})))
def test_a_cap_of_the_parent_pauses_all_of_it_and_a_raised_one_goes_on(run: Run) -> None:
    run.start()
    assert numbers(run.becomes("paused").violations[0])["measured"] == 300
    run.raise_budget("tokens_used", 350)
    run.waits_until(lambda: len(run.events("PAUSE_LIFETIME")) == 2)
    run.barrier()
    view = run.becomes("paused")
    assert view.usage.tokens_used == 300
    run.never_over("tokens_used", 350, None)


@needs(over("child"), HANGING)
def test_a_pause_holds_back_what_is_below_it_and_a_resume_lets_it_go_on(run: Run) -> None:
    run.start()
    child = child_of(run)
    run.begins("t", lifetime=child)
    run.pause()
    run.open("t")
    run.ends("completed", child)
    run.becomes("paused")
    run.barrier()
    assert not run.dispatched("q")
    run.resume()
    run.ends("completed", outcome={"t": None})
