"""Reserving, paying and letting go, in every scope at once: the tenant, the lifetime, and those above it."""

from __future__ import annotations

from headgate_guardrails.fold.ledger import Amount, Charge, settle
from headgate_guardrails.fold.lifetime import InFlight, Lifetime, Orphan
from headgate_guardrails.fold.state import Tenant
from headgate_guardrails.fold.terms import NOBODY_SERVES, Terms

ORPHAN_GRACE_MS = 300_000
"""How long a run that nobody waits for may still report what it spent."""


def reserve(tenant: Tenant, lifetime: Lifetime, hold: Amount) -> None:
    """Open one hold."""
    _move_holds(tenant, lifetime, 1, hold)


def release(tenant: Tenant, lifetime: Lifetime, hold: Amount) -> None:
    """Close one hold."""
    _move_holds(tenant, lifetime, -1, hold)


def _move_holds(tenant: Tenant, lifetime: Lifetime, sign: int, hold: Amount) -> None:
    whole, own = tenant.spend, lifetime.spend
    whole.open_holds += sign
    own.open_holds += sign
    tokens, cost = sign * hold[0], sign * hold[1]
    if tokens or cost:
        whole.held_tokens += tokens
        whole.held_cost += cost
        own.held_tokens += tokens
        own.held_cost += cost
    owner = lifetime.parent
    while owner is not None:
        owner.spend.open_holds += sign
        owner.spend.held_tokens += tokens
        owner.spend.held_cost += cost
        owner = owner.parent


def pay(tenant: Tenant, lifetime: Lifetime, node_id: str, charge: Charge, clock: int) -> None:
    """Add what one run is charged."""
    tally = lifetime.nodes.get(node_id) or lifetime.node(node_id)
    scopes = [tally.spend, lifetime.spend]
    owner = lifetime.parent
    while owner is not None:
        scopes.append(owner.spend)
        owner = owner.parent
    windows = tenant.windows
    if windows.each:
        if clock >= windows.until:
            windows.move(clock)
        scopes.append(windows.fresh)
    if settle(tenant.spend, scopes, charge):
        windows.tell()


def orphan(lifetime: Lifetime, flight_id: str, flight: InFlight, clock: int) -> None:
    """Keep the holds of an execution that nobody waits for until its runs report or the grace is over."""
    due = clock + ORPHAN_GRACE_MS
    node_id = flight.work.node_id
    for run in flight.runs.values():
        lifetime.orphans[run.run_id] = Orphan(flight_id, node_id, run.hold, due, True)
    if flight.hold is not None:
        # A plain run announces nothing, so one that may have begun cannot be told from one that never did.
        lifetime.orphans[flight_id] = Orphan(flight_id, node_id, flight.hold, due, False)


def leave(tenant: Tenant, lifetime: Lifetime, flight: InFlight, by: int) -> None:
    """Count one execution in or out (`by` is 1 or -1) where its graph caps what is in flight."""
    terms = lifetime.terms[flight.work.node_id]
    if terms.is_counted:
        count(tenant, lifetime.graph_key[0], terms, by)


def count(tenant: Tenant, graph_id: str, terms: Terms, by: int) -> None:
    """Count one execution of a node in or out, in a graph that caps what is in flight."""
    tenant.waiting.may_move |= by < 0
    for key in ((graph_id, ""), (graph_id, terms.node.type)):
        busy = tenant.busy.get(key, 0) + by
        if busy:
            tenant.busy[key] = busy
        else:
            tenant.busy.pop(key, None)


def close(tenant: Tenant, lifetime: Lifetime, done_id: str, clock: int) -> InFlight:
    """Stop waiting for an execution: other runs of it are orphaned, a hold that no run took is released."""
    flight = lifetime.inflight.pop(done_id)
    if lifetime.terms[flight.work.node_id].is_counted:
        leave(tenant, lifetime, flight, -1)
    if flight.hold is not None:
        release(tenant, lifetime, flight.hold)
        flight.hold = None
    if flight.runs:
        orphan(lifetime, done_id, flight, clock)
    return flight


def abandon(tenant: Tenant, lifetime: Lifetime, flight_id: str, clock: int) -> None:
    """Stop an execution whose result is no longer wanted; a run keeps its hold until it reports."""
    kind = lifetime.graphs.nodes[lifetime.inflight[flight_id].work.node_id].type
    if kind in NOBODY_SERVES:
        close(tenant, lifetime, flight_id, clock)
        return
    flight = lifetime.inflight.pop(flight_id)
    leave(tenant, lifetime, flight, -1)
    orphan(lifetime, flight_id, flight, clock)
