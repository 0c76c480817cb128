"""Turns messages into record values and headers, and back, refusing what is not what it says.

Used by every loop. A record says its type, schema version and tenant in headers, so that it is refused
before it is parsed; the tenant in key, header and message must be the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError, Message

from headgate_graphs.errors import BadRecord
from headgate_graphs.ids import EVERY_TENANT, tenant_id
from headgate_protos.v1.common_pb2 import BlobReference, ExecutionHeaders, Payload
from headgate_protos.v1.control_pb2 import ControlType, ExecutionEvent, OperatorCommand
from headgate_protos.v1.execution_pb2 import (
    DeadLetter,
    ExecutionEnvelope,
    LetterRequeued,
    LifetimeStart,
    LifetimeView,
    RecordedVisit,
)
from headgate_protos.v1.plan_pb2 import PlanExecution, PlanInput
from headgate_protos.v1.state_pb2 import CheckpointPointer
from headgate_protos.v1.task_pb2 import TaskExecution, TaskInput
from headgate_streams.blobs import is_key_id, is_sha256
from headgate_streams.headers import MAX_HEADER_BYTES, MAX_HEADERS, SCHEMA, TENANT, TYPE, size_of
from headgate_streams.limits import MAX_DEPTH, is_nested, refuse_bombs
from headgate_streams.port import Headers, LogRecord

M = TypeVar("M", bound=Message)

SCHEMA_VERSION: Final = b"1.0"
"""MAJOR.MINOR: another major is refused, a newer minor's unknown fields are kept."""
MAX_VALUE_BYTES: Final = 2 * 1_048_576
"""Twice the default record limit: what is longer was not written by us."""

_EVERY_TENANT_KINDS: Final = frozenset(
    {"tick", "logic_version", "policy_set", "key_registered", "ticket_key_registered"}
)
_LAST_CONTROL_TYPE: Final = max(ControlType.values())
_KEYED_BY_EXECUTION: Final = frozenset({TaskInput, PlanInput})


def encode(message: Message, tenant: str) -> tuple[bytes, Headers]:
    """Return the value and the headers of a record that carries `message` for `tenant`."""
    return message.SerializeToString(), headers_of(type(message).__name__, tenant)


@lru_cache(maxsize=65_536)
def headers_of(kind: str, tenant: str) -> Headers:
    """Return the headers of a record that carries a message of this kind for `tenant`."""
    return ((TYPE, kind.encode()), (SCHEMA, SCHEMA_VERSION), (TENANT, tenant.encode()))


def decode(record: LogRecord, expected: type[M]) -> M:
    """Return the message of `record`, checked against its headers and key.

    Raises:
        BadRecord: EMPTY, SIZE, HEADERS, HEADER_MISSING, TYPE_MISMATCH, VERSION, BAD_TENANT_ID, DECODE,
            DEPTH, COUNT, TENANT_SPOOF, BLOB_REF or ENUM; the record goes to dead-letters.
    """
    if expected is ExecutionEnvelope:
        return decode_envelope(record)[0]  # type: ignore[return-value]
    message, tenant, value = _parsed(record, expected)
    _check_tenant(message, tenant, value)
    check = _CHECKS.get(expected)
    if check is not None:
        check(message, tenant)
    else:
        _only_one_tenant(f"a {expected.__name__}", tenant)
    return message


def decode_envelope(record: LogRecord) -> tuple[ExecutionEnvelope, str, str, Any]:
    """Return the envelope of a record of the log, its tenant, the kind of its payload and that; as `decode`.

    For the fold, which asks for the last three of every record: they are known here.
    """
    envelope, tenant, value = _parsed(record, ExecutionEnvelope)
    if envelope.tenant_id != tenant:
        _check_tenant(envelope, tenant, value)
    kind: str | None = envelope.WhichOneof("payload")
    if kind is None:
        raise BadRecord("DECODE", "an ExecutionEnvelope without a payload that is known here")
    if tenant == EVERY_TENANT and kind not in _EVERY_TENANT_KINDS:
        raise BadRecord("BAD_TENANT_ID", f"{kind} cannot be every tenant's")
    payload = getattr(envelope, kind)
    if kind in _PAYLOAD_CHECKS:
        _PAYLOAD_CHECKS[kind](payload, tenant)
    return envelope, tenant, kind, payload


