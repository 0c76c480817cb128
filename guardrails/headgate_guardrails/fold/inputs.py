"""The inputs that workers get, written as bytes: what is the same in each input of a node is written once."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from headgate_graphs.ids import execution_id as make_id
from headgate_graphs.model import Plan
from headgate_guardrails.fold.wire import integer, known, moment, nested, text, varint
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import plan_pb2, task_pb2

if TYPE_CHECKING:
    from headgate_graphs.model import AgentGraph, Task
    from headgate_guardrails.fold.ledger import Amount
    from headgate_guardrails.fold.lifetime import Lifetime, Work

MAX_INPUT_BYTES = 1_000_000
"""An input above this would not fit into a record of the log."""
_KEPT_BYTES = 4_096
"""A start input up to this size is kept as bytes, too, while its lifetime runs."""
_SMALL_BYTES = 2_000
"""More than ids, times and ticket of an input take, besides its upstream ids."""
_UPSTREAM_ID_BYTES = 64
"""More than the id of one upstream execution takes."""


def _tag(kind: type[Message], field: str, wire: int) -> bytes:
    number = kind.DESCRIPTOR.fields_by_name[field].number << 3 | wire
    return bytes((number,)) if number < 128 else bytes((number & 127 | 128, number >> 7))


_VARINT, _BYTES = 0, 2
_HEADERS = pb.ExecutionHeaders
_ID_BYTES = bytes((len(make_id("", "", "", 0, 0)),))
_EXECUTION_ID = _tag(_HEADERS, "execution_id", _BYTES) + _ID_BYTES
"""With the length of what follows, which is the same for all ids that are made here."""
_LIFETIME_ID = _tag(_HEADERS, "lifetime_id", _BYTES)
_ITERATION = _tag(_HEADERS, "iteration", _VARINT)
_ATTEMPT = _tag(_HEADERS, "attempt", _VARINT)
_PARENT = _tag(_HEADERS, "parent_execution_id", _BYTES)
_UPSTREAM_ID = _tag(_HEADERS, "upstream_execution_ids", _BYTES) + _ID_BYTES
_DEADLINE = _tag(_HEADERS, "deadline", _BYTES)


class InputForm:
    """Writes the inputs of one node. The order of all parts is that of the field numbers."""

    def __init__(
        self, graph: AgentGraph, node: Task | Plan, hold: Amount, timeout_ms: int, lease_ms: int
    ) -> None:
        """Write what is the same in every input; `lease_ms` is 0 for plain work."""
        is_plan = isinstance(node, Plan)
        self._is_plan = is_plan
        self.kind: Any = plan_pb2.PlanInput if is_plan else task_pb2.TaskInput
        kind = self.kind
        self._tenant_id = _tag(kind, "tenant_id", _BYTES)
        self._headers = _tag(kind, "headers", _BYTES)
        self._given = _tag(kind, "upstream_task_executions" if is_plan else "input_data", _BYTES)
        self._start_input = _tag(kind, "start_input", _BYTES)
        self.source_tag = _tag(kind, "source", _BYTES)
        self._start_by = _tag(kind, "start_by", _BYTES) if lease_ms else b""
        self._ticket = _tag(kind, "ticket", _BYTES)
        identity = _HEADERS(
            graph_id=graph.metadata.id,
            graph_version=graph.metadata.version,
            node_id=node.id,
            node_kind=pb.NODE_KIND_PLAN if is_plan else pb.NODE_KIND_TASK,
            node_type=node.type,
            status=pb.EXECUTION_STATUS_PENDING,
        )
        self._identity = identity.SerializeToString()
        self._queue = _HEADERS(queue=node.config.queue or "").SerializeToString() + _DEADLINE
        """With the tag of what follows."""
        self._timeout = _HEADERS(timeout=_duration(timeout_ms)).SerializeToString()
        own_id = _EXECUTION_ID + b"0" * _ID_BYTES[0]
        self._size = len(own_id + self._identity + self._queue + self._timeout)
        """Of that part of the headers which is as long in every input."""
        fixed: Any = kind(params_json=params_of(node))
        if is_plan:
            fixed.allowed_next_ids.extend(edge.target for edge in graph.outgoing[node.id])
        self._params = fixed.SerializeToString()
        self._leased = kind(leased=True).SerializeToString() if lease_ms else b""
        self._promised = _promised(kind, hold, lease_ms)

    def write(
        self, tenant_id: str, lifetime: Lifetime, work: Work, execution_id: str, due: int, ticket: bytes
    ) -> tuple[bytes, bytes]:
        """Return the input for one execution, as what comes before its source and what comes after.

        `due` is when the gate no longer waits, log time in ms; `ticket` is empty for none.
        """
        run_of = known(_LIFETIME_ID, lifetime.lifetime_id)
        which = _which(work.iteration, work.attempt)
        before_it = text(_PARENT, work.parent_execution_id) if work.parent_execution_id else b""
        upstream = _upstream(work.upstream_ids) if work.upstream_ids else b""
        when = moment(due)
        size = self._size + len(run_of) + len(which) + len(before_it) + len(upstream) + len(when)
        start = lifetime.start_bytes or _start_bytes(lifetime)
        before = b"".join(
            (
                known(self._tenant_id, tenant_id),
                self._headers,
                varint(size),
                _EXECUTION_ID,
                execution_id.encode(),
                run_of,
                self._identity,
                which,
                before_it,
                upstream,
                self._queue,
                when,
                self._timeout,
                self._given_to(work),
                self._start_input,
                varint(len(start)),
                start,
                self._params,
            )
        )
        after = self._promised
        if self._leased:
            after = self._leased + self._start_by + when + after
        return before, after + nested(self._ticket, ticket) if ticket else after

    def _given_to(self, work: Work) -> bytes:
        """Return what led here: a task's data, or the results that a plan looks at."""
        if not self._is_plan:
            data = work.input_data
            return nested(self._given, data.SerializeToString()) if data is not None else b""
        upstreams = work.upstreams
        if len(upstreams) == 1:
            return nested(self._given, upstreams[0].SerializeToString())
        return b"".join([nested(self._given, one.SerializeToString()) for one in upstreams])

    def is_surely_small(self, lifetime: Lifetime, work: Work) -> bool:
        """Whether the input cannot exceed MAX_INPUT_BYTES, found without writing it."""
        size = _SMALL_BYTES + len(self._params) + len(lifetime.start_bytes or _start_bytes(lifetime))
        size += _UPSTREAM_ID_BYTES * len(work.upstream_ids)
        if work.input_data is not None:
            size += work.input_data.ByteSize()
        for one in work.upstreams:
            size += one.ByteSize()
        return size <= MAX_INPUT_BYTES


