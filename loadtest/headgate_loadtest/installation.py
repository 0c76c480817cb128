"""The log under load: its topics, its tenants' graphs and policies, the requests for runs. No processes."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from typing import Self

from google.protobuf.timestamp_pb2 import Timestamp

from headgate_graphs.model import AgentGraph
from headgate_guardrails.policy import Policy
from headgate_loadtest.agent.graph import load_graph, ten_rules
from headgate_loadtest.scenario import Scenario
from headgate_protos.v1.common_pb2 import Payload
from headgate_protos.v1.execution_pb2 import (
    ExecutionEnvelope,
    GraphRegistered,
    LifetimeStart,
    PolicySet,
)
from headgate_streams.opening import open_blob_store, open_log
from headgate_streams.port import LogProducer, OnDelivery, TopicDescription, TopicPartition
from headgate_streams.publisher import ExecutionPublisher
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import Topics

FLUSH_S = 30.0


class Installation:
    """One set of topics, as a load sees it. One thread at a time."""

    def __init__(self, settings: StreamSettings) -> None:
        self.settings = settings
        self.log = open_log(settings)
        self.blobs = open_blob_store(settings)
        self.topics = Topics(settings.topic_prefix)
        self._producer: LogProducer | None = None
        self._known: set[tuple[str, str]] = set()
        self.run_prefix = secrets.token_hex(3)
        """First part of the ids of this load's runs, so that two loads never mean the same."""

    def __enter__(self) -> Self:
        """Nothing is asked of the log yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release producer and log."""
        if self._producer is not None:
            self._producer.close()
        self.log.close()

    def create_topics(self, *, synced: bool = False) -> None:
        """Make the topics that are missing; `synced` lets the broker write each batch to the disk at once."""
        extra = {"flush.messages": "1"} if synced else {}
        described = self.topics.descriptions(self.settings.partitions)
        self.log.create_topics(
            [TopicDescription(t.name, t.partitions, {**t.config, **extra}) for t in described]
        )

    def publisher(self) -> ExecutionPublisher:
        """Return a publisher on this installation's own producer."""
        return ExecutionPublisher(self.producer(), self.topics, self.settings.partitions)

    def producer(self) -> LogProducer:
        """Return the producer, opened at the first use."""
        if self._producer is None:
            self._producer = self.log.producer()
        return self._producer

    def prepare(self, scenario: Scenario, tenants: Sequence[str]) -> str:
        """Register the scenario's graph for each tenant, and ten rules; return the graph's id."""
        publisher = self.publisher()
        graph = load_graph(scenario, tenants[0])
        for tenant in tenants:
            if (tenant, graph.metadata.id) not in self._known:
                self._known.add((tenant, graph.metadata.id))
                publisher.publish(registration(graph.for_tenant(tenant)))
            if scenario.policies and (tenant, "") not in self._known:
                self._known.add((tenant, ""))
                publisher.publish(policy_set(ten_rules(), tenant))
        self.producer().flush(FLUSH_S)
        return graph.metadata.id

    def partitions_of(self, topic: str) -> list[TopicPartition]:
        """Return the partitions of one of this installation's topics."""
        return [TopicPartition(topic, number) for number in range(self.settings.partitions)]

    def ends(self, topic: str) -> dict[TopicPartition, int]:
        """Return the end offset of each partition of a topic."""
        return {where: end for where, (_, end) in self.log.offsets(self.partitions_of(topic)).items()}


def tenant_names(scenario: Scenario) -> list[str]:
    """Return the tenants of a scenario; the first is the noisy one, if there is one."""
    return [f"load-{number:04d}" for number in range(scenario.tenants.count)]


def start_of(tenant: str, lifetime_id: str, graph_id: str) -> ExecutionEnvelope:
    """Return the request for one run."""
    start = LifetimeStart(
        graph_id=graph_id, graph_version="1.0.0", input=Payload(json="{}"), issued_by="load"
    )
    now = Timestamp()
    now.FromNanoseconds(time.time_ns())
    start.issued_at.CopyFrom(now)
    return ExecutionEnvelope(tenant_id=tenant, lifetime_id=lifetime_id, lifetime_start=start)


def registration(graph: AgentGraph) -> ExecutionEnvelope:
    """Return the record that registers a graph."""
    text = graph.canonical_json()
    made = GraphRegistered(graph_id=graph.metadata.id, version=graph.metadata.version, definition_json=text)
    made.sha256 = hashlib.sha256(text.encode()).hexdigest()
    return ExecutionEnvelope(tenant_id=graph.tenant_id, graph_registered=made)


def policy_set(policy: Policy, tenant: str) -> ExecutionEnvelope:
    """Return the record that puts a policy in force."""
    text = policy.canonical_json()
    made = PolicySet(name=policy.name, version=policy.version, document_json=text)
    made.sha256 = hashlib.sha256(text.encode()).hexdigest()
    return ExecutionEnvelope(tenant_id=tenant, policy_set=made)


__all__ = ["Installation", "OnDelivery", "policy_set", "registration", "start_of", "tenant_names"]
