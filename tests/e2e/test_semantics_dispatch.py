"""Dispatch: named queues, caps on what is in flight, priority and turns, versions, freezing."""

from __future__ import annotations

import pytest

from headgate_graphs.model import AgentGraph
from tests.e2e.semantics import LIMITS, Run, graph, needs, visits
from tests.e2e.stage import SIDE_QUEUE

ASIDE = graph("t normal p", "p final", t={"type": "aside", "queue": SIDE_QUEUE})


@needs(ASIDE)
def test_a_node_that_names_a_queue_is_served_by_that_queues_workers(run: Run) -> None:
    run.start("x")
    run.ends("completed", outcome={"t": "x"})
    [given] = run.dispatched("t")
    assert given.topic == run.client.topics.task_inputs(SIDE_QUEUE)
    assert run.results("t")[0].message.headers.queue == SIDE_QUEUE


PAID_PLAN = graph(
    "p normal t",
    "t normal q",
    "q final",
    p={"does": {"visits": [["t"]], "usage": {"tokens_used": 40, "cost_usd": "0.01"}}, "limits": LIMITS},
    q={"queue": SIDE_QUEUE, "leased": True},
)


@needs(PAID_PLAN)
def test_a_plan_too_may_be_paid_leased_and_on_a_queue(run: Run) -> None:
    run.start("x")
    view = run.ends("completed", outcome={"t": "x"})
    assert [run.dispatched(node)[0].message.leased for node in ("p", "q")] == [True, True]
    assert run.dispatched("p")[0].message.hold.tokens_used == 100
    assert run.dispatched("q")[0].topic == run.client.topics.plan_inputs(SIDE_QUEUE)
    assert view.usage.tokens_used == 40
    run.never_over("tokens_used", 100)


# -- room --------------------------------------------------------------------------------------------------

WIDE = graph(
    "p parallel ta,tb,tc,td",
    "ta,tb,tc,td join j",
    "j final",
    limits={"max_in_flight": 2},
    p=visits("ta,tb,tc,td"),
    **{name: {"type": "slow"} for name in ("ta", "tb", "tc", "td")},
)


@needs(WIDE)
def test_no_more_is_in_flight_than_the_graph_allows(run: Run) -> None:
    run.start()
    run.begins("tb")
    run.barrier()
    assert [len(run.dispatched(node)) for node in ("ta", "tb", "tc", "td")] == [1, 1, 0, 0]
    run.open("tb")
    run.begins("tc")
    assert not run.dispatched("td")
    run.open()
    run.ends("completed")
    assert most_in_flight(run, ("run",)) == 2


def most_in_flight(run: Run, lifetimes: tuple[str, ...], kind: str = "") -> int:
    """Return how many executions were out at once, by the log."""
    steps = []
    for name in lifetimes:
        view = run.view(name)
        assert view is not None
        for node in view.nodes:
            steps += [(one.order, 1, one.message.headers) for one in run.dispatched(node.node_id, name)]
            steps += [(one.order, -1, one.message.headers) for one in run.results(node.node_id, name)]
    out = most = 0
    for _, change, headers in sorted(steps, key=lambda step: step[0]):
        out += change if kind in ("", headers.node_type) else 0
        most = max(most, out)
    return most


BY_TYPE = graph(
    "p parallel ta,tb,tc",
    "ta,tb,tc join j",
    "j final",
    limits={"max_in_flight_by_type": {"slow": 1}},
    p=visits("ta,tb,tc"),
    ta={"type": "slow"},
    tb={"type": "slow"},
)


@needs(BY_TYPE)
def test_a_type_has_a_cap_of_its_own_over_all_lifetimes_and_others_pass_it(run: Run) -> None:
    run.start(lifetime="one")
    run.begins("tc", lifetime="one")
    run.begins("ta", lifetime="one")
    run.start(lifetime="two")
    run.begins("tc", lifetime="two")
    run.barrier()
    assert not run.dispatched("tb", "one")
    assert not run.dispatched("ta", "two")
    run.open()
    for name in ("one", "two"):
        run.ends("completed", name)
    assert most_in_flight(run, ("one", "two"), "slow") == 1


