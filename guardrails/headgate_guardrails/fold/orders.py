"""What operators order: pause, resume, abort, raise a cap, answer for a person, freeze a graph or all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from headgate_graphs.errors import BadRecord
from headgate_graphs.ids import is_name
from headgate_graphs.units import MAX_DURATION_MS
from headgate_guardrails.fold import admission, ending, routing
from headgate_guardrails.fold.controller import ExecutionController
from headgate_guardrails.fold.flow import Flow
from headgate_guardrails.fold.holds import close
from headgate_guardrails.fold.lifetime import Lifetime
from headgate_guardrails.fold.rules import book_of
from headgate_guardrails.fold.state import Tenant
from headgate_guardrails.fold.turn import Turn
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, execution_pb2, task_pb2

if TYPE_CHECKING:
    from headgate_guardrails.policy import Rule

MAX_COMMANDS = 1_000
"""Command ids a tenant's state remembers, so that a repeated command is ignored."""


def known_lifetime(tenant: Tenant, lifetime_id: str) -> Lifetime | None:
    """Return the lifetime, None when it ended and is only remembered; raises BadRecord when it never was."""
    lifetime = tenant.lifetimes.get(lifetime_id)
    if lifetime is None and lifetime_id not in tenant.ended:
        raise BadRecord("UNKNOWN_LIFETIME", f"{lifetime_id[:128]!a} is not a lifetime of this tenant")
    return lifetime


def obey(turn: Turn, tenant: Tenant, envelope: execution_pb2.ExecutionEnvelope) -> None:
    """Take one operator command, once; raises BadRecord BAD_COMMAND, UNKNOWN_LIFETIME or ENUM."""
    command = envelope.command
    if not is_name(command.command_id):
        raise BadRecord("BAD_COMMAND", "a command needs a command_id")
    if command.command_id in tenant.commands:
        return
    kind = command.WhichOneof("command")
    if kind is None or (kind == "release" and turn.state.logic_version < 2):
        raise BadRecord("BAD_COMMAND", "the command is empty or of a kind that this version does not know")
    if kind == "raise_budget":
        _raise_budget(turn, tenant, envelope)
    elif kind == "release":
        pass  # it is not quarantined; one that is, is released by the engine
    elif not envelope.lifetime_id:
        _freeze_or_thaw(turn, tenant, command)
    else:
        lifetime = known_lifetime(tenant, envelope.lifetime_id)
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
            admission.thaw(turn, tenant)
    else:
        raise BadRecord("BAD_COMMAND", f"{kind} needs a lifetime")


def find_cap(turn: Turn, tenant: Tenant, order: control_pb2.RaiseBudget) -> tuple[tuple[str, str, str], Rule]:
    """Return the key under which a raised cap is kept, and its rule; raises BadRecord BAD_COMMAND."""
    metric = "cost_nano_usd" if order.metric == "cost_usd" else order.metric
    # A tenant's own policy comes before one of the platform; "*name" means the platform's.
    policy = tenant.policies.in_force.get(order.policy)
    platform = policy is None
    if policy is None:
        policy = turn.state.platform.in_force.get(order.policy.removeprefix("*"))
    rule = next((r for r in policy.policy.rules if r.name == order.rule), None) if policy else None
    if policy is None or rule is None or rule.limit is None or metric not in rule.limit.caps():
        raise BadRecord(
            "BAD_COMMAND",
            f"no cap {order.metric[:64]!a} in policy {order.policy[:64]!a}, rule {order.rule[:64]!a}",
        )
    if not 0 <= order.value <= 2**62:
        raise BadRecord("BAD_COMMAND", "a cap is between 0 and 2^62")
    return (book_of(policy.policy.name, platform=platform), rule.name, metric), rule


def _raise_budget(turn: Turn, tenant: Tenant, envelope: execution_pb2.ExecutionEnvelope) -> None:
    order = envelope.command.raise_budget
    key, rule = find_cap(turn, tenant, order)
    if envelope.lifetime_id:
        if rule.scope == "tenant":
            raise BadRecord("BAD_COMMAND", f"rule {rule.name} caps the tenant: raise it without a lifetime")
        lifetime = known_lifetime(tenant, envelope.lifetime_id)
        if lifetime is None:
            return
        lifetime.budgets[key] = order.value
        routing.watch_age(Flow(turn, tenant, lifetime))
        _go_on(turn, tenant, [lifetime], envelope.command)
    else:
        if rule.scope != "tenant":
            raise BadRecord("BAD_COMMAND", f"rule {rule.name} caps a {rule.scope}: name the lifetime")
        tenant.budgets[key] = order.value
        _go_on(turn, tenant, tenant.lifetimes.held(), envelope.command)


def _go_on(
    turn: Turn, tenant: Tenant, lifetimes: Iterable[Lifetime], command: control_pb2.OperatorCommand
) -> None:
    """Resume what the rule with the raised cap had paused; one that is still too low pauses again."""
    order = command.raise_budget
    raised = (order.policy.removeprefix("*"), order.rule)
    for lifetime in lifetimes:
        caused = any((v.policy, v.rule) == raised for v in lifetime.violations)
        if lifetime.status == pb.LIFETIME_STATUS_PAUSED and caused:
            flow = Flow(turn, tenant, lifetime)
            ending.resume(flow, command.command_id)
            ending.settle_down(flow)


def _pause(flow: Flow, command: control_pb2.OperatorCommand) -> None:
    ttl_ms = command.pause.ttl.seconds * 1000 + command.pause.ttl.nanos // 1_000_000
    if not 0 <= ttl_ms <= MAX_DURATION_MS:
        raise BadRecord("BAD_COMMAND", "the ttl of a pause is between 0 and ten years")
    reason = command.pause.reason[:500] or "paused by an operator"
    ending.pause(flow, reason, ttl_ms, command_id=command.command_id)


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
    routing.task_done(flow, flight.work, order.execution_id, execution)
    if lifetime.is_live:
        flow.control.view(lifetime)


_ORDERS: dict[str, Callable[[Flow, control_pb2.OperatorCommand], None]] = {
    "pause": _pause,
    "resume": _resume,
    "abort": _abort,
    "complete": _complete,
}
