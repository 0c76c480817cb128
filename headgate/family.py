"""A lifetime with the sub-graphs below it: which happenings of a tenant concern it, and how deep they lie."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from headgate_catalog.happening import Happening
from headgate_protos.v1.execution_pb2 import LifetimeView

MAX_EARLY = 10_000
"""Happenings of sub-graphs that are kept until it is known whose they are; above it the oldest are let go."""
_SUBGRAPH = "sub-"
"""How the ids of sub-graphs begin; the rest is the id of the execution that started it."""


class Family:
    """Picks what concerns one lifetime out of what happens to its tenant.

    A sub-graph is known by its view, which names its parent. What is read before that view waits for it.
    """

    def __init__(self, lifetime_id: str, views: Iterable[LifetimeView] = (), *, below: bool = True) -> None:
        self.lifetime_id = lifetime_id
        self._below = below
        self._depths = {lifetime_id: 0}
        self._graphs: set[str] = set()
        self._early: dict[str, list[Happening]] = {}
        self._kept = 0
        left, unknown = 0, list(views)
        while left != len(unknown):  # each round learns one level more
            left, unknown = len(unknown), [view for view in unknown if not self._is_known(view)]

    def take(self, happening: Happening) -> list[Happening]:
        """Return what concerns the lifetime, with its depth: the happening, and what waited for it."""
        whose = happening.lifetime_id
        if not whose:
            return [happening] if self._is_frozen_by(happening) else []
        adopted = self._learn(happening.view) if happening.view is not None else []
        if whose in self._depths:
            return [replace(one, depth=self._depths[one.lifetime_id]) for one in (happening, *adopted)]
        if self._below and whose.startswith(_SUBGRAPH):
            self._keep(happening)
        return []

    def _is_known(self, view: LifetimeView) -> bool:
        """Whether a view is of the family, which it may have joined just now."""
        whose, above = view.lifetime_id, self._depths.get(view.parent_lifetime_id)
        if whose not in self._depths and above is not None and self._below:
            self._depths[whose] = above + 1
        if whose in self._depths:
            self._graphs.add(view.graph_id)
        return whose in self._depths

    def _learn(self, view: LifetimeView) -> list[Happening]:
        """Take in what a view says of who is whose; return what has waited for that."""
        adopted: list[Happening] = []
        views = [view]
        while views:
            one = views.pop()
            is_new = one.lifetime_id not in self._depths
            if self._is_known(one) and is_new:
                adopted += self._early.pop(one.lifetime_id, [])
                views += [early.view for kept in self._early.values() for early in kept if early.view]
        self._kept -= len(adopted)
        return adopted

    def _keep(self, happening: Happening) -> None:
        self._early.setdefault(happening.lifetime_id, []).append(happening)
        self._kept += 1
        while self._kept > MAX_EARLY:
            self._kept -= len(self._early.pop(next(iter(self._early))))

    def _is_frozen_by(self, happening: Happening) -> bool:
        event = happening.event
        return event is not None and event.graph_id in ("", *self._graphs)


def depths_of(views: Iterable[LifetimeView]) -> dict[str, int]:
    """Return how many levels of sub-graphs lie above each lifetime, as far as its ancestors are known."""
    parents = {view.lifetime_id: view.parent_lifetime_id for view in views}
    depths: dict[str, int] = {}
    for name in parents:
        above, depth = parents[name], 0
        while above and depth < len(parents):
            above, depth = parents.get(above, ""), depth + 1
        depths[name] = depth
    return depths
