"""Strict YAML: text becomes plain data that knows where each value stood. Graphs and policies are read by it.

What surprises people or costs memory is refused: aliases, anchors, tags, directives, duplicate keys, a second
document, more than 1 MiB, more than 32 levels. Scalars follow YAML 1.2: `no`, `off` and `12:30` are text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from headgate_graphs.errors import UserError

MAX_DOCUMENT_BYTES = 1_048_576
"""Longer text is not read: a definition is written by people, not by a generator gone wild."""
MAX_DEPTH = 32
"""Levels of nesting; the deepest definition needs 8."""

Path = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, object] = {"": None, "~": None} | {
    spelling: value
    for word, value in (("null", None), ("true", True), ("false", False))
    for spelling in (word, word.capitalize(), word.upper())
}
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a value stood, and its parts; lines and columns count from 1."""

    where: str
    line: int
    column: int
    parts: Mapping[str | int, Mark]
    """Marks of a mapping's values by key, of a sequence's items by index; empty for a scalar."""
    keys: Mapping[str | int, Mark]
    """Marks of a mapping's keys; empty for all else."""

    def __str__(self) -> str:
        """As "file:line:column", which editors and terminals can open."""
        return f"{self.where}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data (dict, list, str, int, float, bool, None) and the place of each value in it."""

    where: str
    """File name, as people know it."""
    value: Any
    mark: Mark

    def mark_of(self, path: Sequence[str | int]) -> Mark:
        """Return the mark of the value at `path`, or of the nearest parent that exists."""
        mark = self.mark
        for part in path:
            if part not in mark.parts:
                break
            mark = mark.parts[part]
        return mark

    def locate(self, path: Sequence[str | int]) -> str:
        """Return "file:line:column" of the value at `path`, or of the nearest parent that exists."""
        return str(self.mark_of(path))

    def mark_of_key(self, path: Sequence[str | int]) -> Mark:
        """Return the mark of the key that `path` ends with; of its value when it has none."""
        known = self.mark_of(path[:-1]).keys.get(path[-1]) if path else None
        return known or self.mark_of(path)


def read_file(
    file: FilePath, where: str, error: type[UserError], most_bytes: int = MAX_DOCUMENT_BYTES
) -> str:
    """Return the text of `file`, never reading more than a byte above `most_bytes`, whatever the file is.

    Raises `error` naming `where`, with the line of what is not UTF-8.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(most_bytes + 1)
    except (OSError, ValueError) as failure:  # ValueError: a name that no file can have
        raise error.from_faults(where, [getattr(failure, "strerror", None) or "cannot be read"]) from None
    if len(content) > most_bytes:
        raise error.from_faults(where, [f"{where}:1:1: longer than {most_bytes} bytes"])
    try:
        return content.decode()
    except UnicodeDecodeError as failure:
        line = content[: failure.start].count(b"\n") + 1
        raise error.from_faults(where, [f"{where}:{line}:1: not UTF-8 text"]) from None


def read_yaml(text: str, where: str, error: type[UserError]) -> Document:
    """Return the one document in `text`; pure. Raises `error` with file, line and column."""
    if len(text) > MAX_DOCUMENT_BYTES or len(text.encode(errors="replace")) > MAX_DOCUMENT_BYTES:
        raise error.from_faults(where, [f"{where}:1:1: longer than {MAX_DOCUMENT_BYTES} bytes"])
    return _Reading(text, where, error).document()


def validate(document: Document, model: type[M], error: type[UserError]) -> M:
    """Return `document` as `model`, without conversions between types ("no" is not a bool, "5" not an int).

    Raises `error` with one line `file:line:column: path: message` for each fault, all at once.
    """
    try:
        return model.model_validate_json(json.dumps(document.value), strict=True)
    except ValidationError as invalid:
        found = invalid.errors(include_url=False, include_context=False)
    raise error.from_faults(document.where, in_document_order(_faults(document, found)))


def in_document_order(faults: Iterable[tuple[Mark, Path, str]]) -> list[str]:
    """Return one line `file:line:column: path: message` for each (mark, path, message), sorted by place."""
    placed = sorted(faults, key=lambda fault: (fault[0].where, fault[0].line, fault[0].column))
    return [
        f"{mark}: {show_path(path)}: {message}" if path else f"{mark}: {message}"
        for mark, path, message in placed
    ]


def lines_of(invalid: ValidationError) -> list[str]:
    """Return one line `path: message` for each fault of a value that came from no document."""
    return [
        f"{show_path(detail['loc'])}: {_said(detail)}".removeprefix(": ")
        for detail in invalid.errors(include_url=False, include_context=False)
    ]


def plain_scalar(text: str) -> object:
    """Return what an unquoted scalar means: null, a bool, a number, or `text` itself; raises ValueError."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
            raise ValueError("a whole number must fit into 64 bits")
        return int(text)
    if _FLOAT.fullmatch(text):
        if not math.isfinite(float(text)):
            raise ValueError("a number must be finite")
        return float(text)
    return text