def _upstream(ids: tuple[str, ...]) -> bytes:
    if len(ids) == 1:
        return _UPSTREAM_ID + ids[0].encode()
    return b"".join([_UPSTREAM_ID + one.encode() for one in ids])


@lru_cache(maxsize=4096)
def _which(iteration: int, attempt: int) -> bytes:
    return integer(_ITERATION, iteration) + integer(_ATTEMPT, attempt)


def _start_bytes(lifetime: Lifetime) -> bytes:
    """Return what the lifetime was started with, kept for its next input when it is small."""
    written = lifetime.start_input.SerializeToString()
    if len(written) <= _KEPT_BYTES:
        lifetime.start_bytes = written
    return written


def _duration(ms: int) -> Duration:
    return Duration(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def _promised(kind: Any, hold: Amount, lease_ms: int) -> bytes:
    """Return the lease and the hold."""
    message = kind()
    if lease_ms:
        message.lease.CopyFrom(_duration(lease_ms))
    if not hold.is_zero:
        message.hold.tokens_used, message.hold.cost_nano_usd = hold
    return message.SerializeToString()  # type: ignore[no-any-return]


def params_of(node: Task | Plan) -> str:
    """Return the node's parameters as JSON; a rules plan carries its rules."""
    config = node.config
    if isinstance(node, Plan) and node.type == "rules":
        rules = sorted(node.config.rules, key=lambda rule: -rule.priority)
        params: dict[str, Any] = dict(config.params)
        params["rules"] = [{"when": rule.when, "next": list(rule.next)} for rule in rules]
        params["default"] = list(node.config.default_next)
        return json.dumps(params, sort_keys=True, separators=(",", ":"))
    if not config.params:
        return ""
    return json.dumps(config.params, sort_keys=True, separators=(",", ":"))
