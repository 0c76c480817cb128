"""What every log does with records: order, reports, positions, topics."""

from __future__ import annotations

import itertools
import time

import pytest

from headgate_graphs.errors import DeliveryFailed, LogTruncated, UserError
from headgate_streams.port import Delivery, Log, LogReader, LogRecord, TopicDescription, TopicPartition
from tests.contract.conftest import Bench
from tests.support import eventually

HEADERS = (("hg-type", b"Thing"), ("hg-tenant", b"acme"), ("empty", b""))


def read(reader: LogReader, count: int) -> list[LogRecord]:
    records: list[LogRecord] = []

    def enough() -> bool:
        records.extend(reader.poll(0.1))
        return len(records) >= count

    eventually(enough, timeout_s=20)
    return records


def fill(bench: Bench, count: int, partition: int = 0, size: int = 3) -> list[Delivery]:
    deliveries: list[Delivery] = []
    producer = bench.producer()
    for number in range(count):
        producer.append(
            bench.topic,
            partition,
            key=b"acme",
            value=b"%d:" % number + b"x" * size,
            headers=HEADERS,
            on_delivery=deliveries.append,
        )
    producer.flush()
    return deliveries


def test_record_is_read_back_whole(bench: Bench) -> None:
    before_ms = time.time_ns() // 1_000_000
    producer = bench.producer()
    deliveries: list[Delivery] = []
    producer.append(
        bench.topic, 2, key=b"acme", value=b"v\x00", headers=HEADERS, on_delivery=deliveries.append
    )
    producer.append(bench.topic, 2, key=None, value=None, on_delivery=deliveries.append)
    producer.flush()
    reader = bench.reader()
    reader.assign({TopicPartition(bench.topic, 2): 0})
    first, second = read(reader, 2)

    assert (first.topic, first.partition, first.offset) == (bench.topic, 2, 0)
    assert (first.key, first.value, first.headers) == (b"acme", b"v\x00", HEADERS)
    assert (second.key, second.value, second.headers, second.offset) == (None, None, (), 1)
    assert [d.error for d in deliveries] == [None, None]
    assert [(d.partition, d.offset, d.timestamp_ms) for d in deliveries] == [
        (2, r.offset, r.timestamp_ms) for r in (first, second)
    ]
    assert before_ms <= first.timestamp_ms <= time.time_ns() // 1_000_000


def test_partition_keeps_order_and_reports_every_record_once(bench: Bench) -> None:
    deliveries = fill(bench, 3000)
    assert [d.offset for d in deliveries] == list(range(3000))
    reader = bench.reader()
    reader.assign({TopicPartition(bench.topic, 0): 0})
    records = read(reader, 3000)
    assert [r.offset for r in records] == list(range(3000))
    assert records[2999].value == b"2999:xxx"
    assert all(a.timestamp_ms <= b.timestamp_ms for a, b in itertools.pairwise(records))


def test_poll_returns_at_once_when_there_is_something_and_in_time_when_not(bench: Bench) -> None:
    reader = bench.reader()
    reader.assign({TopicPartition(bench.topic, 0): 0})
    assert reader.poll(0.05) == []
    fill(bench, 5)
    began = time.monotonic()
    assert read(reader, 5)
    assert time.monotonic() - began < 8.0
    began = time.monotonic()
    assert reader.poll(0.2) == []
    assert 0.15 < time.monotonic() - began < 2.0


def test_poll_respects_the_most_records(bench: Bench) -> None:
    fill(bench, 25)
    reader = bench.reader()
    reader.assign({TopicPartition(bench.topic, 0): 0})
    sizes = []
    while sum(sizes) < 25:
        sizes.append(len(reader.poll(5.0, max_records=10)))
    assert max(sizes) <= 10
    assert sum(sizes) == 25


def test_reader_begins_where_it_is_told_and_can_be_told_anew(bench: Bench) -> None:
    fill(bench, 10)
    reader = bench.reader()
    reader.assign({TopicPartition(bench.topic, 0): 7})
    assert [r.offset for r in read(reader, 3)] == [7, 8, 9]
    reader.assign({TopicPartition(bench.topic, 0): 2})
    assert [r.offset for r in read(reader, 8)][:2] == [2, 3]


def test_reader_at_the_end_waits_for_the_next_record(bench: Bench) -> None:
    fill(bench, 2)
    reader = bench.reader()
    reader.assign({TopicPartition(bench.topic, 0): 2})
    assert reader.poll(0.1) == []
    fill(bench, 1)
    assert [r.offset for r in read(reader, 1)] == [2]


def test_position_beyond_the_end_is_a_truncated_log(bench: Bench) -> None:
    fill(bench, 2)
    reader = bench.reader()
    reader.assign({TopicPartition(bench.topic, 0): 50})

    def is_refused() -> bool:
        try:
            reader.poll(0.2)
        except LogTruncated:
            return True
        return False

    eventually(is_refused, timeout_s=15)


def test_large_records_arrive_whole(bench: Bench) -> None:
    fill(bench, 6, size=900_000)
    reader = bench.reader()
    reader.assign({TopicPartition(bench.topic, 0): 0})
    assert [len(r.value or b"") for r in read(reader, 6)] == [900_002] * 6


