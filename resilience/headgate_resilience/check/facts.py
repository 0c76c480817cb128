"""What the outputs of a gate come to: one small tuple for each message, with digests in place of contents."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from sys import intern
from typing import Any, Final, NamedTuple

from headgate_protos.v1 import plan_pb2
from headgate_resilience.check.decoding import EVERYBODY

DIGEST_BYTES: Final = 12
REASON: Final = 160
"""Characters of a reason that are kept."""


class Given(NamedTuple):
    """One result that a plan was given."""

    execution_id: str
    success: bool
    code: str
    digest: bytes


class Dispatch(NamedTuple):
    """One input: an execution that was dispatched."""

    tenant: str
    lifetime: str
    execution_id: str
    graph: tuple[str, str]
    node: str
    is_plan: bool
    iteration: int
    attempt: int
    parent: str
    upstream: tuple[str, ...]
    given: tuple[Given, ...]
    """For plans, in the order of `upstream`."""
    input_digest: bytes
    """For tasks: what they were given."""
    leased: bool
    due_ms: int
    timeout_ms: int
    hold: tuple[int, int]
    """Tokens and nano-USD."""


class Event(NamedTuple):
    """One control event."""

    tenant: str
    lifetime: str
    type: int
    execution_id: str
    node: str
    reason: str
    shadow: bool
    graph_id: str


class View(NamedTuple):
    """One public view of a lifetime."""

    tenant: str
    lifetime: str
    graph: tuple[str, str]
    status: int
    reason: str
    is_end: bool
    usage: tuple[int, int, int]
    """Tokens, nano-USD, milliseconds."""
    held: tuple[int, int, int]
    """Open holds, tokens, nano-USD."""
    ended_ms: int
    updated_ms: int
    outcome: bytes
    """Digest."""
    parent: str
    parent_execution: str
    visits: tuple[tuple[str, int], ...]
    """Iterations by node; for terminal views only."""
    waiting: tuple[tuple[str, str], ...]
    """(execution, node) of each person who is asked."""


class Letter(NamedTuple):
    """One dead letter."""

    tenant: str
    topic: str
    partition: int
    offset: int
    reason: str
    key: bytes
    """Digest of what is kept of the key."""
    value: bytes
    """Digest of what is kept of the value."""
    kept: tuple[int, int, int]
    """Bytes kept of key and value, and the length that the value is said to have had."""


Fact = Dispatch | Event | View | Letter


def digest(content: bytes) -> bytes:
    """Return what stands for some bytes."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def milliseconds(field: Any) -> int:
    """Return a Timestamp or Duration in milliseconds."""
    return int(field.seconds * 1000 + field.nanos // 1_000_000)


# -- messages to facts -----------------------------------------------------------------------------


def _dispatch(message: Any, _key: bytes) -> Dispatch:
    headers = message.headers
    is_plan = isinstance(message, plan_pb2.PlanInput)
    given: tuple[Given, ...] = ()
    if is_plan:
        given = tuple(_given(one) for one in message.upstream_task_executions)
    return Dispatch(
        tenant=intern(message.tenant_id),
        lifetime=intern(headers.lifetime_id),
        execution_id=intern(headers.execution_id),
        graph=(intern(headers.graph_id), intern(headers.graph_version)),
        node=intern(headers.node_id),
        is_plan=is_plan,
        iteration=headers.iteration,
        attempt=headers.attempt,
        parent=intern(headers.parent_execution_id),
        upstream=tuple(map(intern, headers.upstream_execution_ids)),
        given=given,
        input_digest=b"" if is_plan else digest(message.input_data.SerializeToString()),
        leased=message.leased,
        due_ms=milliseconds(message.start_by if message.leased else headers.deadline),
        timeout_ms=milliseconds(headers.timeout),
        hold=(message.hold.tokens_used, message.hold.cost_nano_usd),
    )


def _given(execution: Any) -> Given:
    result = execution.result
    return Given(
        intern(execution.headers.execution_id),
        result.success,
        result.error.code,
        digest(result.SerializeToString()),
    )


def _event(event: Any, _key: bytes) -> Event:
    return Event(
        event.tenant_id,
        event.lifetime_id,
        event.type,
        event.execution_id,
        event.node_id,
        event.reason[:REASON],
        event.shadow,
        event.graph_id,
    )


def _view(view: Any, key: bytes) -> View:
    is_end = key.endswith(b"/end")
    usage, held = view.usage, view.held
    return View(
        tenant=intern(view.tenant_id),
        lifetime=intern(view.lifetime_id),
        graph=(view.graph_id, view.graph_version),
        status=view.status,
        reason=view.reason[:REASON],
        is_end=is_end,
        usage=(usage.tokens_used, usage.cost_nano_usd, usage.latency_ms),
        held=(view.open_holds, held.tokens_used, held.cost_nano_usd),
        ended_ms=milliseconds(view.ended_at),
        updated_ms=milliseconds(view.updated_at),
        outcome=digest(view.outcome.SerializeToString()) if is_end else b"",
        parent=view.parent_lifetime_id,
        parent_execution=view.parent_execution_id,
        visits=tuple((node.node_id, node.iterations) for node in view.nodes) if is_end else (),
        waiting=tuple((one.execution_id, one.node_id) for one in view.waiting),
    )


def _letter(letter: Any, _key: bytes) -> Letter:
    return Letter(
        letter.tenant_id or EVERYBODY,
        letter.topic,
        letter.partition,
        letter.offset,
        letter.reason,
        digest(letter.key),
        digest(letter.value),
        (len(letter.key), len(letter.value), letter.value_size_bytes),
    )


KINDS: Final[dict[str, type[Any]]] = {
    "TaskInput": Dispatch,
    "PlanInput": Dispatch,
    "ExecutionEvent": Event,
    "LifetimeView": View,
    "DeadLetter": Letter,
}
FACTS: Final[dict[str, Callable[[Any, bytes], Fact]]] = {
    "TaskInput": _dispatch,
    "PlanInput": _dispatch,
    "ExecutionEvent": _event,
    "LifetimeView": _view,
    "DeadLetter": _letter,
}