ONE_AT_A_TIME = graph(
    "ta normal p",
    "p normal tb",
    "tb normal q",
    "q final",
    limits={"max_in_flight_by_type": {"slow": 1}},
    ta={"type": "slow"},
    tb={"type": "slow"},
)


def turns(run: Run, *lifetimes: str) -> list[str]:
    """Return the order in which nodes were dispatched in these lifetimes."""
    said = [
        (one.order, f"{name} {node}")
        for name in lifetimes
        for node in ("p", "t", "ta", "tb", "tc")
        for one in run.dispatched(node, name)
    ]
    return [told for _, told in sorted(said)]


@needs(ONE_AT_A_TIME)
def test_what_has_a_higher_priority_goes_first_and_equals_in_the_order_of_asking(run: Run) -> None:
    run.start(lifetime="busy")
    run.begins("ta", lifetime="busy")
    names = {"low": -1, "first": 0, "second": 0, "high": 5}
    for name, priority in names.items():
        run.start(lifetime=name, priority=priority)
    run.barrier()
    run.open("ta")
    run.open("tb")
    for name in names:
        run.ends("completed", name)
    first = {f"{name} ta" for name in names}
    assert [one for one in turns(run, *names) if one in first] == [
        *("high ta", "first ta", "second ta", "low ta")
    ]


ONE_STEP = graph(
    "p normal t",
    "t normal p",
    "p final",
    limits={"max_in_flight": 1},
    p=visits("t", "t", "end"),
    t={"type": "slow"},
)


@pytest.mark.parametrize(("priority", "meanwhile"), [(0, ["busy p", "next t"]), (9, ["next t", "next p"])])
@needs(ONE_STEP)
def test_who_holds_the_only_place_gives_it_up_after_each_step(
    run: Run, priority: int, meanwhile: list[str]
) -> None:
    run.start(lifetime="busy")
    run.begins("t", lifetime="busy")
    run.start(lifetime="next", priority=priority)
    run.barrier()
    run.open()
    for name in ("busy", "next"):
        run.ends("completed", name)
    taken = turns(run, "busy", "next")
    assert taken[:5] == ["busy p", "busy t", "next p", *meanwhile]
    assert len(taken) == 10


MANY = graph(
    "p parallel ta,tb,tc",
    "ta,tb,tc join j",
    "j final",
    limits={"max_in_flight_by_type": {"slow": 1}},
    p=visits("ta,tb,tc"),
    **{name: {"type": "slow"} for name in ("ta", "tb", "tc")},
)


@needs(MANY)
def test_lifetimes_of_one_tenant_take_turns(run: Run) -> None:
    run.start(lifetime="one")
    run.begins("ta", lifetime="one")
    run.start(lifetime="two")
    run.waits_until(lambda: run.results("p", "two"))
    run.barrier()
    run.open()
    for name in ("one", "two"):
        run.ends("completed", name)
    assert [one for one in turns(run, "one", "two") if not one.endswith("p")] == [
        *("one ta", "one tb", "two ta"),
        *("one tc", "two tb", "two tc"),
    ]


# -- versions ----------------------------------------------------------------------------------------------


def version(number: str, value: str) -> AgentGraph:
    return graph(
        "t normal p",
        "p normal tz",
        "tz final",
        version=number,
        t={"type": "slow"},
        tz={"does": {"value": value}},
    )


NEWER = version("1.10.0", "newer")


@needs(version("1.9.0", "older"))
def test_a_running_lifetime_keeps_its_version_while_a_newer_one_is_registered(run: Run) -> None:
    run.start(lifetime="before")
    run.begins("t", lifetime="before")
    run.use(NEWER)
    run.start(lifetime="after")
    run.start(lifetime="named", version="1.9.0")
    run.open()
    assert run.ends("completed", "before", outcome="older").graph_version == "1.9.0"
    assert run.ends("completed", "after", outcome="newer").graph_version == "1.10.0"
    assert run.ends("completed", "named", outcome="older").graph_version == "1.9.0"
    assert run.results("tz", "before")[0].message.headers.graph_version == "1.9.0"


