"""Dead letters as people see them: bytes that can do a terminal no harm, and what to do about each reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headgate.dead_letters import FoundLetter
from headgate.words import moment

SHOWN_BYTES = 512
"""Bytes of a value that `dlq show` draws; `--json` has all that was kept."""
_ROW = 16
_SPOOF = "Find out who wrote it, and whether they should be able to write there; do not put it back."
ADVICE = {
    "EMPTY": "A tombstone or an empty record means nothing on this topic: look for a producer"
    " that is not Headgate's.",
    "SIZE": "Keep values in the blob store (`inline_limit_bytes`) and texts short; send it again so.",
    "DEPTH": "Nest less, or send the value as a string; then send it again.",
    "COUNT": "Send fewer parts in one record.",
    "HEADERS": "Look for a proxy or a library that adds headers to every record.",
    "HEADER_MISSING": "Write with Headgate's client or worker, which set hg-type, hg-schema and hg-tenant.",
    "TYPE_MISMATCH": "Somebody writes to the wrong topic: look at the header hg-type below.",
    "VERSION": "A newer Headgate wrote it: upgrade the gates and workers, then put it back.",
    "DECODE": "It is no Headgate message, or lacks what it must have: look for a producer that"
    " is not Headgate's.",
    "ENUM": "A newer Headgate wrote it, or a broken client: upgrade, then put it back.",
    "BAD_TENANT_ID": "Correct the tenant id: 3-40 lower-case letters, digits and inner hyphens; then"
    " send it again.",
    "TENANT_SPOOF": _SPOOF,
    "WRONG_PARTITION": "Whoever wrote it partitions otherwise than murmur2 of the tenant id; put back, it"
    " goes where it belongs.",
    "UNKNOWN_LIFETIME": "The run never was here: a start that got lost, another prefix, or a test's"
    " leftover.",
    "UNKNOWN_NODE": "A result of what was never dispatched: a worker of another installation, or a"
    " forged one.",
    "CONFLICT": "One run was reported twice with different content; the first report counts. Look for a"
    " worker that uses a run id twice.",
    "BAD_COMMAND": "The order could not be obeyed; the detail says why. Correct it and give it again.",
    "BAD_GRAPH": "Check it with `headgate graph validate`, then register it again.",
    "BAD_POLICY": "Check it with `headgate policy validate`, then apply it again.",
    "BLOB_REF": _SPOOF,
    "TICKET": "A worker reported on what it was not given: see that gates share one"
    " `ticket_keys`, else as a forgery.",
    "SIGNATURE": "Sign it with a registered key (`headgate keys`) and give it again.",
    "BAD_KEY": "The detail says why the key is none, or may not be registered or revoked; see"
    " `headgate keys list`.",
    "FOLD_FAILED": "The gate failed on it and an operator left it out: put it back when every gate has"
    " the fix.",
}
"""What to do, by reason."""


def advice(reason: str) -> str:
    """Return what to do about letters of a reason."""
    return ADVICE.get(reason, "See the page on operations; the detail says what is wrong.")


def row(found: FoundLetter) -> tuple[str, ...]:
    """Return the cells of `dlq list`."""
    letter = found.letter
    where = f"{letter.topic}/{letter.partition}@{letter.offset}"
    back = moment(found.requeued_ms) if found.requeued_ms is not None else ""
    return (found.id, moment(found.when_ms), letter.tenant_id, letter.reason, where, back, letter.detail)


COLUMNS = ("id", "when", "tenant", "reason", "record", "put back", "detail")


def as_data(found: FoundLetter) -> dict[str, Any]:
    """Return everything about a letter for scripts; bytes as hex, and escaped for people."""
    letter = found.letter
    return {
        "id": found.id,
        "when": moment(found.when_ms),
        "tenant": letter.tenant_id,
        "reason": letter.reason,
        "detail": letter.detail,
        "what_to_do": advice(letter.reason),
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "appended_at": moment(letter.appended_at),
        "put_back_at": moment(found.requeued_ms) if found.requeued_ms is not None else None,
        "key": None if letter.has_no_key else escaped(letter.key),
        "headers": [[header.name, escaped(header.value)] for header in letter.headers],
        "value_size_bytes": letter.value_size_bytes,
        "is_whole": letter.is_whole,
        "value": None if letter.has_no_value else escaped(letter.value),
        "value_hex": None if letter.has_no_value else letter.value.hex(),
    }


def page(found: FoundLetter) -> Iterator[str]:
    """Yield the lines of `dlq show`."""
    shown = as_data(found)
    for name in ("value", "value_hex", "headers"):
        del shown[name]
    for name, value in shown.items():
        yield f"{name}: {value}"
    for header in found.letter.headers:
        yield f"header {header.name}: {escaped(header.value)}"
    yield from hex_dump(found.letter.value)


def hex_dump(value: bytes, most: int = SHOWN_BYTES) -> Iterator[str]:
    """Yield one line for each 16 bytes: where, in hex, as ASCII; and how many more there are."""
    for at in range(0, min(len(value), most), _ROW):
        part = value[at : min(at + _ROW, most)]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        yield f"{at:08x}  {part.hex(' '):<{3 * _ROW}} |{text}|"
    if len(value) > most:
        yield f"… and {len(value) - most} bytes more; --json has all that was kept"


def escaped(raw: bytes) -> str:
    """Return bytes as one line of ASCII."""
    return ascii(raw)[2:-1]
