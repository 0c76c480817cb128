from __future__ import annotations

import time

import pytest

from headgate_graphs.errors import BadRecord
from headgate_protos.v1.common_pb2 import BlobReference, ExecutionHeaders, Payload
from headgate_protos.v1.control_pb2 import CompleteExecution, ControlType, ExecutionEvent, OperatorCommand
from headgate_protos.v1.execution_pb2 import (
    ExecutionEnvelope,
    GraphRegistered,
    LifetimeStart,
    LifetimeView,
    PolicySet,
    RunHeartbeat,
    Tick,
    WorkerHeartbeat,
)
from headgate_protos.v1.plan_pb2 import PlanExecution, PlanInput, PlanResult
from headgate_protos.v1.task_pb2 import TaskExecution, TaskInput, TaskResult
from headgate_streams.codec import decode, encode
from headgate_streams.port import Headers, LogRecord

IDENTITY = ExecutionHeaders(execution_id="e1", lifetime_id="life", node_id="n", node_kind=1, status=1)


def record(value: bytes | None, headers: Headers, key: bytes | None = b"acme") -> LogRecord:
    return LogRecord("t", 3, 42, 1_700_000_000_123, key, value, headers)


def start(tenant: str = "acme") -> ExecutionEnvelope:
    return ExecutionEnvelope(
        envelope_id="x", tenant_id=tenant, lifetime_id="life", lifetime_start=LifetimeStart(graph_id="g")
    )


def reason(record: LogRecord, expected: type = ExecutionEnvelope) -> str:
    with pytest.raises(BadRecord) as caught:
        decode(record, expected)
    assert caught.value.detail.isascii()
    assert caught.value.detail.isprintable()
    return caught.value.reason


def test_message_comes_back_as_it_was() -> None:
    value, headers = encode(start(), "acme")
    assert headers == (("hg-type", b"ExecutionEnvelope"), ("hg-schema", b"1.0"), ("hg-tenant", b"acme"))
    assert decode(record(value, headers), ExecutionEnvelope) == start()


def test_other_headers_and_newer_minor_versions_are_fine() -> None:
    value, headers = encode(start(), "acme")
    traced = (("traceparent", b"00-1"), *headers)
    assert decode(record(value, traced), ExecutionEnvelope) == start()
    newer = (headers[0], ("hg-schema", b"1.7"), headers[2])
    assert decode(record(value + b"\xfa\x01\x03new", newer), ExecutionEnvelope).SerializeToString() == (
        value + b"\xfa\x01\x03new"
    )


@pytest.mark.parametrize("value", [None, b""])
def test_record_without_a_value_is_empty(value: bytes | None) -> None:
    assert reason(record(value, encode(start(), "acme")[1])) == "EMPTY"


@pytest.mark.parametrize("missing", ["hg-type", "hg-schema", "hg-tenant"])
def test_missing_or_empty_header(missing: str) -> None:
    value, headers = encode(start(), "acme")
    assert reason(record(value, tuple(h for h in headers if h[0] != missing))) == "HEADER_MISSING"
    emptied = tuple((name, b"" if name == missing else content) for name, content in headers)
    assert reason(record(value, emptied)) == "HEADER_MISSING"


def test_repeated_or_too_many_headers() -> None:
    value, headers = encode(start(), "acme")
    assert reason(record(value, (*headers, ("hg-tenant", b"other")))) == "HEADERS"
    assert reason(record(value, (*headers, *((f"h{i}", b"") for i in range(1000))))) == "HEADERS"


def test_headers_that_are_null_or_too_long() -> None:
    value, headers = encode(start(), "acme")
    null: Headers = (*headers[:2], ("hg-tenant", None))  # type: ignore[assignment]
    assert reason(record(value, null)) == "HEADER_MISSING"
    foreign: Headers = (*headers, ("traceparent", None))  # type: ignore[assignment]
    assert decode(record(value, foreign), ExecutionEnvelope) == start()
    assert reason(record(value, (*headers, ("x", b"x" * 16_384)))) == "HEADERS"


