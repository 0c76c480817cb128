"""Which nodes lead to which: the whole-graph questions of `checks`, answered with sets of bits.

A set of nodes is an int whose bit i stands for the i-th node, so that the
largest graph is answered in well under a second, whatever its shape.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from headgate_graphs.ids import END
from headgate_graphs.model import AgentGraph, Edge, EdgeKind, Task


class Reachability:
    """The ways through one graph; edges from or to unknown nodes are left out. Pure."""

    def __init__(self, graph: AgentGraph) -> None:
        self._graph = graph
        self._bit = {node_id: 1 << i for i, node_id in enumerate(graph.nodes)}
        self._into: dict[str, list[str]] = {node_id: [] for node_id in graph.nodes}
        self._forks: dict[str, list[str]] = {}
        self._joins = joins(graph)
        for edge in graph.edges:
            if edge.source in self._bit and edge.target in self._bit:
                self._into[edge.target].append(edge.source)
                if edge.type is EdgeKind.PARALLEL:
                    self._forks.setdefault(edge.source, []).append(edge.target)

    def from_entry(self) -> set[str]:
        """Return every node that a lifetime can come to."""
        seen = {self._graph.entry} & self._bit.keys()
        todo = list(seen)
        while todo:
            for edge in self._graph.outgoing.get(todo.pop(), ()):
                if edge.target in self._bit and edge.target not in seen:
                    seen.add(edge.target)
                    todo.append(edge.target)
        return seen

    def to_exit(self) -> set[str]:
        """Return every node from which a FINAL edge can be reached."""
        finals = {edge.source for edge in self._graph.edges if edge.target == END}
        return self._backwards(finals)

    def to_exit_or_dead_end(self) -> set[str]:
        """Return every node from which a branch can end: at a FINAL edge or at a task that leads nowhere."""
        ends = {edge.source for edge in self._graph.edges if edge.target == END}
        ends |= {
            node_id
            for node_id, node in self._graph.nodes.items()
            if isinstance(node, Task) and not self._graph.outgoing[node_id]
        }
        return self._backwards(ends)

    def fork_of(self, plan_id: str) -> tuple[str, frozenset[str]]:
        """Return the fork that the join of a plan belongs to, and its branches that can deliver to the join.

        It is the innermost node whose PARALLEL edges feed every task with a JOIN edge to the plan: the first
        one on the way back from them, level by level. ("", empty) when nothing feeds them all.
        """
        sources = {edge.source for _, edge in self._joins.get(plan_id, ()) if edge.source in self._bit}
        wanted = sum(self._bit[source] for source in sources)
        seen, level = {*sources, plan_id}, sources
        while level:
            level = {before for node_id in level for before in self._into[node_id]} - seen
            for fork_id in sorted(level & self._forks.keys()):
                feeders = self._feeders(fork_id, plan_id, wanted)
                if feeders:
                    return fork_id, feeders
            seen |= level
        return "", frozenset()

    def _feeders(self, fork_id: str, plan_id: str, wanted: int) -> frozenset[str]:
        """Return the branches of a fork that deliver to the join; empty when they do not feed all of it.

        A way back through the fork begins another visit, and a way through the joining plan has already
        delivered, so neither counts.
        """
        reach = self._reach_of(wanted, (fork_id, plan_id))
        fed = {branch: self._reach_from(branch, reach, wanted) for branch in self._forks[fork_id]}
        feeders = frozenset(branch for branch, bits in fed.items() if bits)
        together = 0
        for bits in fed.values():
            together |= bits
        return feeders if together == wanted else frozenset()

    def _reach_from(self, branch: str, reach: Mapping[str, int], wanted: int) -> int:
        """Return which of the `wanted` nodes a branch leads to; it may itself be the joining plan."""
        bits = self._bit[branch] & wanted
        for edge in self._graph.outgoing[branch]:
            bits |= reach.get(edge.target, 0)
        return bits

    def _reach_of(self, wanted: int, without: Collection[str]) -> dict[str, int]:
        """Return which of the `wanted` nodes each node leads to, itself included, not through `without`."""
        reach = {n: bit for n, bit in self._bit.items() if bit & wanted and n not in without}
        level = list(reach)
        while level:  # breadth first, so that a node mostly hears of all it leads to before it is asked
            told: dict[str, None] = {}
            for node_id in level:
                bits = reach[node_id]
                for source in self._into[node_id]:
                    known = reach.get(source, 0)
                    if known | bits != known and source not in without:
                        reach[source] = known | bits
                        told[source] = None
            level = list(told)
        return reach

    def _backwards(self, ends: set[str]) -> set[str]:
        seen = ends & self._bit.keys()
        todo = list(seen)
        while todo:
            for source in self._into[todo.pop()]:
                if source not in seen:
                    seen.add(source)
                    todo.append(source)
        return seen


def joins(graph: AgentGraph) -> dict[str, list[tuple[int, Edge]]]:
    """Return the JOIN edges into each plan, with their positions in the document."""
    found: dict[str, list[tuple[int, Edge]]] = {}
    for position, edge in enumerate(graph.edges):
        if edge.type is EdgeKind.JOIN:
            found.setdefault(edge.target, []).append((position, edge))
    return found