def test_too_large_record_is_reported_and_the_next_one_goes_through(bench: Bench) -> None:
    producer = bench.producer()
    deliveries: list[Delivery] = []
    producer.append(
        bench.topic, 0, key=b"k", value=b"x" * 3_000_000, headers=(), on_delivery=deliveries.append
    )
    producer.append(bench.topic, 0, key=b"k", value=b"ok", headers=(), on_delivery=deliveries.append)
    producer.flush()
    failed = [d for d in deliveries if d.error is not None]
    assert len(deliveries) == 2
    assert [(type(d.error), d.offset, d.timestamp_ms) for d in failed] == [(DeliveryFailed, -1, -1)]


def test_failure_that_nobody_listens_to_is_raised(bench: Bench) -> None:
    producer = bench.producer()
    producer.append(bench.topic, 0, key=b"k", value=b"x" * 3_000_000)
    with pytest.raises(DeliveryFailed, match="things"):
        producer.flush()
    producer.flush()


def test_append_to_a_topic_that_does_not_exist_is_reported(bench: Bench) -> None:
    producer = bench.producer()
    deliveries: list[Delivery] = []
    producer.append(f"{bench.topic}.not", 0, key=b"k", value=b"v", on_delivery=deliveries.append)
    producer.flush()
    assert [type(d.error) for d in deliveries] == [DeliveryFailed]


def test_every_partition_of_a_created_topic_can_be_used_at_once(log: Log, topic_prefix: str) -> None:
    topics = [TopicDescription(f"{topic_prefix}.{number}", 4, {}) for number in range(6)]
    log.create_topics(topics)
    places = [TopicPartition(topic.name, number) for topic in topics for number in range(4)]
    assert log.offsets(places) == dict.fromkeys(places, (0, 0))


def test_topics_are_created_once_and_described(log: Log, topic_prefix: str) -> None:
    compacted = TopicDescription(f"{topic_prefix}.views", 2, {"cleanup.policy": "compact"})
    plain = TopicDescription(f"{topic_prefix}.log", 3, {})
    assert sorted(log.create_topics([compacted, plain])) == [plain.name, compacted.name]
    assert log.create_topics([compacted, plain]) == []
    found = log.describe([plain.name, compacted.name, f"{topic_prefix}.nothing"])
    assert {name: topic.partitions for name, topic in found.items()} == {plain.name: 3, compacted.name: 2}
    assert found[compacted.name].config["cleanup.policy"] == "compact"
    with pytest.raises(UserError, match="exists with 3 partitions, not 4"):
        log.create_topics([plain._replace(partitions=4)])


def test_offsets_and_times(bench: Bench) -> None:
    deliveries = fill(bench, 3)
    partition = TopicPartition(bench.topic, 0)
    other = TopicPartition(bench.topic, 1)
    assert bench.log.offsets([partition, other]) == {partition: (0, 3), other: (0, 0)}
    assert bench.log.offset_at(partition, deliveries[0].timestamp_ms) == 0
    assert bench.log.offset_at(partition, deliveries[-1].timestamp_ms + 60_000) == 3
    assert bench.log.offset_at(other, 0) == 0


def test_offsets_of_a_missing_partition_are_an_error(bench: Bench) -> None:
    with pytest.raises(UserError, match="there is no partition"):
        bench.log.offsets([TopicPartition(bench.topic, 99)])


def test_topics_are_found_by_the_beginning_of_their_names(log: Log, topic_prefix: str) -> None:
    names = [f"{topic_prefix}.b", f"{topic_prefix}.a.1", f"{topic_prefix}x.a"]
    log.create_topics([TopicDescription(name, 1, {}) for name in names])
    assert log.topics(f"{topic_prefix}.") == [f"{topic_prefix}.a.1", f"{topic_prefix}.b"]
    assert log.topics(f"{topic_prefix}.nothing") == []


def test_the_oldest_records_can_be_deleted_and_nothing_else_moves(bench: Bench) -> None:
    fill(bench, 10, partition=1)
    fill(bench, 3, partition=2)
    first, second = TopicPartition(bench.topic, 1), TopicPartition(bench.topic, 2)
    bench.log.delete_before({first: 4, second: 3})
    assert bench.log.offsets([first, second]) == {first: (4, 10), second: (3, 3)}
    bench.log.delete_before({first: 2})
    assert bench.log.offsets([first]) == {first: (4, 10)}
    assert bench.log.offset_at(first, 0) == 4
    fill(bench, 1, partition=2)
    reader = bench.reader()
    reader.assign({first: 4, second: 3})
    found = read(reader, 7)
    assert [r.offset for r in found if r.partition == 1] == list(range(4, 10))
    assert [r.offset for r in found if r.partition == 2] == [3]


def test_a_group_begins_where_what_was_deleted_ended(bench: Bench) -> None:
    fill(bench, 5)
    place = TopicPartition(bench.topic, 0)
    bench.log.delete_before({place: 3})
    consumer = bench.consumer()
    consumer.subscribe([bench.topic])
    found: list[LogRecord] = []

    def enough() -> bool:
        found.extend(consumer.poll(0.1))
        return len(found) >= 2

    eventually(enough, timeout_s=30)
    assert [record.offset for record in found] == [3, 4]


def test_reading_what_was_deleted_is_refused(bench: Bench) -> None:
    fill(bench, 5)
    place = TopicPartition(bench.topic, 0)
    bench.log.delete_before({place: 3})
    reader = bench.reader()
    reader.assign({place: 1})
    with pytest.raises(LogTruncated):
        eventually(lambda: reader.poll(0.1), timeout_s=20)
