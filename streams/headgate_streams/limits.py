"""Bounds on what one message may hold: depth, parts, length of each text. Called by `codec` for every record.

The protobuf parser bounds the nesting of messages (100 levels) and `codec` the length of the whole. What is
left is text that some reader parses again, and messages that are little but many. The bytes are looked at
first, so that a usual record costs two searches in C.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Any, Final

from google.protobuf.message import Message

from headgate_graphs.errors import BadRecord

MAX_DEPTH: Final = 100
"""Levels of JSON inside a message, and of groups inside bytes that are no message."""
MAX_PARTS: Final = 20_000
"""Repeated messages and texts of one record, at all levels; a worker's heartbeat has at most a thousand."""
MAX_JSON_BYTES: Final = 524_288
"""One JSON value inside a record: twice the largest `inline_limit_bytes`; longer ones go to the store."""
MAX_TEXT_BYTES: Final = 65_536
"""Any other text inside a record: ids, messages, reasons."""

_WHOLE_DOCUMENTS: Final = frozenset({"definition_json", "document_json", "params_json", "value"})
"""Fields that are bounded by the record alone: graphs, their rules, policies, the bytes of a dead letter."""
_COUNTED_ELSEWHERE: Final = frozenset({"next_task_ids"})
"""What a plan names is answered by the gate: FANOUT, a failed result that the plan is told."""
_STRINGS: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""One level up or down for each bracket, as signed bytes."""
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def refuse_bombs(message: Message, value: bytes) -> None:
    """Raise BadRecord DEPTH, COUNT or SIZE when `message`, parsed from `value`, holds too much."""
    is_deep = value.count(b"[") + value.count(b"{") > MAX_DEPTH
    if is_deep or len(value) > MAX_PARTS:
        _walk(message, MAX_PARTS)


def is_too_deep(json_text: str) -> bool:
    """Whether JSON text opens more than MAX_DEPTH brackets inside one another. Text need not be JSON."""
    if json_text.count("[") + json_text.count("{") <= MAX_DEPTH:
        return False
    steps = _STRINGS.sub("", json_text).encode("ascii", "replace").translate(_STEPS, _NO_BRACKETS)
    return max(accumulate(memoryview(steps).cast("b")), default=0) > MAX_DEPTH


def is_nested(value: bytes) -> bool:
    """Whether bytes that are no message begin with more than MAX_DEPTH groups or messages in one another."""
    at, end, depth = 0, len(value), 0
    while at < end and depth <= MAX_DEPTH:
        tag, at = _varint(value, at)
        wire = tag & 7
        if wire == 2:
            size, at = _varint(value, at)
            end = min(end, at + size)
        elif wire != 3:
            return False
        depth += 1
    return depth > MAX_DEPTH


def _varint(value: bytes, at: int) -> tuple[int, int]:
    """Return a number and where it ends; what is cut off or too long is 0, which nothing nests in."""
    found = 0
    for shift in range(0, 70, 7):
        if at >= len(value):
            return 0, at
        found |= (value[at] & 0x7F) << shift
        at += 1
        if value[at - 1] < 0x80:
            return found, at
    return 0, at


def _walk(message: Message, left: int) -> int:
    """Check every field that is set; return how many parts are left. Schemas do not nest in themselves."""
    for field, held in message.ListFields():
        if not field.is_repeated:
            left = _check(field, held, left)
            continue
        if field.name not in _COUNTED_ELSEWHERE:
            left -= len(held)
            if left < 0:
                raise BadRecord("COUNT", f"more than {MAX_PARTS} parts, the last of them in {field.name}")
        for one in held:
            left = _check(field, one, left)
    return left


def _check(field: Any, held: Any, left: int) -> int:
    if isinstance(held, Message):
        return _walk(held, left)
    if not isinstance(held, str | bytes) or len(held) <= MAX_DEPTH:
        return left
    is_json = field.name.startswith("json") or field.name.endswith("_json")
    if field.name not in _WHOLE_DOCUMENTS:
        most = MAX_JSON_BYTES if is_json or field.name == "inline_content" else MAX_TEXT_BYTES
        if len(held) > most:
            raise BadRecord("SIZE", f"{field.name} has {len(held)} characters, the most is {most}")
    if is_json and isinstance(held, str) and is_too_deep(held):
        raise BadRecord("DEPTH", f"{field.name} is nested deeper than {MAX_DEPTH} levels")
    return left
