"""Holding back, going on, ending: how a lifetime changes its status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate_guardrails.fold import admission, routing
from headgate_guardrails.fold.controller import describe
from headgate_guardrails.fold.evaluator import Match
from headgate_guardrails.fold.flow import Flow, value_from
from headgate_guardrails.fold.holds import ORPHAN_GRACE_MS, abandon, close
from headgate_guardrails.fold.lifetime import Lifetime
from headgate_guardrails.fold.rules import ABORT, PAUSE
from headgate_guardrails.fold.states import move
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2


def pause_for(flow: Flow, matches: Sequence[Match], cause_id: str, node_id: str) -> None:
    """Pause because rules were broken; the strongest one's ttl holds."""
    strongest = [m for m in matches if m.rule.verdict == PAUSE]
    concerned = _concerned(flow, strongest)
    pause(
        concerned,
        describe(strongest[-1].violation),
        strongest[-1].rule.pause_ttl_ms,
        violations=[m.violation for m in matches],
        execution_id=cause_id,
        node_id=node_id,
    )


def _concerned(flow: Flow, strongest: Sequence[Match]) -> Flow:
    """Return the flow of the lifetime whose cap was passed: the highest one, whose fate the others share.

    Matches of a lifetime come before those of the lifetimes above it.
    """
    owner = strongest[-1].owner
    return flow if owner is None else flow.of(owner)


def pause(flow: Flow, reason: str, ttl_ms: int, **event: Any) -> None:
    """Stop dispatching, here and in the sub-graphs; one that is paused already stays as it is."""
    lifetime = flow.lifetime
    if lifetime.status != pb.LIFETIME_STATUS_RUNNING:
        return
    move(lifetime, pb.LIFETIME_STATUS_PAUSED)
    lifetime.reason = reason
    lifetime.violations = list(event.get("violations", ()))
    lifetime.pause_generation += 1
    lifetime.pause_due = flow.turn.clock + ttl_ms if ttl_ms else 0
    if ttl_ms:
        flow.arm(lifetime.pause_due)
    flow.control.event(lifetime, control_pb2.CONTROL_TYPE_PAUSE_LIFETIME, reason, **event)
    flow.control.view(lifetime)
    _tell_below(flow, control_pb2.CONTROL_TYPE_PAUSE_LIFETIME, "the lifetime above it is paused")


def resume(flow: Flow, command_id: str) -> None:
    """Admit what was held back, in order; a cap that still stands pauses again at once."""
    lifetime = flow.lifetime
    move(lifetime, pb.LIFETIME_STATUS_RUNNING)
    lifetime.reason = ""
    lifetime.violations = []
    lifetime.pause_due = 0
    flow.control.event(
        lifetime,
        control_pb2.CONTROL_TYPE_RESUME_LIFETIME,
        "resumed by an operator",
        command_id=command_id,
    )
    flow.control.view(lifetime)
    _tell_below(flow, control_pb2.CONTROL_TYPE_RESUME_LIFETIME, "the lifetime above it goes on")
    unpark(flow)


def _tell_below(flow: Flow, type_: control_pb2.ControlType, reason: str) -> None:
    """Name the sub-graphs as well: a worker knows only the lifetime that its input is of."""
    for child in children(flow):
        if child.status == pb.LIFETIME_STATUS_RUNNING:
            flow.control.event(child, type_, reason)
            _tell_below(flow.of(child), type_, reason)


def unpark(flow: Flow) -> None:
    """Put what was held back on the agenda, in the lifetime and in the sub-graphs below it."""
    flow.lifetime.agenda += flow.lifetime.parked
    flow.lifetime.parked = []
    for child in children(flow):
        below = flow.of(child)
        unpark(below)
        settle_down(below)


def children(flow: Flow) -> list[Lifetime]:
    """Return the living sub-graphs that this lifetime started."""
    started = [f"sub-{flight_id}" for flight_id in flow.lifetime.inflight]
    found = [flow.tenant.lifetimes.get(child_id) for child_id in started]
    return [child for child in found if child is not None and child.is_live]


