"""A producer whose broker takes its time waits, and keeps the order."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from headgate_resilience.chaos.proxy.network import Network
from headgate_streams.kafka_log import KafkaLog
from headgate_streams.port import Delivery, TopicDescription

DELAY_S = 0.1
PARTITIONS = 2


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network(seed=1)
    yield made
    made.close()


def test_producer_takes_no_processor_while_the_broker_is_slow(
    kafka_bootstrap: str, topic_prefix: str, network: Network
) -> None:
    """The client alone would ask its queues again and again until the answer comes."""
    log, topic = KafkaLog(network.kafka("link", kafka_bootstrap)), f"{topic_prefix}.log"
    log.create_topics([TopicDescription(topic, PARTITIONS, {})])
    producer = log.producer(gather_ms=5)
    deliveries: list[Delivery] = []
    for partition in range(PARTITIONS):
        producer.append(topic, partition, key=None, value=b"first", on_delivery=deliveries.append)
    producer.flush()
    network.weather["link"].delay_s = DELAY_S
    began_s, began_cpu_s, count = time.monotonic(), time.process_time(), 0
    while time.monotonic() - began_s < 20 * DELAY_S:
        for _ in range(10):
            producer.append(topic, count % PARTITIONS, key=None, value=b"v", on_delivery=deliveries.append)
            count += 1
        producer.push(0.001)
        time.sleep(0.005)
    busy = (time.process_time() - began_cpu_s) / (time.monotonic() - began_s)
    network.weather["link"].clear()
    producer.close()
    for partition in range(PARTITIONS):
        offsets = [delivery.offset for delivery in deliveries if delivery.partition == partition]
        assert offsets == list(range(1 + count // PARTITIONS))
    assert busy < 0.5
    log.close()
