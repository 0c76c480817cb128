"""Why each step came about: the edge, the plan's decision, the join, or the failure before it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from headgate.story.model import Step, Story
from headgate.words import shortened
from headgate_graphs.model import AgentGraph, Edge, EdgeKind, Plan

SHOWN_UPSTREAM = 8
"""Branches of a join that are named; the others are counted."""
SHOWN_CONDITION = 80
"""Characters of an edge's condition that are shown."""


def add_causes(story: Story, graphs: Mapping[tuple[str, str], AgentGraph]) -> None:
    """Fill in the cause of each step that has none."""
    for step in story.steps.values():
        view = story.lives[step.lifetime_id].view
        graph = graphs.get((view.graph_id, view.graph_version)) if view is not None else None
        step.cause = step.cause or _cause(story, step, graph)


def _cause(story: Story, step: Step, graph: AgentGraph | None) -> str:
    before = story.steps.get(step.previous)
    if before is not None:
        return f"tried again after {before.outcome or 'the failure before'}"
    known = [story.steps[one] for one in step.upstream if one in story.steps]
    if len(step.upstream) > 1:
        return _join(step, known, graph)
    if not known:
        is_entry = graph is not None and graph.entry == step.node_id
        return f"entry of graph {graph.metadata.id}" if graph is not None and is_entry else ""
    [above] = known
    edge = edge_between(graph, above.node_id, step.node_id)
    if above.kind == "plan":
        return f"chosen by {above.label}" + _kind(edge)
    return f"after {above.label}{_kind(edge)}"


def edge_between(graph: AgentGraph | None, source: str, target: str) -> Edge | None:
    """Return the edge from one node to another; None when it is not known."""
    edges = graph.outgoing.get(source, ()) if graph is not None else ()
    return next((edge for edge in edges if edge.target == target), None)


def is_join(graph: AgentGraph | None, source: str, target: str) -> bool:
    """Whether the edge between two nodes is a JOIN edge."""
    edge = edge_between(graph, source, target)
    return edge is not None and edge.type is EdgeKind.JOIN


def _kind(edge: Edge | None) -> str:
    """Return what there is to say of an edge: a plain one without a condition speaks for itself."""
    if edge is None or (edge.type is EdgeKind.NORMAL and not edge.config.when):
        return ""
    when = f" when {shortened(edge.config.when, SHOWN_CONDITION)}" if edge.config.when else ""
    return f" over a {edge.type.value} edge{when}"


def _join(step: Step, known: list[Step], graph: AgentGraph | None) -> str:
    node = graph.nodes.get(step.node_id) if graph is not None else None
    strategy = f" ({node.config.join.strategy})" if isinstance(node, Plan) else ""
    names = ", ".join(one.label for one in known[:SHOWN_UPSTREAM])
    left = len(step.upstream) - min(len(known), SHOWN_UPSTREAM)
    return f"joined{strategy} from {names}" + (f" and {left} more" if left else "")
