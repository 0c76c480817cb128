"""A lifetime as bytes, and back: what a checkpoint keeps of it, and what is kept of one that rests.

Equal lifetimes have equal bytes, order included, and what is read back is written as the same bytes again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from headgate_graphs.progress import Fork, Lineage
from headgate_guardrails.fold.ledger import Amount, Spend
from headgate_guardrails.fold.lifetime import Guard, InFlight, Join, Lifetime, NodeTally, Orphan, Run, Work
from headgate_guardrails.fold.progressing import Step
from headgate_protos.v1 import state_pb2 as pb

if TYPE_CHECKING:
    from headgate_guardrails.fold.state import Registered

Budgets = dict[tuple[str, str, str], int]


def pack(lifetime: Lifetime) -> bytes:
    """Return the canonical bytes of a lifetime's `LifetimeState`."""
    kept = pb.LifetimeState()
    write_lifetime(kept, lifetime)
    return kept.SerializeToString(deterministic=True)


def unpack(content: bytes, lifetime_id: str, graphs: Mapping[tuple[str, str], Registered]) -> Lifetime:
    """Return the lifetime that `pack` wrote, but for the one above it, which the caller knows where to find.

    `lifetime_id` is the caller's own: so it is there once, however often the lifetime is packed.
    """
    kept = pb.LifetimeState.FromString(content)
    key = (kept.graph_id, kept.graph_version)
    lifetime = Lifetime(lifetime_id, key, graphs[key].orchestrator)
    for field, value in kept.ListFields():  # only those that are set: most are not
        name = field.name
        reader = _READERS.get(name)
        if reader is not None:
            setattr(lifetime, name, reader(value))
        elif name not in _IDENTITY:
            setattr(lifetime, name, value)
    return lifetime


# -- to messages -----------------------------------------------------------------------------------


_numbers_of = attrgetter(*Spend.FIELDS)


def write_spend(into: pb.SpendState, spend: Spend) -> None:
    """Fill an empty message with the sums."""
    numbers = _numbers_of(spend)
    end = len(numbers)
    while end and not numbers[end - 1]:
        end -= 1
    into.numbers.extend(numbers[:end])


def budget_states(budgets: Budgets) -> list[pb.BudgetState]:
    """Return raised caps as messages."""
    return [pb.BudgetState(policy=p, rule=r, metric=m, value=v) for (p, r, m), v in budgets.items()]


def _hold(amount: Amount) -> pb.HoldState:
    return pb.HoldState(tokens=amount.tokens, cost=amount.cost)


def _lineage(lineage: Lineage) -> list[pb.ForkState]:
    return [
        pb.ForkState(node_id=f.node_id, execution_id=f.execution_id, branch=f.branch, branches=f.branches)
        for f in lineage
    ]


def _work(work: Work) -> pb.WorkState:
    return pb.WorkState(
        node_id=work.node_id,
        iteration=work.iteration,
        attempt=work.attempt,
        parent_execution_id=work.parent_execution_id,
        upstream_ids=work.upstream_ids,
        lineage=_lineage(work.lineage),
        input_data=work.input_data,
        upstreams=work.upstreams,
        lost=work.lost,
        given_back=work.given_back,
    )


def _flight(into: pb.InFlightState, execution_id: str, flight: InFlight) -> None:
    into.execution_id = execution_id
    into.work.CopyFrom(_work(flight.work))
    if flight.hold is not None:
        into.hold.CopyFrom(_hold(flight.hold))
    into.due = flight.due
    into.leased = flight.leased
    into.remind_at = flight.remind_at
    for run in flight.runs.values():
        into.runs.add(
            run_id=run.run_id, hold=_hold(run.hold), lease_until=run.lease_until, stop_at=run.stop_at
        )


def _join(key: tuple[str, str], join: Join) -> pb.JoinState:
    return pb.JoinState(
        plan_id=key[0],
        visit=key[1],
        expected=join.expected,
        arrived=[pb.ArrivalState(branch=b, execution=e) for b, e in join.arrived.items()],
        fired=join.fired,
        lineage=_lineage(join.lineage),
        due=join.due,
    )


_SCALARS = (
    "lifetime_id",
    "status",
    "reason",
    "started_at",
    "ended_at",
    "deadline",
    "wake",
    "pause_generation",
    "pause_due",
    "closing",
    "parent_id",
    "parent_execution_id",
    "depth",
    "priority",
    "stopped_at",
    "issued_at",
    "wall_due",
    "ticket_key",
)
"""Fields of a lifetime that are kept as they are."""
_scalars_of = attrgetter(*_SCALARS)


