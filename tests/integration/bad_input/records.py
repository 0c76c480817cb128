"""Records that are not what they should be: empty, foreign, spoofed, too old or new, too much of anything."""

from __future__ import annotations

import random
from typing import Any

from headgate.words import status_word
from headgate_protos.v1.common_pb2 import ExecutionHeaders, Payload
from headgate_protos.v1.control_pb2 import AbortLifetime, CompleteExecution, OperatorCommand
from headgate_protos.v1.execution_pb2 import (
    ExecutionEnvelope,
    ExecutionStarted,
    LifetimeStart,
    RunHeartbeat,
    WorkerHeartbeat,
)
from headgate_protos.v1.plan_pb2 import PlanInput
from headgate_protos.v1.task_pb2 import TaskExecution, TaskInput
from headgate_streams.codec import encode
from headgate_streams.port import Headers
from tests.integration.bad_input.rows import Hand, bad_record, row
from tests.integration.bad_input.yard import MANUAL, line

Made = tuple[bytes | None, Headers, bytes | None]
TOPICS = ("executions", "task-inputs", "plan-inputs")


def identity(kind: int = 1, **more: Any) -> ExecutionHeaders:
    given = {"execution_id": "e1", "lifetime_id": "run", "node_id": "t1", "node_type": "work"} | more
    made = ExecutionHeaders(**given)
    if "status" not in more:
        made.status = 1
    if "node_kind" not in more:
        made.node_kind = kind  # type: ignore[assignment]
    return made


def sound(tenant: str, topic: str = "executions") -> tuple[Any, Headers, bytes]:
    """Return a message that is fine, its headers and its key."""
    if topic == "task-inputs":
        message: Any = TaskInput(tenant_id=tenant, headers=identity(1))
    elif topic == "plan-inputs":
        message = PlanInput(tenant_id=tenant, headers=identity(2))
    else:
        start = LifetimeStart(graph_id="g", input=Payload(json="1"))
        start.issued_at.GetCurrentTime()
        message = ExecutionEnvelope(
            envelope_id="x", tenant_id=tenant, lifetime_id="run", lifetime_start=start
        )
    return message, encode(message, tenant)[1], tenant.encode()


def with_value(value: bytes | None, topic: str) -> Any:
    def make(tenant: str) -> Made:
        _, headers, key = sound(tenant, topic)
        return value, headers, key

    return make


def with_headers(change: Any, topic: str) -> Any:
    def make(tenant: str) -> Made:
        message, headers, key = sound(tenant, topic)
        return message.SerializeToString(), tuple(change(headers)), key

    return make


for topic in TOPICS:
    bad_record("tombstone", "EMPTY", with_value(None, topic), topic)
    bad_record("empty-value", "EMPTY", with_value(b"", topic), topic)
    bad_record("random-bytes", "DECODE", with_value(b"\xff" + random.Random(1).randbytes(500), topic), topic)
    bad_record("json", "DECODE", with_value(b'{"tenant_id": "acme"}', topic), topic)
    bad_record(
        "another-type",
        "TYPE_MISMATCH",
        with_headers(lambda h: (("hg-type", b"CheckpointPointer"), *h[1:]), topic),
        topic,
    )
    for name in ("hg-type", "hg-schema", "hg-tenant"):
        bad_record(
            f"no-{name}",
            "HEADER_MISSING",
            with_headers(lambda h, name=name: [one for one in h if one[0] != name], topic),
            topic,
        )
    bad_record("no-headers", "HEADER_MISSING", with_headers(lambda _: (), topic), topic)
    bad_record(
        "another-major",
        "VERSION",
        with_headers(lambda h: (h[0], ("hg-schema", b"2.0"), h[2]), topic),
        topic,
    )
    bad_record(
        "spoofed-header",
        "TENANT_SPOOF",
        with_headers(lambda h: (*h[:2], ("hg-tenant", b"somebody-else")), topic),
        topic,
    )
    bad_record(
        "thousand-headers",
        "HEADERS",
        with_headers(lambda h: (*h, *((f"h{n}", b"x") for n in range(1000))), topic),
        topic,
    )
    bad_record("long-headers", "HEADERS", with_headers(lambda h: (*h, ("x", b"x" * 100_000)), topic), topic)
    bad_record("header-twice", "HEADERS", with_headers(lambda h: (*h, h[2]), topic), topic)
    bad_record("nested-groups", "DEPTH", with_value(b"\xa3\x06" * 5_000 + b"\xa4\x06" * 5_000, topic), topic)


