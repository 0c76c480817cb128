"""What the embedded log does beyond the suite that it shares with Kafka: faults of its file, many threads."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from headgate_graphs.errors import LogUnavailable, PartitionLost, UserError
from headgate_streams.local.database import pack_headers, unpack_headers
from headgate_streams.local_log import LocalLog
from headgate_streams.port import Committed, Delivery, TopicDescription, TopicPartition
from tests.support import eventually

FIRST = TopicPartition("things", 0)


def opened(path: Path | str, partitions: int = 4) -> LocalLog:
    log = LocalLog(path)
    log.create_topics([TopicDescription("things", partitions, {})])
    return log


def values(log: LocalLog, partition: TopicPartition = FIRST) -> list[bytes | None]:
    reader = log.reader()
    reader.assign({partition: 0})
    found: list[bytes | None] = []
    while records := reader.poll(0):
        found += [record.value for record in records]
    reader.close()
    return found


def test_log_is_there_after_it_was_closed(tmp_path: Path) -> None:
    log = opened(tmp_path / "log.sqlite3")
    producer = log.producer()
    producer.append("things", 0, key=b"k", value=b"v", headers=(("a", b"1"),))
    producer.close()
    consumer = log.consumer("group")
    consumer.subscribe(["things"])
    eventually(lambda: consumer.poll(0.01) and consumer.assignment())
    consumer.commit({FIRST: Committed(1, "kept")})
    consumer.close()
    log.close()

    again = LocalLog(tmp_path / "log.sqlite3")
    assert values(again) == [b"v"]
    assert again.consumer("group").committed([FIRST]) == {FIRST: Committed(1, "kept")}
    assert again.offsets([FIRST]) == {FIRST: (0, 1)}
    again.close()


def test_full_disk_keeps_the_queue_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    log = opened(tmp_path / "log.sqlite3")
    connection = log._database.writing
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    producer = log.producer()
    deliveries: list[Delivery] = []
    connection.execute(f"PRAGMA max_page_count = {pages}")
    for number in range(3):
        producer.append(
            "things", 0, key=None, value=b"%d" % number + b"x" * 20_000, on_delivery=deliveries.append
        )
    for _ in range(2):
        with pytest.raises(LogUnavailable, match="full"):
            producer.poll()
    assert deliveries == []
    assert values(log) == []
    connection.execute("PRAGMA max_page_count = 1000000")
    assert producer.poll() == 3
    assert [d.offset for d in deliveries] == [0, 1, 2]
    assert [(v or b"")[:1] for v in values(log)] == [b"0", b"1", b"2"]
    log.close()


def test_file_that_is_no_database_is_said_to_be_unavailable(tmp_path: Path) -> None:
    (tmp_path / "log.sqlite3").write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(LogUnavailable, match="cannot open the log"):
        LocalLog(tmp_path / "log.sqlite3")
    (tmp_path / "file").write_text("")
    with pytest.raises(LogUnavailable, match="cannot open the log"):
        LocalLog(tmp_path / "file" / "log.sqlite3")


def test_newer_format_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "log.sqlite3")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(UserError, match="newer headgate"):
        LocalLog(tmp_path / "log.sqlite3")


def test_closed_log_answers_with_an_error(tmp_path: Path) -> None:
    log = opened(tmp_path / "log.sqlite3")
    producer = log.producer()
    log.close()
    producer.append("things", 0, key=None, value=b"v")
    with pytest.raises(LogUnavailable):
        producer.flush()


def test_threads_that_write_at_once_keep_their_order_and_lose_nothing(tmp_path: Path) -> None:
    log = opened(tmp_path / "log.sqlite3", 2)
    deliveries: dict[int, list[Delivery]] = {number: [] for number in range(6)}

    def write(number: int) -> None:
        producer = log.producer()
        for count in range(60):
            producer.append(
                "things",
                number % 2,
                key=None,
                value=b"%d:%d" % (number, count),
                on_delivery=deliveries[number].append,
            )
            if count % 7 == 0:
                producer.flush()
        producer.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in deliveries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for partition in (0, 1):
        found = values(log, TopicPartition("things", partition))
        assert len(found) == 180
        for number in range(partition, 6, 2):
            mine = [value for value in found if value is not None and value.startswith(b"%d:" % number)]
            assert mine == [b"%d:%d" % (number, count) for count in range(60)]
            assert [found[d.offset] for d in deliveries[number]] == mine
    log.close()


def test_old_records_are_read_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate_streams.local.writer.TAIL_RECORDS", 5)
    log = opened(tmp_path / "log.sqlite3")
    producer = log.producer()
    for number in range(20):
        producer.append("things", number % 2, key=None, value=b"%d" % number)
    producer.close()
    assert values(log) == [b"%d" % number for number in range(0, 20, 2)]
    assert len(log._writer.tail) == 5
    log.close()


def test_two_logs_on_one_file_see_each_other(tmp_path: Path) -> None:
    """Two instances stand for two processes: they share nothing but the file."""
    one, two = opened(tmp_path / "log.sqlite3"), opened(tmp_path / "log.sqlite3")
    reader = two.reader()
    reader.assign({FIRST: 0})
    assert reader.poll(0.01) == []
    for count in range(3):
        for log in (one, two):
            producer = log.producer()
            producer.append("things", 0, key=None, value=b"%d" % count)
            producer.close()
    found: list[int] = []
    eventually(lambda: found.extend(r.offset for r in reader.poll(0.05)) or len(found) == 6)
    assert found == list(range(6))
    eventually(lambda: values(one) == values(two) == [b"0", b"0", b"1", b"1", b"2", b"2"])
    assert one.offsets([FIRST]) == {FIRST: (0, 6)}
    one.create_topics([TopicDescription("later", 1, {})])
    two.producer().append("later", 0, key=None, value=b"v")
    with pytest.raises(UserError, match="exists with 4 partitions"):
        two.create_topics([TopicDescription("things", 5, {})])
    one.close()
    two.close()


def test_group_spans_logs_on_one_file(tmp_path: Path) -> None:
    one, two = opened(tmp_path / "log.sqlite3"), opened(tmp_path / "log.sqlite3")
    first, second = one.consumer("group"), two.consumer("group")
    first.subscribe(["things"])
    eventually(lambda: first.poll(0.01) or len(first.assignment()) == 4)
    second.subscribe(["things"])

    def shared() -> bool:
        first.poll(0.01)
        second.poll(0.01)
        return len(first.assignment()) == len(second.assignment()) == 2

    eventually(shared)
    assert first.assignment().isdisjoint(second.assignment())
    first.commit({min(first.assignment()): Committed(0, "")})
    with pytest.raises(PartitionLost):
        second.commit({min(first.assignment()): Committed(0, "")})
    for consumer in (first, second):
        consumer.close()
    one.close()
    two.close()


@pytest.mark.parametrize("members", [1, 2, 3, 5, 7])
def test_any_number_of_members_converges_on_equal_shares(members: int) -> None:
    log = opened(":memory:", 16)
    log.create_topics([TopicDescription("single", 1, {})])
    consumers = [log.consumer("group") for _ in range(members)]

    def converged() -> bool:
        for consumer in consumers:
            consumer.poll(0)
        shares = [sum(tp.topic == "things" for tp in consumer.assignment()) for consumer in consumers]
        everything = [tp for consumer in consumers for tp in consumer.assignment()]
        assert len(everything) == len(set(everything))
        return len(everything) == 17 and max(shares) - min(shares) <= 1

    for consumer in consumers:
        consumer.subscribe(["things", "single"])
        consumer.poll(0)
    eventually(converged, interval_s=0)
    for consumer in consumers[1:]:
        consumer.close()
    eventually(lambda: consumers[0].poll(0) or len(consumers[0].assignment()) == 17, interval_s=0)
    consumers[0].close()
    log.close()


def test_headers_survive_packing() -> None:
    for headers in ((), (("a", b""),), (("ü" * 300, b"\x00\xff" * 70_000), ("b", b"2"))):
        assert unpack_headers(pack_headers(headers)) == headers
