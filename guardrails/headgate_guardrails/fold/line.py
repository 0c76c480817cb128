"""Who waits for room: lifetimes of one tenant, by priority, served turn by turn. Every operation is O(1)."""

from __future__ import annotations

from collections.abc import Iterator


class Line:
    """Lifetimes whose work waits for room in their graph."""

    __slots__ = ("_graphs", "_members", "may_move")

    def __init__(self) -> None:
        self._members: dict[int, dict[str, str]] = {}
        """Graph id by lifetime id, oldest first, by priority."""
        self._graphs: dict[str, int] = {}
        """How many wait for each graph."""
        self.may_move = False
        """Whether anything has happened in this turn that may let somebody in; False between records."""

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._graphs)

    def __iter__(self) -> Iterator[str]:
        """Yield lifetime ids as they are served: higher priority first, then turn by turn."""
        for priority in sorted(self._members, reverse=True):
            yield from self._members[priority]

    @property
    def graphs(self) -> int:
        """How many graphs somebody waits for."""
        return len(self._graphs)

    def waits_for(self, graph_id: str) -> bool:
        """Whether anybody waits for room in this graph."""
        return graph_id in self._graphs

    def join(self, lifetime_id: str, priority: int, graph_id: str) -> None:
        """Go to the end of the line; who is in it stays where it is."""
        members = self._members.setdefault(priority, {})
        if lifetime_id not in members:
            members[lifetime_id] = graph_id
            self._graphs[graph_id] = self._graphs.get(graph_id, 0) + 1

    def leave(self, lifetime_id: str, priority: int) -> None:
        """Leave the line; nothing happens to who is not in it."""
        members = self._members.get(priority, {})
        graph_id = members.pop(lifetime_id, None)
        if graph_id is None:
            return
        if not members:
            del self._members[priority]
        self._graphs[graph_id] -= 1
        if not self._graphs[graph_id]:
            del self._graphs[graph_id]
