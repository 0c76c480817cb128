"""Draws a graph in DOT so that it reads back as an equal graph. Called by `headgate graph show`. Pure.

Tasks are boxes, plans are diamonds, people are rounded; a parallel edge is thick, a join is dashed. What is
not drawn stands in attributes under the names it has in YAML; what is the default is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from headgate_graphs.dot import attributes as names
from headgate_graphs.dot.text import dot_id, drawn_text, quoted_flow
from headgate_graphs.ids import END
from headgate_graphs.model import AgentGraph, Definition, Edge, EdgeKind, Plan, Task

START = "*"
"""Id of the start mark: no node can be called so."""

_STYLES: Mapping[EdgeKind, str] = {EdgeKind.PARALLEL: "penwidth=2.5", EdgeKind.JOIN: "style=dashed"}
_LABEL_CHARS = 60


def to_dot(graph: AgentGraph) -> str:
    """Return a Graphviz digraph, one line for each node and edge, in document order."""
    lines = [
        f"digraph {dot_id(graph.metadata.id)} {{",
        f"    graph {_listed(_graph_attributes(graph))};",
        f'    {dot_id(START)} [kind=start, shape=plaintext, label="start"];',
        *(f"    {dot_id(node.id)} {_listed(_node_attributes(node))};" for node in graph.nodes.values()),
        "    end [shape=plaintext];",
        f"    {dot_id(START)} -> {dot_id(graph.entry)};",
        *(f"    {_edge(edge)};" for edge in graph.edges),
    ]
    return "\n".join([*lines, "}"]) + "\n"


def _graph_attributes(graph: AgentGraph) -> list[str]:
    given = {"apiVersion": graph.api_version} | _given(graph.metadata) | _given(graph)
    return ["rankdir=TB", *_attributes(given, names.GRAPH)]


def _node_attributes(node: Task | Plan) -> list[str]:
    given = _given(node)
    drawn = [f"shape={'diamond' if isinstance(node, Plan) else 'box'}"]
    if node.type == "human":
        drawn.append("style=rounded")
    if node.type == node.id:
        del given[names.TYPE]
    else:
        drawn.append(f"label={drawn_text(f'{node.id}: {node.type}')}")
    return [*drawn, *_attributes(given, names.NODE)]


def _edge(edge: Edge) -> str:
    drawn = [_STYLES[edge.type]] if edge.type in _STYLES else []
    if edge.config.when:
        drawn.append(f"label={drawn_text(_shortened(edge.config.when))}")
    given = _given(edge.config)
    if edge.type is not (EdgeKind.FINAL if edge.target == END else EdgeKind.NORMAL):
        given = {names.TYPE: edge.type.value} | given
    attributes = _listed([*drawn, *_attributes(given, names.EDGE)])
    return f"{dot_id(edge.source)} -> {dot_id(edge.target)}{f' {attributes}' if attributes else ''}"


def _attributes(given: Mapping[str, Any], ours: Collection[str]) -> list[str]:
    return [
        f"{name}={dot_id(value) if name in names.TEXT else quoted_flow(value)}"
        for name, value in given.items()
        if name in ours
    ]


def _given(definition: Definition) -> dict[str, Any]:
    """Return what differs from the defaults, under the names of YAML."""
    return definition.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _listed(attributes: Sequence[str]) -> str:
    return f"[{', '.join(attributes)}]" if attributes else ""


def _shortened(text: str) -> str:
    """Return a condition on one line that fits beside an arrow."""
    line = " ".join(text.split())
    return line if len(line) <= _LABEL_CHARS else line[: _LABEL_CHARS - 1] + "…"
