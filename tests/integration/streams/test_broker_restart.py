"""A client of the log that outlives its broker finds everything again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.servers.cache import ServerUnavailable
from deploy.servers.kafka import answers
from headgate_resilience.chaos.proxy.network import Network
from headgate_streams.kafka_log import KafkaLog
from headgate_streams.port import Committed, TopicDescription, TopicPartition
from tests.conftest import _unavailable
from tests.resilience.brokers import OneBroker
from tests.support import eventually

pytestmark = pytest.mark.kafka
PLACES = [TopicPartition("t", 0), TopicPartition("t", 1)]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[OneBroker]:
    try:
        made = OneBroker(tmp_path / "broker")
    except ServerUnavailable as error:
        _unavailable("Kafka", error)
    yield made
    made.close()


def test_offsets_can_be_read_after_the_leaders_have_a_new_epoch(broker: OneBroker) -> None:
    log = KafkaLog(broker.address)
    log.create_topics([TopicDescription("t", 2, {})])
    producer = log.producer()
    producer.append("t", 0, key=b"k", value=b"v")
    producer.flush()
    before = log.offsets(PLACES)
    broker.stop("the broker", hard=True)
    broker.start("the broker")
    # Another client sees that the leaders are back; the first one has not asked for anything meanwhile.
    eventually(lambda: answers(int(broker.address.rpartition(":")[2])))
    assert eventually(lambda: KafkaLog(broker.address).offsets(PLACES), timeout_s=60) == before
    assert log.offsets(PLACES) == before
    producer.append("t", 1, key=b"k", value=b"v")
    producer.close()
    assert log.offsets(PLACES)[PLACES[1]] == (0, 1)
    log.close()


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network(seed=1)
    yield made
    made.close()


def test_clients_that_were_told_of_a_cluster_without_brokers_find_them_again(
    broker: OneBroker, network: Network
) -> None:
    """librdkafka issue 5301: some of them would never look for a broker again."""
    log = KafkaLog(network.kafka("link", broker.address), {"topic.metadata.refresh.interval.ms": "500"})
    log.create_topics([TopicDescription("t", 2, {})])
    producers = [log.producer() for _ in range(4)]
    for producer in producers:
        producer.append("t", 0, key=b"k", value=b"before")
        producer.flush()
    readers = [log.reader() for _ in range(4)]
    for reader in readers:
        reader.assign({PLACES[0]: 0})
    members = [log.consumer(f"group-{number}") for number in range(4)]
    for member in members:
        member.subscribe(["t"])
    read: list[list[bytes | None]] = [[] for _ in (*readers, *members)]

    def have_read(value: bytes) -> bool:
        for producer in producers:
            producer.poll()
        for values, client in zip(read, (*readers, *members), strict=True):
            values += [record.value for record in client.poll(0.02)]
        return all(value in values for values in read)

    eventually(lambda: have_read(b"before"), timeout_s=30)
    weather = network.weather["link"]
    weather.is_brokerless = True
    eventually(lambda: have_read(b"nothing") or weather.spoiled > 40, timeout_s=60)
    weather.clear()

    late = KafkaLog(broker.address).producer()
    late.append("t", 0, key=b"k", value=b"after")
    late.close()
    eventually(lambda: have_read(b"after"), timeout_s=90)
    end = log.offsets(PLACES)[PLACES[0]][1]
    for member in members:
        eventually(lambda member=member: member.poll(0.1) == [] and member.assignment(), timeout_s=30)
        member.commit({PLACES[0]: Committed(end, "")})
    for producer in producers:
        producer.append("t", 1, key=b"k", value=b"appended")
        producer.flush()
    assert log.offsets(PLACES)[PLACES[1]] == (0, len(producers))
    for client in (*readers, *members, *producers, log):
        client.close()
