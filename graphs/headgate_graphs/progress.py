"""The pure verbs of progress: given a graph and a result, where the lifetime goes next. Called by the fold.

A *fork* is a node that sends its result over PARALLEL edges. Each visit of a fork gives its branches a
frame (fork node, its execution id, the branch, all branches of the visit), and whatever follows in a
branch carries that frame on. A join belongs to the innermost fork whose branches feed it, so a join's
visit is the fork's execution id: it fires once per visit, in loops too, whatever the order of arrival.
A frame of a fork replaces an older one of the same fork, so a lineage is never longer than the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from headgate_graphs.conditions import EDGE_ENVIRONMENT, Condition, ConditionFailed
from headgate_graphs.ids import END
from headgate_graphs.model import AgentGraph, Edge, EdgeKind, Plan, Task
from headgate_graphs.reachability import Reachability, joins


class Fork(NamedTuple):
    """One frame of a lineage: which branch of which visit of which fork a token is in."""

    node_id: str
    execution_id: str
    branch: str
    branches: tuple[str, ...]


Lineage = tuple[Fork, ...]
"""Frames from the outermost fork to the innermost."""


class Hop(NamedTuple):
    """Go to `target` now, with this lineage."""

    target: str
    lineage: Lineage


@dataclass(frozen=True, slots=True)
class JoinArrival:
    """A result has reached a join; it is held until all `expected` branches of `visit` have arrived."""

    plan_id: str
    visit: str
    """Execution id of the fork this join belongs to."""
    branch: str
    expected: tuple[str, ...]
    """Branches of this visit that can reach the join, in dispatch order; never empty."""
    lineage: Lineage
    """What the plan behind the join carries on: the lineage outside the fork."""


class Routes(NamedTuple):
    """Where a result goes: hops and arrivals in edge order, or the end of the lifetime."""

    hops: tuple[Hop, ...] = ()
    arrivals: tuple[JoinArrival, ...] = ()
    final: bool = False
    fault: str = ""
    """NOT_AN_EDGE, FANOUT or CONDITION with a detail, when the result cannot be routed; else empty."""

    @property
    def is_empty(self) -> bool:
        """Whether the branch ends here."""
        return not (self.hops or self.arrivals or self.final or self.fault)


class GraphOrchestrator:
    """A graph made ready for progress: conditions compiled, joins tied to their forks. Immutable."""

    def __init__(self, graph: AgentGraph) -> None:
        self.graph = graph
        self.nodes: Mapping[str, Task | Plan] = graph.nodes
        self._conditions: dict[str, Condition] = {
            edge.config.when: EDGE_ENVIRONMENT.compile(edge.config.when)
            for edge in graph.edges
            if edge.config.when is not None
        }
        self._looking = frozenset(edge.source for edge in graph.edges if edge.config.when is not None)
        self.targets: Mapping[str, Mapping[str, Edge]] = {
            node_id: {edge.target: edge for edge in edges} for node_id, edges in graph.outgoing.items()
        }
        """The edges out of each node, by where they lead."""
        ways = Reachability(graph)
        self._fork_of_join = {plan_id: ways.fork_of(plan_id) for plan_id in joins(graph)}
        self.tasks = TaskRouter(self)
        self.plans = PlanRouter(self)

    def holds(self, edge: Edge, facts: Mapping[str, Any]) -> bool:
        """Whether the edge's condition holds; raises ConditionFailed."""
        text = edge.config.when
        return text is None or self._conditions[text].holds(facts)

    def only_way(self, node_id: str) -> str:
        """Return where every result of a task goes, when its one edge is NORMAL and always holds; else ""."""
        edges = self.graph.outgoing[node_id]
        if len(edges) != 1 or edges[0].type is not EdgeKind.NORMAL or edges[0].config.when is not None:
            return ""
        return edges[0].target

    def normal_ways(self, node_id: str) -> frozenset[str]:
        """Return where a plan may go alone: what its NORMAL edges lead to."""
        edges = self.graph.outgoing[node_id]
        return frozenset(edge.target for edge in edges if edge.type is EdgeKind.NORMAL)

    def needs_facts(self, node_id: str) -> bool:
        """Whether routing out of the node looks at the result at all."""
        return node_id in self._looking

    def fork(self, node_id: str, execution_id: str, targets: Sequence[str], lineage: Lineage) -> list[Hop]:
        """Return one hop per target, each with its own frame; older frames of the same fork are replaced."""
        outer = _outside(lineage, node_id)
        branches = tuple(targets)
        return [Hop(t, (*outer, Fork(node_id, execution_id, t, branches))) for t in targets]

    def arrival(self, plan_id: str, execution_id: str, node_id: str, lineage: Lineage) -> JoinArrival:
        """Return how a result of `node_id` arrives at the join of `plan_id`."""
        fork_id, feeders = self._fork_of_join[plan_id]
        for frame in reversed(lineage):
            # A branch that came round over another edge was not sent out to feed this join: it is alone.
            if frame.node_id == fork_id and frame.branch in feeders:
                expected = tuple(b for b in frame.branches if b in feeders)
                return JoinArrival(
                    plan_id, frame.execution_id, frame.branch, expected, _outside(lineage, fork_id)
                )
        # Nothing was forked on the way here, so there is nobody to wait for.
        return JoinArrival(plan_id, execution_id, node_id, (node_id,), lineage)


