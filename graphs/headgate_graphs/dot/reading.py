"""What a drawing means as a definition: DOT becomes the document that `loading` checks. Pure.

A node is a task; one with `kind=plan`, or with the shape of a diamond and no kind, is a plan. Its type is its
attribute `type`, else its id. `end` is the exit. A node with `kind=start` is only a mark: the edge out of it
leads to the entry; without one the first node is the entry.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from headgate_graphs.documents import Document, Mark, Path, in_document_order, read_yaml
from headgate_graphs.dot import attributes as names
from headgate_graphs.dot.collecting import Flat, Given, flattened
from headgate_graphs.dot.syntax import Id, read_dot
from headgate_graphs.dot.text import decoded
from headgate_graphs.errors import GraphInvalid
from headgate_graphs.ids import END

_DIAMONDS = ("diamond", "Mdiamond")
_LISTS = {"task": "tasks", "plan": "plans"}
_NOTHING: Mapping[str | int, Mark] = {}

Marked = tuple[Any, Mark]
"""A value of the document and where it stands."""


def document_from_dot(text: str, where: str) -> Document:
    """Return the definition that the drawing in `text` holds, not validated yet.

    Raises GraphInvalid with file, line and column: for one fault of syntax, or for all others at once.
    """
    drawing = read_dot(text, where)
    if not drawing.is_directed:
        raise GraphInvalid(where, [f"{where}:1:1: a graph without directions; an agent graph is a digraph"])
    reading = _Reading(flattened(drawing, where), where)
    value, mark = reading.definition(drawing.name)
    if reading.faults:
        raise GraphInvalid(where, in_document_order(reading.faults))
    return Document(where, value, mark)


class _Reading:
    """One pass over one flat drawing; notes faults and goes on."""

    def __init__(self, flat: Flat, where: str) -> None:
        self._flat = flat
        self._where = where
        self.faults: list[tuple[Mark, Path, str]] = []
        for at, message in flat.unknown:
            self._fault(at, (), message)
        self._kinds = {node_id: self._kind(at, given) for node_id, (at, given) in flat.nodes.items()}

    def definition(self, name: Id | None) -> Marked:
        given = self._flat.graph
        metadata = self._values(given, ("metadata",), given.keys() & names.METADATA)
        if name is not None:
            metadata["id"] = (name.text, self._at(name))
        top = self._values(given, (), given.keys() - names.METADATA) | self._entry()
        beginning = self._at(name or Id("", 1, 1))
        top["metadata"] = _mapping(beginning, metadata)
        for kind, path in _LISTS.items():
            chosen = [node_id for node_id, known in self._kinds.items() if known == kind]
            top[path] = _sequence(beginning, [self._node(i, (path, n)) for n, i in enumerate(chosen)])
        edges = [edge for edge in self._flat.edges if self._kinds[edge[0].text] != "start"]
        top["edges"] = _sequence(beginning, [self._edge(*edge, ("edges", n)) for n, edge in enumerate(edges)])
        return _mapping(beginning, top)

    def _kind(self, at: Id, given: Given) -> str:
        """Return task, plan, start or end."""
        if at.text == END:
            self._only_a_mark(given, "the exit")
            return "end"
        shape = given[names.SHAPE].value.text if names.SHAPE in given else ""
        if names.KIND not in given:
            return "plan" if shape in _DIAMONDS else "task"
        kind = given[names.KIND].value
        if kind.text == "start":
            self._only_a_mark(given, "the start mark")
        elif kind.text not in _LISTS:
            self._fault(kind, (), f"the kind is task, plan or start, not {kind.text[:64]!a}")
        return kind.text

    def _entry(self) -> dict[str, Marked]:
        """Return the entry: where the edge out of the start mark leads, else the first node; or none."""
        marked = [edge for edge in self._flat.edges if self._kinds[edge[0].text] == "start"]
        nodes = [at for node_id, (at, _) in self._flat.nodes.items() if self._kinds[node_id] in _LISTS]
        for number, (source, _, given) in enumerate(marked):
            self._only_a_mark(given, "the edge out of the start mark")
            if number > 0:
                self._fault(source, ("entry",), "a second edge out of a start mark; a graph has one entry")
        entries = [target for _, target, _ in marked] or nodes
        return {"entry": (entries[0].text, self._at(entries[0]))} if entries else {}

    def _node(self, node_id: str, path: Path) -> Marked:
        at, given = self._flat.nodes[node_id]
        own = {"id": (node_id, self._at(at)), "type": (node_id, self._at(at))}
        more = self._values(given, path, given.keys() - {names.KIND, names.SHAPE})
        return _mapping(self._at(at), own | more)

    def _edge(self, source: Id, target: Id, given: Given, path: Path) -> Marked:
        if self._kinds[target.text] == "start":
            self._fault(target, path, "no edge leads to the start mark")
        ends = {"from": (source.text, self._at(source)), "to": (target.text, self._at(target))}
        own = {"type": ("final", self._at(target))} if target.text == END else {}
        own |= self._values(given, path, given.keys() - names.EDGE_CONFIG)
        config = self._values(given, (*path, "config"), given.keys() & names.EDGE_CONFIG)
        if config:
            own["config"] = _mapping(self._at(source), config)
        return _mapping(self._at(source), ends | own)

    def _values(self, given: Given, path: Path, chosen: Collection[str]) -> dict[str, Marked]:
        """Return the chosen attributes, read as text or as YAML, in the order in which they were given."""
        return {
            name: (self._value(name, attribute.value, (*path, name)), self._at(attribute.value))
            for name, attribute in given.items()
            if name in chosen
        }

    def _value(self, name: str, value: Id, path: Path) -> Any:
        if value.is_html:
            self._fault(value, path, "HTML is for labels; this value needs quotes")
        elif name in names.TEXT:
            return decoded(value.text)
        else:
            try:
                return read_yaml(value.text, "", GraphInvalid).value
            except GraphInvalid as invalid:
                place, _, message = invalid.faults[0].removeprefix(":").partition(": ")
                self._fault(value, path, f"at {place} of the value: {message}")
        return None

    def _only_a_mark(self, given: Given, what: str) -> None:
        for name in (name for name in given if name not in (names.KIND, names.SHAPE)):
            self._fault(given[name].name, (), f"{what} only marks a place; {name} means nothing there")

    def _fault(self, at: Id, path: Path, message: str) -> None:
        self.faults.append((self._at(at), path, message))

    def _at(self, one: Id) -> Mark:
        return Mark(self._where, one.line, one.column, _NOTHING, _NOTHING)


def _mapping(at: Mark, parts: Mapping[str, Marked]) -> Marked:
    marks: dict[str | int, Mark] = {key: mark for key, (_, mark) in parts.items()}
    return {key: value for key, (value, _) in parts.items()}, replace(at, parts=marks, keys=marks)


def _sequence(at: Mark, parts: Sequence[Marked]) -> Marked:
    marks: dict[str | int, Mark] = {number: mark for number, (_, mark) in enumerate(parts)}
    return [value for value, _ in parts], replace(at, parts=marks)