@needs(version("1.9.0", "first"))
def test_a_version_with_other_content_is_refused_and_the_first_one_stays(run: Run) -> None:
    run.letters = ["BAD_GRAPH"]
    run.use(version("1.9.0", "other"), version("1.9.0", "first"))
    run.open()
    run.start()
    run.ends("completed", outcome="first")


# -- freezing ----------------------------------------------------------------------------------------------

FROZEN = graph("t normal p", "p final", id="frozen", t={"type": "slow"})
OTHER = graph("t normal p", "p final", id="other")


@needs(FROZEN, OTHER)
def test_a_frozen_tenant_dispatches_nothing_until_it_is_thawed(run: Run) -> None:
    run.start("x")
    run.begins("t")
    run.freeze()
    run.open("t")
    run.start(lifetime="new", graph="other")
    run.waits_until(lambda: run.results("t"))
    run.barrier()
    assert not run.dispatched("p")
    assert not run.dispatched("t", "new")
    [told] = run.events("PAUSE_LIFETIME", "")
    assert (told.lifetime_id, told.graph_id) == ("", "")
    run.thaw()
    run.ends("completed", outcome={"t": "x"})
    run.ends("completed", "new")
    assert len(run.events("RESUME_LIFETIME", "")) == 1
    assert len(run.calls("t")) == 1


@needs(FROZEN, OTHER)
def test_a_frozen_graph_holds_back_its_own_lifetimes_alone(run: Run) -> None:
    run.freeze("frozen")
    run.start()
    run.start(lifetime="new", graph="other")
    run.ends("completed", "new")
    run.barrier()
    assert not run.dispatched("t")
    assert [one.graph_id for one in run.events("PAUSE_LIFETIME", "")] == ["frozen"]
    run.thaw("frozen")
    run.open()
    run.ends("completed")


# -- orders about one lifetime ------------------------------------------------------------------------------


@needs(FROZEN)
def test_a_pause_keeps_everything_and_a_resume_goes_on_without_repeating_a_call(run: Run) -> None:
    run.start("x")
    run.begins("t")
    run.pause()
    run.open("t")
    view = run.becomes("paused")
    assert (view.reason, view.pause_generation) == ("paused by an operator", 1)
    run.waits_until(lambda: run.results("t"))
    run.resume(generation=7)  # answers another pause than the one in force
    run.barrier()
    assert not run.dispatched("p")
    run.resume(generation=1)
    run.ends("completed", outcome={"t": "x"})
    assert [len(run.calls(node)) for node in ("t", "p")] == [1, 1]
    assert [run.event(kind).command_id != "" for kind in ("PAUSE_LIFETIME", "RESUME_LIFETIME")] == [
        True,
        True,
    ]


@needs(FROZEN)
def test_a_pause_with_a_ttl_turns_into_an_abort(run: Run) -> None:
    run.start()
    run.begins("t")
    run.pause(ttl_ms=250)
    view = run.ends("aborted")
    assert view.reason == "PAUSE_EXPIRED: paused by an operator"
    told = run.event("PAUSE_LIFETIME")
    assert told.pause_expires_at.ToMilliseconds() - told.decided_at.ToMilliseconds() == 250
    assert view.ended_at.ToMilliseconds() >= told.pause_expires_at.ToMilliseconds()
    assert run.was_stopped("t")


@needs(FROZEN)
def test_an_abort_stops_what_runs_and_says_how_long_that_took(run: Run) -> None:
    run.start()
    run.begins("t")
    run.abort()
    view = run.ends("aborted")
    assert view.reason == "aborted by an operator"
    assert run.was_stopped("t")
    assert view.HasField("stop_latency")
    assert view.stop_latency.ToMilliseconds() < 1000