def test_other_type_and_other_major() -> None:
    value, headers = encode(start(), "acme")
    assert reason(record(value, headers), TaskInput) == "TYPE_MISMATCH"
    assert reason(record(value, (headers[0], ("hg-schema", b"2.0"), headers[2]))) == "VERSION"
    assert reason(record(value, (headers[0], ("hg-schema", b"\xff\n"), headers[2]))) == "VERSION"


@pytest.mark.parametrize(
    "value", [b"\xff\xff\xff", b'{"json": true}', b"\x0a\x04\xff\xfe\xfd\xfc", b"\x08\x01"]
)
def test_bytes_that_are_not_the_message(value: bytes) -> None:
    assert reason(record(value, encode(start(), "acme")[1])) in {"DECODE", "TENANT_SPOOF"}


def test_envelope_without_a_payload() -> None:
    empty = ExecutionEnvelope(tenant_id="acme")
    assert reason(record(*encode(empty, "acme"))) == "DECODE"


def test_tenants_that_disagree() -> None:
    value, headers = encode(start("acme"), "other")
    assert reason(record(value, headers, b"other")) == "TENANT_SPOOF"
    value, headers = encode(start("acme"), "acme")
    for key in (b"other", None, b"", b"acmeX", b"ac"):
        assert reason(record(value, headers, key)) == "TENANT_SPOOF"
    inner = ExecutionEnvelope(
        tenant_id="acme", task_execution=TaskExecution(tenant_id="other", headers=IDENTITY)
    )
    assert reason(record(*encode(inner, "acme"))) == "TENANT_SPOOF"


def test_key_may_go_on_below_the_tenant() -> None:
    view = LifetimeView(tenant_id="acme", lifetime_id="life", status=1)
    value, headers = encode(view, "acme")
    assert decode(record(value, headers, b"acme/life/end"), LifetimeView) == view


@pytest.mark.parametrize(
    "tenant", ["../b", "a.b", "A", "a" * 300, "ten\u0430nt", "ab\x00c", "\u202eabc", "ab", "-abc", "a\nb"]
)
def test_bad_tenant_ids_are_refused_and_escaped(tenant: str) -> None:
    raw = tenant.encode()
    value, headers = encode(start(), "acme")
    assert reason(record(value, (*headers[:2], ("hg-tenant", raw)), raw)) == "BAD_TENANT_ID"


def test_every_tenant_is_for_what_concerns_a_partition_alone() -> None:
    for envelope in (
        ExecutionEnvelope(tenant_id="*", tick=Tick()),
        ExecutionEnvelope(tenant_id="*", policy_set=PolicySet(name="p")),
    ):
        assert decode(record(*encode(envelope, "*"), b"*"), ExecutionEnvelope) == envelope
    for envelope in (
        start("*"),
        ExecutionEnvelope(tenant_id="*", graph_registered=GraphRegistered()),
        ExecutionEnvelope(tenant_id="*", heartbeat=WorkerHeartbeat()),
    ):
        assert reason(record(*encode(envelope, "*"), b"*")) == "BAD_TENANT_ID"
    event = ExecutionEvent(tenant_id="*", type=1)
    assert reason(record(*encode(event, "*"), b"*"), ExecutionEvent) == "BAD_TENANT_ID"


def test_inputs_are_keyed_by_execution() -> None:
    for message in (
        TaskInput(tenant_id="acme", headers=IDENTITY),
        PlanInput(tenant_id="acme", headers=IDENTITY),
    ):
        value, headers = encode(message, "acme")
        assert decode(record(value, headers, b"e1"), type(message)) == message


def test_unspecified_and_unknown_enums() -> None:
    for status, kind in ((0, 1), (1, 0), (99, 1), (1, 99)):
        identity = ExecutionHeaders(execution_id="e", status=status, node_kind=kind)  # type: ignore[arg-type]
        message = TaskInput(tenant_id="acme", headers=identity)
        assert reason(record(*encode(message, "acme")), TaskInput) == "ENUM"
        report = ExecutionEnvelope(
            tenant_id="acme", task_execution=TaskExecution(tenant_id="acme", headers=identity)
        )
        assert reason(record(*encode(report, "acme"))) == "ENUM"
    assert reason(record(*encode(ExecutionEvent(tenant_id="acme"), "acme")), ExecutionEvent) == "ENUM"
    assert reason(record(*encode(LifetimeView(tenant_id="acme"), "acme")), LifetimeView) == "ENUM"
    unknown = ExecutionEvent(tenant_id="acme", type=99)  # type: ignore[arg-type]
    assert reason(record(*encode(unknown, "acme")), ExecutionEvent) == "ENUM"
    command = OperatorCommand(command_id="c", complete=CompleteExecution(execution_id="e"))
    envelope = ExecutionEnvelope(tenant_id="acme", command=command)
    assert reason(record(*encode(envelope, "acme"))) == "ENUM"


