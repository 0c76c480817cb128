"""The state of a partition as bytes, and back: what a checkpoint keeps. Equal states have equal bytes.

A capture is begun between two records and is the state as it was then, however many are folded before it is
finished. What concerns the partition is written at once; a tenant, and then each of its lifetimes, when its
turn comes, or just before it changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple

from google.protobuf.message import DecodeError

from headgate_graphs.errors import HeadgateError
from headgate_guardrails.fold.definitions import judge_by, orchestrate
from headgate_guardrails.fold.holds import count
from headgate_guardrails.fold.lifetimes import Picture, at_rest
from headgate_guardrails.fold.packing import budget_states, to_budgets, to_spend, write_spend
from headgate_guardrails.fold.state import PartitionState, PolicyBook, Quarantine, Registered, Tenant
from headgate_guardrails.fold.terms import terms_of
from headgate_guardrails.fold.turn import wakes
from headgate_guardrails.fold.wire import nested
from headgate_protos.v1 import common_pb2
from headgate_protos.v1 import state_pb2 as pb

NOT_SINCE = -1
"""As `changed_at`: not since the checkpoint that the state was restored from."""
_LIFETIMES = bytes((pb.TenantState.LIFETIMES_FIELD_NUMBER << 3 | 2,))
"""Before each lifetime among the bytes of its tenant."""
_TOMBSTONES = 10_000
"""Written at once; other threads run in between."""


class CheckpointUnreadable(HeadgateError):
    """A checkpoint that this binary cannot make a state of."""


class Part(NamedTuple):
    """One tenant of a capture."""

    tenant_id: str
    changed_at: int
    """`Tenant.changed_at` when it was captured."""
    entry: pb.TenantEntry | None
    """Where its bytes are already; None when they are made of what follows."""
    head: bytes
    """Canonical bytes of its `TenantState` without tombstones and lifetimes."""
    ended: Mapping[str, int]
    """Its tombstones."""
    lifetimes: Picture | None

    def content(self) -> bytes:
        """Return the bytes of its `TenantState`, a repeated field here and there in several pieces."""
        written = [self.head]
        ended = iter(self.ended.items())
        while some := dict(islice(ended, _TOMBSTONES)):
            piece = pb.TenantState(ended=some, forget_at=some.values())
            written.append(piece.SerializeToString(deterministic=True))
        if self.lifetimes is not None:
            written += [nested(_LIFETIMES, one) for one in self.lifetimes.contents()]
        return b"".join(written)


class Capture(NamedTuple):
    """The state of a partition at one offset, as it is taken on the loop: nothing joined, hashed or kept."""

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


class Capturing:
    """A capture under way: the state as it was when this was made."""

    def __init__(self, state: PartitionState, known: Known = MappingProxyType({})) -> None:
        """Begin, between two records; what `known` has unchanged is named instead of written again.

        Raises RuntimeError while another capture of the state is under way.
        """
        if state.capturing is not None:
            raise RuntimeError("the state is being captured already")
        self._state = state
        self._manifest = _manifest(state)
        self._parts: dict[str, Part | None] = {}
        self._untouched: dict[str, Tenant] = {}
        """Tenants of which nothing is written yet; none of them has changed."""
        for tenant_id, tenant in state.tenants.items():
            changed_at, entry = known.get(tenant_id, (NOT_SINCE, None))
            if entry is not None and changed_at == tenant.changed_at:
                self._parts[tenant_id] = Part(tenant_id, changed_at, entry, b"", {}, None)
            else:
                self._parts[tenant_id] = None
                self._untouched[tenant_id] = tenant
        state.capturing = self

    def before_change(self, *tenants: Tenant) -> None:
        """Write what concerns the whole of a tenant, if that is still to be done."""
        for tenant in tenants:
            if self._untouched.pop(tenant.tenant_id, None) is None:
                continue
            self._parts[tenant.tenant_id] = Part(
                tenant.tenant_id,
                tenant.changed_at,
                None,
                _tenant(tenant).SerializeToString(deterministic=True),
                dict(tenant.ended),
                tenant.lifetimes.take_picture(),
            )

    def steps(self) -> Iterator[None]:
        """Write what is left; yields after each lifetime, and records may be folded meanwhile."""
        for tenant in list(self._untouched.values()):
            self.before_change(tenant)
            yield
        for tenant_id, part in self._parts.items():
            if part is None or part.lifetimes is None:
                continue
            left = part.lifetimes.left
            while left:
                part.lifetimes.write(next(iter(left)))
                yield
            self._state.tenants[tenant_id].lifetimes.picture_taken()
        self._state.capturing = None

    @property
    def taken(self) -> Capture:
        """What was captured, once `steps` has come to its end; the state is not needed any more."""
        return Capture(self._manifest, [part for part in self._parts.values() if part is not None])


def capture(state: PartitionState, known: Known = MappingProxyType({})) -> Capture:
    """Return the state as of now; what `known` has unchanged is named instead of written again."""
    capturing = Capturing(state, known)
    for _ in capturing.steps():
        pass
    return capturing.taken


def _manifest(state: PartitionState) -> pb.CheckpointManifest:
    return pb.CheckpointManifest(
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


def seal(taken: Capture) -> Sealed:
    """Return the bytes that keep a capture; pure, and needs no state any more: call it off the loop."""
    manifest, blobs, known = pb.CheckpointManifest(), {}, {}
    manifest.CopyFrom(taken.manifest)
    for part in taken.parts:
        entry = part.entry
        if entry is None:
            written = part.content()
            sha = hashlib.sha256(written).hexdigest()
            entry = pb.TenantEntry(tenant_id=part.tenant_id, sha256=sha, size_bytes=len(written))
            blobs[sha] = written
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
        tickets: set[str] = set()
        for entry in manifest.tenants:
            kept = pb.TenantState.FromString(fetch(entry))
            kept.DiscardUnknownFields()  # else they would stay among the bytes of lifetimes that rest
            tenant = _to_tenant(kept, state.platform)
            tenant.changed_at = NOT_SINCE
            state.tenants[entry.tenant_id] = tenant
            tickets.update(one.ticket_key for one in kept.lifetimes)
        state.tickets_kept = frozenset(tickets)
    except (DecodeError, ValueError, KeyError, TypeError) as error:
        raise CheckpointUnreadable(f"the checkpoint cannot be read: {error}") from error
    state.heap = wakes(state)
    return state


def known_of(manifest: pb.CheckpointManifest) -> Known:
    """Return what a state that was just restored from this manifest need not write again."""
    return {entry.tenant_id: (NOT_SINCE, entry) for entry in manifest.tenants}


# -- state to messages -----------------------------------------------------------------------------


def _book(book: PolicyBook) -> pb.PolicyBookState:
    return pb.PolicyBookState(
        in_force=[compiled.policy.canonical_json() for compiled in book.in_force.values()],
        versions=[
            pb.PolicyVersionState(name=n, version=v, sha256=sha) for (n, v), sha in book.versions.items()
        ],
        records=list(book.records),
    )


def _tenant(tenant: Tenant) -> pb.TenantState:
    """Return all of a tenant but its tombstones and its lifetimes."""
    kept = pb.TenantState(
        tenant_id=tenant.tenant_id,
        budgets=budget_states(tenant.budgets),
        graphs=[registered.definition_json for registered in tenant.graphs.values()],
        policies=_book(tenant.policies),
        commands=tenant.commands,
        frozen=[pb.FreezeState(graph_id=k, reason=v) for k, v in tenant.frozen.items()],
        waiting=list(tenant.waiting),
    )
    write_spend(kept.spend, tenant.spend)
    for (policy, rule), window in tenant.windows.items():
        into = kept.windows.add(policy=policy, rule=rule, index=window.index)
        write_spend(into.spend, window.spend)
        for index, spend in window.buckets.items():
            write_spend(into.buckets.add(index=index).spend, spend)
    return kept


# -- messages to state -----------------------------------------------------------------------------


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
    tenant.spend = to_spend(kept.spend)
    tenant.budgets = to_budgets(kept.budgets)
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
        window.index, window.spend = one.index, to_spend(one.spend)
        window.until = (one.index + 1) * window.part_ms if one.index >= 0 else 0
        window.buckets = {bucket.index: to_spend(bucket.spend) for bucket in one.buckets}
    for one_kept in kept.lifetimes:
        _add(tenant, one_kept)
    tenant.ended = dict(zip(kept.ended, kept.forget_at, strict=True))
    tenant.commands = dict.fromkeys(kept.commands, True)
    tenant.frozen = {one.graph_id: one.reason for one in kept.frozen}
    by_id = {one.lifetime_id: one for one in kept.lifetimes} if kept.waiting else {}
    for lifetime_id in kept.waiting:
        tenant.waiting.join(lifetime_id, by_id[lifetime_id].priority, by_id[lifetime_id].graph_id)
    return tenant


def _add(tenant: Tenant, kept: pb.LifetimeState) -> None:
    """Take in a lifetime as one that rests; raises KeyError when its graph is not there."""
    terms = terms_of(tenant.graphs[kept.graph_id, kept.graph_version].orchestrator)
    for flight in kept.inflight:
        of_node = terms[flight.work.node_id]
        if of_node.is_counted:
            count(tenant, kept.graph_id, of_node, 1)
    is_held = kept.status == common_pb2.LIFETIME_STATUS_PAUSED or bool(kept.parked or kept.budgets)
    content = kept.SerializeToString(deterministic=True)
    tenant.lifetimes.add_at_rest(kept.lifetime_id, at_rest(content, kept.wake, is_held))