def other_protobuf(tenant: str) -> Made:
    _, headers, key = sound(tenant)
    return TaskInput(tenant_id=tenant, headers=identity()).SerializeToString(), headers, key


def nested_messages(tenant: str) -> Made:
    value = b""
    for _ in range(150):
        size = len(value)
        value = b"\x12" + (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])) + value
    return value, sound(tenant)[1], tenant.encode()


def deep_json(tenant: str) -> Made:
    message, headers, key = sound(tenant)
    message.lifetime_start.input.json = '{"a":' * 101 + "1" + "}" * 101
    return message.SerializeToString(), headers, key


def deep_input(tenant: str) -> Made:
    message, headers, key = sound(tenant, "task-inputs")
    message.input_data.json = "[" * 5_000 + "]" * 5_000
    return message.SerializeToString(), headers, key


def crowd(tenant: str) -> Made:
    made = ExecutionEnvelope(tenant_id=tenant, heartbeat=WorkerHeartbeat())
    made.heartbeat.runs.extend([RunHeartbeat()] * 500_000)
    return made.SerializeToString(), sound(tenant)[1], tenant.encode()


def crowded_input(tenant: str) -> Made:
    made = PlanInput(tenant_id=tenant, headers=identity(2))
    made.upstream_task_executions.extend([TaskExecution()] * 500_000)
    return made.SerializeToString(), sound(tenant, "plan-inputs")[1], tenant.encode()


def long_id(tenant: str) -> Made:
    message, headers, key = sound(tenant)
    message.lifetime_id = "x" * 100_000
    return message.SerializeToString(), headers, key


def spoofed_key(tenant: str) -> Made:
    message, headers, _ = sound(tenant)
    return message.SerializeToString(), headers, b"somebody-else"


def spoofed_execution(tenant: str) -> Made:
    inner = TaskExecution(tenant_id="somebody-else", headers=identity())
    made = ExecutionEnvelope(tenant_id=tenant, lifetime_id="run", task_execution=inner)
    return *encode(made, tenant), tenant.encode()


bad_record("another-protobuf", "DECODE|TENANT_SPOOF", other_protobuf)
bad_record("nested-messages", "DEPTH", nested_messages)
bad_record("deep-json", "DEPTH", deep_json)
bad_record("deep-json", "DEPTH", deep_input, "task-inputs")
bad_record("half-a-million-parts", "COUNT", crowd)
bad_record("half-a-million-parts", "COUNT", crowded_input, "plan-inputs")
bad_record("ten-megabytes", "SIZE", with_value(b"x" * 10_000_000, "executions"))
bad_record("ten-megabytes", "SIZE", with_value(b"x" * 10_000_000, "task-inputs"), "task-inputs")
bad_record("long-id", "SIZE", long_id)
bad_record("spoofed-key", "TENANT_SPOOF", spoofed_key)
bad_record("spoofed-execution", "TENANT_SPOOF", spoofed_execution)

TENANT_IDS = {
    "parent": "../b",
    "dot": "a.b",
    "capital": "A",
    "capitals": "ACME-CORP",
    "long": "a" * 300,
    "look-alike": "ten\u0430nt",
    "nul": "ab\x00c",
    "right-to-left": "\u202eabc-def",
    "newline": "abc\ndef",
    "escape": "abc\x1b[31m",
    "format": "abc%s",
    "full-width": "\uff41\uff42\uff43",
}


def of_tenant(name: str) -> Any:
    def make(_: str) -> Made:
        raw = name.encode()
        message = sound("acme")[0]
        message.tenant_id = name
        headers = (*sound("acme")[1][:2], ("hg-tenant", raw))
        return message.SerializeToString(), headers, raw

    return make


for kind, tenant_id in TENANT_IDS.items():
    bad_record(f"tenant-{kind}", "BAD_TENANT_ID", of_tenant(tenant_id))

    @row(f"tenant-{kind}-command")
    def bad_tenant_of_a_command(hand: Hand, tenant_id: str = tenant_id) -> None:
        if "\x00" in tenant_id:
            tenant_id = tenant_id.replace("\x00", "\x01")  # no argument of a program can hold it
        for arguments in (["list"], ["start", "g"], ["dlq", "list"]):
            code, out, err = hand.shell(*arguments, "--tenant", tenant_id)
            assert (code, out) == (2, ""), err
            assert err.count("\n") == 1
            assert err.rstrip("\n").isprintable()
            assert "tenant id" in err


def header_changed(tenant: str, change: dict[str, Any]) -> Made:
    inner = TaskExecution(tenant_id=tenant, headers=identity(**change))
    inner.headers.run_id = "r1"
    made = ExecutionEnvelope(tenant_id=tenant, lifetime_id="run", task_execution=inner)
    return *encode(made, tenant), tenant.encode()