def test_every_control_type_is_known() -> None:
    for control_type in ControlType.values()[1:]:
        event = ExecutionEvent(tenant_id="acme", type=control_type)
        assert decode(record(*encode(event, "acme")), ExecutionEvent) == event


def test_oversized_deep_and_crowded_values_are_answered_quickly() -> None:
    headers = encode(start(), "acme")[1]
    nested = b""
    for _ in range(150):
        nested = b"\x5a" + _varint(len(nested)) + nested
    groups = b"\xa3\x06" * 101 + b"\xa4\x06" * 101
    crowd = ExecutionEnvelope(tenant_id="acme", heartbeat=WorkerHeartbeat())
    crowd.heartbeat.runs.extend([RunHeartbeat()] * 500_000)
    deep = start()
    deep.lifetime_start.input.json = "[" * 101 + "]" * 101
    wide = start()
    wide.lifetime_start.input.json = "[" + "[]," * 170_000 + "[]]"
    long_text = start()
    long_text.lifetime_start.issued_by = "x" * 65_537
    for answer, value in (
        ("SIZE", b"x" * 10_000_000),
        ("DEPTH", nested),
        ("DEPTH", groups),
        ("DEPTH", deep.SerializeToString()),
        ("COUNT", crowd.SerializeToString()),
        ("SIZE", long_text.SerializeToString()),
        ("", wide.SerializeToString()),
    ):
        began = time.thread_time()  # what it costs, whatever else this machine does meanwhile
        try:
            decode(record(value, headers), ExecutionEnvelope)
            said = ""
        except BadRecord as error:
            said = error.reason
        assert said == answer
        assert time.thread_time() - began < 0.1, (answer, len(value))


def test_a_reference_to_anything_but_the_tenants_own_value_is_refused() -> None:
    sha = "a" * 64
    for uri in (
        f"other/{sha[:2]}/{sha}",
        f"acme/../other/{sha}",
        f"s3://bkt@evil/acme/{sha[:2]}/{sha}",
        f"http://evil/{sha}",
        "file:///etc/passwd",
        f"/acme/{sha[:2]}/{sha}",
        f"acme/{sha[:2]}/{sha}\n",
    ):
        blob = BlobReference(uri=uri, sha256=sha, size_bytes=1)
        result = TaskExecution(tenant_id="acme", headers=IDENTITY, result=TaskResult(blob_reference=blob))
        decided = PlanExecution(tenant_id="acme", headers=IDENTITY, result=PlanResult(blob_reference=blob))
        handed = PlanExecution(tenant_id="acme", headers=IDENTITY)
        handed.result.next_inputs.add(task_id="t", input_data=Payload(blob=blob))
        begun = LifetimeStart(graph_id="g", input=Payload(blob=blob))
        for envelope in (
            ExecutionEnvelope(tenant_id="acme", task_execution=result),
            ExecutionEnvelope(tenant_id="acme", plan_execution=decided),
            ExecutionEnvelope(tenant_id="acme", plan_execution=handed),
            ExecutionEnvelope(tenant_id="acme", lifetime_start=begun),
        ):
            assert reason(record(*encode(envelope, "acme"))) == "BLOB_REF"
    for blob in (
        BlobReference(uri=f"acme/{sha[:2]}/{sha}", sha256=sha, size_bytes=1),
        BlobReference(inline_content=b"1", size_bytes=1),
    ):
        good = TaskExecution(tenant_id="acme", headers=IDENTITY, result=TaskResult(blob_reference=blob))
        envelope = ExecutionEnvelope(tenant_id="acme", task_execution=good)
        assert decode(record(*encode(envelope, "acme")), ExecutionEnvelope) == envelope


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
