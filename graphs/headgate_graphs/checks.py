"""Whole-graph checks: what a definition that is sound node by node can still get wrong. Called by `loading`.

Every check yields all the faults it finds, and all checks run, so that people see everything at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from headgate_graphs.conditions import EDGE_ENVIRONMENT, ConditionInvalid
from headgate_graphs.documents import Path, show_path
from headgate_graphs.ids import END, is_name
from headgate_graphs.model import (
    VERSION_PATTERN,
    AgentGraph,
    Edge,
    EdgeKind,
    JoinConfiguration,
    NodeLimits,
    Plan,
    Task,
)
from headgate_graphs.reachability import Reachability, joins

MAX_NODES = 500
"""Nodes of one graph; people write dozens, and the gate must check any graph in well under a second."""
MAX_EDGES = 2_000
"""Edges of one graph."""
MAX_PARAMS_BYTES = 65_536
"""Static parameters of one node as JSON; they travel with each of its inputs."""
MAX_DEFINITION_BYTES = 786_432
"""Canonical JSON of a graph; it must fit into one record of 1 MiB, escaped."""
MAX_JOIN_INPUTS = 30
"""Results that one join gathers: times the inline limit of 32 KiB they must fit into one record of 1 MiB."""

RULES = "rules"
"""Type of the plan whose decision is its routing rules."""
HUMAN = "human"
"""Type of the task that waits for a person."""
SUBGRAPH = "graph"
"""Type of the task that runs another graph, named by its params `graph` and `version`."""


class Fault(NamedTuple):
    """One thing that is wrong, and where in the definition."""

    path: Path
    """Keys and indexes from the top of the definition, such as ("edges", 3, "to")."""
    message: str

    def __str__(self) -> str:
        """As "edges[3].to: message"."""
        return f"{show_path(self.path)}: {self.message}"


def faults(graph: AgentGraph) -> list[Fault]:
    """Return everything that is wrong with `graph`; empty for a graph that can run. Pure."""
    too_large = list(_size(graph))
    if too_large:
        return too_large
    ways = Reachability(graph)
    return [
        *_ids(graph),
        *_edges(graph),
        *_conditions(graph),
        *_rules(graph),
        *_params(graph),
        *_kinds(graph),
        *_exits(graph, ways),
        *_joins(graph, ways),
    ]


def _size(graph: AgentGraph) -> Iterator[Fault]:
    nodes = len(graph.tasks) + len(graph.plans)
    if nodes > MAX_NODES:
        yield Fault(("tasks",), f"{nodes} nodes; a graph has at most {MAX_NODES}")
    if len(graph.edges) > MAX_EDGES:
        yield Fault(("edges",), f"{len(graph.edges)} edges; a graph has at most {MAX_EDGES}")
    size = len(graph.canonical_json().encode())
    if size > MAX_DEFINITION_BYTES:
        yield Fault((), f"the definition has {size} bytes as JSON; {MAX_DEFINITION_BYTES} fit into a record")


def _ids(graph: AgentGraph) -> Iterator[Fault]:
    first: dict[str, str] = {}
    for path, node in nodes_with_paths(graph):
        if node.id == END:
            yield Fault((*path, "id"), "the id 'end' is reserved for the exit")
        elif node.id in first:
            yield Fault((*path, "id"), f"duplicate id {node.id!a}, first at {first[node.id]}")
        first.setdefault(node.id, show_path(path))
    if graph.entry not in graph.nodes:
        yield Fault(("entry",), f"no node is called {graph.entry!a}")


def _edges(graph: AgentGraph) -> Iterator[Fault]:
    first: dict[tuple[str, str], int] = {}
    for position, edge in enumerate(graph.edges):
        at: Path = ("edges", position)
        yield from _ends(graph, edge, at)
        earlier = first.setdefault((edge.source, edge.target), position)
        if earlier != position:
            yield Fault(
                at, f"a second edge from {edge.source!a} to {edge.target!a}, first at edges[{earlier}]"
            )
        if edge.config.when is not None and isinstance(graph.nodes.get(edge.source), Plan):
            yield Fault(
                (*at, "config", "when"), "a plan names its next nodes itself; put conditions into its rules"
            )


def _ends(graph: AgentGraph, edge: Edge, at: Path) -> Iterator[Fault]:
    source, target = graph.nodes.get(edge.source), graph.nodes.get(edge.target)
    if source is None:
        known = "end leads nowhere" if edge.source == END else f"no node is called {edge.source!a}"
        yield Fault((*at, "from"), known)
    if edge.target == END or edge.type is EdgeKind.FINAL:
        if edge.target != END:
            yield Fault((*at, "to"), f"a final edge leads to 'end', not to {edge.target!a}")
        elif edge.type is not EdgeKind.FINAL:
            yield Fault(at, "an edge to 'end' has the type final")
    elif target is None:
        yield Fault((*at, "to"), f"no node is called {edge.target!a}")
    elif source is not None and type(source) is type(target):
        kind, other = ("task", "plan") if isinstance(source, Task) else ("plan", "task")
        yield Fault(
            (*at, "to"),
            f"{kind} {edge.source!a} leads to {kind} {edge.target!a}; a {kind} leads to a {other}",
        )
    elif edge.type is EdgeKind.JOIN and isinstance(source, Plan):
        yield Fault((*at, "type"), "a join gathers the results of tasks: it leads from a task to a plan")


def _conditions(graph: AgentGraph) -> Iterator[Fault]:
    places: list[tuple[Path, str]] = [
        (("edges", position, "config", "when"), edge.config.when)
        for position, edge in enumerate(graph.edges)
        if edge.config.when is not None
    ]
    for position, plan in enumerate(graph.plans):
        for number, rule in enumerate(plan.config.rules):
            places.append((("plans", position, "config", "rules", number, "when"), rule.when))
    for path, text in places:
        try:
            EDGE_ENVIRONMENT.compile(text)
        except ConditionInvalid as invalid:
            yield Fault(path, f"at {invalid.line}:{invalid.column} of the condition: {invalid.message}")


def _rules(graph: AgentGraph) -> Iterator[Fault]:
    for position, plan in enumerate(graph.plans):
        at: Path = ("plans", position, "config")
        named = [((*at, "rules", n, "next"), rule.next) for n, rule in enumerate(plan.config.rules)]
        named.append(((*at, "default"), plan.config.default_next))
        if plan.type == RULES and not plan.config.rules and not plan.config.default_next:
            yield Fault(
                ("plans", position), f"plan {plan.id!a} has the type rules, but neither rules nor default"
            )
        if plan.type != RULES and (plan.config.rules or plan.config.default_next):
            yield Fault(("plans", position, "type"), "rules and default are for plans of the type rules")
        for path, targets in named:
            yield from _next(graph, plan, path, targets)


def _next(graph: AgentGraph, plan: Plan, path: Path, targets: tuple[str, ...]) -> Iterator[Fault]:
    edges = {edge.target: edge for edge in graph.outgoing[plan.id]}
    for number, target in enumerate(targets):
        if target not in edges:
            yield Fault((*path, number), f"plan {plan.id!a} has no edge to {target!a}")
        elif len(targets) > 1 and edges[target].type is not EdgeKind.PARALLEL:
            yield Fault((*path, number), f"several at once need parallel edges; the one to {target!a} is not")
    if len(set(targets)) < len(targets):
        yield Fault(path, "the same node twice")
    if len(targets) > graph.limits.max_fan_out:
        yield Fault(path, f"{len(targets)} nodes; limits.max_fan_out is {graph.limits.max_fan_out}")


def _params(graph: AgentGraph) -> Iterator[Fault]:
    for path, node in nodes_with_paths(graph):
        size = len(json.dumps(node.config.params).encode()) if node.config.params else 0
        if size > MAX_PARAMS_BYTES:
            yield Fault((*path, "config", "params"), f"{size} bytes as JSON; {MAX_PARAMS_BYTES} are allowed")


def _exits(graph: AgentGraph, ways: Reachability) -> Iterator[Fault]:
    if graph.entry not in graph.nodes:
        return
    reached, leaving = ways.from_entry(), ways.to_exit_or_dead_end()
    if graph.entry not in ways.to_exit():
        yield Fault(("entry",), f"no way from {graph.entry!a} to an exit: no final edge can be reached")
    for path, node in nodes_with_paths(graph):
        if node.id not in reached:
            yield Fault(path, f"no way from the entry {graph.entry!a} to {node.id!a}")
        if isinstance(node, Plan) and not graph.outgoing[node.id]:
            yield Fault(
                path, f"plan {node.id!a} has no edges, so it has nothing to decide; add one, if only to end"
            )
        elif node.id not in leaving:
            yield Fault(
                path, f"no way out of {node.id!a}: neither end nor a task without edges can be reached"
            )


def _joins(graph: AgentGraph, ways: Reachability) -> Iterator[Fault]:
    fed = joins(graph)
    for position, plan in enumerate(graph.plans):
        at: Path = ("plans", position, "config", "join")
        if plan.id in fed:
            for path, problem in _join(graph, plan, [edge for _, edge in fed[plan.id]], ways):
                where = (*at, path) if path else ("edges", fed[plan.id][0][0])
                yield Fault(where, f"the join at {plan.id!a} {problem}")
        elif plan.config.join != JoinConfiguration():
            yield Fault(at, f"no join edge leads to plan {plan.id!a}")


def _join(
    graph: AgentGraph, plan: Plan, edges: Sequence[Edge], ways: Reachability
) -> Iterator[tuple[str, str]]:
    """Yield (field of the join, or empty for its edges; what is wrong)."""
    sources = {edge.source for edge in edges if isinstance(graph.nodes.get(edge.source), Task)}
    fork_id, feeders = ways.fork_of(plan.id)
    if not feeders and len(sources) > 1:
        named = ", ".join(repr(source) for source in sorted(sources)[:10])
        yield "", f"never fills: no node sends work over parallel edges to all of {named}"
        return
    chosen = graph.limits.max_fan_out if isinstance(graph.nodes.get(fork_id), Plan) else len(feeders)
    most, least = min(len(feeders), chosen) or 1, plan.config.join.min_inputs or 1
    if most > MAX_JOIN_INPUTS:
        yield "", f"gathers up to {most} results; {MAX_JOIN_INPUTS} fit into a record"
    if least > most:
        yield "min_inputs", f"can never fill: it asks for {least} results, and at most {most} can arrive"


def _kinds(graph: AgentGraph) -> Iterator[Fault]:
    """Find fields that mean nothing to the kind of node that has them; a cap that holds nothing is one."""
    for path, node in nodes_with_paths(graph):
        at = (*path, "config")
        if isinstance(node, Task) and node.config.reminder_ms is not None and node.type != HUMAN:
            yield Fault((*at, "reminder"), f"only tasks of the type {HUMAN} remind people")
        if node.type in (HUMAN, SUBGRAPH):
            yield from _unserved(node, path)
        if node.type == SUBGRAPH and isinstance(node, Task):
            yield from _subgraph(node, at)
    served = {node.type for node in graph.nodes.values()} - {HUMAN, SUBGRAPH}
    for name in graph.limits.max_in_flight_by_type:
        if name not in served:
            problem = f"no worker is asked for the type {name!a} here, so the cap holds nothing"
            yield Fault(("limits", "max_in_flight_by_type", name), problem)


def _unserved(node: Task | Plan, path: Path) -> Iterator[Fault]:
    if isinstance(node, Plan):
        yield Fault((*path, "type"), f"{node.type} is a type of tasks; no plan can decide by it")
    given = {"queue": node.config.queue, "leased": node.config.leased}
    for name in (name for name, value in given.items() if value is not None):
        problem = f"{name} is for nodes that workers serve; the type {node.type} is served by none"
        yield Fault((*path, "config", name), problem)


def _subgraph(task: Task, at: Path) -> Iterator[Fault]:
    params = task.config.params
    named, version = params.get("graph"), params.get("version")
    if not isinstance(named, str) or not is_name(named):
        yield Fault((*at, "params"), "a sub-graph needs `graph`, the id of the graph that it runs")
    if version is not None and not (isinstance(version, str) and re.fullmatch(VERSION_PATTERN, version)):
        yield Fault((*at, "params", "version"), "a version is MAJOR.MINOR.PATCH; none means the newest")
    for key in (key for key in params if key not in ("graph", "version")):
        yield Fault((*at, "params", key), "unknown key; a sub-graph has `graph` and `version`")
    if task.config.limits != NodeLimits() or task.config.timeout_ms is not None:
        yield Fault(at, "a sub-graph is held by the limits and the deadline of the graph that it runs")


def nodes_with_paths(graph: AgentGraph) -> Iterator[tuple[Path, Task | Plan]]:
    """Yield every node with its path in the definition, tasks first; duplicates too."""
    for position, task in enumerate(graph.tasks):
        yield ("tasks", position), task
    for position, plan in enumerate(graph.plans):
        yield ("plans", position), plan
