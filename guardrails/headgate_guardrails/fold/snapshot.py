"""The state as bytes, and back: what a checkpoint keeps. Equal states have equal bytes, order included."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import NamedTuple

from google.protobuf.message import DecodeError

from headgate_graphs.errors import HeadgateError
from headgate_graphs.progress import Fork, Lineage
from headgate_guardrails.fold.definitions import judge_by, orchestrate
from headgate_guardrails.fold.holds import leave
from headgate_guardrails.fold.ledger import Amount, Spend
from headgate_guardrails.fold.lifetime import InFlight, Join, Lifetime, NodeTally, Orphan, Run, Work
from headgate_guardrails.fold.progressing import Step
from headgate_guardrails.fold.state import PartitionState, PolicyBook, Quarantine, Registered, Tenant
from headgate_guardrails.fold.turn import wakes
from headgate_protos.v1 import state_pb2 as pb

NOT_SINCE = -1
"""As `changed_at`: not since the checkpoint that the state was restored from."""


class CheckpointUnreadable(HeadgateError):
    """A checkpoint that this binary cannot make a state of."""


class Part(NamedTuple):
    """One tenant of a capture."""

    tenant_id: str
    changed_at: int
    """`Tenant.changed_at` when it was captured."""
    content: bytes
    """Canonical bytes of its `TenantState`; empty when `entry` says where they are already."""
    entry: pb.TenantEntry | None


class Capture(NamedTuple):
    """The state of a partition at one offset, as it is taken on the loop: nothing hashed, nothing written."""

    manifest: pb.CheckpointManifest
    """All but the tenants."""
    parts: list[Part]


Known = Mapping[str, tuple[int, pb.TenantEntry]]
"""Tenant -> (its `changed_at` when it was captured, where its bytes are)."""


class Sealed(NamedTuple):
    """A checkpoint as it is kept."""

    manifest: bytes
    digest: str
    """Lower-case hex SHA-256 of the manifest, which names every tenant's bytes by theirs."""
    blobs: dict[str, bytes]
    """Tenants' bytes that are not kept yet, by SHA-256."""
    known: Known


def capture(state: PartitionState, known: Known = MappingProxyType({})) -> Capture:
    """Return the state as of now; what `known` has unchanged is named instead of written again."""
    manifest = pb.CheckpointManifest(
        partition=state.partition,
        partitions=state.partitions,
        next_offset=state.next_offset,
        clock_ms=state.clock_ms,
        logic_version=state.logic_version,
        policies=_book(state.platform),
        quarantined=[
            pb.QuarantineState(
                tenant_id=k,
                from_offset=q.from_offset,
                error=q.error,
                announced=q.announced,
                waiting=q.waiting,
            )
            for k, q in state.quarantined.items()
        ],
        keys=[pb.KeyState(key_id=k, ed25519_public_key=v) for k, v in state.keys.items()],
        ticket_key=state.ticket_key,
    )
    return Capture(manifest, [_part(tenant, known) for tenant in state.tenants.values()])


def _part(tenant: Tenant, known: Known) -> Part:
    changed_at, entry = known.get(tenant.tenant_id, (-1, None))
    if entry is not None and changed_at == tenant.changed_at:
        return Part(tenant.tenant_id, changed_at, b"", entry)
    content = _tenant(tenant).SerializeToString(deterministic=True)
    return Part(tenant.tenant_id, tenant.changed_at, content, None)


def seal(taken: Capture) -> Sealed:
    """Return the bytes that keep a capture; pure, and needs no state any more: call it off the loop."""
    manifest, blobs, known = pb.CheckpointManifest(), {}, {}
    manifest.CopyFrom(taken.manifest)
    for part in taken.parts:
        entry = part.entry
        if entry is None:
            sha = hashlib.sha256(part.content).hexdigest()
            entry = pb.TenantEntry(tenant_id=part.tenant_id, sha256=sha, size_bytes=len(part.content))
            blobs[sha] = part.content
        manifest.tenants.append(entry)
        known[part.tenant_id] = (part.changed_at, entry)
    content = manifest.SerializeToString(deterministic=True)
    return Sealed(content, hashlib.sha256(content).hexdigest(), blobs, known)


def digest(state: PartitionState) -> str:
    """Return the digest that a checkpoint of this state has."""
    return seal(capture(state)).digest


def read_manifest(content: bytes) -> pb.CheckpointManifest:
    """Return the manifest kept in `content`; raises CheckpointUnreadable."""
    try:
        return pb.CheckpointManifest.FromString(content)
    except DecodeError as error:
        raise CheckpointUnreadable(f"the manifest cannot be read: {error}") from error