def abort_for(flow: Flow, matches: Sequence[Match], cause_id: str, node_id: str) -> None:
    """Abort because rules were broken."""
    violations = [m.violation for m in matches]
    concerned = _concerned(flow, [m for m in matches if m.rule.verdict == ABORT])
    concerned.lifetime.violations = violations
    end(
        concerned,
        pb.LIFETIME_STATUS_ABORTED,
        describe(violations[0]),
        violations=violations,
        execution_id=cause_id,
        node_id=node_id,
    )


def end(flow: Flow, status: pb.LifetimeStatus, reason: str, **event: Any) -> None:
    """End the lifetime and what is below it; tell workers, publish the terminal view, tell what is above.

    What is in flight is orphaned: it still counts until it reports or its grace is over.
    """
    lifetime, turn = flow.lifetime, flow.turn
    if not lifetime.is_live:
        return
    below = children(flow)
    move(lifetime, status)
    lifetime.reason = reason
    lifetime.ended_at = turn.clock
    lifetime.pause_due = 0
    lifetime.wall_due = 0
    told = status == pb.LIFETIME_STATUS_ABORTED or bool(lifetime.inflight)
    for child in below:
        end(
            flow.of(child),
            pb.LIFETIME_STATUS_ABORTED,
            f"the lifetime above it ended: {reason or 'completed'}",
        )
    for flight_id in list(lifetime.inflight):
        abandon(flow.tenant, lifetime, flight_id, turn.clock)
    lifetime.agenda = []
    lifetime.parked = []
    lifetime.queued = []
    flow.tenant.waiting.leave(lifetime.lifetime_id, lifetime.priority)
    lifetime.delayed = {}
    lifetime.joins = {}
    lifetime.trail = []
    lifetime.start_input, lifetime.start_bytes = pb.Payload(), b""
    lifetime.closing = turn.clock + ORPHAN_GRACE_MS
    flow.arm(lifetime.closing)
    if told:
        word = pb.LifetimeStatus.Name(status).removeprefix("LIFETIME_STATUS_").lower()
        flow.control.event(
            lifetime, control_pb2.CONTROL_TYPE_ABORT_LIFETIME, reason or f"the lifetime {word}", **event
        )
    flow.control.view(lifetime)
    _tell_parent(flow)


def _tell_parent(flow: Flow) -> None:
    """Give the task that started this sub-graph its result."""
    lifetime, parent = flow.lifetime, flow.lifetime.parent
    flight_id = lifetime.parent_execution_id
    if parent is None or not parent.is_live or flight_id not in parent.inflight:
        return
    above = flow.of(parent)
    work = close(flow.tenant, parent, flight_id, flow.turn.clock).work
    if lifetime.status == pb.LIFETIME_STATUS_COMPLETED:
        execution = above.unreported(work, flight_id, pb.EXECUTION_STATUS_COMPLETED)
        value_from(lifetime.outcome or pb.Payload(json="null"), execution.result)
    else:
        word = pb.LifetimeStatus.Name(lifetime.status).removeprefix("LIFETIME_STATUS_")
        execution = above.unreported(
            work, flight_id, pb.EXECUTION_STATUS_FAILED, f"SUBGRAPH_{word}", lifetime.reason
        )
    routing.task_done(above, work, flight_id, execution)
    settle_down(above)


def settle_down(flow: Flow) -> None:
    """Work off the agenda, let go of joins that nothing feeds any more, end what has run dry.

    Called once at the end of every verb. Admitting a sub-graph may end it at once and so give its parent
    more to do: that is left to the call that is already at work on the parent.
    """
    lifetime = flow.lifetime
    if lifetime.settling:
        return
    lifetime.settling = True
    while not lifetime.ended_at:
        if lifetime.agenda:
            admission.admit(flow, lifetime.agenda.pop(0))
        elif not (lifetime.joins and routing.starve_a_join(flow)):
            break
    lifetime.settling = False
    if lifetime.inflight or lifetime.ended_at or lifetime.parked or lifetime.delayed or lifetime.queued:
        return
    end(flow, pb.LIFETIME_STATUS_COMPLETED, "")


def republish(flow: Flow) -> None:
    """Show ended lifetimes once more, this one and those above it, when their last hold has closed."""
    owner: Lifetime | None = flow.lifetime
    while owner is not None:
        if not owner.is_live and not owner.spend.open_holds:
            flow.control.view(owner)
            flow.turn.arm(flow.tenant, owner, owner.closing)
        owner = owner.parent
