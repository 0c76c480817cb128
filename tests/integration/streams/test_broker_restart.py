"""A client of the log that outlives its broker finds everything again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.servers.cache import ServerUnavailable
from deploy.servers.kafka import answers
from headgate_streams.kafka_log import KafkaLog
from headgate_streams.port import TopicDescription, TopicPartition
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