def show_path(path: Sequence[str | int]) -> str:
    """Return `path` as people write it, such as tasks[2].config.timeout; odd keys are escaped and capped."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            key = part if _PLAIN_KEY.fullmatch(part) else f"{part[:64]!a}"
            shown += f".{key}" if shown else key
    return shown


def _faults(document: Document, errors: Sequence[ErrorDetails]) -> Iterator[tuple[Mark, Path, str]]:
    paths = [detail["loc"] for detail in errors]
    for detail in errors:
        path = detail["loc"]
        if detail["type"] == "too_short" and any(other[: len(path)] == path != other for other in paths):
            continue  # pydantic counts only the items that are sound; their own faults are reported
        forbidden = detail["type"] == "extra_forbidden"
        mark = document.mark_of_key(path) if forbidden else document.mark_of(path)
        yield mark, path, _said(detail)


def _said(detail: ErrorDetails) -> str:
    return (
        "unknown key" if detail["type"] == "extra_forbidden" else detail["msg"].removeprefix("Value error, ")
    )


class _Reading:
    """One pass over the events of one text; recursion is bounded by MAX_DEPTH."""

    def __init__(self, text: str, where: str, error: type[UserError]) -> None:
        self.text = text
        self.where = where
        self.error = error

    def document(self) -> Document:
        self._refuse_bad_characters()
        loader = _LOADER(self.text)
        try:
            return self._only_document(iter(loader.get_event, None))
        except yaml.MarkedYAMLError as broken:
            mark = broken.problem_mark or broken.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            self._fail(line, column, f"not YAML: {ascii(broken.problem or broken.context or 'broken')[1:-1]}")
        finally:
            loader.dispose()

    def _only_document(self, events: Iterator[Any]) -> Document:
        next(events)
        start = next(events)
        if isinstance(start, yaml.StreamEndEvent):
            self._fail(1, 1, "the document is empty")
        if start.version or start.tags:
            self._refuse(start, "directives are not allowed")
        value, mark = self._node(next(events), events, 1)
        next(events)
        extra = next(events)
        if not isinstance(extra, yaml.StreamEndEvent):
            self._refuse(extra, "a second document; one is allowed")
        return Document(self.where, value, mark)

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> tuple[Any, Mark]:
        if isinstance(event, yaml.AliasEvent):
            self._refuse(event, "aliases are not allowed; write the value out")
        if event.anchor is not None:
            self._refuse(event, "anchors are not allowed")
        if event.tag is not None:
            self._refuse(event, "tags are not allowed")
        if depth > MAX_DEPTH:
            self._refuse(event, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(event, events, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(event, events, depth)
        return self._scalar(event), self._mark(event)

    def _mapping(self, start: Any, events: Iterator[Any], depth: int) -> tuple[dict[str, Any], Mark]:
        values: dict[str, Any] = {}
        parts: dict[str | int, Mark] = {}
        keys: dict[str | int, Mark] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key, key_mark = self._node(event, events, depth + 1)
            if not isinstance(key, str):
                self._refuse(event, "a key must be text; put it in quotes")
            if key in values:
                self._refuse(event, f"duplicate key {key[:64]!a}, first at line {keys[key].line}")
            keys[key] = key_mark
            values[key], parts[key] = self._node(next(events), events, depth + 1)
        return values, self._mark(start, parts, keys)

    def _sequence(self, start: Any, events: Iterator[Any], depth: int) -> tuple[list[Any], Mark]:
        values: list[Any] = []
        parts: dict[str | int, Mark] = {}
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            value, parts[len(values)] = self._node(event, events, depth + 1)
            values.append(value)
        return values, self._mark(start, parts)

    def _scalar(self, event: Any) -> object:
        try:
            return plain_scalar(event.value) if event.implicit[0] else event.value
        except ValueError as unfit:
            self._refuse(event, str(unfit))

    def _mark(
        self,
        event: Any,
        parts: Mapping[str | int, Mark] | None = None,
        keys: Mapping[str | int, Mark] | None = None,
    ) -> Mark:
        at = event.start_mark
        return Mark(self.where, at.line + 1, at.column + 1, parts or {}, keys or {})

    def _refuse(self, event: Any, message: str) -> NoReturn:
        self._fail(event.start_mark.line + 1, event.start_mark.column + 1, message)

    def _fail(self, line: int, column: int, message: str) -> NoReturn:
        raise self.error.from_faults(self.where, [f"{self.where}:{line}:{column}: {message}"]) from None

    def _refuse_bad_characters(self) -> None:
        found = yaml.reader.Reader.NON_PRINTABLE.search(self.text)
        if found:
            before = self.text[: found.start()]
            line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
            self._fail(line, column, f"the character {found.group()!a} is not allowed")
