"""What changed between two versions of a graph, field by field. Called by `headgate graph diff`. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from headgate_graphs.documents import Path, show_path
from headgate_graphs.model import AgentGraph, Definition, Edge, Plan, Task
from headgate_graphs.naming import name_of

_SHOWN_CHARS = 80
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}
_OWN = {"id", "from", "to"}
"""Fields that are a part's name."""


class Change(NamedTuple):
    """One difference, with JSON values; None where there is nothing."""

    kind: Literal["added", "removed", "changed"]
    part: str
    """graph, task ID, plan ID, edge FROM -> TO, or the order of a list."""
    path: Path = ()
    """The field within the part by its YAML name; empty for the part as a whole."""
    old: Any = None
    new: Any = None

    def __str__(self) -> str:
        """As one line, such as "~ task search: config.timeout: 30s -> 1m"."""
        where = f"{_SIGNS[self.kind]} {self.part}" + (f": {show_path(self.path)}" if self.path else "")
        if self.kind == "changed":
            return f"{where}: {_shown(self.old)} -> {_shown(self.new)}"
        value = self.new if self.kind == "added" else self.old
        return where if value == {} else f"{where}: {_shown(value)}"


def diff(old: AgentGraph, new: AgentGraph) -> list[Change]:
    """Return every difference in document order, what was removed where it stood.

    Empty when both have the same canonical JSON. A field that is not written counts with its default. Nodes
    are told apart by their ids, edges by their ends; a task that became a plan is removed and added.
    """
    lists = {"tasks", "plans", "edges"}
    return [
        *_fields("graph", (), _dumped(old, without=lists), _dumped(new, without=lists)),
        *_parts("tasks", old.tasks, new.tasks),
        *_parts("plans", old.plans, new.plans),
        *_parts("edges", old.edges, new.edges),
    ]


def _parts(
    called: str, old: Sequence[Task | Plan | Edge], new: Sequence[Task | Plan | Edge]
) -> Iterator[Change]:
    before = {name_of(part): part for part in old}
    after = {name_of(part): part for part in new}
    for name in _merged(list(before), list(after)):
        if name not in after:
            yield Change("removed", name, old=_written(before[name]))
        elif name not in before:
            yield Change("added", name, new=_written(after[name]))
        else:
            yield from _fields(name, (), _dumped(before[name]), _dumped(after[name]))
    stayed = [name for name in before if name in after], [name for name in after if name in before]
    if stayed[0] != stayed[1]:
        yield Change("changed", f"order of {called}", (), *stayed)


def _fields(part: str, path: Path, old: Any, new: Any) -> Iterator[Change]:
    """Yield the differences between two values of one field, as deep inside as they can be told apart."""
    before, after = _inside(old), _inside(new)
    if before is None or after is None:
        if _text(old) != _text(new):
            yield Change("changed", part, path, old, new)
        return
    for key in _merged(list(before), list(after)):
        if key not in after:
            yield Change("removed", part, (*path, key), old=before[key])
        elif key not in before:
            yield Change("added", part, (*path, key), new=after[key])
        else:
            yield from _fields(part, (*path, key), before[key], after[key])


def _inside(value: Any) -> Mapping[str | int, Any] | None:
    """Return the parts of an object, or of a list of objects by number; None for all else."""
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        return dict(enumerate(value))
    return value if isinstance(value, dict) else None


def _merged(old: list[Any], new: list[Any]) -> list[Any]:
    """Return the keys of both: the new ones in order, each that is gone after what it stood behind."""
    merged, kept = list(new), set(new)
    for position, key in enumerate(old):
        if key not in kept:
            merged.insert(merged.index(old[position - 1]) + 1 if position else 0, key)
    return merged


def _dumped(definition: Definition, without: set[str] | None = None) -> dict[str, Any]:
    return definition.model_dump(mode="json", by_alias=True, exclude=without)


def _written(part: Definition) -> dict[str, Any]:
    """Return what one would write of a part beside its name."""
    fields = part.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {name: value for name, value in fields.items() if name not in _OWN}


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, str) and value and value.isprintable() and len(value) <= _SHOWN_CHARS:
        return value
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."
