"""One graph in YAML, in JSON, in DOT and built in Python: always equal."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings

from headgate_graphs.builder import GraphBuilder
from headgate_graphs.checks import faults
from headgate_graphs.dot.writing import to_dot
from headgate_graphs.loading import dump_yaml, graph_from_json, load_graph
from headgate_graphs.model import AgentGraph, EdgeKind, Task
from tests.unit.graphs.random_graphs import graphs


def built(graph: AgentGraph) -> AgentGraph:
    """The same graph by the builder's words, node by node and edge by edge."""
    metadata = graph.metadata
    g = GraphBuilder(
        metadata.id,
        version=metadata.version,
        tenant_id=metadata.tenant_id,
        description=metadata.description,
        tags=metadata.tags,
        limits=graph.limits.model_dump(by_alias=True, mode="json"),
    )
    nodes = {}
    for node in graph.nodes.values():
        options: dict[str, Any] = node.config.model_dump(by_alias=True, mode="json", exclude_defaults=True)
        add = g.task if isinstance(node, Task) else g.plan
        nodes[node.id] = add(node.id, type=node.type, description=node.description, **options)
    for edge in graph.edges:
        source, target = nodes[edge.source], nodes.get(edge.target, edge.target)
        lead = {EdgeKind.PARALLEL: source.fan_out, EdgeKind.JOIN: source.join}.get(edge.type, source.to)
        lead(target, when=edge.config.when, priority=edge.config.priority)
    g.start(nodes[graph.entry])
    return g.build()


def reread(text: str, name: str) -> AgentGraph:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / name
        path.write_text(text)
        return load_graph(path)


@given(graphs())
@settings(max_examples=100, deadline=None)
def test_every_form_gives_an_equal_graph(graph: AgentGraph) -> None:
    assert faults(graph) == []
    forms = [
        reread(dump_yaml(graph), "graph.yaml"),
        reread(to_dot(graph), "graph.dot"),
        graph_from_json(graph.canonical_json()),
        built(graph),
    ]
    for form in forms:
        assert form == graph
        assert form.canonical_json() == graph.canonical_json()
