"""Looks things up in the log itself: lifetimes, histories, definitions, dead letters."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from headgate.accepted import Signatures
from headgate.family import Family, depths_of
from headgate.quarantine import Quarantine, quarantine_in
from headgate.reading import count_partitions, partitions_of, read_to_now
from headgate.spending import charges_in
from headgate.versions import PolicyVersion, policy_versions
from headgate.words import TERMINAL, millis, status_word
from headgate_catalog.happening import Happening, place_of, read_happening
from headgate_catalog.spend import Charge, Period, Spend, SpendBy, summed
from headgate_graphs.errors import BadRecord, UserError
from headgate_graphs.ids import EVERY_TENANT
from headgate_protos.v1.control_pb2 import ExecutionEvent
from headgate_protos.v1.execution_pb2 import (
    ExecutionEnvelope,
    GraphRegistered,
    LifetimeView,
    PolicySet,
)
from headgate_streams.codec import decode
from headgate_streams.port import Log, LogRecord, TopicPartition
from headgate_streams.topics import Topics, partition_for

MAX_BETWEEN = 200_000
"""Happenings of a tenant that are looked at together; they are kept in memory."""
CLOCK_SLACK_MS = 60_000
"""How much earlier than its start a lifetime's records are looked for."""


class Observer:
    """Reads one log; holds nothing, so every answer is as of now."""

    def __init__(self, log: Log, topics: Topics) -> None:
        self._log = log
        self._topics = topics

    def partitions(self) -> int:
        """Return how many partitions the log has; raises UserError when its topics do not exist."""
        return count_partitions(self._log, self._topics.executions)

    def lifetimes(self, tenant: str) -> list[LifetimeView]:
        """Return the newest view of every lifetime of a tenant, oldest start first."""
        latest: dict[str, LifetimeView] = {}
        for record in read_to_now(self._log, [self._home(self._topics.lifetimes, tenant)]):
            view = _view(record, tenant)
            if view is not None and not _hidden_by(latest.get(view.lifetime_id), view):
                latest[view.lifetime_id] = view
        return sorted(latest.values(), key=lambda view: (millis(view.started_at), view.lifetime_id))

    def lifetime(self, tenant: str, lifetime_id: str) -> LifetimeView | None:
        """Return the newest view of one lifetime; None when no gate has published one."""
        return next((view for view in self.lifetimes(tenant) if view.lifetime_id == lifetime_id), None)

    def history(
        self,
        tenant: str,
        lifetime_id: str,
        *,
        below: bool = False,
        dispatches_of: Sequence[str] | None = None,
    ) -> list[Happening]:
        """Return all that the log, the control events and the views say of it, in the gate's order.

        With `below`, of its sub-graphs too. With `dispatches_of`, the inputs of the default queue and of
        these queues too: what is in work still.
        """
        names = (self._topics.executions, self._topics.control_events, self._topics.lifetimes)
        views = self.lifetimes(tenant)
        since_ms = _since(views, lifetime_id)
        family = Family(lifetime_id, views, below=below)
        inputs = [] if dispatches_of is None else self._topics_of_inputs(dispatches_of)
        records = read_to_now(
            self._log,
            [*(self._home(name, tenant) for name in names), *partitions_of(self._log, inputs)],
            lambda where, first: max(first, self._log.offset_at(where, since_ms)) if since_ms else first,
        )
        read = (read_happening(record, self._topics, tenant) for record in records)
        return history_of(family, (one for one in read if one is not None))

    def spend(self, by: SpendBy, within: Period, tenant: str | None = None) -> dict[str | int, Spend]:
        """Return what was spent, by key, by one tenant or all; an hour's key is its beginning in Unix ms."""
        return summed(self.charges(tenant), by, within)

    def charges(self, tenant: str | None = None) -> Iterator[Charge]:
        """Return each amount that counts as spent, of one tenant or all."""
        names, count = [self._topics.executions, self._topics.lifetimes], self.partitions()
        whole = partitions_of(self._log, names)
        mine = whole if tenant is None else [self._home(name, tenant) for name in names]
        read = (
            one
            for record in read_to_now(self._log, mine)
            if (one := read_happening(record, self._topics, tenant)) is not None
            and partition_for(one.tenant_id, count) == record.partition
        )
        return charges_in(read)

    def between(
        self, tenant: str, since_ms: int, until_ms: int, *, dispatches_of: Sequence[str] = ()
    ) -> list[Happening]:
        """Return all that happened to a tenant from `since_ms` to `until_ms` (log time), in the gate's order.

        Inputs of the default queue and of the named ones are among it. Raises UserError when it is too much
        to be looked at.
        """
        depths = depths_of(self.lifetimes(tenant))
        names = (self._topics.executions, self._topics.control_events, self._topics.lifetimes)
        records = read_to_now(
            self._log,
            [
                *(self._home(name, tenant) for name in names),
                *partitions_of(self._log, self._topics_of_inputs(dispatches_of)),
            ],
            lambda where, first: max(first, self._log.offset_at(where, since_ms)),
        )
        read = (read_happening(record, self._topics, tenant) for record in records)
        known = (one for one in read if one is not None and since_ms <= one.when_ms <= until_ms)
        return in_order(known, depths, tenant)

    def _topics_of_inputs(self, queues: Sequence[str]) -> list[str]:
        makers = (self._topics.task_inputs, self._topics.plan_inputs)
        return [make(queue) for queue in dict.fromkeys(("", *queues)) for make in makers]

    def records(self, tenant: str) -> Iterator[tuple[int, ExecutionEnvelope]]:
        """Yield (log time in ms, record) of all that the log holds for a tenant or for every tenant.

        What should have been signed and was not is left out.
        """
        signatures = Signatures(self.partitions())
        for record in read_to_now(self._log, [self._home(self._topics.executions, tenant)]):
            try:
                envelope = decode(record, ExecutionEnvelope)
            except BadRecord:
                continue
            if signatures.accept(record, envelope) and envelope.tenant_id in (tenant, EVERY_TENANT):
                yield record.timestamp_ms, envelope

    def quarantine(self, tenant: str) -> Quarantine | None:
        """Return why and since when a tenant's records wait; None when they do not."""
        return quarantine_in(self._control_events(tenant))

    def _control_events(self, tenant: str) -> Iterator[ExecutionEvent]:
        for record in read_to_now(self._log, [self._home(self._topics.control_events, tenant)]):
            try:
                event = decode(record, ExecutionEvent)
            except BadRecord:
                continue
            if event.tenant_id == tenant:
                yield event

    def graphs(self, tenant: str) -> list[GraphRegistered]:
        """Return every graph version registered for a tenant, first registration first."""
        found: dict[tuple[str, str], GraphRegistered] = {}
        for _, envelope in self.records(tenant):
            if envelope.WhichOneof("payload") == "graph_registered":
                graph = envelope.graph_registered
                found.setdefault((graph.graph_id, graph.version), graph)
        return list(found.values())

    def policy_versions(self, tenant: str) -> list[PolicyVersion]:
        """Return every policy version that was set for a tenant or for every tenant, first set first."""
        return policy_versions(self.records(tenant))

    def policies(self, tenant: str) -> list[PolicySet]:
        """Return the policies in force for a tenant, the platform's among them: the newest set of each name.

        As the gate does, it passes over a version that was set before with other content.
        """
        return [one.policy for one in self.policy_versions(tenant) if one.is_in_force]

    def _home(self, topic: str, tenant: str) -> TopicPartition:
        return TopicPartition(topic, partition_for(tenant, self.partitions()))