class TaskRouter:
    """Routes the results of tasks."""

    def __init__(self, orchestrator: GraphOrchestrator) -> None:
        self._orchestrator = orchestrator

    def route(
        self, node_id: str, execution_id: str, lineage: Lineage, facts: Mapping[str, Any] | None
    ) -> Routes:
        """Return where a task's result goes.

        Every JOIN edge and every PARALLEL edge whose condition holds is taken; of the NORMAL and FINAL
        edges the first one, by priority. `facts` are the values of the condition environment, None when
        no edge of the node has a condition.
        """
        known = self._orchestrator
        edges = known.graph.outgoing[node_id]
        one: Edge | None = None
        parallel: list[str] = []
        arrivals: list[JoinArrival] = []
        for edge in edges:
            if edge.type in (EdgeKind.NORMAL, EdgeKind.FINAL) and one is not None:
                continue
            try:
                if facts is not None and not known.holds(edge, facts):
                    continue
            except ConditionFailed as failure:
                if facts is not None and not facts["success"]:
                    continue  # a failed result has no value to look at: the edge is not for it
                return Routes(fault=f"CONDITION: edge {edge.source} -> {edge.target}: {failure}")
            if edge.type is EdgeKind.JOIN:
                arrivals.append(known.arrival(edge.target, execution_id, node_id, lineage))
            elif edge.type is EdgeKind.PARALLEL:
                parallel.append(edge.target)
            else:
                one = edge
        hops = known.fork(node_id, execution_id, parallel, lineage) if parallel else []
        if one is not None and one.type is EdgeKind.FINAL:
            return Routes(final=True)
        if one is not None:
            hops.append(Hop(one.target, lineage))
        return Routes(tuple(hops), tuple(arrivals))


class PlanRouter:
    """Routes the decisions of plans."""

    def __init__(self, orchestrator: GraphOrchestrator) -> None:
        self._orchestrator = orchestrator

    def route(self, node_id: str, execution_id: str, lineage: Lineage, next_ids: Sequence[str]) -> Routes:
        """Return where a plan's decision goes.

        No next ids end the lifetime when the plan has a FINAL edge, else the branch. `end` among them
        ends the lifetime. More than one, or one over a PARALLEL edge, makes a fork.
        """
        graph = self._orchestrator.graph
        edges = self._orchestrator.targets[node_id]
        chosen = list(dict.fromkeys(next_ids))
        if (END in chosen and END in edges) or (not chosen and END in edges):
            return Routes(final=True)
        if len(next_ids) > graph.limits.max_fan_out:
            return Routes(
                fault=f"FANOUT: plan {node_id} named {len(next_ids)} tasks, "
                f"the graph allows {graph.limits.max_fan_out}"
            )
        for target in chosen:
            if target not in edges:
                named = ", ".join(edges) or "nothing"
                return Routes(fault=f"NOT_AN_EDGE: plan {node_id} named {target[:64]!a}, it may name {named}")
        parallel = [t for t in chosen if edges[t].type is EdgeKind.PARALLEL]
        if len(chosen) > 1 and len(parallel) < len(chosen):
            return Routes(
                fault=f"NOT_AN_EDGE: plan {node_id} named {len(chosen)} tasks, "
                "several at once only over parallel edges"
            )
        if parallel:
            return Routes(tuple(self._orchestrator.fork(node_id, execution_id, chosen, lineage)))
        return Routes(tuple(Hop(t, lineage) for t in chosen))


def _outside(lineage: Lineage, fork_id: str) -> Lineage:
    """Return the frames outside the given fork's frame; all of them when it has none."""
    for position, frame in enumerate(lineage):
        if frame.node_id == fork_id:
            return lineage[:position]
    return lineage
