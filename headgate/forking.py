"""Forks a lifetime: reads its history from the log, makes the graph it will run, and starts it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headgate.client import Client
from headgate.definitions import register_new
from headgate.envelopes import lifetime_start, new_lifetime_id
from headgate.reading import read_to_now
from headgate_graphs.errors import BadRecord, UserError
from headgate_graphs.ids import is_name
from headgate_graphs.loading import graph_from_json
from headgate_graphs.model import AgentGraph
from headgate_guardrails.fold.own_policy import fault_in
from headgate_guardrails.fold.quarantine import HoldNeeded, TenantFault
from headgate_guardrails.folding import surroundings
from headgate_guardrails.policy import Policy
from headgate_protos.v1.common_pb2 import Payload
from headgate_protos.v1.control_pb2 import RaiseBudget
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope, LifetimeStart
from headgate_replay.forking import fork_of, offset_of
from headgate_replay.history import History, watched_engine
from headgate_streams.codec import decode
from headgate_streams.port import TopicPartition
from headgate_streams.topics import partition_for

_VERSIONS = 10**9
"""Patch numbers of the versions 0.0.x that forks register: none of them is ever the newest of its graph."""


@dataclass(frozen=True, slots=True)
class ForkInput:
    """What is forked, and what differs from the origin."""

    tenant: str
    lifetime_id: str
    at: str
    """Offset of the log, execution id, or NODE#VISIT."""
    new_id: str = ""
    """Of the fork; empty makes one."""
    graph: AgentGraph | None = None
    """Another graph or version; None for the origin's."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Values by NODE.PATH within the node's config, such as write.params.model."""
    input: Any = None
    has_input: bool = False
    """Whether `input` takes the place of the origin's."""
    policy: Policy | None = None
    """For the fork alone, in place of the tenant's of its name."""
    budgets: Sequence[RaiseBudget] = ()
    effects_allowed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Forked:
    """A fork that was asked for."""

    lifetime_id: str
    graph_id: str
    graph_version: str
    offset: int
    repeated: int
    """Visits that are taken from the record."""
    spared: int
    """Visits with external effects whose record is taken in place of running them."""
    changes: list[str]


def fork(client: Client, wanted: ForkInput) -> Forked:
    """Ask for a fork; registers a changed graph first. Raises UserError, UnknownTicketKey, LogUnavailable."""
    history = read_history(client, wanted.tenant, wanted.lifetime_id)
    offset = offset_of(history, wanted.at)
    graph = _graph(client, wanted, history)
    made = fork_of(history, offset, graph, wanted.effects_allowed)
    made.budgets.extend(wanted.budgets)
    if wanted.policy is not None:
        made.policy_json = wanted.policy.canonical_json()
        if fault := fault_in(made.policy_json):
            raise UserError(f"policy {wanted.policy.name}: {fault}")
    made.changes.extend(_changes(wanted))
    unknown = [one for one in wanted.effects_allowed if one != "*" and one not in graph.nodes]
    if unknown:
        raise UserError(f"graph {graph.metadata.id} has no task {unknown[0][:64]!a} whose effects to allow")
    register_new(client, graph)
    name, version = graph.metadata.id, graph.metadata.version
    lifetime = wanted.new_id or new_lifetime_id(name)
    envelope = _start(client, wanted, history, lifetime, graph)
    envelope.lifetime_start.fork.CopyFrom(made)
    client.submit(envelope)
    return Forked(lifetime, name, version, offset, len(made.prefix), len(made.stubs), list(made.changes))


def _start(
    client: Client, wanted: ForkInput, history: History, lifetime: str, graph: AgentGraph
) -> ExecutionEnvelope:
    name, version, tenant = graph.metadata.id, graph.metadata.version, wanted.tenant
    if not is_name(lifetime):
        raise UserError(f"{lifetime[:64]!a} is not a lifetime id: 1-128 letters, digits, '.', '_' or '-'")
    if wanted.has_input:
        return client.start_envelope(name, wanted.input, tenant=tenant, version=version, lifetime_id=lifetime)
    # As it was, so that a sealed one keeps its data key, by which all its values are sealed.
    payload = history.start.input if history.start is not None else Payload(json="null")
    return lifetime_start(tenant, lifetime, name, version, payload, client.issued_by)


