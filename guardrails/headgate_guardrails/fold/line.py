"""Who waits for room: lifetimes of one tenant, by priority, served turn by turn. Every operation is O(1)."""

from __future__ import annotations

from collections.abc import Iterator


class Line:
    """Lifetimes whose work waits for room in their graph."""

    __slots__ = ("_members", "graphs", "may_move")

    def __init__(self) -> None:
        self._members: dict[int, dict[str, str]] = {}
        """Graph id by lifetime id, oldest first, by priority."""
        self.graphs: dict[str, int] = {}
        """How many wait for each graph, by its id; empty when nobody waits."""
        self.may_move = False
        """Whether anything has happened in this turn that may let somebody in; False between records."""

    def __iter__(self) -> Iterator[str]:
        """Yield lifetime ids as they are served: higher priority first, then turn by turn."""
        for priority in sorted(self._members, reverse=True):
            yield from self._members[priority]

    def join(self, lifetime_id: str, priority: int, graph_id: str) -> None:
        """Go to the end of the line; who is in it stays where it is."""
        members = self._members.setdefault(priority, {})
        if lifetime_id not in members:
            members[lifetime_id] = graph_id
            self.graphs[graph_id] = self.graphs.get(graph_id, 0) + 1

    def leave(self, lifetime_id: str, priority: int) -> None:
        """Leave the line; nothing happens to who is not in it."""
        members = self._members.get(priority, {})
        graph_id = members.pop(lifetime_id, None)
        if graph_id is None:
            return
        if not members:
            del self._members[priority]
        self.graphs[graph_id] -= 1
        if not self.graphs[graph_id]:
            del self.graphs[graph_id]
