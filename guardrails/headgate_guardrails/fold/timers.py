"""What happens because time has passed. Called before each record, with the clock that record brings."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from headgate_guardrails.fold.flow import ORPHAN_GRACE_MS, Flow
from headgate_guardrails.fold.settlement import close_orphan, expire_run, expire_wait
from headgate_guardrails.fold.state import Lifetime, Tenant
from headgate_guardrails.fold.turn import Turn
from headgate_protos.v1 import common_pb2 as pb

HORIZON_MS = 86_400_000
"""How long an ended lifetime is remembered; a start issued longer ago than this is refused as stale."""
MAX_ROUNDS = 10_000
"""Timers of one lifetime that may fire for one record; more is a bug of the fold, not work."""

DEADLINE, PAUSE_TTL, CLOSING, RETRY, WAIT, RUN, ORPHAN = range(7)
"""Kinds of timer in the order in which equal ones fire."""

Timer = tuple[int, int, str]
"""(due, kind, id): the order in which timers fire."""


def fire_due(turn: Turn) -> None:
    """Fire every timer that is due at the turn's clock, in (due, tenant, lifetime, kind, id) order."""
    state = turn.state
    while state.heap and state.heap[0][0] <= turn.clock:
        due, tenant_id, lifetime_id = heapq.heappop(state.heap)
        tenant = state.tenants.get(tenant_id)
        lifetime = tenant.lifetimes.get(lifetime_id) if tenant else None
        if tenant is None or lifetime is None or lifetime.wake != due:
            state.stale = max(0, state.stale - 1)
            continue
        lifetime.wake = 0
        _fire(turn, tenant, lifetime)


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
        flow.end_if_dry()
    raise RuntimeError(f"timers of lifetime {lifetime.lifetime_id} do not come to rest")


def _timers(lifetime: Lifetime) -> Iterator[Timer]:
    if lifetime.is_live:
        yield lifetime.deadline, DEADLINE, ""
        if lifetime.pause_due:
            yield lifetime.pause_due, PAUSE_TTL, ""
    elif not lifetime.orphans:
        yield lifetime.closing, CLOSING, ""
    for next_id, (due, _) in lifetime.delayed.items():
        yield due, RETRY, next_id
    for flight_id, flight in lifetime.inflight.items():
        if not flight.runs:
            yield flight.due, WAIT, flight_id
        for run in flight.runs.values():
            yield min(run.lease_until, run.stop_at), RUN, f"{flight_id}/{run.run_id}"
    for key, orphan in lifetime.orphans.items():
        yield orphan.due, ORPHAN, key


def _ring(flow: Flow, kind: int, timer_id: str) -> None:
    lifetime = flow.lifetime
    if kind == DEADLINE:
        flow.end(pb.LIFETIME_STATUS_ABORTED, "DEADLINE: the lifetime outlived its graph's deadline")
    elif kind == PAUSE_TTL:
        flow.end(pb.LIFETIME_STATUS_ABORTED, f"PAUSE_EXPIRED: {lifetime.reason}")
    elif kind == RETRY:
        _, work = lifetime.delayed.pop(timer_id)
        flow.admit(work)
    elif kind == WAIT:
        expire_wait(flow, timer_id, lifetime.inflight[timer_id])
    elif kind == RUN:
        flight_id, _, run_id = timer_id.partition("/")
        flight = lifetime.inflight[flight_id]
        expire_run(flow, flight_id, flight, flight.runs[run_id])
    else:
        close_orphan(flow.turn, flow.tenant, lifetime, timer_id)


def _bury(turn: Turn, tenant: Tenant, lifetime: Lifetime) -> None:
    """Reduce an ended lifetime to a tombstone, and forget tombstones beyond the horizon."""
    del tenant.lifetimes[lifetime.lifetime_id]
    tenant.ended[lifetime.lifetime_id] = turn.clock
    # Older than every start that is still accepted, with the grace in which the lifetime was kept whole.
    oldest = turn.clock - HORIZON_MS - ORPHAN_GRACE_MS
    for lifetime_id, buried_at in list(tenant.ended.items()):
        if buried_at >= oldest:
            break
        del tenant.ended[lifetime_id]