def restore(manifest: pb.CheckpointManifest, fetch: Callable[[pb.TenantEntry], bytes]) -> PartitionState:
    """Return the state that a manifest and its tenants' bytes keep; raises CheckpointUnreadable."""
    state = PartitionState(manifest.partition, manifest.partitions)
    try:
        state.next_offset = manifest.next_offset
        state.clock_ms = manifest.clock_ms
        state.logic_version = manifest.logic_version
        state.platform = _to_book(manifest.policies, platform=True)
        state.ticket_key = manifest.ticket_key
        state.keys = {key.key_id: key.ed25519_public_key for key in manifest.keys}
        for one in manifest.quarantined:
            mark = Quarantine(one.from_offset, one.error, one.announced)
            mark.waiting = list(one.waiting)
            state.quarantined[one.tenant_id] = mark
        for entry in manifest.tenants:
            tenant = _to_tenant(pb.TenantState.FromString(fetch(entry)), state.platform)
            tenant.changed_at = NOT_SINCE
            state.tenants[entry.tenant_id] = tenant
    except (DecodeError, ValueError, KeyError, TypeError) as error:
        raise CheckpointUnreadable(f"the checkpoint cannot be read: {error}") from error
    state.heap = wakes(state)
    return state


def known_of(manifest: pb.CheckpointManifest) -> Known:
    """Return what a state that was just restored from this manifest need not write again."""
    return {entry.tenant_id: (NOT_SINCE, entry) for entry in manifest.tenants}


# -- state to messages -----------------------------------------------------------------------------


_numbers_of = attrgetter(*Spend.FIELDS)


def _spend(into: pb.SpendState, spend: Spend) -> None:
    numbers = _numbers_of(spend)
    end = len(numbers)
    while end and not numbers[end - 1]:
        end -= 1
    into.numbers.extend(numbers[:end])


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


def _budgets(budgets: dict[tuple[str, str, str], int]) -> list[pb.BudgetState]:
    return [pb.BudgetState(policy=p, rule=r, metric=m, value=v) for (p, r, m), v in budgets.items()]


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
"""Fields of a lifetime that a checkpoint keeps as they are."""
_scalars_of = attrgetter(*_SCALARS)


def _lifetime(into: pb.LifetimeState, lifetime: Lifetime) -> None:
    """Fill `into`, setting only what is not empty: that takes half the time of a constructor with all."""
    into.graph_id, into.graph_version = lifetime.graph_key
    for name, value in zip(_SCALARS, _scalars_of(lifetime), strict=True):
        if value:
            setattr(into, name, value)
    into.start_input.CopyFrom(lifetime.start_input)
    if lifetime.outcome is not None:
        into.outcome.CopyFrom(lifetime.outcome)
    _spend(into.spend, lifetime.spend)
    for node_id, tally in lifetime.nodes.items():
        node = into.nodes.add(node_id=node_id, iterations=tally.iterations)
        _spend(node.spend, tally.spend)
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
        into.budgets.extend(_budgets(lifetime.budgets))
        into.violations.extend(lifetime.violations)


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


def _book(book: PolicyBook) -> pb.PolicyBookState:
    return pb.PolicyBookState(
        in_force=[compiled.policy.canonical_json() for compiled in book.in_force.values()],
        versions=[
            pb.PolicyVersionState(name=n, version=v, sha256=sha) for (n, v), sha in book.versions.items()
        ],
        records=list(book.records),
    )


def _tenant(tenant: Tenant) -> pb.TenantState:
    kept = pb.TenantState(
        tenant_id=tenant.tenant_id,
        budgets=_budgets(tenant.budgets),
        graphs=[registered.definition_json for registered in tenant.graphs.values()],
        policies=_book(tenant.policies),
        ended=tenant.ended,
        forget_at=tenant.ended.values(),
        commands=tenant.commands,
        frozen=[pb.FreezeState(graph_id=k, reason=v) for k, v in tenant.frozen.items()],
        waiting=list(tenant.waiting),
    )
    _spend(kept.spend, tenant.spend)
    for (policy, rule), window in tenant.windows.items():
        into = kept.windows.add(policy=policy, rule=rule, index=window.index)
        _spend(into.spend, window.spend)
        for index, spend in window.buckets.items():
            _spend(into.buckets.add(index=index).spend, spend)
    for lifetime in tenant.lifetimes.values():
        _lifetime(kept.lifetimes.add(), lifetime)
    return kept


# -- messages to state -----------------------------------------------------------------------------


def _to_spend(kept: pb.SpendState) -> Spend:
    spend = Spend()
    for field, number in zip(Spend.FIELDS, kept.numbers, strict=False):
        setattr(spend, field, number)
    return spend


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


