"""Whole-graph checks: every kind of fault is found, all at once, and a sound graph has none."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings

from headgate_graphs.checks import MAX_EDGES, MAX_JOIN_INPUTS, MAX_NODES, faults
from headgate_graphs.model import AgentGraph
from tests.unit.graphs.random_graphs import graphs

METADATA = {"id": "g", "version": "1.0.0"}


def graph(shape: str, /, **more: Any) -> AgentGraph:
    """A graph from "a>P P=>b b.>Q Q!": normal, parallel, join, final edges; plans are in upper case."""
    parsed = [_edge(text) for text in shape.split()]
    named = [node for edge in parsed for node in (edge["from"], edge["to"]) if node != "end"]
    names = list(dict.fromkeys(named))
    document = {
        "metadata": METADATA,
        "entry": names[0] if names else "a",
        "tasks": [{"id": name, "type": "work"} for name in names if name.islower()],
        "plans": [{"id": name, "type": "decide"} for name in names if not name.islower()],
        "edges": parsed,
    }
    return AgentGraph.model_validate(document | more)


def _edge(text: str) -> dict[str, Any]:
    if text.endswith("!"):
        return {"from": text[:-1], "to": "end", "type": "final"}
    for arrow, kind in (("=>", "parallel"), (".>", "join"), (">", "normal")):
        if arrow in text:
            source, target = text.split(arrow)
            return {"from": source, "to": target, "type": kind}
    raise AssertionError(text)


def found(checked: AgentGraph) -> list[str]:
    return [str(fault) for fault in faults(checked)]


@pytest.mark.parametrize(
    "edges",
    [
        "a!",
        "a>P P!",
        "A!",
        "a>P P>a P!",
        "a>P P=>b P=>c b.>Q c.>Q Q!",
        "a>P P=>b P=>c b.>Q c>R R>d d.>Q Q>a Q!",
        "a=>P a=>Q P>b Q>c b.>R c.>R R!",
        "a>P P=>b P=>c b.>Q Q!",
        "a>P P=>b P=>c b>Q c>Q Q!",
        "a>P P>b P!",
        "a>P P=>b P=>c b.>Q c.>Q Q=>d Q=>e d.>R e.>R R>a R!",
    ],
)
def test_a_sound_graph_has_no_faults(edges: str) -> None:
    assert found(graph(edges)) == []


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_no_random_sound_graph_has_faults(sound: AgentGraph) -> None:
    assert found(sound) == []


@pytest.mark.parametrize(
    ("edges", "fault"),
    [
        ("a>b b!", "edges[0].to: task 'a' leads to task 'b'; a task leads to a plan"),
        ("A>B B!", "edges[0].to: plan 'A' leads to plan 'B'; a plan leads to a task"),
        ("a>a a!", "edges[0].to: task 'a' leads to task 'a'"),
        ("a>P P.>b b!", "edges[1].type: a join gathers the results of tasks"),
        ("a>P a>P P!", "edges[1]: a second edge from 'a' to 'P', first at edges[0]"),
        ("a>P P>a", "entry: no way from 'a' to an exit"),
        ("a>P P>b", "entry: no way from 'a' to an exit"),
        ("a>P P! P>b b>Q Q>b", "tasks[1]: no way out of 'b'"),
        ("a>P", "plans[0]: plan 'P' has no edges"),
        ("a>P P! b>P", "tasks[1]: no way from the entry 'a' to 'b'"),
        ("a>P P>b P>c b.>Q c.>Q Q!", "edges[3]: the join at 'Q' never fills: no node sends work"),
        ("a>P P=>b P=>c b.>Q c.>Q Q! Q>d d.>Q", "edges[3]: the join at 'Q' never fills"),
        (
            " ".join(["a>P", *(f"P=>t{i} t{i}.>Q" for i in range(MAX_JOIN_INPUTS + 1)), "Q!"]),
            "edges[2]: the join at 'Q' gathers up to 31 results; 30 fit into a record",
        ),
    ],
)
def test_edges_that_cannot_work_are_faults(edges: str, fault: str) -> None:
    assert any(line.startswith(fault) for line in found(graph(edges))), found(graph(edges))


def test_an_edge_from_or_to_a_node_that_does_not_exist_is_a_fault() -> None:
    edges = [{"from": "a", "to": "nope"}, {"from": "ghost", "to": "P"}, {"from": "end", "to": "P"}]
    lines = found(
        graph("a>P P!", edges=[*edges, {"from": "a", "to": "P"}, {"from": "P", "to": "end", "type": "final"}])
    )
    assert lines == [
        "edges[0].to: no node is called 'nope'",
        "edges[1].from: no node is called 'ghost'",
        "edges[2].from: end leads nowhere",
    ]


def test_final_edges_lead_to_end_and_only_they() -> None:
    edges = [{"from": "a", "to": "P", "type": "final"}, {"from": "a", "to": "end"}]
    lines = found(graph("a>P P!", edges=[*edges, {"from": "P", "to": "end", "type": "final"}]))
    assert "edges[0].to: a final edge leads to 'end', not to 'P'" in lines
    assert "edges[1]: an edge to 'end' has the type final" in lines


def test_ids_are_unique_over_tasks_and_plans_and_never_end() -> None:
    nodes = {
        "tasks": [{"id": "a", "type": "x"}, {"id": "end", "type": "x"}],
        "plans": [{"id": "a", "type": "x"}],
    }
    lines = found(graph("a!", **nodes))
    assert "tasks[1].id: the id 'end' is reserved for the exit" in lines
    assert "plans[0].id: duplicate id 'a', first at tasks[0]" in lines


def test_the_entry_exists() -> None:
    assert found(graph("a>P P!", entry="nope")) == ["entry: no node is called 'nope'"]


def test_an_empty_graph_is_a_fault() -> None:
    assert found(graph("")) == ["entry: no node is called 'a'"]


def test_conditions_are_compiled_with_their_place() -> None:
    edges = [
        {"from": "a", "to": "P", "config": {"when": "success &&\n  foo"}},
        {"from": "P", "to": "a", "config": {"when": "success"}},
        {"from": "P", "to": "end", "type": "final"},
    ]
    assert found(graph("a>P P>a P!", edges=edges))[:2] == [
        "edges[1].config.when: a plan names its next nodes itself; put conditions into its rules",
        "edges[0].config.when: at 2:3 of the condition: undeclared reference to 'foo'; known are "
        "result, success, metadata, error, upstream, lifetime, node, iteration",
    ]


def rules_plan(config: dict[str, Any], kind: str = "rules") -> list[str]:
    plans = [{"id": "P", "type": kind, "config": config}]
    return found(graph("a>P P=>b P=>c P>d P!", plans=plans, limits={"max_fan_out": 2}))


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({}, "plans[0]: plan 'P' has the type rules, but neither rules nor default"),
        ({"default": ["nope"]}, "plans[0].config.default[0]: plan 'P' has no edge to 'nope'"),
        (
            {"default": ["b", "d"]},
            "plans[0].config.default[1]: several at once need parallel edges; the one to 'd'",
        ),
        ({"default": ["b", "b"]}, "plans[0].config.default: the same node twice"),
        ({"default": ["b", "c", "b"]}, "plans[0].config.default: 3 nodes; limits.max_fan_out is 2"),
        (
            {"rules": [{"when": "1", "next": ["b"]}]},
            "plans[0].config.rules[0].when: at 1:1 of the condition: gives int",
        ),
        (
            {"rules": [{"when": "true", "next": ["a"]}]},
            "plans[0].config.rules[0].next[0]: plan 'P' has no edge to 'a'",
        ),
    ],
)
def test_rules_that_cannot_be_followed_are_faults(config: dict[str, Any], fault: str) -> None:
    assert any(line.startswith(fault) for line in rules_plan(config)), rules_plan(config)


def test_rules_that_can_be_followed_are_none() -> None:
    rules = [{"when": "success", "next": ["b", "c"]}, {"when": "!success", "next": ["end"]}]
    assert rules_plan({"rules": rules, "default": ["d"]}) == []


def test_rules_belong_to_plans_of_the_type_rules() -> None:
    assert rules_plan({"default": ["b"]}, kind="decide") == [
        "plans[0].type: rules and default are for plans of the type rules"
    ]


def joined(join: dict[str, Any], shape: str = "a>P P=>b P=>c b.>Q c.>Q Q!", **more: Any) -> list[str]:
    plans = [{"id": "P", "type": "x"}, {"id": "Q", "type": "x", "config": {"join": join}}]
    return found(graph(shape, plans=plans, **more))


@pytest.mark.parametrize("least", [1, 2])
def test_a_quorum_that_can_be_reached_is_sound(least: int) -> None:
    assert joined({"strategy": "quorum", "min_inputs": least, "max_inputs": 9, "timeout": "1s"}) == []


def test_a_quorum_of_more_than_can_arrive_never_fills() -> None:
    quorum = {"strategy": "quorum", "min_inputs": 3}
    at = "plans[1].config.join.min_inputs: the join at 'Q' can never fill: it asks for 3 results, and at most"
    assert joined(quorum) == [f"{at} 2 can arrive"]
    assert joined(quorum, "a>P P=>b P=>c b>Q c.>Q Q!") == [f"{at} 1 can arrive"]
    assert joined(quorum, "a>P P>a a.>Q Q!") == [f"{at} 1 can arrive"]
    wide = "a>P P=>b P=>c P=>d b.>Q c.>Q d.>Q Q!"
    assert joined(quorum, wide) == []
    assert joined(quorum, wide, limits={"max_fan_out": 2}) == [f"{at} 2 can arrive"]


def test_branches_of_an_outer_fork_do_not_fill_an_inner_join() -> None:
    shape = "a>O O=>k O=>l O=>m k>P l>P m>P P=>b P=>c b.>Q c.>Q Q!"
    plans = [{"id": name, "type": "x"} for name in "OP"]
    plans.append({"id": "Q", "type": "x", "config": {"join": {"strategy": "quorum", "min_inputs": 3}}})
    (line,) = found(graph(shape, plans=plans))
    assert line.endswith("it asks for 3 results, and at most 2 can arrive")


def test_a_join_that_nothing_leads_to_is_a_fault() -> None:
    lines = joined({"strategy": "any"}, "a>P P>b b>Q Q!")
    assert lines == ["plans[1].config.join: no join edge leads to plan 'Q'"]


def one_task(kind: str, **config: Any) -> list[str]:
    return found(graph("a!", tasks=[{"id": "a", "type": kind, "config": config}]))


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("human", {"timeout": "1h", "reminder": "10m", "params": {"question": "go on?"}}),
        ("graph", {"params": {"graph": "child"}}),
        ("graph", {"params": {"graph": "child", "version": "1.20.3"}, "max_retries": 0}),
        ("work", {"queue": "fast", "leased": True}),
    ],
)
def test_tasks_of_every_kind_may_be_configured(kind: str, config: dict[str, Any]) -> None:
    assert one_task(kind, **config) == []


CHILD = {"graph": "child"}


@pytest.mark.parametrize(
    ("kind", "config", "fault"),
    [
        ("work", {"reminder": "1m"}, "reminder: only tasks of the type human remind people"),
        ("graph", {"reminder": "1m", "params": CHILD}, "reminder: only tasks of the type human remind"),
        (
            "human",
            {"queue": "q"},
            "queue: queue is for nodes that workers serve; the type human is served by",
        ),
        ("human", {"leased": False}, "leased: leased is for nodes that workers serve; the type human is"),
        (
            "graph",
            {"queue": "q", "params": CHILD},
            "queue: queue is for nodes that workers serve; the type gra",
        ),
        ("graph", {}, "params: a sub-graph needs `graph`, the id of the graph that it runs"),
        ("graph", {"params": {"graph": "../x"}}, "params: a sub-graph needs `graph`"),
        ("graph", {"params": {"graph": 7}}, "params: a sub-graph needs `graph`"),
        ("graph", {"params": CHILD | {"version": 1.0}}, "params.version: a version is MAJOR.MINOR.PATCH"),
        ("graph", {"params": CHILD | {"version": "1.0"}}, "params.version: a version is MAJOR.MINOR.PATCH"),
        ("graph", {"params": CHILD | {"input": 1}}, "params.input: unknown key; a sub-graph has"),
        ("graph", {"params": CHILD, "timeout": "1m"}, ": a sub-graph is held by the limits and the deadline"),
        ("graph", {"params": CHILD, "limits": {"tokens_used": 1}}, ": a sub-graph is held by the limits"),
    ],
)
def test_what_means_nothing_to_a_kind_of_task_is_a_fault(
    kind: str, config: dict[str, Any], fault: str
) -> None:
    (line,) = one_task(kind, **config)
    assert line.removeprefix("tasks[0].config").removeprefix(".").startswith(fault), line


@pytest.mark.parametrize("kind", ["human", "graph"])
def test_no_plan_has_a_type_that_nobody_serves(kind: str) -> None:
    plans = [{"id": "P", "type": kind}]
    assert found(graph("a>P P!", plans=plans)) == [
        f"plans[0].type: {kind} is a type of tasks; no plan can decide by it"
    ]


def test_a_cap_for_a_type_holds_something() -> None:
    tasks = [{"id": "a", "type": "human"}]
    caps = {"max_in_flight_by_type": {"decide": 2, "wrk": 1, "human": 1}}
    nothing = "no worker is asked for the type {!r} here, so the cap holds nothing"
    assert found(graph("a>P P!", tasks=tasks, limits=caps)) == [
        f"limits.max_in_flight_by_type.{name}: {nothing.format(name)}" for name in ("wrk", "human")
    ]


def test_params_have_a_size() -> None:
    tasks = [{"id": "a", "type": "x", "config": {"params": {"text": "x" * 70_000}}}]
    assert found(graph("a!", tasks=tasks)) == [
        "tasks[0].config.params: 70012 bytes as JSON; 65536 are allowed"
    ]


def test_a_definition_fits_into_a_record() -> None:
    tasks = [{"id": f"t{i}", "type": "x", "description": "x" * 10_000} for i in range(100)]
    (line,) = found(graph("a!", tasks=tasks))
    assert "fit into a record" in line


def test_ten_thousand_nodes_are_refused_at_once() -> None:
    tasks = [{"id": f"t{i}", "type": "x"} for i in range(10_000)]
    many = graph("a!", tasks=tasks)
    began = time.perf_counter()
    assert found(many)[0] == f"tasks: 10000 nodes; a graph has at most {MAX_NODES}"
    assert time.perf_counter() - began < 1


def test_many_edges_are_refused_at_once() -> None:
    edges = [{"from": "a", "to": f"P{i}"} for i in range(MAX_EDGES + 1)]
    assert found(graph("a!", edges=edges)) == [
        f"edges: {MAX_EDGES + 1} edges; a graph has at most {MAX_EDGES}"
    ]


def test_the_largest_tangle_is_checked_within_seconds() -> None:
    half = MAX_NODES // 2
    edges = [f"t{i}.>P{(i * 7 + k) % half}" for i in range(half) for k in range(4)]
    edges += [f"P{i}=>t{(i * 3 + k) % half}" for i in range(half) for k in range(4)]
    tangle = graph(" ".join([*edges[: MAX_EDGES - 1], "P0!"]))
    began = time.perf_counter()
    assert found(tangle) == []
    assert time.perf_counter() - began < 5  # measured: 0.4 s


def test_all_faults_are_found_at_once() -> None:
    edges = [
        {"from": "a", "to": "b"},
        {"from": "P", "to": "nope"},
        {"from": "a", "to": "P", "config": {"when": "foo"}},
        {"from": "P", "to": "b", "type": "join"},
    ]
    tasks = [{"id": name, "type": "x"} for name in ("a", "b", "a")]
    plans = [{"id": "P", "type": "rules", "config": {"default": ["c"]}}]
    lines = found(graph("a>P P>b", edges=edges, tasks=tasks, plans=plans))
    assert len(lines) == 7
    for part in (
        "duplicate id",
        "leads to task",
        "'nope'",
        "undeclared",
        "join gathers",
        "no edge to 'c'",
        "exit",
    ):
        assert any(part in line for line in lines), part