def read_history(client: Client, tenant: str, lifetime_id: str) -> History:
    """Return what became of each visit of a lifetime, by a fold of its partition from the beginning on."""
    count = client.observer.partitions()
    place = TopicPartition(client.topics.executions, partition_for(tenant, count))
    first, _ = client.log.offsets([place])[place]
    if first > 0:
        raise UserError(
            f"{place.topic}[{place.partition}] begins at offset {first}: a fork needs the log's beginning"
        )
    history = History(tenant, lifetime_id)
    settings = client.settings.model_copy(update={"partitions": count})
    means = surroundings(client.log, client.topics.executions, settings)
    engine = watched_engine(history, place.partition, count, means)
    for record in read_to_now(client.log, [place]):
        try:
            history.take(engine, record)
        except (TenantFault, HoldNeeded):
            raise UserError(f"a quarantine lies in the history of partition {place.partition}") from None
        if history.start is None:
            history.start = _start_in(record, tenant, lifetime_id)
    if history.start is None:
        raise UserError(
            f"no lifetime {lifetime_id[:128]!a} that a client of {tenant} has started: see `headgate list`"
        )
    if not history.graph_key[0]:
        raise UserError(f"lifetime {lifetime_id} was refused, or no gate has begun it: nothing can be forked")
    return history


def _start_in(record: Any, tenant: str, lifetime_id: str) -> LifetimeStart | None:
    try:
        envelope = decode(record, ExecutionEnvelope)
    except BadRecord:
        return None
    is_own = (envelope.tenant_id, envelope.lifetime_id) == (tenant, lifetime_id)
    is_start = envelope.WhichOneof("payload") == "lifetime_start"
    return envelope.lifetime_start if is_own and is_start else None


def _graph(client: Client, wanted: ForkInput, history: History) -> AgentGraph:
    """Return the graph that the fork runs: a registered one, or one under a version of its own."""
    known = {
        (one.graph_id, one.version): one.definition_json for one in client.observer.graphs(wanted.tenant)
    }
    if wanted.graph is None and not wanted.settings:
        return graph_from_json(known[history.graph_key])
    base = wanted.graph.for_tenant(wanted.tenant) if wanted.graph is not None else None
    document = json.loads(base.canonical_json() if base is not None else known[history.graph_key])
    for path, value in wanted.settings.items():
        _set(document, path, value)
    text = json.dumps(document, sort_keys=True)
    number = int(hashlib.sha256(text.encode()).hexdigest(), 16) % _VERSIONS
    document["metadata"]["version"] = f"0.0.{number}"
    return graph_from_json(json.dumps(document))


def _set(document: dict[str, Any], path: str, value: Any) -> None:
    """Set one value of a node's config; raises UserError."""
    nodes = {one["id"]: one for one in (*document.get("tasks", ()), *document.get("plans", ()))}
    names = [name for name in nodes if path.startswith(f"{name}.")]
    if not names:
        raise UserError(f"{path[:160]!a} names no node of the graph: {', '.join(nodes)}")
    name = max(names, key=len)
    *above, last = path.removeprefix(f"{name}.").split(".")
    place = nodes[name].setdefault("config", {})
    for part in above:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise UserError(f"{path[:160]!a}: {part[:64]!a} holds no fields")
    place[last] = value


def _changes(wanted: ForkInput) -> list[str]:
    changes = [f"{path} = {json.dumps(value)}" for path, value in wanted.settings.items()]
    if wanted.graph is not None:
        changes.insert(0, f"graph {wanted.graph.metadata.id} {wanted.graph.metadata.version}")
    if wanted.has_input:
        changes.append("another input")
    if wanted.policy is not None:
        changes.append(f"policy {wanted.policy.name} {wanted.policy.version}")
    changes += [f"{one.policy}.{one.rule}.{one.metric} = {one.value}" for one in wanted.budgets]
    changes += [f"effects of {'every task' if one == '*' else one}" for one in wanted.effects_allowed]
    return changes