def write_lifetime(into: pb.LifetimeState, lifetime: Lifetime) -> None:
    """Fill `into`, setting only what is not empty: that takes half the time of a constructor with all."""
    into.graph_id, into.graph_version = lifetime.graph_key
    for name, value in zip(_SCALARS, _scalars_of(lifetime), strict=True):
        if value:
            setattr(into, name, value)
    into.start_input.CopyFrom(lifetime.start_input)
    if lifetime.outcome is not None:
        into.outcome.CopyFrom(lifetime.outcome)
    if lifetime.fork is not None:
        into.fork.CopyFrom(lifetime.fork.message)
    write_spend(into.spend, lifetime.spend)
    for node_id, tally in lifetime.nodes.items():
        node = into.nodes.add(node_id=node_id, iterations=tally.iterations)
        write_spend(node.spend, tally.spend)
    for execution_id, flight in lifetime.inflight.items():
        _flight(into.inflight.add(), execution_id, flight)
    for execution_id, (due, work) in lifetime.delayed.items():
        into.delayed.add(execution_id=execution_id, due=due, work=_work(work))
    for key, orphan in lifetime.orphans.items():
        into.orphans.add(
            key=key,
            execution_id=orphan.execution_id,
            node_id=orphan.node_id,
            hold=_hold(orphan.hold),
            due=orphan.due,
            began=orphan.began,
        )
    for run_id, checksum in lifetime.settled.items():
        into.settled.add(run_id=run_id, checksum=checksum)
    for policy, version, rule in lifetime.reported:
        into.reported.add(policy=policy, version=version, rule=rule)
    for step in lifetime.trail:
        into.trail.add(node_id=step.node_id, given=step.given, made=step.made, success=step.success)
    if lifetime.parked or lifetime.queued or lifetime.joins or lifetime.budgets or lifetime.violations:
        into.parked.extend(map(_work, lifetime.parked))
        into.queued.extend(map(_work, lifetime.queued))
        into.joins.extend(_join(key, join) for key, join in lifetime.joins.items())
        into.budgets.extend(budget_states(lifetime.budgets))
        into.violations.extend(lifetime.violations)


# -- from messages ---------------------------------------------------------------------------------


def to_spend(kept: pb.SpendState) -> Spend:
    """Return the sums."""
    spend = Spend()
    for field, number in zip(Spend.FIELDS, kept.numbers, strict=False):
        setattr(spend, field, number)
    return spend


def to_budgets(kept: Iterable[pb.BudgetState]) -> Budgets:
    """Return the raised caps."""
    return {(b.policy, b.rule, b.metric): b.value for b in kept}


def _to_amount(kept: pb.HoldState) -> Amount:
    return Amount(kept.tokens, kept.cost)


def _to_lineage(kept: Iterable[pb.ForkState]) -> Lineage:
    return tuple(Fork(f.node_id, f.execution_id, f.branch, tuple(f.branches)) for f in kept)


def _to_work(kept: pb.WorkState) -> Work:
    return Work(
        kept.node_id,
        kept.iteration,
        kept.attempt,
        kept.parent_execution_id,
        tuple(kept.upstream_ids),
        _to_lineage(kept.lineage),
        kept.input_data if kept.HasField("input_data") else None,
        tuple(kept.upstreams),
        kept.lost,
        kept.given_back,
    )


def _to_works(kept: Iterable[pb.WorkState]) -> list[Work]:
    return [_to_work(work) for work in kept]


def _to_flight(kept: pb.InFlightState) -> InFlight:
    hold = _to_amount(kept.hold) if kept.HasField("hold") else None
    flight = InFlight(_to_work(kept.work), hold, kept.due, kept.leased)
    flight.remind_at = kept.remind_at
    for run in kept.runs:
        flight.runs[run.run_id] = Run(run.run_id, _to_amount(run.hold), run.lease_until, run.stop_at)
    return flight


def _to_join(kept: pb.JoinState) -> Join:
    join = Join(tuple(kept.expected), _to_lineage(kept.lineage))
    join.arrived = {arrival.branch: arrival.execution for arrival in kept.arrived}
    join.fired, join.due = kept.fired, kept.due
    return join


def _to_tally(kept: pb.NodeTallyState) -> NodeTally:
    tally = NodeTally()
    tally.iterations, tally.spend = kept.iterations, to_spend(kept.spend)
    return tally


def _to_orphan(kept: pb.OrphanState) -> Orphan:
    return Orphan(kept.execution_id, kept.node_id, _to_amount(kept.hold), kept.due, kept.began)


_IDENTITY = frozenset({"lifetime_id", "graph_id", "graph_version"})
"""What a lifetime is made with."""
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "spend": to_spend,
    "fork": Guard,
    "nodes": lambda kept: {one.node_id: _to_tally(one) for one in kept},
    "inflight": lambda kept: {one.execution_id: _to_flight(one) for one in kept},
    "parked": _to_works,
    "delayed": lambda kept: {one.execution_id: (one.due, _to_work(one.work)) for one in kept},
    "joins": lambda kept: {(one.plan_id, one.visit): _to_join(one) for one in kept},
    "orphans": lambda kept: {one.key: _to_orphan(one) for one in kept},
    "settled": lambda kept: {one.run_id: one.checksum for one in kept},
    "budgets": to_budgets,
    "reported": lambda kept: {(one.policy, one.version, one.rule): True for one in kept},
    "violations": list,
    "queued": _to_works,
    "trail": lambda kept: [Step(one.node_id, one.given, one.made, one.success) for one in kept],
}
"""What a field of the message becomes; those that are not here are kept as they are."""
