"""What must be obeyed, and what is shown: control events and the public view of a lifetime."""

from __future__ import annotations

from collections.abc import Sequence

from headgate_guardrails.fold.evaluator import Match
from headgate_guardrails.fold.ledger import Spend
from headgate_guardrails.fold.lifetime import Lifetime
from headgate_guardrails.fold.rules import ABORT, EXECUTION, PAUSE, REJECT, THROTTLE, WARN
from headgate_guardrails.fold.state import Tenant
from headgate_guardrails.fold.turn import CONTROL_EVENTS, LIFETIMES, Turn, stamp
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, execution_pb2

TYPE_OF = {
    WARN: control_pb2.CONTROL_TYPE_WARN,
    THROTTLE: control_pb2.CONTROL_TYPE_THROTTLE_EXECUTION,
    REJECT: control_pb2.CONTROL_TYPE_REJECT_EXECUTION,
    PAUSE: control_pb2.CONTROL_TYPE_PAUSE_LIFETIME,
    ABORT: control_pb2.CONTROL_TYPE_ABORT_LIFETIME,
}


MAX_ASKED_BYTES = 256_000
"""What people are asked is shown in a view up to this size together, so that the view fits into a record."""


class ExecutionController:
    """Publishes control events and views of one tenant in one turn."""

    __slots__ = ("tenant", "turn")

    def __init__(self, turn: Turn, tenant: Tenant) -> None:
        self.turn = turn
        self.tenant = tenant

    def event(
        self,
        lifetime: Lifetime,
        type_: control_pb2.ControlType,
        reason: str,
        *,
        violations: Sequence[control_pb2.GuardrailViolation] = (),
        execution_id: str = "",
        node_id: str = "",
        command_id: str = "",
        shadow: bool = False,
    ) -> None:
        """Publish one control event."""
        turn = self.turn
        if turn.is_silent:
            return
        event = control_pb2.ExecutionEvent(
            event_id=f"{turn.state.partition}-{turn.offset}-{len(turn.outputs)}",
            tenant_id=self.tenant.tenant_id,
            lifetime_id=lifetime.lifetime_id,
            type=type_,
            execution_id=execution_id,
            node_id=node_id,
            violations=violations,
            reason=reason,
            command_id=command_id,
            shadow=shadow,
            pause_generation=lifetime.pause_generation,
        )
        stamp(event.decided_at, turn.clock)
        if type_ == control_pb2.CONTROL_TYPE_PAUSE_LIFETIME and lifetime.pause_due:
            stamp(event.pause_expires_at, lifetime.pause_due)
        turn.emit(CONTROL_EVENTS, self.tenant.tenant_id, self.tenant.tenant_id, event)

    def mention(self, lifetime: Lifetime, matches: Sequence[Match], execution_id: str, node_id: str) -> None:
        """Publish what stops nothing: shadow verdicts, warnings and delays.

        One on a single execution each time, one on the lifetime or the tenant once for this lifetime.
        """
        for match in matches:
            rule = match.rule
            key = (rule.book, rule.version, rule.name)
            if not (rule.shadow or rule.verdict in (WARN, THROTTLE)):
                continue
            if rule.scope != EXECUTION or rule.verdict == THROTTLE:
                if key in lifetime.reported:
                    continue
                lifetime.reported[key] = True
            self.event(
                lifetime,
                TYPE_OF[rule.verdict],
                describe(match.violation),
                violations=[match.violation],
                execution_id=execution_id,
                node_id=node_id,
                shadow=rule.shadow,
            )

    def tenant_event(
        self, type_: control_pb2.ControlType, reason: str, graph_id: str, command_id: str
    ) -> None:
        """Publish that a graph, or with no graph_id all of the tenant, is frozen or goes on."""
        turn = self.turn
        event = control_pb2.ExecutionEvent(
            event_id=f"{turn.state.partition}-{turn.offset}-{len(turn.outputs)}",
            tenant_id=self.tenant.tenant_id,
            type=type_,
            reason=reason,
            graph_id=graph_id,
            command_id=command_id,
        )
        stamp(event.decided_at, turn.clock)
        turn.emit(CONTROL_EVENTS, self.tenant.tenant_id, self.tenant.tenant_id, event)

    def view(self, lifetime: Lifetime) -> None:
        """Publish the lifetime as it stands; an ended one under a key that no late repeat can hide."""
        if self.turn.is_silent:
            return
        key = f"{self.tenant.tenant_id}/{lifetime.lifetime_id}"
        if lifetime.ended_at:
            key += "/end"
        view = lifetime_view(self.tenant.tenant_id, lifetime, self.turn.clock)
        self.turn.emit(LIFETIMES, key, self.tenant.tenant_id, view)


