"""Which nodes lead to which: the whole-graph questions of `checks`, answered with sets of bits.

A set of nodes is an int whose bit i stands for the i-th node, so that the
largest graph is answered in well under a second, whatever its shape.
"""

from __future__ import annotations

from collections.abc import Iterable

from headgate_graphs.ids import END
from headgate_graphs.model import AgentGraph, Edge, EdgeKind, Task


class Reachability:
    """The ways through one graph; edges from or to unknown nodes are left out. Pure."""

    def __init__(self, graph: AgentGraph) -> None:
        self._graph = graph
        self._bit = {node_id: 1 << i for i, node_id in enumerate(graph.nodes)}
        self._into: dict[str, list[str]] = {node_id: [] for node_id in graph.nodes}
        for edge in graph.edges:
            if edge.source in self._bit and edge.target in self._bit:
                self._into[edge.target].append(edge.source)

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

    def widest_fork(self, plan_id: str, sources: Iterable[str]) -> int:
        """Return the most branches that one fork sends to a join; 0 when no fork feeds all its sources.

        A fork is a node with PARALLEL edges. An upper bound: a branch that comes to the join only by way
        of another visit to the fork is counted too. A way through the joining plan does not count.
        """
        wanted = sum(self._bit[source] for source in set(sources))
        reach = self._reach_of(wanted, plan_id)
        widest = 0
        for branches in self._forks().values():
            feeding = [reach[branch] for branch in branches if reach.get(branch)]
            fed = 0
            for bits in feeding:
                fed |= bits
            if fed == wanted:
                widest = max(widest, len(feeding))
        return widest

    def _forks(self) -> dict[str, list[str]]:
        forks: dict[str, list[str]] = {}
        for edge in self._graph.edges:
            if edge.type is EdgeKind.PARALLEL and edge.source in self._bit:
                forks.setdefault(edge.source, []).append(edge.target)
        return forks

    def _reach_of(self, wanted: int, without: str) -> dict[str, int]:
        """Return which of the `wanted` nodes each node leads to, itself included, not through `without`."""
        reach = {node_id: bit for node_id, bit in self._bit.items() if bit & wanted and node_id != without}
        todo = list(reach)
        while todo:
            node_id = todo.pop()
            for source in self._into[node_id]:
                if source == without:
                    continue
                known = reach.get(source, 0)
                if known | reach[node_id] != known:
                    reach[source] = known | reach[node_id]
                    todo.append(source)
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
