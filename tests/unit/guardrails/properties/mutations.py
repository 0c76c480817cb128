"""Deliberate bugs of the fold, each of which the oracle must see. They patch the product from outside."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from headgate_graphs.progress import GraphOrchestrator
from headgate_guardrails.fold import (
    admission,
    definitions,
    ending,
    engine,
    holds,
    lifetimes,
    packing,
    retries,
    routing,
    runs,
    settlement,
    timers,
)
from headgate_guardrails.fold.evaluator import PolicyEvaluator
from headgate_guardrails.fold.flow import Flow
from headgate_guardrails.fold.ledger import Spend
from headgate_guardrails.fold.lifetime import Lifetime
from headgate_guardrails.fold.lifetimes import Lifetimes
from headgate_guardrails.fold.snapshot import Capturing

Mutation = Callable[[pytest.MonkeyPatch], None]


def double_settle(patch: pytest.MonkeyPatch) -> None:
    """A repeated result is paid again."""
    before = settlement.on_result

    def on_result(turn: Any, tenant: Any, lifetime: Lifetime, report: Any) -> None:
        lifetime.settled.pop(report.run_id, None)
        before(turn, tenant, lifetime, report)

    patch.setattr(engine, "on_result", on_result)


def join_forgets_its_visit(patch: pytest.MonkeyPatch) -> None:
    """All visits of a join gather into one."""
    before = routing._arrive

    def arrive(flow: Flow, arrival: Any, execution: Any) -> None:
        before(flow, dataclasses.replace(arrival, visit="all"), execution)

    patch.setattr(routing, "_arrive", arrive)


def join_fires_again(patch: pytest.MonkeyPatch) -> None:
    """A join that has gone on is forgotten at once, so that stragglers make it anew."""
    before = routing._fire

    def fire(flow: Flow, key: Any, join: Any) -> None:
        before(flow, key, join)
        flow.lifetime.joins.pop(key, None)

    patch.setattr(routing, "_fire", fire)


def dispatch_after_abort(patch: pytest.MonkeyPatch) -> None:
    """What was parked when the lifetime was aborted is dispatched all the same."""
    before = ending.end

    def end(flow: Flow, status: Any, reason: str, **event: Any) -> None:
        parked = list(flow.lifetime.parked) if flow.lifetime.is_live else []
        before(flow, status, reason, **event)
        for work in parked:
            admission._dispatch(flow, work, flow.id_of(work), flow.lifetime.terms[work.node_id])

    patch.setattr(ending, "end", end)


def hold_not_released(patch: pytest.MonkeyPatch) -> None:
    """A hold stays open although its run has reported."""
    before = holds.release

    def release(tenant: Any, lifetime: Lifetime, hold: Any) -> None:
        if hold.is_zero:
            before(tenant, lifetime, hold)

    patch.setattr(settlement, "release", release)


def tombstone_ignored(patch: pytest.MonkeyPatch) -> None:
    """A start of a run that has ended begins it again."""
    before = engine._TAKERS["lifetime_start"]

    def start(turn: Any, tenant: Any, envelope: Any, record: Any) -> None:
        tenant.ended.pop(envelope.lifetime_id, None)
        before(turn, tenant, envelope, record)

    patch.setitem(engine._TAKERS, "lifetime_start", start)


def pause_forgets_what_it_held_back(patch: pytest.MonkeyPatch) -> None:
    """A resume admits all but the last thing that was held back."""
    before = ending.unpark

    def unpark(flow: Flow) -> None:
        flow.lifetime.parked = flow.lifetime.parked[:-1]
        before(flow)

    patch.setattr(ending, "unpark", unpark)


def pause_is_not_kept(patch: pytest.MonkeyPatch) -> None:
    """Dispatch goes on in a paused lifetime."""
    patch.setattr(Lifetime, "is_paused", False)


def second_result_is_accepted(patch: pytest.MonkeyPatch) -> None:
    """An execution is still waited for after its result."""
    before = holds.close

    def close(tenant: Any, lifetime: Lifetime, done_id: str, clock: int) -> Any:
        flight = before(tenant, lifetime, done_id, clock)
        if lifetime.graphs.nodes[flight.work.node_id].type == "work" and not flight.leased:
            lifetime.inflight[done_id] = flight
        return flight

    patch.setattr(settlement, "close", close)


def hold_is_left_out_of_admission(patch: pytest.MonkeyPatch) -> None:
    """Caps are compared with what is settled alone."""

    def without_holds(before: Any) -> Any:
        def asked(self: PolicyEvaluator, tenant: Any, lifetime: Lifetime, *given: Any) -> Any:
            spends: list[Spend] = [tenant.spend, lifetime.spend]
            kept = [(s.held_tokens, s.held_cost, s.open_holds) for s in spends]
            for spend in spends:
                spend.held_tokens = spend.held_cost = spend.open_holds = 0
            found = before(self, tenant, lifetime, *given)
            for spend, numbers in zip(spends, kept, strict=True):
                spend.held_tokens, spend.held_cost, spend.open_holds = numbers
            return found

        return asked

    for name in ("at_admission", "surely_admits"):
        patch.setattr(PolicyEvaluator, name, without_holds(getattr(PolicyEvaluator, name)))


def one_iteration_too_many(patch: pytest.MonkeyPatch) -> None:
    """The graph's cap on iterations is off by one."""
    before = GraphOrchestrator.__init__

    def init(self: GraphOrchestrator, graph: Any) -> None:
        cap = graph.limits.max_iterations + 1
        limits = graph.limits.model_copy(update={"max_iterations": cap})
        before(self, graph.model_copy(update={"limits": limits}))

    patch.setattr(GraphOrchestrator, "__init__", init)
    definitions.orchestrate.cache_clear()