def describe(violation: control_pb2.GuardrailViolation) -> str:
    """Return one line: policy, rule, what was measured, what is allowed."""
    named = f"policy {violation.policy} v{violation.version}, rule {violation.rule}"
    if violation.expression:
        return f"{named}: {violation.expression}"
    scope = control_pb2.PolicyScope.Name(violation.scope).removeprefix("POLICY_SCOPE_").lower()
    metric = "cost_usd" if violation.metric == "cost_nano_usd" else violation.metric
    return (
        f"{named}: {scope} {metric} {_shown(violation.metric, violation.measured)}"
        f" > {_shown(violation.metric, violation.limit)}"
    )


def _shown(metric: str, value: int) -> str:
    if metric != "cost_nano_usd":
        return str(value)
    whole, nano = divmod(value, 1_000_000_000)
    return f"{whole}.{nano:09d}".rstrip("0").rstrip(".")


def lifetime_view(tenant_id: str, lifetime: Lifetime, clock_ms: int) -> execution_pb2.LifetimeView:
    """Return the public view; nodes in the graph's order.

    Only what is not empty is set: that takes half the time of a constructor with all.
    """
    spend = lifetime.spend
    view = execution_pb2.LifetimeView(
        tenant_id=tenant_id,
        lifetime_id=lifetime.lifetime_id,
        graph_id=lifetime.graph_key[0],
        graph_version=lifetime.graph_key[1],
        status=lifetime.status,  # type: ignore[arg-type]
    )
    if lifetime.reason:
        view.reason = lifetime.reason
    if spend.open_holds:
        view.open_holds = spend.open_holds
    if lifetime.parent_id:
        view.parent_lifetime_id = lifetime.parent_id
        view.parent_execution_id = lifetime.parent_execution_id
    if lifetime.fork is not None and lifetime.fork.message.HasField("origin"):
        view.fork_of.CopyFrom(lifetime.fork.message.origin)
    _show_spend(view.usage, spend)
    _show_held(view.held, spend)
    if lifetime.outcome is not None:
        view.outcome.CopyFrom(lifetime.outcome)
    if lifetime.violations:
        view.violations.extend(lifetime.violations)
    if lifetime.status == pb.LIFETIME_STATUS_PAUSED:
        view.pause_generation = lifetime.pause_generation
    if lifetime.stopped_at and not spend.open_holds:
        stamp(view.stop_latency, lifetime.stopped_at - lifetime.ended_at)
    stamp(view.started_at, lifetime.started_at)
    stamp(view.updated_at, clock_ms)
    if lifetime.ended_at:
        stamp(view.ended_at, lifetime.ended_at)
    for node_id in lifetime.graphs.nodes:
        tally = lifetime.nodes.get(node_id)
        if tally is not None:
            node = view.nodes.add(node_id=node_id, iterations=tally.iterations)
            _show_spend(node.usage, tally.spend)
    _show_waiting(view, lifetime)
    return view


def _show_spend(into: pb.ResourceUsage, spend: Spend) -> None:
    into.SetInParent()
    if spend.tokens:
        into.tokens_used = spend.tokens
    if spend.cost:
        into.cost_nano_usd = spend.cost
    if spend.latency_ms:
        into.latency_ms = spend.latency_ms
    if spend.input_tokens or spend.output_tokens or spend.cached_tokens:
        into.input_tokens = spend.input_tokens
        into.output_tokens = spend.output_tokens
        into.cached_tokens = spend.cached_tokens


def _show_held(into: pb.ResourceUsage, spend: Spend) -> None:
    into.SetInParent()
    if spend.held_tokens:
        into.tokens_used = spend.held_tokens
    if spend.held_cost:
        into.cost_nano_usd = spend.held_cost


def _show_waiting(view: execution_pb2.LifetimeView, lifetime: Lifetime) -> None:
    """Name the human tasks that wait, and what is asked as far as there is room."""
    room = MAX_ASKED_BYTES
    for execution_id, flight in lifetime.inflight.items():
        if lifetime.graphs.nodes[flight.work.node_id].type == "human":
            waiting = view.waiting.add(execution_id=execution_id, node_id=flight.work.node_id)
            if flight.work.input_data is not None:
                asked = flight.work.input_data.json
                room -= len(asked.encode())
                waiting.json_input = asked if room >= 0 else ""
            stamp(waiting.deadline, flight.due)
