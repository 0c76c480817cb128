"""What a record must be to be taken at all, worked out anew: headers, tenant, key, partition, message.

Shares nothing with the product's own decoder but the protobuf classes: where the two disagree, I13 says so.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from headgate_protos.v1 import execution_pb2
from headgate_streams.port import Headers, LogRecord

MOST_BYTES: Final = 2 * 1024 * 1024
MOST_HEADERS: Final = 32
EVERYBODY: Final = "*"
_TENANT: Final = re.compile(rb"[a-z0-9][a-z0-9-]{1,38}[a-z0-9]")
_ASKED: Final = ("hg-type", "hg-schema", "hg-tenant")
RECOMPUTED: Final = frozenset(
    {
        "EMPTY", "SIZE", "HEADERS", "HEADER_MISSING", "TYPE_MISMATCH", "VERSION", "BAD_TENANT_ID",
        "DECODE", "TENANT_SPOOF", "WRONG_PARTITION", "ENUM",
    }
)  # fmt: skip
"""Reasons of dead letters that are recomputed here, as far as they concern a record by itself."""


class Refused(Exception):
    """A record that must not be taken; says why."""


def message_of(record: LogRecord, kind: type[Message]) -> tuple[Any, str]:
    """Return the message and its tenant; raises Refused with the reason code."""
    value = record.value
    if not value:
        raise Refused("EMPTY")
    if len(value) > MOST_BYTES:
        raise Refused("SIZE")
    name, tenant = _headed(record.headers)
    if name != kind.__name__.encode():
        raise Refused("TYPE_MISMATCH")
    try:
        message: Any = kind.FromString(value)
    except (DecodeError, ValueError):
        raise Refused("DECODE") from None
    said = getattr(message, "tenant_id", tenant)
    if said != tenant:
        raise Refused("TENANT_SPOOF")
    return message, tenant


def envelope_of(record: LogRecord) -> tuple[Any, str]:
    """Return the envelope of a record of the log and the name of its payload; raises Refused."""
    envelope, tenant = message_of(record, execution_pb2.ExecutionEnvelope)
    if record.key != tenant.encode() and not (record.key or b"").startswith(tenant.encode() + b"/"):
        raise Refused("TENANT_SPOOF")
    payload = envelope.WhichOneof("payload")
    if payload is None:
        raise Refused("DECODE")
    if payload in ("task_execution", "plan_execution"):
        execution = getattr(envelope, payload)
        if execution.tenant_id != tenant:
            raise Refused("TENANT_SPOOF")
        if not 1 <= execution.headers.status <= 6 or not 1 <= execution.headers.node_kind <= 2:
            raise Refused("ENUM")
    return envelope, payload


@lru_cache(maxsize=65_536)
def _headed(headers: Headers) -> tuple[bytes, str]:
    """Return type and tenant as the headers say them; cached, as there are few different ones."""
    if len(headers) > MOST_HEADERS or len({name for name, _ in headers}) < len(headers):
        raise Refused("HEADERS")
    said = dict(headers)
    if not all(said.get(name) for name in _ASKED):
        raise Refused("HEADER_MISSING")
    if said["hg-schema"].split(b".")[0] != b"1":
        raise Refused("VERSION")
    tenant = said["hg-tenant"]
    if tenant != b"*" and not _TENANT.fullmatch(tenant):
        raise Refused("BAD_TENANT_ID")
    return said["hg-type"], tenant.decode()


def is_tenant(text: str) -> bool:
    """Whether the text may be a tenant's id."""
    return _TENANT.fullmatch(text.encode("ascii", "replace")) is not None