def lost_run_is_free(patch: pytest.MonkeyPatch) -> None:
    """A run that was never heard of again is not charged its hold."""
    before = runs.close_orphan

    def close_orphan(turn: Any, tenant: Any, lifetime: Lifetime, key: str) -> None:
        lifetime.orphans[key] = lifetime.orphans[key]._replace(began=False)
        before(turn, tenant, lifetime, key)

    patch.setattr(timers, "close_orphan", close_orphan)


def heartbeats_are_ignored(patch: pytest.MonkeyPatch) -> None:
    """A lease ends although its run is heard of."""
    patch.setattr(engine, "on_heartbeat", lambda turn, tenant, heartbeat: None)


def order_depends_on_the_process(patch: pytest.MonkeyPatch) -> None:
    """Something outside the log decides: here, how many lifetimes this process has ever ended."""
    before, count = ending.end, [0]

    def end(flow: Flow, status: Any, reason: str, **event: Any) -> None:
        count[0] += 1
        before(flow, status, f"{reason} ({count[0] % 7})" if reason else reason, **event)

    patch.setattr(ending, "end", end)


def waits_are_let_go(patch: pytest.MonkeyPatch) -> None:
    """Somebody in a line is never served."""
    for place in (engine, timers):
        patch.setattr(place, "serve_waiting", lambda turn, tenant: None)


def one_retry_too_many(patch: pytest.MonkeyPatch) -> None:
    """A failed try is not counted as one."""
    before = retries.retry

    def retry(flow: Flow, work: Any, failed_id: str, error: Any) -> bool:
        return before(flow, work._replace(lost=work.lost + (work.attempt > 1 + work.lost)), failed_id, error)

    patch.setattr(retries, "retry", retry)


def deadlines_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A lifetime lives as long as it likes."""
    before = timers._ring

    def ring(flow: Flow, kind: int, timer_id: str) -> None:
        if kind == timers.DEADLINE:
            flow.lifetime.deadline += 10**9
        else:
            before(flow, kind, timer_id)

    patch.setattr(timers, "_ring", ring)


def checkpoint_forgets_the_delayed(patch: pytest.MonkeyPatch) -> None:
    """A retry that waits is not in the checkpoint."""
    before = packing.write_lifetime

    def lifetime(into: Any, one: Lifetime) -> None:
        before(into, one)
        del into.delayed[:]

    patch.setattr(packing, "write_lifetime", lifetime)


def capture_reads_lifetimes_as_they_became(patch: pytest.MonkeyPatch) -> None:
    """A lifetime that changes while a capture is under way is not written first."""
    patch.setattr(Lifetimes, "_about_to_change", lambda *_: None)


def capture_reads_tenants_as_they_became(patch: pytest.MonkeyPatch) -> None:
    """Nobody tells a capture that is under way which tenant changes."""
    before = Capturing.__init__

    def begin(capturing: Capturing, state: Any, *known: Any) -> None:
        before(capturing, state, *known)
        state.capturing = None

    patch.setattr(Capturing, "__init__", begin)


def a_rest_forgets_what_was_settled(patch: pytest.MonkeyPatch) -> None:
    """A lifetime that has rested does not know which runs are paid."""
    before = packing.unpack

    def unpack(*given: Any) -> Lifetime:
        lifetime = before(*given)
        lifetime.settled = {}
        return lifetime

    patch.setattr(lifetimes, "unpack", unpack)


MUTATIONS: tuple[Mutation, ...] = (
    double_settle,
    join_forgets_its_visit,
    join_fires_again,
    dispatch_after_abort,
    hold_not_released,
    tombstone_ignored,
    pause_forgets_what_it_held_back,
    pause_is_not_kept,
    second_result_is_accepted,
    hold_is_left_out_of_admission,
    one_iteration_too_many,
    lost_run_is_free,
    heartbeats_are_ignored,
    waits_are_let_go,
    one_retry_too_many,
    deadlines_are_forgotten,
    order_depends_on_the_process,
    checkpoint_forgets_the_delayed,
    a_rest_forgets_what_was_settled,
)
TORN_CAPTURES: tuple[Mutation, ...] = (
    capture_reads_lifetimes_as_they_became,
    capture_reads_tenants_as_they_became,
)
"""Bugs that no output shows before a gate restarts."""
