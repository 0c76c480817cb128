"""`GuardrailEngine.apply`: one record of the log in, the outputs it causes out; nothing else changes state.

Order, for each record: the clock moves, due timers fire, then the record itself is taken. A record that
cannot be acted on becomes a dead letter and changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from headgate_graphs.errors import BadRecord, GraphInvalid, HeadgateError, PolicyInvalid, UserError
from headgate_graphs.ids import EVERY_TENANT, is_name
from headgate_graphs.loading import graph_from_json
from headgate_graphs.progress import GraphOrchestrator
from headgate_guardrails.fold import ending
from headgate_guardrails.fold.admission import serve_waiting, thaw
from headgate_guardrails.fold.controller import ExecutionController
from headgate_guardrails.fold.flow import Flow
from headgate_guardrails.fold.holds import close
from headgate_guardrails.fold.routing import begin, task_done, watch_age
from headgate_guardrails.fold.rules import CompiledPolicy, compile_policy
from headgate_guardrails.fold.settlement import on_heartbeat, on_result, on_started
from headgate_guardrails.fold.state import (
    LOGIC_VERSION,
    MAX_POLICY_RECORDS,
    Lifetime,
    PartitionState,
    PolicyBook,
    Registered,
    Tenant,
)
from headgate_guardrails.fold.timers import HORIZON_MS, fire_due, remember
from headgate_guardrails.fold.turn import DEAD_LETTERS, LIFETIMES, Output, Turn, stamp
from headgate_guardrails.policy import METRICS, policy_from_json
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, execution_pb2, task_pb2
from headgate_streams.codec import dead_letter, decode
from headgate_streams.port import LogRecord
from headgate_streams.topics import partition_for

MAX_COMMANDS = 1_000
"""Command ids a tenant's state remembers, so that a repeated command is ignored."""
MAX_GRAPH_VERSIONS = 1_000
"""Graph versions one tenant may register."""


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
        if tenant.waiting:
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
            entered = _enter(self.state.platform, envelope)
            if entered is not None:
                _judge_anew(self.state, self.state.tenants.values(), *entered)
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


def _register(
    _turn: Turn, tenant: Tenant, envelope: execution_pb2.ExecutionEnvelope, _record: LogRecord
) -> None:
    given = envelope.graph_registered
    registered, error = orchestrate(given.definition_json)
    if registered is None:
        raise BadRecord("BAD_GRAPH", error)
    metadata = registered.graph.metadata
    key = (metadata.id, metadata.version)
    if key != (given.graph_id, given.version) or metadata.tenant_id != tenant.tenant_id:
        raise BadRecord("BAD_GRAPH", "id, version or tenant of the record are not those of the definition")
    known = tenant.graphs.get(key)
    if known is not None and known.definition_json != given.definition_json:
        raise BadRecord("BAD_GRAPH", f"{key[0]} {key[1]} is registered with other content: raise the version")
    if known is None and len(tenant.graphs) >= MAX_GRAPH_VERSIONS:
        raise BadRecord("BAD_GRAPH", f"the tenant has {MAX_GRAPH_VERSIONS} graph versions already")
    tenant.graphs[key] = Registered(given.definition_json, registered)


@lru_cache(maxsize=1024)
def orchestrate(definition_json: str) -> tuple[GraphOrchestrator | None, str]:
    """Return the graph ready for progress, or None and why not. Cached: tenants share what is equal."""
    try:
        return GraphOrchestrator(graph_from_json(definition_json)), ""
    except (GraphInvalid, UserError) as error:
        return None, str(error)


@lru_cache(maxsize=1024)
def judge_by(document_json: str) -> tuple[CompiledPolicy | None, str]:
    """Return the policy ready to judge, or None and why not."""
    try:
        return compile_policy(policy_from_json(document_json)), ""
    except PolicyInvalid as error:
        return None, str(error)


def _enter(book: PolicyBook, envelope: execution_pb2.ExecutionEnvelope) -> tuple[str, bool] | None:
    """Put a policy in force; return its name and whether the version changed, None for a repeated record."""
    given = envelope.policy_set
    if not envelope.envelope_id:
        raise BadRecord(
            "BAD_POLICY", "a policy record needs an envelope_id, so that a repeat of it can be told"
        )
    if envelope.envelope_id in book.records:
        return None
    compiled, error = judge_by(given.document_json)
    if compiled is None:
        raise BadRecord("BAD_POLICY", error)
    name, version = compiled.policy.name, compiled.policy.version
    if (name, version) != (given.name, given.version):
        raise BadRecord("BAD_POLICY", "name or version of the record are not those of the document")
    if hashlib.sha256(given.document_json.encode()).hexdigest() != given.sha256:
        raise BadRecord("BAD_POLICY", "the document does not have the checksum that the record gives")
    if book.versions.setdefault((name, version), given.sha256) != given.sha256:
        raise BadRecord("BAD_POLICY", f"{name} v{version} was set with other content: raise the version")
    before = book.in_force.get(name)
    book.in_force[name] = compiled
    book.records[envelope.envelope_id] = True
    if len(book.records) > MAX_POLICY_RECORDS:
        del book.records[next(iter(book.records))]
    return name, before is not None and before.policy.version != version


