"""Announced runs: their leases, the holds they keep, and what becomes of those when nobody hears of them."""

from __future__ import annotations

from headgate_graphs.errors import BadRecord
from headgate_graphs.ids import execution_id
from headgate_guardrails.fold import ending, routing
from headgate_guardrails.fold.authority import check_ticket
from headgate_guardrails.fold.flow import Flow
from headgate_guardrails.fold.holds import ORPHAN_GRACE_MS, abandon, close, pay, release, reserve
from headgate_guardrails.fold.judging import judge_running
from headgate_guardrails.fold.ledger import Amount, is_believable, unreported
from headgate_guardrails.fold.lifetime import InFlight, Lifetime, Orphan, Run
from headgate_guardrails.fold.retries import retry_failed, retry_lost
from headgate_guardrails.fold.state import Tenant
from headgate_guardrails.fold.terms import HUMAN, LEASE_MS
from headgate_guardrails.fold.turn import Turn
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, execution_pb2


def on_started(
    turn: Turn, tenant: Tenant, lifetime: Lifetime, started: execution_pb2.ExecutionStarted
) -> None:
    """Give a run its lease and its hold. A run that nobody waits for is held to account all the same."""
    run_id = started.run_id
    if not run_id or len(run_id) > 64:
        raise BadRecord("DECODE", "a started run needs a run_id of 1-64 characters")
    check_ticket(turn, tenant.tenant_id, lifetime, started.execution_id, started.ticket)
    flight = lifetime.inflight.get(started.execution_id)
    if run_id in lifetime.settled or run_id in lifetime.orphans or (flight and run_id in flight.runs):
        return
    if flight is None:
        _late_start(turn, tenant, lifetime, started)
        return
    terms = lifetime.terms[flight.work.node_id]
    hold, flight.hold = flight.hold, None
    if hold is None:
        hold = terms.hold
        reserve(tenant, lifetime, hold)
    lease_until = turn.clock + LEASE_MS
    flight.runs[run_id] = Run(run_id, hold, lease_until, turn.clock + terms.timeout_ms + 2 * LEASE_MS)
    turn.arm(tenant, lifetime, lease_until)


def _late_start(
    turn: Turn, tenant: Tenant, lifetime: Lifetime, started: execution_pb2.ExecutionStarted
) -> None:
    """A run began although its execution is over: it may spend, so it is held until it reports."""
    left = lifetime.orphans.pop(started.execution_id, None)
    due = turn.clock + ORPHAN_GRACE_MS
    if left is not None:
        lifetime.orphans[started.run_id] = left._replace(due=due, began=True)
    else:
        terms = lifetime.terms.get(started.node_id)
        known = execution_id(
            tenant.tenant_id, lifetime.lifetime_id, started.node_id, started.iteration, started.attempt
        )
        if terms is None or started.node_id not in lifetime.nodes or known != started.execution_id:
            raise BadRecord(
                "UNKNOWN_NODE", f"run of {started.execution_id[:64]!a}, which was never dispatched"
            )
        hold = terms.hold
        reserve(tenant, lifetime, hold)
        lifetime.orphans[started.run_id] = Orphan(started.execution_id, started.node_id, hold, due, True)
    owner: Lifetime | None = lifetime
    while owner is not None:  # what holds their spend is remembered for as long as it can change
        if owner.closing:
            owner.closing = max(owner.closing, due)
        owner = owner.parent
    turn.arm(tenant, lifetime, due)


def on_heartbeat(turn: Turn, tenant: Tenant, heartbeat: execution_pb2.WorkerHeartbeat) -> None:
    """Renew leases; a run that has used more than its hold holds more, and is judged by it."""
    for beat in heartbeat.runs:
        lifetime = tenant.lifetimes.get(beat.lifetime_id)
        flight = lifetime.inflight.get(beat.execution_id) if lifetime else None
        run = flight.runs.get(beat.run_id) if flight else None
        if lifetime is None or flight is None or run is None:
            continue
        run.lease_until = turn.clock + LEASE_MS
        used = beat.partial_usage
        if is_believable(used) and (used.tokens_used > run.hold.tokens or used.cost_nano_usd > run.hold.cost):
            release(tenant, lifetime, run.hold)
            run.hold = Amount(max(run.hold.tokens, used.tokens_used), max(run.hold.cost, used.cost_nano_usd))
            reserve(tenant, lifetime, run.hold)
            judge_running(Flow(turn, tenant, lifetime), beat.execution_id, flight.work)


def close_orphan(turn: Turn, tenant: Tenant, lifetime: Lifetime, orphan_key: str) -> None:
    """The grace is over: a run that began is charged its hold, one that never did is let go."""
    left = lifetime.orphans.pop(orphan_key)
    release(tenant, lifetime, left.hold)
    if left.began:
        lifetime.settled[orphan_key] = 0
        pay(tenant, lifetime, left.node_id, unreported(left.hold, 0), turn.clock)
    lifetime.stopped_at = 0  # one that never reported: nobody knows when it stopped
    ending.republish(Flow(turn, tenant, lifetime))


def expire_run(flow: Flow, flight_id: str, flight: InFlight, run: Run) -> None:
    """A lease has run out or a run was too long: its hold is orphaned, and the execution is tried anew."""
    lifetime, clock = flow.lifetime, flow.turn.clock
    del flight.runs[run.run_id]
    due = clock + ORPHAN_GRACE_MS
    lifetime.orphans[run.run_id] = Orphan(flight_id, flight.work.node_id, run.hold, due, True)
    flow.arm(due)
    if flight.runs:
        return
    close(flow.tenant, lifetime, flight_id, clock)
    if run.stop_at > clock:
        retry_lost(flow, flight.work, flight_id, "its lease ran out")
        return
    flow.control.event(
        lifetime,
        control_pb2.CONTROL_TYPE_REJECT_EXECUTION,
        f"TIMEOUT: node {flight.work.node_id} ran too long",
        execution_id=flight_id,
        node_id=flight.work.node_id,
    )
    error = pb.ExecutionError(code="TIMEOUT", message="the run outlived its timeout", retryable=True)
    retry_failed(flow, flight.work, flight_id, error)


def expire_wait(flow: Flow, flight_id: str, flight: InFlight) -> None:
    """Nobody began, answered or reported in time."""
    node = flow.lifetime.graphs.nodes[flight.work.node_id]
    abandon(flow.tenant, flow.lifetime, flight_id, flow.turn.clock)
    flow.arm(flow.turn.clock + ORPHAN_GRACE_MS)
    if node.type == HUMAN:
        routing.fail(flow, flight.work, flight_id, "TIMEOUT", "no person answered in time")
        if flow.lifetime.is_live:
            flow.control.view(flow.lifetime)
    else:
        retry_lost(flow, flight.work, flight_id, "no worker reported in time")