def of_envelope(**payload: Any) -> Any:
    def make(tenant: str) -> Made:
        made = ExecutionEnvelope(envelope_id="x", tenant_id=tenant, lifetime_id="run", **payload)
        return *encode(made, tenant), tenant.encode()

    return make


bad_record("status-0", "ENUM", lambda tenant: header_changed(tenant, {"status": 0}))
bad_record("status-99", "ENUM", lambda tenant: header_changed(tenant, {"status": 99}))
bad_record("node-kind-0", "ENUM", lambda tenant: header_changed(tenant, {"node_kind": 0}))
bad_record("result-of-an-unknown-lifetime", "UNKNOWN_LIFETIME", lambda tenant: header_changed(tenant, {}))
bad_record(
    "run-of-an-unknown-lifetime",
    "UNKNOWN_LIFETIME",
    of_envelope(execution_started=ExecutionStarted(execution_id="e1", run_id="r1")),
)
bad_record(
    "order-for-an-unknown-lifetime",
    "UNKNOWN_LIFETIME",
    of_envelope(command=OperatorCommand(command_id="c1", abort=AbortLifetime())),
)
bad_record(
    "outcome-0",
    "ENUM",
    of_envelope(command=OperatorCommand(command_id="c1", complete=CompleteExecution(execution_id="e1"))),
)
bad_record("order-of-nothing", "BAD_COMMAND", of_envelope(command=OperatorCommand(command_id="c1")))
bad_record(
    "order-with-a-bad-id",
    "BAD_COMMAND",
    of_envelope(command=OperatorCommand(command_id="\x1b[31m\n%s", abort=AbortLifetime())),
)


def bad_lifetime_id(tenant: str) -> Made:
    message, headers, key = sound(tenant)
    message.lifetime_id = "../\x1b[31m\n%s%n"
    return message.SerializeToString(), headers, key


def zero_payload(tenant: str) -> Made:
    return *encode(ExecutionEnvelope(tenant_id=tenant), tenant), tenant.encode()


bad_record("lifetime-id-with-escapes", "BAD_COMMAND", bad_lifetime_id)
bad_record("no-payload", "DECODE", zero_payload)
bad_record("every-tenant-start", "BAD_TENANT_ID", lambda _: (*encode(sound("*")[0], "*"), b"*"))


@row("unknown-minor-and-unknown-fields")
def newer_minor(hand: Hand) -> None:
    yard = hand.yard
    tenant = yard.tenant()
    yard.register(tenant, line())
    message, headers, key = sound(tenant)
    value = message.SerializeToString() + b"\xfa\x7f\x03new"
    place = yard.raw(
        yard.client.topics.executions, value, (headers[0], ("hg-schema", b"1.9"), headers[2]), key
    )
    assert status_word(yard.ended(tenant).status) == "completed"
    assert yard.letters_about(place) == []


@row("unknown-graph")
def unknown_graph(hand: Hand) -> None:
    yard = hand.yard
    tenant = yard.tenant()
    yard.start(tenant, graph_id="never-registered")
    view = yard.ended(tenant)
    assert (status_word(view.status), view.reason.split(":")[0]) == ("rejected", "UNKNOWN_GRAPH")
    assert yard.inputs(tenant) == []


@row("unknown-node")
def unknown_node(hand: Hand) -> None:
    yard = hand.yard
    tenant = yard.tenant()
    yard.register(tenant, line(queue=MANUAL))
    yard.start(tenant)
    given = yard.input(tenant, "p1")
    forged = PlanInput()
    forged.CopyFrom(given)
    forged.headers.node_id = "nowhere"
    assert yard.letter(yard.report(forged, next_ids=["t1"])).reason == "UNKNOWN_NODE"
    forged.CopyFrom(given)
    forged.headers.execution_id = "0" * 32
    assert yard.letter(yard.report(forged, next_ids=["t1"])).reason == "UNKNOWN_NODE"
    yard.report(given, next_ids=["t1"])
    yard.input(tenant, "t1")
    assert len(yard.inputs(tenant)) == 2


@row("wrong-partition")
def wrong_partition(hand: Hand) -> None:
    yard = hand.yard
    tenant = yard.tenant()
    message, headers, key = sound(tenant)
    place = yard.raw(yard.client.topics.executions, message.SerializeToString(), headers, key, partition=1)
    assert yard.letter(place).reason == "WRONG_PARTITION"
    assert yard.inputs(tenant) == []