def _forget_raises(tenant: Tenant, policy: str) -> None:
    """Another version is the last word on its caps: what was raised under the one before no longer holds."""
    for budgets in (tenant.budgets, *(lifetime.budgets for lifetime in tenant.lifetimes.values())):
        for key in [key for key in budgets if key[0] == policy]:
            del budgets[key]


def _set_policy(
    turn: Turn, tenant: Tenant, envelope: execution_pb2.ExecutionEnvelope, _record: LogRecord
) -> None:
    entered = _enter(tenant.policies, envelope)
    if entered is not None:
        _judge_anew(turn.state, [tenant], *entered)


def _judge_anew(state: PartitionState, tenants: Iterable[Tenant], policy: str, changed: bool) -> None:
    for tenant in tenants:
        if changed:
            _forget_raises(tenant, policy)
        tenant.judge_by(state.platform)


def _lifetime(tenant: Tenant, envelope: execution_pb2.ExecutionEnvelope) -> Lifetime | None:
    """Return the lifetime, None when it ended and is only remembered; raises BadRecord when it never was."""
    lifetime = tenant.lifetimes.get(envelope.lifetime_id)
    if lifetime is None and envelope.lifetime_id not in tenant.ended:
        raise BadRecord(
            "UNKNOWN_LIFETIME", f"{envelope.lifetime_id[:128]!a} is not a lifetime of this tenant"
        )
    return lifetime


def _result(turn: Turn, tenant: Tenant, envelope: execution_pb2.ExecutionEnvelope, record: LogRecord) -> None:
    lifetime = _lifetime(tenant, envelope)
    execution: Any = getattr(envelope, envelope.WhichOneof("payload") or "")
    if execution.tenant_id != tenant.tenant_id or execution.headers.lifetime_id != envelope.lifetime_id:
        raise BadRecord("TENANT_SPOOF", "the execution names another tenant or lifetime than its envelope")
    if lifetime is not None:
        on_result(turn, tenant, lifetime, execution, record.value or b"")


def _started(
    turn: Turn, tenant: Tenant, envelope: execution_pb2.ExecutionEnvelope, _record: LogRecord
) -> None:
    lifetime = _lifetime(tenant, envelope)
    if lifetime is not None:
        on_started(turn, tenant, lifetime, envelope.execution_started)


def _heartbeat(
    turn: Turn, tenant: Tenant, envelope: execution_pb2.ExecutionEnvelope, _record: LogRecord
) -> None:
    on_heartbeat(turn, tenant, envelope.heartbeat)


def _command(
    turn: Turn, tenant: Tenant, envelope: execution_pb2.ExecutionEnvelope, _record: LogRecord
) -> None:
    command = envelope.command
    if not is_name(command.command_id):
        raise BadRecord("BAD_COMMAND", "a command needs a command_id")
    if command.command_id in tenant.commands:
        return
    kind = command.WhichOneof("command")
    if kind is None:
        raise BadRecord("BAD_COMMAND", "the command is empty or of a kind that this version does not know")
    if kind == "raise_budget":
        _raise_budget(turn, tenant, envelope)
    elif not envelope.lifetime_id:
        _freeze_or_thaw(turn, tenant, command)
    else:
        lifetime = _lifetime(tenant, envelope)
        if lifetime is not None and lifetime.is_live:
            flow = Flow(turn, tenant, lifetime)
            _ORDERS[kind](flow, command)
            ending.settle_down(flow)
    _obeyed(tenant, command.command_id)


def _obeyed(tenant: Tenant, command_id: str) -> None:
    """Remember what must not be obeyed twice."""
    tenant.commands[command_id] = True
    if len(tenant.commands) > MAX_COMMANDS:
        del tenant.commands[next(iter(tenant.commands))]


def _freeze_or_thaw(turn: Turn, tenant: Tenant, command: control_pb2.OperatorCommand) -> None:
    """Hold back, or go on with, everything of a graph or of the tenant."""
    control = ExecutionController(turn, tenant)
    kind = command.WhichOneof("command")
    if kind == "pause":
        graph_id, reason = command.pause.graph_id, command.pause.reason[:500] or "frozen by an operator"
        if graph_id not in tenant.frozen:
            tenant.frozen[graph_id] = reason
            type_ = control_pb2.CONTROL_TYPE_PAUSE_LIFETIME
            control.tenant_event(type_, reason, graph_id, command.command_id)
    elif kind == "resume":
        graph_id = command.resume.graph_id
        if tenant.frozen.pop(graph_id, None) is not None:
            type_ = control_pb2.CONTROL_TYPE_RESUME_LIFETIME
            control.tenant_event(type_, "resumed by an operator", graph_id, command.command_id)
            thaw(turn, tenant)
    else:
        raise BadRecord("BAD_COMMAND", f"{kind} needs a lifetime")


