"""The fixtures give servers that really keep what they are given."""

from __future__ import annotations

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.real_servers import S3Server
from tests.support import eventually


def test_kafka_gives_back_what_was_produced(kafka_bootstrap: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}.echo"
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    admin.create_topics([NewTopic(topic, num_partitions=1)])[topic].result(timeout=15)
    producer = Producer({"bootstrap.servers": kafka_bootstrap, "acks": "all", "enable.idempotence": True})
    producer.produce(topic, key=b"tenant", value=b"hello", partition=0)
    assert producer.flush(15) == 0

    consumer = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": topic_prefix})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        record = eventually(lambda: consumer.poll(0.2), timeout_s=15)
        assert (record.key(), record.value()) == (b"tenant", b"hello")
    finally:
        consumer.close()


def test_kafka_serves_the_new_group_protocol(kafka_bootstrap: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}.echo"
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    admin.create_topics([NewTopic(topic, num_partitions=2)])[topic].result(timeout=15)
    consumer = Consumer(
        {"bootstrap.servers": kafka_bootstrap, "group.id": topic_prefix, "group.protocol": "consumer"}
    )
    try:
        consumer.subscribe([topic])
        eventually(lambda: consumer.poll(0.1) or len(consumer.assignment()) == 2, timeout_s=20)
    finally:
        consumer.close()


def test_minio_gives_back_what_was_put(minio: S3Server) -> None:
    bucket = minio.bucket()
    client = minio.client()
    client.put_object(Bucket=bucket, Key="a/b", Body=b"hello")
    body = client.get_object(Bucket=bucket, Key="a/b")["Body"]
    assert body.read() == b"hello"
    body.close()
    client.close()
