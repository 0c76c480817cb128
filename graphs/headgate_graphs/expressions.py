"""What a checked CEL expression is made of, read from its serialized tree. Called by `conditions` alone.

The library gives a compiled expression no public tree, but serializes it as `cel.expr.CheckedExpr`
(source: cel-spec, proto/cel/expr/checked.proto and syntax.proto), whose fields are walked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# Field numbers of cel.expr.CheckedExpr, Expr, Type, Constant.
_TYPES, _EXPR, _SOURCE = 3, 4, 5
_ID, _CONST, _SELECT, _CALL, _LIST, _STRUCT, _LOOP = 2, 3, 5, 6, 7, 8, 9
_LIST_TYPE, _MAP_TYPE = 6, 7
_STRING = 6

_CHILDREN = {_SELECT: (1,), _CALL: (1, 3), _LIST: (1,), _STRUCT: (2,), _LOOP: (2, 4, 5, 6, 7)}

Field = tuple[int, int | bytes]


@dataclass(frozen=True, slots=True)
class Loop:
    """One use of `all`, `exists`, `exists_one`, `map` or `filter`."""

    offset: int
    """Where its range stands in the text, in characters from 0."""
    is_nested: bool
    """Whether it stands inside another one."""
    is_over_list: bool
    """Whether its range is known to be a list."""
    is_over_map: bool
    """Whether its range is known to be a map."""
    range_expression: bytes
    """The range by itself, serialized; it can be evaluated when the loop is not nested."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What matters of one expression."""

    terms: int
    """Nodes of the tree."""
    loops: tuple[Loop, ...]
    patterns: tuple[tuple[int, str | None], ...]
    """(offset, regular expression) of each `matches`; None when it is not a literal."""


def anatomy(serialized: bytes) -> Anatomy:
    """Return what `serialized` (Expression.serialize()) is made of; pure, linear in its length."""
    url, checked_bytes = (value for _, value in _fields(serialized))
    checked = list(_fields(_message(checked_bytes)))
    types = _entries(checked, _TYPES)
    offsets = _entries(list(_fields(_first(checked, _SOURCE))), 4)
    terms, loops, patterns = 0, [], []
    todo = [(_first(checked, _EXPR), False)]
    while todo:
        node, inside = todo.pop()
        terms += 1
        node_id, kind, body = _node(node)
        if kind == _LOOP:
            loops.append(_loop(url, checked, types, offsets, _first(body, 2), inside))
        elif kind == _CALL and _first(body, 2) == b"matches":
            patterns.append((_number(offsets, node_id), _literal([v for n, v in body if n == 3])))
        todo += [(child, inside or (kind == _LOOP and field != 2)) for field, child in _children(kind, body)]
    return Anatomy(terms, tuple(loops), tuple(patterns))


def _loop(
    url: int | bytes,
    checked: list[Field],
    types: dict[int, int | bytes],
    offsets: dict[int, int | bytes],
    over: bytes,
    inside: bool,
) -> Loop:
    over_id, _, _ = _node(over)
    kinds = [number for number, _ in _fields(_message(types.get(over_id, b"")))]
    alone = [field for field in checked if field[0] != _EXPR] + [(_EXPR, over)]
    return Loop(
        offset=_number(offsets, over_id),
        is_nested=inside,
        is_over_list=_LIST_TYPE in kinds,
        is_over_map=_MAP_TYPE in kinds,
        range_expression=_encoded([(1, url), (2, _encoded(alone))]),
    )


def _literal(arguments: list[int | bytes]) -> str | None:
    _, kind, body = _node(_message(arguments[-1]))
    text = _first(body, _STRING) if kind == _CONST else None
    return text.decode() if text is not None and body and body[0][0] == _STRING else None


def _node(node: bytes) -> tuple[int, int, list[Field]]:
    """Return an Expr's id, which kind it is and the fields of that kind."""
    node_id, kind, body = 0, 0, b""
    for number, value in _fields(node):
        if number == _ID and isinstance(value, int):
            node_id = value
        else:
            kind, body = number, _message(value)
    return node_id, kind, list(_fields(body))


def _children(kind: int, body: list[Field]) -> Iterator[tuple[int, bytes]]:
    for number, value in body:
        if number not in _CHILDREN.get(kind, ()):
            continue
        if kind == _STRUCT:
            yield from ((n, _message(v)) for n, v in _fields(_message(value)) if n in (3, 4))
        else:
            yield number, _message(value)


def _entries(fields: list[Field], number: int) -> dict[int, int | bytes]:
    """Return a protobuf map with integer keys."""
    found: dict[int, int | bytes] = {}
    for field, value in fields:
        if field == number:
            entry = dict(_fields(_message(value)))
            key = entry.get(1, 0)
            found[key if isinstance(key, int) else 0] = entry.get(2, 0)
    return found


def _number(numbers: dict[int, int | bytes], key: int) -> int:
    value = numbers.get(key, 0)
    return value if isinstance(value, int) else 0


def _first(fields: list[Field], number: int) -> bytes:
    return next((_message(value) for field, value in fields if field == number), b"")


def _message(value: int | bytes) -> bytes:
    return value if isinstance(value, bytes) else b""


def _fields(data: bytes) -> Iterator[Field]:
    """Yield (field number, varint or bytes) of one protobuf message; fixed-width fields come as bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        size = {1: 8, 5: 4}.get(wire)
        if size is None:
            size, at = _varint(data, at)
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
    return value | data[at] << shift, at + 1


def _encoded(fields: list[Field]) -> bytes:
    """Return the message with these fields; the reverse of `_fields` for varints and lengths."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += _encoded_varint(number << 3) + _encoded_varint(value)
        else:
            out += _encoded_varint(number << 3 | 2) + _encoded_varint(len(value)) + value
    return bytes(out)


def _encoded_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