def _raise_budget(turn: Turn, tenant: Tenant, envelope: execution_pb2.ExecutionEnvelope) -> None:
    order = envelope.command.raise_budget
    metric = "cost_nano_usd" if order.metric == "cost_usd" else order.metric
    policy = tenant.policies.in_force.get(order.policy) or turn.state.platform.in_force.get(order.policy)
    rule = next((r for r in policy.policy.rules if r.name == order.rule), None) if policy else None
    if rule is None or metric not in METRICS or rule.limit is None or metric not in rule.limit.caps():
        raise BadRecord(
            "BAD_COMMAND",
            f"no cap {order.metric[:64]!a} in policy {order.policy[:64]!a}, rule {order.rule[:64]!a}",
        )
    if not 0 <= order.value <= 2**62:
        raise BadRecord("BAD_COMMAND", "a cap is between 0 and 2^62")
    if envelope.lifetime_id:
        if rule.scope == "tenant":
            raise BadRecord("BAD_COMMAND", f"rule {rule.name} caps the tenant: raise it without a lifetime")
        lifetime = _lifetime(tenant, envelope)
        if lifetime is None:
            return
        lifetime.budgets[order.policy, order.rule, metric] = order.value
        watch_age(Flow(turn, tenant, lifetime))
        _go_on(turn, tenant, [lifetime], envelope.command)
    else:
        if rule.scope != "tenant":
            raise BadRecord("BAD_COMMAND", f"rule {rule.name} caps a {rule.scope}: name the lifetime")
        tenant.budgets[order.policy, order.rule, metric] = order.value
        _go_on(turn, tenant, list(tenant.lifetimes.values()), envelope.command)


def _go_on(
    turn: Turn, tenant: Tenant, lifetimes: Sequence[Lifetime], command: control_pb2.OperatorCommand
) -> None:
    """Resume what the rule with the raised cap had paused; one that is still too low pauses again."""
    order = command.raise_budget
    for lifetime in lifetimes:
        caused = any((v.policy, v.rule) == (order.policy, order.rule) for v in lifetime.violations)
        if lifetime.status == pb.LIFETIME_STATUS_PAUSED and caused:
            flow = Flow(turn, tenant, lifetime)
            ending.resume(flow, command.command_id)
            ending.settle_down(flow)


def _pause(flow: Flow, command: control_pb2.OperatorCommand) -> None:
    ttl = command.pause.ttl
    ending.pause(
        flow,
        command.pause.reason[:500] or "paused by an operator",
        ttl.seconds * 1000 + ttl.nanos // 1_000_000,
        command_id=command.command_id,
    )


def _resume(flow: Flow, command: control_pb2.OperatorCommand) -> None:
    answers = command.resume.pause_generation
    lifetime = flow.lifetime
    if lifetime.status == pb.LIFETIME_STATUS_PAUSED and answers in (0, lifetime.pause_generation):
        ending.resume(flow, command.command_id)


def _abort(flow: Flow, command: control_pb2.OperatorCommand) -> None:
    reason = command.abort.reason[:500] or "aborted by an operator"
    ending.end(flow, pb.LIFETIME_STATUS_ABORTED, reason, command_id=command.command_id)


def _complete(flow: Flow, command: control_pb2.OperatorCommand) -> None:
    """Answer a human task: its value is {"outcome": approved|answered|rejected, "answer": …}."""
    order, lifetime = command.complete, flow.lifetime
    flight = lifetime.inflight.get(order.execution_id)
    if flight is None or lifetime.graphs.nodes[flight.work.node_id].type != "human":
        raise BadRecord("BAD_COMMAND", f"{order.execution_id[:64]!a} is not a human task that waits")
    if not order.outcome:
        raise BadRecord("ENUM", "a completed human task needs an outcome")
    answer = order.json_answer or "null"
    try:
        json.loads(answer)
    except (ValueError, RecursionError):
        raise BadRecord("BAD_COMMAND", "the answer is not JSON") from None
    outcome = control_pb2.HumanOutcome.Name(order.outcome).removeprefix("HUMAN_OUTCOME_").lower()
    execution = flow.unreported(flight.work, order.execution_id, pb.EXECUTION_STATUS_COMPLETED)
    execution.result.CopyFrom(
        task_pb2.TaskResult(success=True, json_result=f'{{"outcome":"{outcome}","answer":{answer}}}')
    )
    close(flow.tenant, lifetime, order.execution_id, flow.turn.clock)
    task_done(flow, flight.work, execution)
    if lifetime.is_live:
        flow.control.view(lifetime)


_ORDERS: dict[str, Callable[[Flow, control_pb2.OperatorCommand], None]] = {
    "pause": _pause,
    "resume": _resume,
    "abort": _abort,
    "complete": _complete,
}
_TAKERS: dict[str, Callable[[Turn, Tenant, execution_pb2.ExecutionEnvelope, LogRecord], None]] = {
    "lifetime_start": _start,
    "execution_started": _started,
    "task_execution": _result,
    "plan_execution": _result,
    "heartbeat": _heartbeat,
    "command": _command,
    "graph_registered": _register,
    "policy_set": _set_policy,
}
