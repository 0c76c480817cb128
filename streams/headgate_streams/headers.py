"""Names and bounds of record headers. Used by `codec` and `letters`."""

from __future__ import annotations

from typing import Final

from headgate_streams.port import Headers

TYPE: Final = "hg-type"
SCHEMA: Final = "hg-schema"
TENANT: Final = "hg-tenant"
REQUEUED: Final = "hg-requeued"
"""On a record that was put back from dead-letters: `<partition>:<offset>` of its letter."""
MAX_HEADERS: Final = 32
MAX_HEADER_BYTES: Final = 16_384
"""Names and values of one record's headers together."""


def size_of(headers: Headers) -> int:
    """Return the bytes of names and values together; Kafka knows null values."""
    return sum(len(name) + len(value or b"") for name, value in headers)
