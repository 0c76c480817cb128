"""Flattens a drawing as Graphviz does: defaults, chains and subgraphs become nodes and edges. Pure.

Called by `reading`. Only attributes that mean something are kept (see `attributes`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from headgate_graphs.checks import MAX_EDGES, MAX_NODES
from headgate_graphs.dot import attributes as names
from headgate_graphs.dot.syntax import Attribute, Body, Chain, Defaults, Drawing, Id
from headgate_graphs.errors import GraphInvalid

Given = dict[str, Attribute]
"""Attributes of one element by name; a later one has replaced an earlier one."""


@dataclass(slots=True)
class Flat:
    """A drawing as Graphviz understands it, in the order in which things first appear."""

    graph: Given = field(default_factory=dict)
    nodes: dict[str, tuple[Id, Given]] = field(default_factory=dict)
    """Every node by id, with where it first appears."""
    edges: list[tuple[Id, Id, Given]] = field(default_factory=list)
    """(from, to, attributes)."""
    unknown: list[tuple[Id, str]] = field(default_factory=list)
    """Attributes that nobody knows, and what to say about each."""


def flattened(drawing: Drawing, where: str) -> Flat:
    """Return the nodes and edges of `drawing`; raises GraphInvalid when there are too many."""
    flat = Flat()
    _Braces(flat, where, {}, {}, is_top=True).take_in(drawing.body)
    return flat


class _Braces:
    """What holds between two braces: the defaults given so far, which end with them."""

    def __init__(self, flat: Flat, where: str, node: Given, edge: Given, *, is_top: bool = False) -> None:
        self._flat = flat
        self._where = where
        self._given = {"node": dict(node), "edge": dict(edge), "graph": flat.graph if is_top else {}}
        self._ours = {"node": names.NODE, "edge": names.EDGE, "graph": names.GRAPH if is_top else frozenset()}

    def take_in(self, body: Body) -> list[Id]:
        """Take in every statement; return the nodes that are named, each once, in order."""
        named: dict[str, Id] = {}
        for statement in body.statements:
            if isinstance(statement, Defaults):
                self._given[statement.of].update(self._known(statement.attributes, statement.of))
            else:
                for one in self._chain(statement):
                    named.setdefault(one.text, one)
        return list(named.values())

    def _chain(self, chain: Chain) -> list[Id]:
        if len(chain.points) == 1 and isinstance(chain.points[0], Id):
            self._node(chain.points[0], self._known(chain.attributes, "node"))
            return [chain.points[0]]
        given = self._given["edge"] | self._known(chain.attributes, "edge")
        named: list[Id] = []
        before: list[Id] = []
        for point in chain.points:
            here = self._point(point)
            for source in before:
                self._edges(source, here, given)
            named += here
            before = here
        return named

    def _point(self, point: Id | Body) -> list[Id]:
        if isinstance(point, Body):
            return _Braces(self._flat, self._where, self._given["node"], self._given["edge"]).take_in(point)
        self._node(point, {})
        return [point]

    def _node(self, node: Id, given: Given) -> None:
        _, known = self._flat.nodes.setdefault(node.text, (node, dict(self._given["node"])))
        known.update(given)
        if len(self._flat.nodes) > MAX_NODES + len(("start", "end")):
            self._refuse(node, f"more nodes than {MAX_NODES}")

    def _edges(self, source: Id, targets: Iterable[Id], given: Given) -> None:
        for target in targets:
            self._flat.edges.append((source, target, given))
            if len(self._flat.edges) > MAX_EDGES + len(("start",)):
                self._refuse(target, f"more edges than {MAX_EDGES}")

    def _known(self, attributes: Iterable[Attribute], of: str) -> Given:
        """Return those that mean something to us; note those that mean nothing to anybody."""
        kept: Given = {}
        for attribute in attributes:
            name = attribute.name.text
            if name in self._ours[of]:
                kept[name] = attribute
            elif not names.is_graphviz(name):
                ours = ", ".join(sorted(self._ours[of])) or "nothing here"
                message = f"unknown attribute {name[:64]!a}; beside Graphviz's own, {of}s have {ours}"
                self._flat.unknown.append((attribute.name, message))
        return kept

    def _refuse(self, at: Id, message: str) -> NoReturn:
        raise GraphInvalid(self._where, [f"{self._where}:{at.line}:{at.column}: {message}"])
