"""The Python builder: what its arrows and methods mean, and what it says about mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from headgate_graphs.builder import GraphBuilder, Node
from headgate_graphs.errors import GraphInvalid
from headgate_graphs.ids import END
from headgate_graphs.loading import load_graph
from headgate_graphs.model import (
    AgentGraph,
    Definition,
    EdgeKind,
    JoinConfiguration,
    NodeLimits,
    PlanConfiguration,
    TaskConfiguration,
)
from headgate_graphs.options import JoinOptions, LimitOptions, PlanOptions, TaskOptions

RESEARCH = """\
from headgate import END, GraphBuilder

g = GraphBuilder("research", version="1.0.0", limits={"deadline": "30m"})
ask = g.plan("ask")
web = g.task("web", timeout="30s")
papers = g.task("papers", timeout="30s")
collect = g.plan("collect", join={"strategy": "any", "cancel_losers": True})
write = g.task("write", type="chat", limits={"tokens_used": 8000})
judge = g.rules("judge").when("!success && iteration < 3", write).otherwise(END)

g.start(ask) >> [web, papers] >> collect >> write >> judge
graph = g.build()
"""
RESEARCH_YAML = """\
metadata: {id: research, version: 1.0.0}
entry: ask
limits: {deadline: 30m}
tasks:
  - {id: web, type: web, config: {timeout: 30s}}
  - {id: papers, type: papers, config: {timeout: 30s}}
  - {id: write, type: chat, config: {limits: {tokens_used: 8000}}}
plans:
  - {id: ask, type: ask}
  - {id: collect, type: collect, config: {join: {strategy: any, cancel_losers: true}}}
  - id: judge
    type: rules
    config: {rules: [{when: "!success && iteration < 3", next: [write]}], default: [end]}
edges:
  - {from: judge, to: write}
  - {from: judge, to: end, type: final}
  - {from: ask, to: web, type: parallel}
  - {from: ask, to: papers, type: parallel}
  - {from: web, to: collect, type: join}
  - {from: papers, to: collect, type: join}
  - {from: collect, to: write}
  - {from: write, to: judge}
