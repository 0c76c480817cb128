"""`GuardrailEngine.apply`: one record of the log in, the outputs it causes out; nothing else changes state.

Order, for each record: the clock moves, due timers fire, then the record itself is taken. A record that
cannot be acted on becomes a dead letter and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headgate_graphs.errors import BadRecord, HeadgateError
from headgate_graphs.ids import EVERY_TENANT, is_name
from headgate_guardrails.fold.admission import serve_waiting
from headgate_guardrails.fold.definitions import register, set_policy
from headgate_guardrails.fold.flow import Flow
from headgate_guardrails.fold.orders import known_lifetime, obey
from headgate_guardrails.fold.routing import begin
from headgate_guardrails.fold.settlement import on_heartbeat, on_result, on_started
from headgate_guardrails.fold.state import LOGIC_VERSION, Lifetime, PartitionState, Tenant
from headgate_guardrails.fold.timers import HORIZON_MS, fire_due, remember
from headgate_guardrails.fold.turn import DEAD_LETTERS, LIFETIMES, Output, Turn, stamp
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import execution_pb2
from headgate_streams.codec import dead_letter, decode
from headgate_streams.port import LogRecord
from headgate_streams.topics import partition_for


class UnknownLogic(HeadgateError):
    """The log was activated for a logic version that this binary does not have."""


class GuardrailEngine:
    """Folds records into the state of one partition. Deterministic; not thread-safe."""

    def __init__(self, state: PartitionState) -> None:
        self.state = state

    def apply(self, record: LogRecord) -> list[Output]:
        """Fold one record; return its outputs in order, each with its source.

        Raises UnknownLogic when the log asks for logic this binary does not have. Any other exception is a
        bug: the state may be torn and must be thrown away.
        """
        state = self.state
        if record.timestamp_ms > state.clock_ms:
            state.clock_ms = record.timestamp_ms
        turn = Turn(state, record.offset)
        if state.heap and state.heap[0][0] <= turn.clock:
            fire_due(turn)
        try:
            self._take(turn, record)
        except BadRecord as error:
            letter = dead_letter(record, error)
            turn.emit(
                DEAD_LETTERS, letter.tenant_id or EVERY_TENANT, letter.tenant_id or EVERY_TENANT, letter
            )
        state.next_offset = record.offset + 1
        return turn.outputs

    def _take(self, turn: Turn, record: LogRecord) -> None:
        envelope = decode(record, execution_pb2.ExecutionEnvelope)
        kind = envelope.WhichOneof("payload")
        if kind is None:
            raise BadRecord("TYPE_MISMATCH", "the envelope is of a kind that this version does not know")
        if envelope.tenant_id == EVERY_TENANT:
            self._partition_record(kind, envelope)
            return
        home = partition_for(envelope.tenant_id, self.state.partitions)
        if home != self.state.partition:
            raise BadRecord("WRONG_PARTITION", f"the tenant's partition is {home}")
        tenant = self.state.tenants.get(envelope.tenant_id)
        if tenant is None:
            tenant = Tenant(envelope.tenant_id)
            tenant.judge_by(self.state.platform)
        taker = _TAKERS.get(kind)
        if taker is None:
            raise BadRecord("TENANT_SPOOF", f"{kind} concerns every tenant")
        taker(turn, tenant, envelope, record)
        if tenant.tenant_id not in self.state.tenants:
            self.state.tenants[tenant.tenant_id] = tenant
        if tenant.waiting.may_move:
            serve_waiting(turn, tenant)

    def _partition_record(self, kind: str, envelope: execution_pb2.ExecutionEnvelope) -> None:
        if kind == "logic_version":
            if envelope.logic_version.version > LOGIC_VERSION:
                raise UnknownLogic(
                    f"the log asks for logic version {envelope.logic_version.version}, "
                    f"this binary has {LOGIC_VERSION}: install a newer headgate"
                )
            self.state.logic_version = max(self.state.logic_version, envelope.logic_version.version)
        elif kind == "policy_set":
            set_policy(self.state, None, envelope)
        elif kind != "tick":
            raise BadRecord("TENANT_SPOOF", f"{kind} needs a tenant of its own")


def _start(turn: Turn, tenant: Tenant, envelope: execution_pb2.ExecutionEnvelope, _record: LogRecord) -> None:
    start, lifetime_id = envelope.lifetime_start, envelope.lifetime_id
    if not is_name(lifetime_id):
        raise BadRecord("BAD_COMMAND", f"{lifetime_id[:64]!a} is not a lifetime id")
    if lifetime_id in tenant.lifetimes or lifetime_id in tenant.ended:
        return
    if not start.HasField("issued_at"):
        raise BadRecord("BAD_COMMAND", "a start says when it was issued, so that a repeat of it can be told")
    issued_ms = start.issued_at.seconds * 1000 + start.issued_at.nanos // 1_000_000
    if issued_ms > turn.clock + HORIZON_MS:
        raise BadRecord("BAD_COMMAND", "a start is issued more than a day ahead of the log: set the clock")
    if issued_ms < turn.clock - HORIZON_MS:
        _refuse_start(
            turn, tenant, envelope, "STALE_START: issued longer ago than the gate remembers ended runs"
        )
        return
    key = tenant.newest(start.graph_id, start.graph_version)
    if key is None:
        named = f"{start.graph_id[:64]!a} {start.graph_version[:32]}".rstrip()
        _refuse_start(turn, tenant, envelope, f"UNKNOWN_GRAPH: {named} is not registered for this tenant")
        return
    lifetime = Lifetime(lifetime_id, key, tenant.graphs[key].orchestrator)
    lifetime.start_input = start.input if start.HasField("input") else pb.Payload(json="null")
    lifetime.priority = start.priority
    lifetime.issued_at = issued_ms
    tenant.lifetimes[lifetime_id] = lifetime
    begin(Flow(turn, tenant, lifetime))


def _refuse_start(turn: Turn, tenant: Tenant, envelope: execution_pb2.ExecutionEnvelope, reason: str) -> None:
    """Answer a start that cannot begin; a stale one not under the key of the end it may once have had."""
    view = execution_pb2.LifetimeView(
        tenant_id=tenant.tenant_id,
        lifetime_id=envelope.lifetime_id,
        graph_id=envelope.lifetime_start.graph_id[:128],
        graph_version=envelope.lifetime_start.graph_version[:32],
        status=pb.LIFETIME_STATUS_REJECTED,
        reason=reason,
    )
    for field in (view.started_at, view.updated_at, view.ended_at):
        stamp(field, turn.clock)
    key = f"{tenant.tenant_id}/{envelope.lifetime_id}"
    if not reason.startswith("STALE_START"):
        key += "/end"
        remember(turn, tenant, envelope.lifetime_id, turn.clock + HORIZON_MS)
    turn.emit(LIFETIMES, key, tenant.tenant_id, view)


def _result(turn: Turn, tenant: Tenant, envelope: execution_pb2.ExecutionEnvelope, record: LogRecord) -> None:
    lifetime = known_lifetime(tenant, envelope)
    execution: Any = getattr(envelope, envelope.WhichOneof("payload") or "")
    if execution.tenant_id != tenant.tenant_id or execution.headers.lifetime_id != envelope.lifetime_id:
        raise BadRecord("TENANT_SPOOF", "the execution names another tenant or lifetime than its envelope")
    if lifetime is not None:
        on_result(turn, tenant, lifetime, execution, record.value or b"")


def _started(
    turn: Turn, tenant: Tenant, envelope: execution_pb2.ExecutionEnvelope, _record: LogRecord
) -> None:
    lifetime = known_lifetime(tenant, envelope)
    if lifetime is not None:
        on_started(turn, tenant, lifetime, envelope.execution_started)


def _heartbeat(
    turn: Turn, tenant: Tenant, envelope: execution_pb2.ExecutionEnvelope, _record: LogRecord
) -> None:
    on_heartbeat(turn, tenant, envelope.heartbeat)


_TAKERS: dict[str, Callable[[Turn, Tenant, execution_pb2.ExecutionEnvelope, LogRecord], None]] = {
    "lifetime_start": _start,
    "execution_started": _started,
    "task_execution": _result,
    "plan_execution": _result,
    "heartbeat": _heartbeat,
    "command": lambda turn, tenant, envelope, _: obey(turn, tenant, envelope),
    "graph_registered": lambda _turn, tenant, envelope, _: register(tenant, envelope.graph_registered),
    "policy_set": lambda turn, tenant, envelope, _: set_policy(turn.state, tenant, envelope),
}
