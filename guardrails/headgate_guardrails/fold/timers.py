"""What happens because time has passed. Called before each record, with the clock that record brings."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from headgate_guardrails.fold import ending, routing
from headgate_guardrails.fold.admission import serve_waiting
from headgate_guardrails.fold.flow import Flow
from headgate_guardrails.fold.judging import obey_rules
from headgate_guardrails.fold.lifetime import Lifetime
from headgate_guardrails.fold.quarantine import TenantFault
from headgate_guardrails.fold.runs import close_orphan, expire_run, expire_wait
from headgate_guardrails.fold.state import Tenant
from headgate_guardrails.fold.terms import SUBGRAPH
from headgate_guardrails.fold.turn import Turn
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2

HORIZON_MS = 86_400_000
"""How long an ended lifetime is remembered; a start issued longer ago than this is refused as stale."""
MAX_ROUNDS = 10_000
"""Timers of one lifetime that may fire for one record; more is a bug of the fold, not work."""

DEADLINE, PAUSE_TTL, CLOSING, RETRY, WAIT, RUN, ORPHAN, JOIN, WALL, REMIND = range(10)
"""Kinds of timer in the order in which equal ones fire."""

Timer = tuple[int, int, str]
"""(due, kind, id): the order in which timers fire."""


def fire_due(turn: Turn) -> None:
    """Fire every timer that is due at the turn's clock, in (due, tenant, lifetime, kind, id) order."""
    state = turn.state
    while state.heap and state.heap[0][0] <= turn.clock:
        due, tenant_id, lifetime_id = heapq.heappop(state.heap)
        if tenant_id in state.quarantined:
            continue  # its lifetimes are armed again when it is released
        tenant = state.tenants.get(tenant_id)
        if tenant is None or tenant.lifetimes.wake_of(lifetime_id) != due:
            state.stale = max(0, state.stale - 1)
            continue
        if state.capturing is not None:
            state.capturing.before_change(tenant)
        lifetime = tenant.lifetimes[lifetime_id]
        lifetime.wake = 0
        try:
            _fire(turn, tenant, lifetime)
            if tenant.waiting.may_move:
                serve_waiting(turn, tenant)
        except Exception as error:
            raise TenantFault(tenant_id, turn.offset, error) from error
        tenant.changed_at = turn.offset


def _fire(turn: Turn, tenant: Tenant, lifetime: Lifetime) -> None:
    flow = Flow(turn, tenant, lifetime)
    for _ in range(MAX_ROUNDS):
        timer = min(_timers(lifetime), default=None)
        if timer is None:
            return
        due, kind, timer_id = timer
        if due > turn.clock:
            turn.arm(tenant, lifetime, due)
            return
        if kind == CLOSING:
            _bury(turn, tenant, lifetime)
            return
        _ring(flow, kind, timer_id)
        ending.settle_down(flow)
    raise RuntimeError(f"timers of lifetime {lifetime.lifetime_id} do not come to rest")


def _timers(lifetime: Lifetime) -> Iterator[Timer]:
    if lifetime.is_live:
        yield lifetime.deadline, DEADLINE, ""
        if lifetime.pause_due:
            yield lifetime.pause_due, PAUSE_TTL, ""
        if lifetime.wall_due:
            yield lifetime.wall_due, WALL, ""
    elif not lifetime.spend.open_holds:  # its own, or those of lifetimes below it
        yield lifetime.closing, CLOSING, ""
    for next_id, (due, _) in lifetime.delayed.items():
        yield due, RETRY, next_id
    for flight_id, flight in lifetime.inflight.items():
        if not flight.runs and lifetime.graphs.nodes[flight.work.node_id].type != SUBGRAPH:
            yield flight.due, WAIT, flight_id
        if flight.remind_at:
            yield flight.remind_at, REMIND, flight_id
        for run in flight.runs.values():
            yield min(run.lease_until, run.stop_at), RUN, f"{flight_id}/{run.run_id}"
    for key, orphan in lifetime.orphans.items():
        yield orphan.due, ORPHAN, key
    for (plan_id, visit), join in lifetime.joins.items():
        if join.due:
            yield join.due, JOIN, f"{plan_id}/{visit}"


def _ring(flow: Flow, kind: int, timer_id: str) -> None:
    lifetime = flow.lifetime
    if kind == DEADLINE:
        reason = "DEADLINE: the lifetime outlived its graph's deadline"
        ending.end(flow, pb.LIFETIME_STATUS_ABORTED, reason)
    elif kind == PAUSE_TTL:
        ending.end(flow, pb.LIFETIME_STATUS_ABORTED, f"PAUSE_EXPIRED: {lifetime.reason}")
    elif kind == RETRY:
        _, work = lifetime.delayed.pop(timer_id)
        lifetime.agenda.append(work)
    elif kind == WAIT:
        expire_wait(flow, timer_id, lifetime.inflight[timer_id])
    elif kind == RUN:
        flight_id, _, run_id = timer_id.partition("/")
        flight = lifetime.inflight[flight_id]
        expire_run(flow, flight_id, flight, flight.runs[run_id])
    elif kind == ORPHAN:
        close_orphan(flow.turn, flow.tenant, lifetime, timer_id)
    elif kind == JOIN:
        plan_id, _, visit = timer_id.partition("/")
        if flow.turn.witness is not None:
            flow.turn.witness.gave_up(flow, plan_id, visit)
        routing.give_up(flow, (plan_id, visit), "JOIN_TIMEOUT: nothing more is waited for")
    elif kind == WALL:
        _ask_age(flow)
    else:
        _remind(flow, timer_id)


def _ask_age(flow: Flow) -> None:
    """Ask the rules about wall time, although nothing has happened."""
    lifetime, evaluator = flow.lifetime, flow.evaluator
    routing.watch_age(flow)
    matches = evaluator.at_age(lifetime, flow.turn.clock) if evaluator is not None else []
    obey_rules(flow, matches, "", "")


def _remind(flow: Flow, flight_id: str) -> None:
    """Say once more that a person is asked."""
    flight = flow.lifetime.inflight[flight_id]
    node = flow.lifetime.graphs.nodes[flight.work.node_id]
    every = getattr(node.config, "reminder_ms", None) or 0
    flight.remind_at = flow.turn.clock + every if every else 0
    flow.control.event(
        flow.lifetime,
        control_pb2.CONTROL_TYPE_WARN,
        f"REMINDER: node {flight.work.node_id} waits for a person",
        execution_id=flight_id,
        node_id=flight.work.node_id,
    )


def _bury(turn: Turn, tenant: Tenant, lifetime: Lifetime) -> None:
    """Reduce an ended lifetime to a tombstone that outlives every acceptable repeat of its start."""
    tenant.lifetimes.remove(lifetime)
    remember(turn, tenant, lifetime.lifetime_id, lifetime.issued_at)


def remember(turn: Turn, tenant: Tenant, lifetime_id: str, issued_at: int) -> None:
    """Keep a tombstone, and forget those that no start can ask for any more."""
    tenant.ended[lifetime_id] = max(turn.clock, issued_at) + HORIZON_MS
    while True:
        oldest = next(iter(tenant.ended))
        if tenant.ended[oldest] >= turn.clock:
            return
        del tenant.ended[oldest]