"""


def edges(graph: AgentGraph) -> list[tuple[str, str, EdgeKind]]:
    return [(edge.source, edge.target, edge.type) for edge in graph.edges]


def begun() -> tuple[GraphBuilder, Node, Node]:
    g = GraphBuilder("g", version="1.0.0")
    return g, g.task("a"), g.plan("P")


def test_a_module_that_builds_equals_the_same_graph_in_yaml(tmp_path: Path) -> None:
    (tmp_path / "research.py").write_text(RESEARCH)
    (tmp_path / "research.yaml").write_text(RESEARCH_YAML)
    assert load_graph(tmp_path / "research.py") == load_graph(tmp_path / "research.yaml")


def test_an_arrow_to_end_is_final() -> None:
    g, a, p = begun()
    a >> p >> END
    assert edges(g.build()) == [("a", "P", EdgeKind.NORMAL), ("P", "end", EdgeKind.FINAL)]


def test_an_arrow_to_a_list_forks_and_one_from_a_list_joins() -> None:
    g, a, p = begun()
    b, c, q = g.task("b"), g.task("c"), g.plan("Q")
    assert (a >> p >> [b, c] >> q) is q
    q >> END
    assert edges(g.build())[1:-1] == [
        ("P", "b", EdgeKind.PARALLEL),
        ("P", "c", EdgeKind.PARALLEL),
        ("b", "Q", EdgeKind.JOIN),
        ("c", "Q", EdgeKind.JOIN),
    ]


def test_methods_say_the_same_with_conditions_and_priorities() -> None:
    g, a, p = begun()
    q = g.plan("Q")
    a.to(p, when="success", priority=2).to(q, when="!success")
    p.to(END)
    q.to(a, END)
    graph = g.build()
    assert [edge.config.when for edge in graph.edges] == ["success", "!success", None, None, None]
    assert graph.edges[0].config.priority == 2
    assert graph.edges[-1].type is EdgeKind.FINAL


def test_rules_make_the_edges_they_need() -> None:
    g = GraphBuilder("g", version="1.0.0")
    a, b, judge = g.task("a"), g.task("b"), g.rules("judge", timeout="5s")
    judge.when("success", END).when("iteration < 2", b).when("iteration < 3", a, b, priority=1).otherwise(a)
    a >> judge
    b >> judge
    graph = g.build()
    assert edges(graph)[:3] == [
        ("judge", "end", EdgeKind.FINAL),
        ("judge", "b", EdgeKind.PARALLEL),
        ("judge", "a", EdgeKind.PARALLEL),
    ]
    config = graph.plans[0].config
    assert [(rule.when, rule.next, rule.priority) for rule in config.rules] == [
        ("success", ("end",), 0),
        ("iteration < 2", ("b",), 0),
        ("iteration < 3", ("a", "b"), 1),
    ]
    assert (config.default_next, config.timeout_ms) == (("a",), 5_000)


def test_configurations_may_be_given_as_such() -> None:
    g = GraphBuilder("g", version="1.0.0", tenant_id="acme", description="d", tags=["x", "y"])
    a = g.task("a", limits=NodeLimits(cost_usd="0.05"), params={"x": [1]}, description="works")
    p = g.plan("P", join=JoinConfiguration(strategy="any"))
    [a] >> p >> END
    graph = g.build()
    assert (graph.tenant_id, graph.metadata.tags, graph.metadata.description) == ("acme", ("x", "y"), "d")
    assert graph.tasks[0].config.limits.cost_nano_usd == 50_000_000
    assert graph.tasks[0].description == "works"
    assert graph.plans[0].config.join.strategy == "any"


def test_lifetimes_begin_at_the_first_node_unless_told() -> None:
    g, a, p = begun()
    a >> p >> END
    p >> a
    assert g.build().entry == "a"
    assert g.start(p) is p
    assert g.build().entry == "P"


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (lambda g, a, p: g.task("x y"), "task 'x y': 2 faults: task 'x y': id: 'x y' is not a name"),
        (lambda g, a, p: g.task("x", timeout="soon"), "task 'x': config.timeout: 'soon' is not a duration"),
        (lambda g, a, p: g.plan("x", tiemout=1), "plan 'x': config.tiemout: unknown key"),
        (lambda g, a, p: a >> "P", "edge a -> 'P': an edge leads to a node or to END"),
        (lambda g, a, p: a >> begun()[2], "edge a -> P: the two nodes belong to different builders"),
        (lambda g, a, p: a.to(p, priority="high"), "edge a -> P: priority: Input should be a valid integer"),
        (lambda g, a, p: g.rules("r").when(3, a), "plan 'r': a rule: when: Input should be a valid string"),
        (lambda g, a, p: GraphBuilder("x", version="1"), "graph 'x': version: String should match"),
        (
            lambda g, a, p: GraphBuilder("x", version="1.0.0", limits={"dealine": 1}),
            "graph 'x': limits: dealine: unknown key",
        ),
        (lambda g, a, p: GraphBuilder("x", version="1.0.0").build(), "graph 'x': it has no nodes"),
    ],
)
def test_a_mistake_is_told_where_it_is_made(mistake: Callable[..., Any], said: str) -> None:
    with pytest.raises(GraphInvalid) as caught:
        mistake(*begun())
    assert str(caught.value).startswith(said), str(caught.value)


def test_faults_of_the_whole_name_the_nodes() -> None:
    g, a, p = begun()
    b = g.task("b")
    a >> b
    a.to(p, when="foo")
    with pytest.raises(GraphInvalid) as caught:
        g.build()
    assert [fault.partition("; ")[0] for fault in caught.value.faults] == [
        "edge a -> b: to: task 'a' leads to task 'b'",
        "edge a -> P: config.when: at 1:1 of the condition: undeclared reference to 'foo'",
        "entry: no way from 'a' to an exit: no final edge can be reached",
        "plan P: plan 'P' has no edges, so it has nothing to decide",
    ]


def test_a_mistake_in_a_module_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "graph.py").write_text(RESEARCH.replace('"30s")\npapers', '"soon")\npapers'))
    with pytest.raises(GraphInvalid) as caught:
        load_graph(tmp_path)
    (fault,) = caught.value.faults
    assert fault.startswith(f"{tmp_path / 'graph.py'}:5:1: task 'web': config.timeout: 'soon'")


@pytest.mark.parametrize(
    ("options", "definition"),
    [
        (TaskOptions, TaskConfiguration),
        (PlanOptions, PlanConfiguration),
        (JoinOptions, JoinConfiguration),
        (LimitOptions, NodeLimits),
    ],
)
def test_keyword_arguments_are_the_fields_of_the_definitions(
    options: type, definition: type[Definition]
) -> None:
    fields = {field.alias or name for name, field in definition.model_fields.items()}
    assert set(get_type_hints(options)) == fields
