"""Pictures in Mermaid and the schema of graphs; DOT is in test_dot."""

from __future__ import annotations

import re

from hypothesis import given, settings

from headgate_graphs.export import to_mermaid
from headgate_graphs.model import AgentGraph
from headgate_graphs.schema import graph_json_schema
from tests.unit.graphs.random_graphs import graphs
from tests.unit.graphs.test_checks import graph

FORKED = "a>P P=>b P=>c b.>Q c.>Q Q!"


def test_mermaid_shows_kinds_of_nodes_and_edges() -> None:
    assert to_mermaid(graph(FORKED)).splitlines() == [
        "flowchart TD",
        "    start([start])",
        '    n0["a: work"]',
        '    n1["b: work"]',
        '    n2["c: work"]',
        '    n3{"P: decide"}',
        '    n4{"Q: decide"}',
        "    stop([end])",
        "    start --> n0",
        "    n0 --> n3",
        "    n3 ==> n1",
        "    n3 ==> n2",
        "    n1 -.-> n4",
        "    n2 -.-> n4",
        "    n4 --> stop",
    ]


def test_a_condition_cannot_break_out_of_its_label() -> None:
    hostile = 'success && "]; n9[<script>|x" != `a`\n#'
    edges = [
        {"from": "a", "to": "P", "config": {"when": hostile}},
        {"from": "P", "to": "end", "type": "final"},
    ]
    drawn = graph("a>P P!", edges=edges)
    label = re.search(r'n0 -->\|"(.*)"\| n1', to_mermaid(drawn))
    assert label
    assert not set('"<>`{}') & set(label[1])


@given(graphs())
@settings(max_examples=30, deadline=None)
def test_every_node_and_edge_is_drawn_once(drawn: AgentGraph) -> None:
    expected = 2 + len(drawn.nodes) + 1 + len(drawn.edges)
    assert len(to_mermaid(drawn).splitlines()) == expected + 1


def test_the_schema_completes_keys_with_their_meaning_and_defaults() -> None:
    schema = graph_json_schema()
    assert set(schema["properties"]) >= {"apiVersion", "kind", "metadata", "entry", "tasks", "plans", "edges"}
    task = schema["$defs"]["TaskConfiguration"]["properties"]
    assert task["backoff"]["default"] == "500ms"
    assert "first retry" in task["backoff"]["description"]
    assert "timeout_ms" not in task
    assert set(schema["$defs"]["Edge"]["required"]) == {"from", "to"}
    assert schema["additionalProperties"] is False


def test_every_key_of_the_schema_is_described() -> None:
    schema = graph_json_schema()
    for name, definition in {**schema["$defs"], "AgentGraph": schema}.items():
        for key, field in definition.get("properties", {}).items():
            assert field.get("description"), f"{name}.{key}"
