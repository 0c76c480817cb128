"""Whatever bytes a record has, it decodes to a message or is refused in words that do no harm, at once."""

from __future__ import annotations

import json
import time
from typing import Any

from google.protobuf.message import Message
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from headgate_graphs.errors import BadRecord
from headgate_protos.v1.common_pb2 import ExecutionHeaders, Payload
from headgate_protos.v1.control_pb2 import ExecutionEvent
from headgate_protos.v1.execution_pb2 import DeadLetter, ExecutionEnvelope, LetterRequeued, LifetimeView
from headgate_protos.v1.plan_pb2 import PlanInput
from headgate_protos.v1.state_pb2 import CheckpointPointer
from headgate_protos.v1.task_pb2 import TaskInput
from headgate_streams.codec import decode, encode
from headgate_streams.letters import dead_letter
from headgate_streams.limits import MAX_DEPTH, is_nested, is_too_deep
from headgate_streams.port import Headers, LogRecord

KINDS: list[type[Message]] = [
    ExecutionEnvelope,
    TaskInput,
    PlanInput,
    ExecutionEvent,
    LifetimeView,
    DeadLetter,
    LetterRequeued,
    CheckpointPointer,
]
LONG = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def seeds() -> list[bytes]:
    """Values that are almost right, to be cut and mixed."""
    start = ExecutionEnvelope(envelope_id="x", tenant_id="acme", lifetime_id="run")
    start.lifetime_start.graph_id = "g"
    start.lifetime_start.input.json = '{"a": [1, {"b": null}]}'
    done = ExecutionEnvelope(tenant_id="acme", lifetime_id="run")
    done.task_execution.tenant_id = "acme"
    done.task_execution.headers.status = 3
    done.task_execution.headers.node_kind = 1
    done.task_execution.result.blob_reference.uri = "acme/aa/" + "a" * 64
    beats = ExecutionEnvelope(tenant_id="acme")
    for number in range(30):
        beats.heartbeat.runs.add(run_id=f"r{number}").partial_usage.tokens_used = -number
    plan = PlanInput(tenant_id="acme", headers=ExecutionHeaders(status=1, node_kind=2))
    plan.upstream_task_executions.add().result.json_result = "[]"
    task = TaskInput(tenant_id="acme", headers=ExecutionHeaders(status=1, node_kind=1))
    task.input_data.CopyFrom(Payload(json="1"))
    return [one.SerializeToString() for one in (start, done, beats, plan, task)]


SEEDS = seeds()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A sound value with parts cut out, doubled, flipped or put in."""
    value = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(value)))
        match draw(st.integers(0, 4)):
            case 0:
                del value[at : at + draw(st.integers(1, 8))]
            case 1:
                value[at:at] = draw(st.binary(max_size=16))
            case 2 if at < len(value):
                value[at] ^= 1 << draw(st.integers(0, 7))
            case 3:
                value[at:at] = value[at : at + 40] * draw(st.integers(1, 50))
            case _:
                value += draw(st.sampled_from(SEEDS))
    return bytes(value)


def header_values() -> st.SearchStrategy[Any]:
    known = st.sampled_from([b"acme", b"*", b"1.0", b"2.0", b"", None, *(k.__name__.encode() for k in KINDS)])
    return known | st.binary(max_size=64)


def headers() -> st.SearchStrategy[Any]:
    names = st.sampled_from(["hg-type", "hg-schema", "hg-tenant", "traceparent", "\x1b[31m"]) | st.text(
        max_size=8
    )
    free = st.lists(st.tuples(names, header_values()), max_size=40).map(tuple)
    sound = st.sampled_from(KINDS).map(
        lambda kind: (("hg-type", kind.__name__.encode()), ("hg-schema", b"1.0"), ("hg-tenant", b"acme"))
    )
    return sound | free


def assert_said_well(record: LogRecord, error: BadRecord) -> None:
    """The words do no harm, and the letter about the record travels."""
    assert error.detail.isprintable()
    assert error.detail.isascii()
    letter = dead_letter(record, error)
    value, letter_headers = encode(letter, letter.tenant_id)
    key = letter.tenant_id.encode()
    assert decode(LogRecord("dlq", 0, 0, 0, key, value, letter_headers), DeadLetter) == letter
    assert len(value) < 200_000


def refuse_or_return(record: LogRecord, kind: type[Message]) -> str:
    began = time.thread_time()
    try:
        message = decode(record, kind)
        reason = ""
        assert isinstance(message, kind)
    except BadRecord as error:
        reason = error.reason
        assert_said_well(record, error)
    assert time.thread_time() - began < 0.5
    return reason


@LONG
@given(
    value=st.none() | st.binary(max_size=300) | mutated(),
    headers=headers(),
    key=st.none() | st.just(b"acme") | st.binary(max_size=20),
    kind=st.sampled_from(KINDS),
    timestamp_ms=st.integers(-1, 2**63 - 1),
)
@example(value=b"\x0b" * 5_000, headers=(), key=b"acme", kind=ExecutionEnvelope, timestamp_ms=0)
def test_a_record_is_a_message_or_refused(
    value: bytes | None, headers: Headers, key: bytes | None, kind: type[Message], timestamp_ms: int
) -> None:
    refuse_or_return(LogRecord("t", 0, 1, timestamp_ms, key, value, headers), kind)


@LONG
@given(value=mutated(), kind=st.sampled_from(KINDS))
def test_a_mutated_value_under_sound_headers_is_a_message_or_refused(
    value: bytes, kind: type[Message]
) -> None:
    sound = (("hg-type", kind.__name__.encode()), ("hg-schema", b"1.0"), ("hg-tenant", b"acme"))
    refuse_or_return(LogRecord("t", 0, 1, 0, b"acme", value, sound), kind)


@LONG
@given(text=st.text(alphabet='[]{}",:\\a0 \n', max_size=400))
def test_depth_is_that_of_a_parser_for_whatever_is_json(text: str) -> None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        is_too_deep(text)
        return
    assert is_too_deep(text) == (_depth(value) > MAX_DEPTH)


def _depth(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if parts is None else 1 + max((_depth(part) for part in parts), default=0)


@LONG
@given(depth=st.integers(95, 105), words=st.text(max_size=5), around=st.integers(0, 3))
def test_the_bound_of_depth_is_exact(depth: int, words: str, around: int) -> None:
    value: Any = words
    for level in range(depth):
        value = [value] * (1 + (level < around)) if level % 2 else {f"{words}[{{": value, "[[[": '"[{\\'}
    text = json.dumps(value, ensure_ascii=False)
    assert is_too_deep(text) == (depth > MAX_DEPTH)


@LONG
@given(value=st.binary(max_size=2_000))
def test_looking_for_nesting_always_ends(value: bytes) -> None:
    began = time.thread_time()
    is_nested(value)
    is_nested(value * 50)
    assert time.thread_time() - began < 0.05