def in_order(found: Iterable[Happening], depths: Mapping[str, int], tenant: str) -> list[Happening]:
    """Return what happened to a tenant, each thing once, with its depth, in the gate's order.

    Raises UserError when it is too much to be looked at.
    """
    known: dict[tuple[object, ...], Happening] = {}
    for one in found:
        known.setdefault((*one.order, one.lifetime_id), replace(one, depth=depths.get(one.lifetime_id, 0)))
        if len(known) > MAX_BETWEEN:
            raise UserError(
                f"more than {MAX_BETWEEN:,} things happened to tenant {tenant} in this time: narrow it"
            )
    return sorted(known.values(), key=lambda one: one.order)


def history_of(family: Family, found: Iterable[Happening]) -> list[Happening]:
    """Return what concerns a family, each thing once, in the gate's order.

    A gate that takes over after a crash repeats outputs; one with a source that was there before is left out.
    """
    own: dict[tuple[object, ...], Happening] = {}
    for one in found:
        for taken in family.take(one):
            own.setdefault((*taken.order, taken.lifetime_id), taken)
    return _within(sorted(own.values(), key=lambda one: one.order))


def _since(views: Sequence[LifetimeView], lifetime_id: str) -> int:
    """Return from when on there may be records of a lifetime, by the log's clock."""
    started = (view.started_at for view in views if view.lifetime_id == lifetime_id)
    return max((millis(when) - CLOCK_SLACK_MS for when in started), default=0)


def _within(history: list[Happening]) -> list[Happening]:
    """Leave out what concerned the whole graph or tenant before the lifetime began or after it had ended."""
    own = [one.order for one in history if one.lifetime_id]
    has_ended = any(
        one.view and not one.depth and status_word(one.view.status) in TERMINAL for one in history
    )
    last = own[-1] if own and has_ended else (sys.maxsize, 0, 0)
    return [one for one in history if one.lifetime_id or (own and own[0] < one.order < last)]


def _view(record: LogRecord, tenant: str) -> LifetimeView | None:
    try:
        view = decode(record, LifetimeView)
    except BadRecord:
        return None
    return view if view.tenant_id == tenant else None


def _hidden_by(known: LifetimeView | None, view: LifetimeView) -> bool:
    """Whether a known view hides a later record: a repeat of an earlier moment says nothing new."""
    return known is not None and place_of(view) < place_of(known)
