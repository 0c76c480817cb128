"""`GuardrailEngine.apply`: one record of the log in, the outputs it causes out; nothing else changes state.

Order, for each record: the clock moves, due timers fire, then the record itself is taken. A record that
cannot be acted on becomes a dead letter and changes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from headgate_graphs.errors import BadRecord, HeadgateError
from headgate_graphs.ids import EVERY_TENANT, is_name
from headgate_guardrails.fold import forking
from headgate_guardrails.fold.admission import serve_waiting
from headgate_guardrails.fold.authority import (
    SIGNED,
    check_signature,
    is_fork,
    register_key,
    register_ticket_key,
    require,
)
from headgate_guardrails.fold.definitions import register, set_policy
from headgate_guardrails.fold.flow import Flow
from headgate_guardrails.fold.lifetime import Lifetime
from headgate_guardrails.fold.orders import known_lifetime, obey
from headgate_guardrails.fold.quarantine import (
    Hold,
    HoldNeeded,
    TenantFault,
    announce,
    check_note,
    hold_tenant,
    quarantine_said,
    released,
)
from headgate_guardrails.fold.reports import Execution, Report
from headgate_guardrails.fold.routing import begin
from headgate_guardrails.fold.runs import on_heartbeat, on_started
from headgate_guardrails.fold.settlement import on_result
from headgate_guardrails.fold.state import LOGIC_VERSION, PartitionState, Tenant
from headgate_guardrails.fold.timers import HORIZON_MS, fire_due, remember
from headgate_guardrails.fold.turn import DEAD_LETTERS, LIFETIMES, Output, Turn, Witness, stamp
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, execution_pb2
from headgate_streams.codec import decode_envelope
from headgate_streams.letters import dead_letter
from headgate_streams.port import LogRecord
from headgate_streams.topics import partition_for


class UnknownLogic(HeadgateError):
    """The log was activated for a logic version that this binary does not have."""


MissedReader = Callable[[int, int, int], Iterable[LogRecord]]
"""(partition, first offset, end offset) -> the records of the log in between, in order."""


class Surroundings(NamedTuple):
    """What the fold needs besides the log: the same for every gate of an installation."""

    missed: MissedReader
    """Reads back what a quarantined tenant missed, when it is released."""
    secrets: Mapping[str, bytes] = MappingProxyType({})
    """Ticket keys by fingerprint."""
    newest_logic: int = LOGIC_VERSION
    """The newest logic version this process decides by; a test sets a lower one to act as an older binary."""
    witness: Witness | None = None
    """Is told what goes on; decides nothing."""


def _nothing_to_read(_partition: int, first: int, end: int) -> Iterable[LogRecord]:
    raise HeadgateError(f"this fold cannot read records {first} to {end} again")


ALONE = Surroundings(_nothing_to_read)
"""No keys, and no way back to earlier records: for folds that need neither."""


class GuardrailEngine:
    """Folds records into the state of one partition. Deterministic; not thread-safe."""

    def __init__(
        self,
        state: PartitionState,
        surroundings: Surroundings = ALONE,
        holds: Iterable[Hold] = (),
        heeded: range = range(sys.maxsize),
    ) -> None:
        """Fold into `state`; hold back the tenants of `holds` at their records.

        A note of the log that a tenant was held at an offset in `heeded` raises HoldNeeded unless it is; one
        about any other offset came too late to matter, and changes nothing.
        """
        self.state = state
        self._surroundings = surroundings
        self._turn = Turn(state, state.next_offset, surroundings.secrets, witness=surroundings.witness)
        self._holds: dict[int, list[Hold]] = {}
        for hold in holds:
            self._holds.setdefault(hold.offset, []).append(hold)
        self._heeded = heeded
        self._check_logic(state.logic_version)
        for name in {state.ticket_key, *state.tickets_kept} - {""}:
            require(self._turn, name)

    def apply(self, record: LogRecord, *, is_silent: bool = False) -> list[Output]:
        """Fold one record; return its outputs in order, each with its source; none when `is_silent`.

        Raises UnknownLogic and UnknownTicketKey when this process must not fold the partition, TenantFault
        and HoldNeeded when it must fold it again with a tenant held. Any other exception is a bug. After any
        of them the state may be torn and must be thrown away.
        """
        state, offset = self.state, record.offset
        if record.timestamp_ms > state.clock_ms:
            state.clock_ms = record.timestamp_ms
        if self._holds:
            for hold in self._holds.get(offset, ()):
                hold_tenant(state, hold)
        turn = self._turn
        turn.begin(offset, is_silent)
        if state.heap and state.heap[0][0] <= turn.clock:
            fire_due(turn)
        try:
            self._take(turn, record)
        except BadRecord as error:
            bury(turn, record, error)
        state.next_offset = offset + 1
        return turn.outputs

    def _take(self, turn: Turn, record: LogRecord) -> None:
        envelope, tenant_id, kind, payload = decode_envelope(record)
        turn.value = record.value or b""
        state = self.state
        if state.logic_version < 2 and kind in _SINCE_2:
            raise BadRecord("TYPE_MISMATCH", "the envelope is of a kind that this version does not know")
        if state.keys and (kind in SIGNED or is_fork(envelope)):
            check_signature(state, kind, envelope)
        if tenant_id == EVERY_TENANT:
            self._partition_record(turn, kind, envelope)
            return
        home = partition_for(tenant_id, state.partitions)
        if home != state.partition:
            raise BadRecord("WRONG_PARTITION", f"the tenant's partition is {home}")
        if tenant_id in state.quarantined:
            self._while_quarantined(turn, kind, envelope)
        elif kind == "tenant_quarantined":
            self._heed(turn, envelope)
        else:
            self._take_for_tenant(turn, tenant_id, kind, envelope, payload)

    def _take_for_tenant(
        self, turn: Turn, tenant_id: str, kind: str, envelope: execution_pb2.ExecutionEnvelope, payload: Any
    ) -> None:
        try:
            self._serve(turn, tenant_id, kind, envelope, payload)
        except HeadgateError:
            raise
        except Exception as error:
            raise TenantFault(tenant_id, turn.offset, error) from error

    def _serve(
        self, turn: Turn, tenant_id: str, kind: str, envelope: execution_pb2.ExecutionEnvelope, payload: Any
    ) -> None:
        tenants = self.state.tenants
        tenant = tenants.get(tenant_id)
        if tenant is None:
            tenant = Tenant(tenant_id)
            tenant.judge_by(self.state.platform)
        elif self.state.capturing is not None:
            self.state.capturing.before_change(tenant)
        taker = _TAKERS.get(kind)
        if taker is None:
            raise BadRecord("TENANT_SPOOF", f"{kind} concerns every tenant")
        taker(turn, tenant, envelope, payload)
        if tenant_id not in tenants:
            tenants[tenant_id] = tenant
        if tenant.waiting.may_move:
            serve_waiting(turn, tenant)
        tenant.changed_at = turn.offset

    def _partition_record(self, turn: Turn, kind: str, envelope: execution_pb2.ExecutionEnvelope) -> None:
        state = self.state
        if kind == "logic_version":
            self._check_logic(envelope.logic_version.version)
            state.logic_version = max(state.logic_version, envelope.logic_version.version)
        elif kind == "policy_set":
            if state.capturing is not None:
                state.capturing.before_change(*state.tenants.values())
            set_policy(state, None, envelope)
            for tenant in state.tenants.values():
                tenant.changed_at = turn.offset
        elif kind == "key_registered":
            register_key(state, envelope.key_registered)
        elif kind == "ticket_key_registered":
            register_ticket_key(turn, envelope.ticket_key_registered)
        elif kind != "tick":
            raise BadRecord("TENANT_SPOOF", f"{kind} needs a tenant of its own")

    def _check_logic(self, version: int) -> None:
        newest = self._surroundings.newest_logic
        if version > newest:
            raise UnknownLogic(
                f"the log asks for logic version {version}, this process has {newest}: "
                "install a newer headgate"
            )

    # -- quarantine --------------------------------------------------------------------------------

    def _heed(self, turn: Turn, envelope: execution_pb2.ExecutionEnvelope) -> None:
        check_note(turn, envelope)
        hold = quarantine_said(envelope)
        if hold.offset in self._heeded:
            raise HoldNeeded(hold)

    def _while_quarantined(self, turn: Turn, kind: str, envelope: execution_pb2.ExecutionEnvelope) -> None:
        tenant_id = envelope.tenant_id
        if kind == "tenant_quarantined":
            check_note(turn, envelope)
            announce(turn, tenant_id)
        elif kind == "command" and envelope.command.WhichOneof("command") == "release":
            failed_before = any(hold.tenant_id == tenant_id for hold in self._holds.get(turn.offset, ()))
            if not failed_before:
                self._release(turn, tenant_id, envelope.command)
        else:
            self.state.quarantined[tenant_id].waiting.append(turn.offset)

    def _release(self, turn: Turn, tenant_id: str, command: control_pb2.OperatorCommand) -> None:
        """Fold what the tenant missed as part of this record."""
        mark = self.state.quarantined.pop(tenant_id)
        waiting = set(mark.waiting)
        for missed in self._surroundings.missed(self.state.partition, mark.from_offset, turn.offset):
            if missed.offset not in waiting:
                continue
            if missed.offset == mark.from_offset and command.release.skip_failed:
                bury(turn, missed, BadRecord("FOLD_FAILED", mark.error))
            else:
                self._catch_up(turn, missed)
        released(turn, tenant_id, command.command_id)

    def _catch_up(self, turn: Turn, missed: LogRecord) -> None:
        """Fold one record that waited; who may say it was judged when it came."""
        envelope, tenant_id, kind, payload = decode_envelope(missed)
        turn.value = missed.value or b""
        try:
            self._take_for_tenant(turn, tenant_id, kind, envelope, payload)
        except BadRecord as error:
            bury(turn, missed, error)


def bury(turn: Turn, record: LogRecord, error: BadRecord) -> None:
    """Publish the record as a dead letter."""
    if turn.is_silent:
        return
    letter = dead_letter(record, error)
    owner = letter.tenant_id or EVERY_TENANT
    turn.emit(DEAD_LETTERS, owner, owner, letter)


_SINCE_2 = frozenset({"key_registered", "tenant_quarantined", "ticket_key_registered"})
"""Kinds that logic version 2 has brought."""


def _start(
    turn: Turn,
    tenant: Tenant,
    envelope: execution_pb2.ExecutionEnvelope,
    start: execution_pb2.LifetimeStart,
) -> None:
    lifetime_id = envelope.lifetime_id
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
    lifetime.ticket_key = turn.state.ticket_key
    lifetime.issued_at = issued_ms
    flow = Flow(turn, tenant, lifetime)
    if start.HasField("fork"):
        fault = forking.take_up(flow, start.fork)
        if fault:
            _refuse_start(turn, tenant, envelope, fault)
            return
    tenant.lifetimes.add(lifetime)
    if start.HasField("fork"):
        forking.begin(flow, start.fork)
    else:
        begin(flow)


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


def _result(
    turn: Turn, tenant: Tenant, envelope: execution_pb2.ExecutionEnvelope, execution: Execution
) -> None:
    lifetime_id = envelope.lifetime_id
    lifetime = known_lifetime(tenant, lifetime_id)
    report = Report(execution)
    if report.headers.lifetime_id != lifetime_id:
        raise BadRecord("TENANT_SPOOF", "the execution names another tenant or lifetime than its envelope")
    if lifetime is not None:
        on_result(turn, tenant, lifetime, report)


def _started(
    turn: Turn,
    tenant: Tenant,
    envelope: execution_pb2.ExecutionEnvelope,
    started: execution_pb2.ExecutionStarted,
) -> None:
    lifetime = known_lifetime(tenant, envelope.lifetime_id)
    if lifetime is not None:
        on_started(turn, tenant, lifetime, started)


Taker = Callable[[Turn, Tenant, execution_pb2.ExecutionEnvelope, Any], None]
"""Takes the payload of one kind, which is the last of what it is given."""
_TAKERS: dict[str, Taker] = {
    "lifetime_start": _start,
    "execution_started": _started,
    "task_execution": _result,
    "plan_execution": _result,
    "heartbeat": lambda turn, tenant, _, heartbeat: on_heartbeat(turn, tenant, heartbeat),
    "command": lambda turn, tenant, envelope, _: obey(turn, tenant, envelope),
    "graph_registered": lambda _turn, tenant, _, registered: register(tenant, registered),
    "policy_set": lambda turn, tenant, envelope, _: set_policy(turn.state, tenant, envelope),
}