def _to_flight(kept: pb.InFlightState) -> InFlight:
    hold = _to_amount(kept.hold) if kept.HasField("hold") else None
    flight = InFlight(_to_work(kept.work), hold, kept.due, kept.leased)
    flight.remind_at = kept.remind_at
    for run in kept.runs:
        flight.runs[run.run_id] = Run(run.run_id, _to_amount(run.hold), run.lease_until, run.stop_at)
    return flight


def _to_budgets(kept: Iterable[pb.BudgetState]) -> dict[tuple[str, str, str], int]:
    return {(b.policy, b.rule, b.metric): b.value for b in kept}


def _to_lifetime(kept: pb.LifetimeState, tenant: Tenant) -> Lifetime:
    key = (kept.graph_id, kept.graph_version)
    lifetime = Lifetime(kept.lifetime_id, key, tenant.graphs[key].orchestrator)
    for field in _SCALARS:
        setattr(lifetime, field, getattr(kept, field))
    lifetime.start_input = kept.start_input
    lifetime.outcome = kept.outcome if kept.HasField("outcome") else None
    lifetime.spend = _to_spend(kept.spend)
    for node in kept.nodes:
        tally = lifetime.nodes[node.node_id] = NodeTally()
        tally.iterations, tally.spend = node.iterations, _to_spend(node.spend)
    lifetime.inflight = {flight.execution_id: _to_flight(flight) for flight in kept.inflight}
    lifetime.parked = [_to_work(work) for work in kept.parked]
    lifetime.delayed = {d.execution_id: (d.due, _to_work(d.work)) for d in kept.delayed}
    for one in kept.joins:
        join = lifetime.joins[one.plan_id, one.visit] = Join(tuple(one.expected), _to_lineage(one.lineage))
        join.arrived = {arrival.branch: arrival.execution for arrival in one.arrived}
        join.fired = one.fired
        join.due = one.due
    for o in kept.orphans:
        lifetime.orphans[o.key] = Orphan(o.execution_id, o.node_id, _to_amount(o.hold), o.due, o.began)
    lifetime.settled = {paid.run_id: paid.checksum for paid in kept.settled}
    lifetime.budgets = _to_budgets(kept.budgets)
    lifetime.reported = {(r.policy, r.version, r.rule): True for r in kept.reported}
    lifetime.violations = list(kept.violations)
    lifetime.parent = tenant.lifetimes.get(kept.parent_id)
    lifetime.queued = [_to_work(work) for work in kept.queued]
    lifetime.trail = [Step(s.node_id, s.given, s.made, s.success) for s in kept.trail]
    return lifetime


def _to_book(kept: pb.PolicyBookState, *, platform: bool) -> PolicyBook:
    book = PolicyBook()
    for text in kept.in_force:
        compiled, error = judge_by(text, platform)
        if compiled is None:
            raise ValueError(error)
        book.in_force[compiled.policy.name] = compiled
    book.versions = {(one.name, one.version): one.sha256 for one in kept.versions}
    book.records = dict.fromkeys(kept.records, True)
    return book


def _to_tenant(kept: pb.TenantState, platform: PolicyBook) -> Tenant:
    tenant = Tenant(kept.tenant_id)
    tenant.spend = _to_spend(kept.spend)
    tenant.budgets = _to_budgets(kept.budgets)
    for text in kept.graphs:
        orchestrator, error = orchestrate(text)
        if orchestrator is None:
            raise ValueError(error)
        metadata = orchestrator.graph.metadata
        tenant.graphs[metadata.id, metadata.version] = Registered(text, orchestrator)
    tenant.policies = _to_book(kept.policies, platform=False)
    tenant.judge_by(platform)
    for one in kept.windows:
        window = tenant.windows[one.policy, one.rule]
        window.index, window.spend = one.index, _to_spend(one.spend)
        window.until = (one.index + 1) * window.part_ms if one.index >= 0 else 0
        window.buckets = {bucket.index: _to_spend(bucket.spend) for bucket in one.buckets}
    for one_kept in kept.lifetimes:
        tenant.lifetimes[one_kept.lifetime_id] = _to_lifetime(one_kept, tenant)
    for lifetime in tenant.lifetimes.values():
        for flight in lifetime.inflight.values():
            leave(tenant, lifetime, flight, 1)
    tenant.ended = dict(zip(kept.ended, kept.forget_at, strict=True))
    tenant.commands = dict.fromkeys(kept.commands, True)
    tenant.frozen = {one.graph_id: one.reason for one in kept.frozen}
    for lifetime_id in kept.waiting:
        waiting = tenant.lifetimes[lifetime_id]
        tenant.waiting.join(lifetime_id, waiting.priority, waiting.graph_key[0])
    return tenant
