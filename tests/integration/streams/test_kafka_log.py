"""What the Kafka adapter does when the cluster is not well; the shared suite has the rest."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import AdminClient

from deploy.servers import kafka
from deploy.servers.processes import Running, stop
from headgate_graphs.errors import LogTruncated, LogUnavailable, PartitionLost, UserError
from headgate_streams.kafka_log import KafkaLog
from headgate_streams.port import Committed, Delivery, LogConsumer, TopicDescription, TopicPartition
from tests.support import eventually, free_port

NOBODY = "127.0.0.1:1"


def caught(consumer: LogConsumer, error: type[Exception]) -> bool:
    try:
        consumer.poll(0.2)
    except error:
        return True
    return False


@pytest.mark.parametrize("call", ["create", "subscribe", "offsets"])
def test_broker_that_cannot_be_reached_is_said_in_one_line_in_time(call: str) -> None:
    log = KafkaLog(NOBODY)
    began = time.monotonic()
    consumer = log.consumer("g")
    calls: dict[str, Callable[[], object]] = {
        "create": lambda: log.create_topics([TopicDescription("t", 1, {})]),
        "offsets": lambda: log.offsets([TopicPartition("t", 0)]),
        "subscribe": lambda: consumer.subscribe(["t"]),
    }
    with pytest.raises(LogUnavailable) as error:
        calls[call]()
    assert time.monotonic() - began < 12.0
    consumer.close()
    assert NOBODY in str(error.value)
    assert "\n" not in str(error.value)
    log.close()


def test_client_writes_nothing_to_stderr_by_itself() -> None:
    script = (
        "from headgate_streams.kafka_log import KafkaLog\n"
        f"p = KafkaLog('{NOBODY}').producer()\n"
        "p.append('t', 0, key=None, value=b'v')\n"
        "try: p.flush(1.5)\n"
        "except Exception as error: print(type(error).__name__)\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout.strip(), done.stderr) == ("LogUnavailable", "")


def test_clients_lines_reach_logging_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate_streams.kafka.clients._said", {})
    with caplog.at_level(logging.DEBUG, logger="headgate.kafka"):
        producer = KafkaLog(NOBODY).producer()
        producer.append("t", 0, key=None, value=b"v")
        eventually(lambda: producer.poll(0.1) or "Connect to ipv4" in caplog.text)
        with pytest.raises(LogUnavailable):
            producer.flush(2.0)
    assert len([r for r in caplog.records if "in state CONNECT" in r.getMessage()]) <= 2


def test_position_before_the_beginning_is_a_truncated_log(kafka_bootstrap: str, topic_prefix: str) -> None:
    log = KafkaLog(kafka_bootstrap)
    topic = f"{topic_prefix}.log"
    first = TopicPartition(topic, 0)
    log.create_topics([TopicDescription(topic, 1, {})])
    producer = log.producer()
    for number in range(10):
        producer.append(topic, 0, key=None, value=b"%d" % number)
    producer.close()
    consumer = log.consumer(topic_prefix)
    consumer.subscribe([topic])
    eventually(lambda: consumer.poll(0.1))
    consumer.commit({first: Committed(3, "")})
    consumer.close()
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    admin.delete_records([ClientPartition(topic, 0, 6)])[ClientPartition(topic, 0, 6)].result(10)

    heir = log.consumer(topic_prefix)
    heir.subscribe([topic])
    eventually(lambda: caught(heir, LogTruncated), timeout_s=20)
    heir.close()
    assert log.offsets([first]) == {first: (6, 10)}
    fresh = log.consumer(f"{topic_prefix}.fresh")
    fresh.subscribe([topic])
    assert [r.offset for r in eventually(lambda: fresh.poll(0.1), timeout_s=20)] == [6, 7, 8, 9]
    fresh.close()
    log.close()


def test_full_queue_is_served_until_there_is_room(kafka_bootstrap: str, topic_prefix: str) -> None:
    log = KafkaLog(kafka_bootstrap, {"queue.buffering.max.messages": "50"})
    log.create_topics([TopicDescription(topic_prefix, 1, {})])
    producer = log.producer()
    deliveries: list[Delivery] = []
    for number in range(500):
        producer.append(topic_prefix, 0, key=None, value=b"%d" % number, on_delivery=deliveries.append)
    producer.close()
    assert [(d.error, d.offset) for d in deliveries] == [(None, number) for number in range(500)]
    log.close()


def test_full_queue_of_a_broker_that_is_away_is_unavailable() -> None:
    producer = KafkaLog(NOBODY, {"queue.buffering.max.messages": "2"}).producer()
    producer.append("t", 0, key=None, value=b"v")
    producer.append("t", 0, key=None, value=b"v")
    began = time.monotonic()
    with pytest.raises(LogUnavailable, match="room"):
        producer.append("t", 0, key=None, value=b"v")
    assert time.monotonic() - began < 15.0


def test_wrong_option_is_the_users_error() -> None:
    log = KafkaLog(NOBODY, {"no.such.option": "1"})
    for make in (log.producer, lambda: log.consumer("g"), log.reader, lambda: log.describe(["t"])):
        with pytest.raises(UserError, match=r"no\.such\.option"):
            make()


@pytest.fixture
def own_broker(kafka_bootstrap: str, tmp_path: Path) -> Iterator[Running]:
    """A broker that a test may stop; `kafka_bootstrap` has seen to it that one can be run."""
    running = kafka.run(tmp_path / "kafka", free_port())
    yield running
    with contextlib.suppress(ProcessLookupError):
        os.kill(running.pid, signal.SIGCONT)
    stop(running, grace_s=0)


def test_hung_broker_makes_a_commit_unavailable_and_is_got_over(own_broker: Running) -> None:
    log = KafkaLog(own_broker.address)
    log.create_topics([TopicDescription("things", 1, {})])
    first = TopicPartition("things", 0)
    producer = log.producer()
    producer.append("things", 0, key=None, value=b"1")
    producer.flush()
    consumer = log.consumer("group")
    consumer.subscribe(["things"])
    eventually(lambda: consumer.poll(0.1), timeout_s=20)

    os.kill(own_broker.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(LogUnavailable, match="did not answer"):
        consumer.commit({first: Committed(1, "")})
    assert time.monotonic() - began < 12.0
    assert consumer.poll(0.1) == []
    os.kill(own_broker.pid, signal.SIGCONT)

    producer.append("things", 0, key=None, value=b"2")
    producer.flush()
    offsets: list[int] = []

    def is_committed() -> bool:
        offsets.extend(r.offset for r in consumer.poll(0.1))
        if 1 not in offsets:
            # A commit of what was not read may be taken before the session's end is noticed: then it would
            # join again behind the record that is waited for.
            return False
        try:
            consumer.commit({first: Committed(2, "")})
        except (PartitionLost, LogUnavailable):  # its session ran out meanwhile, or the broker is not back
            return False
        return True

    eventually(is_committed, timeout_s=30)
    assert consumer.committed([first]) == {first: Committed(2, "")}
    for opened in (consumer, producer, log):
        opened.close()


def test_restarted_broker_is_got_over_with_nothing_acknowledged_lost(
    own_broker: Running, tmp_path: Path
) -> None:
    log = KafkaLog(own_broker.address)
    log.create_topics([TopicDescription("things", 1, {})])
    producer = log.producer()
    deliveries: list[Delivery] = []
    reader = log.reader()
    reader.assign({TopicPartition("things", 0): 0})
    for number in range(100):
        producer.append("things", 0, key=None, value=b"%d" % number, on_delivery=deliveries.append)
        if number == 50:
            producer.flush()
            stop(own_broker, grace_s=0)
    port = int(own_broker.address.rpartition(":")[2])
    again = kafka.run(tmp_path / "kafka", port)
    try:
        producer.flush(60)
        assert [d.error for d in deliveries] == [None] * 100
        values: list[bytes | None] = []

        def all_read() -> bool:
            values.extend(r.value for r in reader.poll(0.2))
            return len(values) >= 100

        eventually(all_read, timeout_s=30)
        assert values == [b"%d" % number for number in range(100)]
        for opened in (reader, producer, log):
            opened.close()
    finally:
        stop(again, grace_s=0)
