from __future__ import annotations

from collections.abc import Iterator

import pytest

from headgate_protos.v1.common_pb2 import ExecutionHeaders
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope, LifetimeStart, Tick
from headgate_protos.v1.plan_pb2 import PlanExecution
from headgate_protos.v1.task_pb2 import TaskExecution
from headgate_streams.blobs import MemoryBlobStore
from headgate_streams.codec import decode
from headgate_streams.local_log import LocalLog
from headgate_streams.payloads import BlobManager, payload_of
from headgate_streams.port import LogProducer, TopicPartition
from headgate_streams.publisher import ExecutionPublisher, ReferencePublisher
from headgate_streams.topics import Topics, partition_for

TOPICS = Topics()
IDENTITY = ExecutionHeaders(execution_id="e", lifetime_id="life", node_kind=1, status=3)


@pytest.fixture
def log() -> Iterator[LocalLog]:
    log = LocalLog(":memory:")
    log.create_topics(TOPICS.descriptions(4))
    yield log
    log.close()


def written(log: LocalLog, producer: LogProducer) -> list[tuple[int, ExecutionEnvelope]]:
    producer.flush()
    reader = log.reader()
    reader.assign({TopicPartition(TOPICS.executions, number): 0 for number in range(4)})
    return [(record.partition, decode(record, ExecutionEnvelope)) for record in reader.poll(0)]


def test_envelope_goes_to_its_tenants_partition_with_an_id_of_its_own(log: LocalLog) -> None:
    producer = log.producer()
    publisher = ExecutionPublisher(producer, TOPICS, 4)
    for tenant in ("acme", "globex", "acme"):
        publisher.publish(
            ExecutionEnvelope(
                tenant_id=tenant, lifetime_id="life", lifetime_start=LifetimeStart(graph_id="g")
            )
        )
    found = written(log, producer)
    assert sorted((p, e.tenant_id) for p, e in found) == sorted(
        (partition_for(tenant, 4), tenant) for tenant in ("acme", "globex", "acme")
    )
    assert len({e.envelope_id for _, e in found} - {""}) == 3


def test_given_envelope_id_is_kept(log: LocalLog) -> None:
    producer = log.producer()
    envelope = ExecutionEnvelope(envelope_id="mine", tenant_id="acme", lifetime_start=LifetimeStart())
    ExecutionPublisher(producer, TOPICS, 4).publish(envelope)
    assert [e.envelope_id for _, e in written(log, producer)] == ["mine"]


def test_everywhere_is_every_partition_once(log: LocalLog) -> None:
    producer = log.producer()
    ExecutionPublisher(producer, TOPICS, 4).publish_everywhere(ExecutionEnvelope(tenant_id="*", tick=Tick()))
    assert sorted(p for p, _ in written(log, producer)) == [0, 1, 2, 3]


def test_large_results_travel_as_references(log: LocalLog) -> None:
    producer = log.producer()
    blobs = BlobManager(MemoryBlobStore(), inline_limit_bytes=10, max_blob_bytes=1000)
    publisher = ReferencePublisher(producer, TOPICS, 4, blobs)
    publisher.publish_task(TaskExecution(tenant_id="acme", headers=IDENTITY), '"short"')
    publisher.publish_task(TaskExecution(tenant_id="acme", headers=IDENTITY), '"much too long"')
    publisher.publish_plan(PlanExecution(tenant_id="acme", headers=IDENTITY), None)
    short, long, none = (envelope for _, envelope in written(log, producer))
    assert short.task_execution.result.json_result == '"short"'
    assert blobs.unpack("acme", payload_of(long.task_execution.result)) == '"much too long"'
    assert long.task_execution.result.blob_reference.size_bytes == 15
    assert none.plan_execution.result.WhichOneof("value") is None
    assert {e.lifetime_id for e in (short, long, none)} == {"life"}
