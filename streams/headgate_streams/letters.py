"""Dead letters: what is kept of a record that cannot be acted on, and whether it can be put back as it was.

Made by the gate's fold and by workers; read by `headgate dlq`.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from headgate_graphs.errors import BadRecord
from headgate_graphs.ids import EVERY_TENANT, is_tenant_id
from headgate_protos.v1.common_pb2 import Source
from headgate_protos.v1.execution_pb2 import DeadLetter, RecordHeader
from headgate_streams.headers import MAX_HEADER_BYTES, MAX_HEADERS, TENANT
from headgate_streams.port import Headers, LogRecord

LETTER_VALUE_BYTES: Final = 65_536
LETTER_KEY_BYTES: Final = 1_024
SECURITY_REASONS: Final = frozenset({"TENANT_SPOOF", "BLOB_REF", "TICKET", "SIGNATURE"})
"""Reasons that no mistake explains easily: `tell` says them on the logger `headgate.security`."""
_YEAR_9999_MS: Final = 253_402_300_799_999
"""The last moment that a Timestamp can say; a topic without LogAppendTime may hold later ones."""
counted: Final[Counter[str]] = Counter()
"""Letters that this process has made, by reason."""
_SECURITY: Final = logging.getLogger("headgate.security")


def dead_letter(record: LogRecord, error: BadRecord, source: Source | None = None) -> DeadLetter:
    """Return the letter about `record`: its bytes (capped), its coordinates and why; text is escaped.

    `tenant_id` is the header's, else the key's, when valid; else "*", for whoever runs the installation. A
    record on which the tenants disagree is "*" too: its bytes may belong to another tenant than it says.
    """
    value, key = record.value or b"", record.key or b""
    headers = _kept(record.headers)
    letter = DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=key[:LETTER_KEY_BYTES],
        value=value[:LETTER_VALUE_BYTES],
        value_size_bytes=len(value),
        reason=error.reason,
        detail=ascii(error.detail[:512])[1:-1],
        tenant_id=_tenant_of(record, error),
        source=source,
        headers=headers,
        has_no_key=record.key is None,
        has_no_value=record.value is None,
    )
    letter.is_whole = (
        len(value) <= LETTER_VALUE_BYTES
        and len(key) <= LETTER_KEY_BYTES
        and len(headers) == len(record.headers)
    )
    letter.appended_at.FromMilliseconds(min(max(record.timestamp_ms, 0), _YEAR_9999_MS))
    return letter


def tell(letter: DeadLetter) -> None:
    """Count a letter that this process has made, and say a suspicious one on the security log."""
    counted[letter.reason] += 1
    if letter.reason in SECURITY_REASONS:
        _SECURITY.warning(
            "%s in %s[%d]@%d, which says it is of tenant %s: %s",
            letter.reason,
            letter.topic,
            letter.partition,
            letter.offset,
            letter.tenant_id,
            letter.detail,
        )


def headers_of(letter: DeadLetter) -> Headers:
    """Return the headers of the record as far as they were kept; a null value is an empty one."""
    return tuple((header.name, header.value) for header in letter.headers)


def _kept(headers: Headers) -> list[RecordHeader]:
    """Return the first headers, as many as a sound record may have, none of them cut."""
    kept: list[RecordHeader] = []
    room = MAX_HEADER_BYTES
    for name, value in headers[:MAX_HEADERS]:
        text = name.encode("utf-8", "backslashreplace").decode()
        room -= len(text) + len(value or b"")
        if room < 0:
            break
        kept.append(RecordHeader(name=text, value=value or b""))
    return kept


def _tenant_of(record: LogRecord, error: BadRecord) -> str:
    if error.reason == "TENANT_SPOOF":
        return EVERY_TENANT
    said = [value or b"" for name, value in record.headers[:MAX_HEADERS] if name == TENANT]
    for raw in (*said, (record.key or b"").partition(b"/")[0]):
        text = raw[:128].decode("ascii", "replace")
        if is_tenant_id(text):
            return text
    return EVERY_TENANT