def _parsed(record: LogRecord, expected: type[M]) -> tuple[M, str, bytes]:
    """Return the message, the tenant of the headers and the value, when headers, key and sizes are right."""
    value = record.value
    if not value:
        raise BadRecord("EMPTY", "the record has no value")
    if len(value) > MAX_VALUE_BYTES:
        raise BadRecord("SIZE", f"the value has {len(value)} bytes, the most is {MAX_VALUE_BYTES}")
    try:
        raw_tenant, tenant = _usual(record.headers, expected.__name__)
    except KeyError:
        raw_tenant, tenant = _addressed(record.headers, expected.__name__)
    try:
        message = expected.FromString(value)
    except (DecodeError, ValueError) as error:
        if is_nested(value):
            raise BadRecord("DEPTH", f"more than {MAX_DEPTH} levels of nesting") from None
        raise BadRecord("DECODE", f"not a {expected.__name__}: {str(error)[:120]!a}") from None
    refuse_bombs(message, value)
    key = record.key
    if key != raw_tenant and expected not in _KEYED_BY_EXECUTION:
        _check_key(key, raw_tenant)
    return message, tenant, value


@lru_cache(maxsize=65_536)
def _usual(headers: Headers, kind: str) -> tuple[bytes, str]:
    """As `_addressed`; raises KeyError for all but the very headers that `headers_of` makes.

    Nearly all records have those, and they are looked at once for each tenant. Nothing else is kept.
    """
    said = headers[:2] == ((TYPE, kind.encode()), (SCHEMA, SCHEMA_VERSION))
    if not said or len(headers) != 3 or headers[2][0] != TENANT or not headers[2][1]:
        raise KeyError
    return headers[2][1], _tenant_text(headers[2][1])


def _addressed(headers: Headers, kind: str) -> tuple[bytes, str]:
    """Return the tenant as the headers say it, and as text, when they name this kind of message."""
    if len(headers) > MAX_HEADERS:
        raise BadRecord("HEADERS", f"{len(headers)} headers, the most is {MAX_HEADERS}")
    found: dict[str, bytes] = {}
    for name, value in headers:
        if name in found:
            raise BadRecord("HEADERS", f"header {name[:64]!a} is there twice")
        found[name] = value
    if (size := size_of(headers)) > MAX_HEADER_BYTES:
        raise BadRecord("HEADERS", f"the headers have {size} bytes, the most is {MAX_HEADER_BYTES}")
    for name in (TYPE, SCHEMA, TENANT):
        if not found.get(name):
            raise BadRecord("HEADER_MISSING", f"there is no header {name}")
    said, schema = found[TYPE], found[SCHEMA]
    if said != kind.encode():
        raise BadRecord("TYPE_MISMATCH", f"not a {kind}: the header says {said[:64]!a}")
    if schema.partition(b".")[0] != SCHEMA_VERSION.partition(b".")[0]:
        raise BadRecord("VERSION", f"schema {schema[:32]!a} is not of major {SCHEMA_VERSION[:1].decode()}")
    return found[TENANT], _tenant_text(found[TENANT])


@lru_cache(maxsize=65_536)
def _tenant_text(raw: bytes) -> str:
    """Return the tenant of a header; an error is raised anew each time, as lru_cache keeps results only."""
    if raw == b"*":
        return EVERY_TENANT
    return tenant_id(raw[:128].decode("ascii", "backslashreplace"))


def _check_key(key: bytes | None, tenant: bytes) -> None:
    if not (key and key.startswith(tenant + b"/")):
        raise BadRecord("TENANT_SPOOF", f"the header says {tenant!a}, the key {(key or b'')[:128]!a}")


def _check_tenant(message: Any, tenant: str, value: bytes) -> None:
    said = getattr(message, "tenant_id", None)
    if said is not None and said != tenant:
        if not said and is_nested(value):
            raise BadRecord("DEPTH", f"more than {MAX_DEPTH} levels of nesting")
        raise BadRecord("TENANT_SPOOF", f"the header says {tenant!a}, the message {said[:64]!a}")


def _only_one_tenant(kind: str, tenant: str) -> None:
    if tenant == EVERY_TENANT:
        raise BadRecord("BAD_TENANT_ID", f"{kind} cannot be every tenant's")


def _check_start(start: LifetimeStart, tenant: str) -> None:
    _check_payload(start.input, tenant)
    if start.HasField("fork"):
        for one in (*start.fork.prefix, *start.fork.stubs):
            _check_recorded(one, tenant)


