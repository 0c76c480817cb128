"""Typed publishers of envelopes to the executions log. Used by clients, workers and the gate's ticks."""

from __future__ import annotations

import secrets
from itertools import count

from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_protos.v1.plan_pb2 import PlanExecution
from headgate_protos.v1.task_pb2 import TaskExecution
from headgate_streams.codec import encode
from headgate_streams.payloads import BlobManager, set_value
from headgate_streams.port import LogProducer, OnDelivery
from headgate_streams.topics import Topics, partition_for


class ExecutionPublisher:
    """Appends envelopes to their tenant's partition. One thread, the producer's."""

    def __init__(self, producer: LogProducer, topics: Topics, partitions: int) -> None:
        self._producer = producer
        self._topic = topics.executions
        self._partitions = partitions
        self._prefix = secrets.token_hex(8)
        self._numbers = count(1)

    def publish(self, envelope: ExecutionEnvelope, on_delivery: OnDelivery | None = None) -> None:
        """Queue one envelope for its tenant's partition, keyed by tenant; fills an empty envelope_id."""
        self._append(envelope, partition_for(envelope.tenant_id, self._partitions), on_delivery)

    def publish_everywhere(self, envelope: ExecutionEnvelope, on_delivery: OnDelivery | None = None) -> None:
        """Queue one envelope for every partition; what concerns every tenant has tenant "*"."""
        for partition in range(self._partitions):
            self._append(envelope, partition, on_delivery)

    def publish_to(
        self, partition: int, envelope: ExecutionEnvelope, on_delivery: OnDelivery | None = None
    ) -> None:
        """Queue one envelope for a chosen partition, such as a tick."""
        self._append(envelope, partition, on_delivery)

    def _append(self, envelope: ExecutionEnvelope, partition: int, on_delivery: OnDelivery | None) -> None:
        if not envelope.envelope_id:
            envelope.envelope_id = f"{self._prefix}-{next(self._numbers)}"
        tenant = envelope.tenant_id
        value, headers = encode(envelope, tenant)
        self._producer.append(
            self._topic,
            partition,
            key=tenant.encode(),
            value=value,
            headers=headers,
            on_delivery=on_delivery,
        )


class ReferencePublisher(ExecutionPublisher):
    """Publishes results whose large values travel as references."""

    def __init__(self, producer: LogProducer, topics: Topics, partitions: int, blobs: BlobManager) -> None:
        super().__init__(producer, topics, partitions)
        self._blobs = blobs

    def publish_task(
        self, execution: TaskExecution, result_json: str | None, on_delivery: OnDelivery | None = None
    ) -> None:
        """Publish a task's execution with `result_json` as its value, offloaded when it is large.

        Raises what BlobManager.pack raises; nothing is published then.
        """
        if result_json is not None:
            set_value(execution.result, self._blobs.pack(execution.tenant_id, result_json))
        self.publish(
            ExecutionEnvelope(
                tenant_id=execution.tenant_id,
                lifetime_id=execution.headers.lifetime_id,
                task_execution=execution,
            ),
            on_delivery,
        )

    def publish_plan(
        self, execution: PlanExecution, result_json: str | None, on_delivery: OnDelivery | None = None
    ) -> None:
        """As `publish_task`, for a plan's execution."""
        if result_json is not None:
            set_value(execution.result, self._blobs.pack(execution.tenant_id, result_json))
        self.publish(
            ExecutionEnvelope(
                tenant_id=execution.tenant_id,
                lifetime_id=execution.headers.lifetime_id,
                plan_execution=execution,
            ),
            on_delivery,
        )
