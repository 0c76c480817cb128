"""Begins one run: registers the graph, puts policies in force, asks for the lifetime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headgate.client import Client
from headgate.definitions import apply_new, policies_in_force, register_new
from headgate.envelopes import new_lifetime_id
from headgate.following import Happening, follow, starting_points
from headgate.handlers import queues_of
from headgate.words import millis
from headgate_graphs.errors import UserError
from headgate_graphs.ids import is_name
from headgate_graphs.model import AgentGraph
from headgate_guardrails.policy import Policy
from headgate_protos.v1.execution_pb2 import LifetimeView
from headgate_streams.port import TopicPartition
from headgate_streams.topics import partition_for

HISTORY_SLACK_MS = 60_000
"""How much earlier than a lifetime's start its records are looked for."""


@dataclass(frozen=True, slots=True)
class Run:
    """A lifetime that was asked for, and where to begin to follow it."""

    tenant: str
    lifetime_id: str
    offset: int
    """Where the request stands in the log; a view made from an earlier record may be out of date."""
    since: Mapping[TopicPartition, int]
    policies: tuple[Policy, ...]
    """Every policy in force for the tenant."""
    known_before: bool
    """Whether the lifetime had begun earlier, so that this run goes on with it."""

    def follow(
        self, client: Client, timeout_s: float | None, *, below: bool = False
    ) -> Iterator[Happening | None]:
        """Yield what happens to the lifetime, from its beginning; None regularly while nothing does.

        With `below`, what happens to its sub-graphs too.
        """
        where = (client.log, client.topics, self.tenant, self.lifetime_id)
        return follow(*where, since=self.since, timeout_s=timeout_s, below=below)


def begin(
    client: Client,
    graph: AgentGraph,
    input: Any,
    *,
    policies: Sequence[Policy] = (),
    lifetime_id: str | None = None,
    priority: int = 0,
) -> Run:
    """Register `graph` for its tenant, apply `policies` to it, and ask for one lifetime.

    An id that is known already goes on with that lifetime. Raises UserError when it is another graph's, when
    the graph's version is registered with other content, when a gate refuses the graph or a policy, or when
    the input is not JSON.
    """
    tenant = graph.tenant_id
    lifetime = lifetime_id or new_lifetime_id(graph.metadata.id)
    if not is_name(lifetime):
        raise UserError(f"{lifetime[:64]!a} is not a lifetime id: 1-128 letters, digits, '.', '_' or '-'")
    known = client.lifetime(tenant, lifetime) if lifetime_id is not None else None
    _check_same_graph(known, graph)
    since = starting_points(
        client.log,
        client.topics,
        tenant,
        queues_of(graph),
        max(0, millis(known.started_at) - HISTORY_SLACK_MS) if known is not None else None,
    )
    _define(client, graph, policies)
    request = client.start_envelope(
        graph.metadata.id,
        input,
        tenant=tenant,
        version=graph.metadata.version,
        lifetime_id=lifetime,
        priority=priority,
    )
    offset = client.submit(request).offset
    in_force = tuple(policies_in_force(client, tenant))
    return Run(tenant, lifetime, offset, since, in_force, known is not None)


def _define(client: Client, graph: AgentGraph, policies: Sequence[Policy]) -> None:
    """Register the graph and apply the policies; nothing is run without a policy that a gate has refused."""
    tenant, name = graph.tenant_id, f"graph {graph.metadata.id} {graph.metadata.version}"
    sent = {name: register_new(client, graph)}
    sent |= {f"policy {one.name} v{one.version}": apply_new(client, one, tenant) for one in policies}
    new = {what: delivery for what, delivery in sent.items() if delivery is not None}
    if new:
        for what, answer in zip(new, client.answers(tenant, list(new.values())), strict=True):
            answer.accepted(what)


def gate_has_passed(client: Client, run: Run) -> bool:
    """Whether a gate has committed beyond the run's request, so that the views are up to date with it."""
    where = TopicPartition(client.topics.executions, partition_for(run.tenant, client.observer.partitions()))
    consumer = client.log.consumer(client.topics.gate_group)
    try:
        committed = consumer.committed([where]).get(where)
    finally:
        consumer.close()
    return committed is not None and committed.offset > run.offset


def _check_same_graph(known: LifetimeView | None, graph: AgentGraph) -> None:
    if known is not None and known.graph_id and known.graph_id != graph.metadata.id:
        raise UserError(
            f"lifetime {known.lifetime_id} runs graph {known.graph_id}, not {graph.metadata.id}: "
            "leave out --lifetime to begin another one"
        )