def _check_plan(execution: PlanExecution, tenant: str) -> None:
    _check_execution(execution, tenant)
    own = execution.result.next_inputs
    for given in own if own else ():  # to begin going through an empty one takes 1 µs
        _check_payload(given.input_data, tenant)


def _check_command(command: OperatorCommand, _tenant: str) -> None:
    if command.WhichOneof("command") == "complete":
        _check_enum("outcome", command.complete.outcome, 3)


def _check_execution(execution: TaskExecution | PlanExecution, tenant: str) -> None:
    if execution.tenant_id != tenant:
        raise BadRecord(
            "TENANT_SPOOF", f"the envelope says {tenant!a}, the execution {execution.tenant_id[:64]!a}"
        )
    _check_execution_headers(execution.headers)
    result = execution.result
    if result.HasField("blob_reference"):
        _check_reference(result.blob_reference, tenant)


def _check_recorded(one: RecordedVisit, tenant: str) -> None:
    """Refuse a repeated result that names another value than the tenant's own, as a worker's would be."""
    for result in (one.task_result, one.plan_result):
        if result.HasField("blob_reference"):
            _check_reference(result.blob_reference, tenant)
    for given in one.plan_result.next_inputs:
        _check_payload(given.input_data, tenant)


def _check_payload(payload: Payload, tenant: str) -> None:
    if payload.HasField("blob"):
        _check_reference(payload.blob, tenant)


def _check_reference(reference: BlobReference, tenant: str) -> None:
    """Refuse whatever is not the computed key of this tenant's value: nothing else is ever opened."""
    sha256, uri = reference.sha256, reference.uri
    if reference.key_id and not is_key_id(reference.key_id):
        raise BadRecord("BLOB_REF", f"{reference.key_id[:160]!a} is not the id of a data key")
    if not uri and len(reference.inline_content) == reference.size_bytes:
        return
    if not is_sha256(sha256) or uri != f"{tenant}/{sha256[:2]}/{sha256}" or reference.size_bytes < 0:
        raise BadRecord("BLOB_REF", f"{uri[:160]!a} is not the key of a value of {tenant}")


def _check_input(message: TaskInput | PlanInput, tenant: str) -> None:
    _only_one_tenant(type(message).__name__, tenant)
    _check_execution_headers(message.headers)
    _check_payload(message.start_input, tenant)
    if isinstance(message, TaskInput):
        _check_payload(message.input_data, tenant)
        return
    for upstream in message.upstream_task_executions:
        if upstream.result.HasField("blob_reference"):
            _check_reference(upstream.result.blob_reference, tenant)


def _check_event(event: ExecutionEvent, tenant: str) -> None:
    _only_one_tenant("an ExecutionEvent", tenant)
    _check_enum("type", event.type, _LAST_CONTROL_TYPE)


def _check_view(view: LifetimeView, tenant: str) -> None:
    _only_one_tenant("a LifetimeView", tenant)
    _check_enum("status", view.status, 6)


def _check_letter(_letter: DeadLetter | LetterRequeued, _tenant: str) -> None:
    """Nothing more: a letter may be about what has no valid tenant, and is then everybody's."""


def _check_pointer(_pointer: CheckpointPointer, _tenant: str) -> None:
    """Nothing more: a checkpoint is of a whole partition."""


def _check_execution_headers(headers: ExecutionHeaders) -> None:
    status, kind = headers.status, headers.node_kind
    if not 0 < status <= 6:
        raise BadRecord("ENUM", f"status {status} is not an ExecutionStatus")
    if not 0 < kind <= 2:
        raise BadRecord("ENUM", f"node_kind {kind} is not a NodeKind")


def _check_enum(field: str, number: int, highest: int) -> None:
    if not 0 < number <= highest:
        raise BadRecord("ENUM", f"{field} {number} is unspecified or unknown")


_PAYLOAD_CHECKS: Final[dict[str, Callable[[Any, str], None]]] = {
    "task_execution": _check_execution,
    "plan_execution": _check_plan,
    "lifetime_start": _check_start,
    "command": _check_command,
}
_CHECKS: Final[dict[type[Message], Callable[[Any, str], object]]] = {
    TaskInput: _check_input,
    PlanInput: _check_input,
    ExecutionEvent: _check_event,
    LifetimeView: _check_view,
    DeadLetter: _check_letter,
    LetterRequeued: _check_letter,
    CheckpointPointer: _check_pointer,
}
