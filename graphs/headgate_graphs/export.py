"""Pictures of a graph in Mermaid, for pages. Called by `headgate graph show`; `dot` draws for Graphviz. Pure.

Tasks are boxes, plans are diamonds, people are rounded; a parallel edge is thick, a join is dotted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from headgate_graphs.ids import END
from headgate_graphs.model import AgentGraph, Edge, EdgeKind, Plan, Task

_MERMAID_ARROWS: Mapping[EdgeKind, str] = {
    EdgeKind.NORMAL: "-->",
    EdgeKind.PARALLEL: "==>",
    EdgeKind.JOIN: "-.->",
    EdgeKind.FINAL: "-->",
}
_LABEL_CHARS = 60
_NOT_PLAIN = re.compile(r"[^ \w.,:;=!|?/()+*'\[\]-]", re.ASCII)


def to_mermaid(graph: AgentGraph) -> str:
    """Return a Mermaid flowchart, one line for each node and edge, in document order."""
    names = _names(graph)
    lines = ["flowchart TD", "    start([start])"]
    for node_id, node in graph.nodes.items():
        left, right = _mermaid_shape(node)
        lines.append(f'    {names[node_id]}{left}"{_mermaid_text(_label(node))}"{right}')
    lines += ["    stop([end])", f"    start --> {names.get(graph.entry, 'stop')}"]
    for edge in graph.edges:
        label = _mermaid_text(_condition(edge))
        arrow = _MERMAID_ARROWS[edge.type] + (f'|"{label}"|' if label else "")
        lines.append(f"    {names[edge.source]} {arrow} {names[edge.target]}")
    return "\n".join(lines) + "\n"


def _names(graph: AgentGraph) -> dict[str, str]:
    """Return a name for each node that Mermaid cannot misread, such as a node called `end`."""
    return {node_id: f"n{i}" for i, node_id in enumerate(graph.nodes)} | {END: "stop"}


def _label(node: Task | Plan) -> str:
    return node.id if node.type == node.id else f"{node.id}: {node.type}"


def _condition(edge: Edge) -> str:
    text = " ".join((edge.config.when or "").split())
    return text if len(text) <= _LABEL_CHARS else text[: _LABEL_CHARS - 1] + "…"


def _mermaid_shape(node: Task | Plan) -> tuple[str, str]:
    if isinstance(node, Plan):
        return "{", "}"
    return ("([", "])") if node.type == "human" else ("[", "]")


def _mermaid_text(text: str) -> str:
    """Return `text` with everything that Mermaid or HTML could read as syntax as a character code."""
    return _NOT_PLAIN.sub(lambda found: f"#{ord(found.group())};", text)
