"""Imports: an embedded log becomes what the archived one was; what cannot be kept is refused or said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from headgate_graphs.errors import DeliveryFailed, LogTruncated, UserError
from headgate_streams.archive import importing
from headgate_streams.archive.importing import Import
from headgate_streams.local_log import LocalLog
from headgate_streams.port import LogRecord, TopicPartition
from headgate_streams.ranges import read_range
from headgate_streams.topics import Topics
from tests.unit.streams.archive.conftest import Yard, everything


@pytest.fixture
def empty() -> Iterator[LocalLog]:
    log = LocalLog(":memory:")
    yield log
    log.close()


def brought_back(yard: Yard, log: LocalLog) -> importing.Imported:
    return Import(yard.read(), log, yard.topics).run()


def test_an_embedded_log_becomes_what_the_archived_one_was(yard: Yard, empty: LocalLog) -> None:
    yard.fill(50)
    yard.fill(9, yard.topics.task_inputs("gpu_a"))
    yard.commit(yard.topics.gate_group, yard.topics.executions, 3)
    yard.export()
    done = brought_back(yard, empty)
    assert (done.records, done.keeps_times, done.renumbered, done.left_out) == (59, True, [], [])
    assert everything(empty) == everything(yard.log)
    names = yard.log.topics("")
    assert empty.describe(names) == yard.log.describe(names)
    place = TopicPartition(yard.topics.executions, 0)
    committed = [log.consumer(yard.topics.gate_group).committed([place]) for log in (yard.log, empty)]
    assert committed[0] == committed[1]


def test_a_log_that_was_imported_goes_on(yard: Yard, empty: LocalLog) -> None:
    yard.fill(9)
    yard.export()
    brought_back(yard, empty)
    producer = empty.producer()
    landed: list[int] = []
    producer.append(
        yard.topics.executions, 0, key=None, value=b"", on_delivery=lambda one: landed.append(one.offset)
    )
    producer.close()
    assert landed == [3]


def test_a_log_that_is_not_empty_is_refused_and_not_touched(yard: Yard, empty: LocalLog) -> None:
    yard.fill(9)
    yard.export()
    brought_back(yard, empty)
    with pytest.raises(UserError, match="has had 3 records: import into an empty log"):
        brought_back(yard, empty)
    assert everything(empty) == everything(yard.log)


def test_a_log_of_other_topics_is_refused(yard: Yard, empty: LocalLog) -> None:
    yard.export()
    with pytest.raises(UserError, match="the archive is of yard_1, not of other"):
        Import(yard.read(), empty, Topics("other")).run()


def test_other_partition_counts_are_refused(yard: Yard, empty: LocalLog) -> None:
    yard.export()
    empty.create_topics(yard.topics.descriptions(5))
    with pytest.raises(UserError, match="exists with 5 partitions, not 3"):
        brought_back(yard, empty)


def test_a_log_whose_gates_run_is_refused(
    yard: Yard, empty: LocalLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.fill(9)
    yard.commit(yard.topics.gate_group, yard.topics.executions, 3)
    yard.export()
    monkeypatch.setattr(empty, "members", lambda group: 1)
    with pytest.raises(UserError, match=r"yard_1\.gate has members: stop gates"):
        brought_back(yard, empty)


# Gaps --------------------------------------------------------------------------------------------------


@pytest.fixture
def with_gaps(yard: Yard, empty: LocalLog) -> tuple[Yard, dict[TopicPartition, list[LogRecord]]]:
    """An archive of a log that compaction has left 2, 3, 7 and 9 of, behind a beginning at 2."""
    place = TopicPartition(yard.topics.lifetimes, 1)
    kept = [LogRecord(*place, number, 1_000 + number, b"k", b"v%d" % number, ()) for number in (2, 3, 7, 9)]
    yard.log.restore(place, kept, 10)
    yard.export()
    return yard, {place: kept}


def test_gaps_are_archived_and_imported(
    with_gaps: tuple[Yard, dict[TopicPartition, list[LogRecord]]], empty: LocalLog
) -> None:
    yard, kept = with_gaps
    brought_back(yard, empty)
    for log in (yard.log, yard.read(), empty):
        for place, records in kept.items():
            assert log.offsets([place]) == {place: (2, 10)}
            assert list(read_range(log, place, 2, 10)) == records
            for first in range(2, 10):
                rest = [record for record in records if record.offset >= first]
                assert list(read_range(log, place, first, 10)) == rest
            assert [log.offset_at(place, 1_000 + number) for number in range(11)] == [
                *(2, 2, 2, 3, 7, 7, 7, 7, 9, 9, 10)
            ]


def test_what_was_deleted_is_no_gap(yard: Yard) -> None:
    place = TopicPartition(yard.topics.executions, 0)
    yard.fill(30)
    yard.log.delete_before({place: 4})
    reader = yard.log.reader()
    reader.assign({place: 3})
    with pytest.raises(LogTruncated, match="has no record 3 any more"):
        reader.poll(0)


def test_a_partition_may_end_in_a_gap(empty: LocalLog, yard: Yard) -> None:
    place = TopicPartition(yard.topics.executions, 0)
    yard.log.restore(place, [LogRecord(*place, 0, 5, None, b"", ())], 4)
    reader = yard.log.reader()
    reader.assign({place: 0})
    assert [record.offset for record in reader.poll(0)] == [0]
    assert reader.poll(0) == []
    assert yard.log.offset_at(place, 6) == 4


def test_a_taken_offset_is_not_written_over(yard: Yard) -> None:
    yard.fill(30)
    place = TopicPartition(yard.topics.executions, 0)
    with pytest.raises(UserError, match=r"executions\[0\] ends at 10: offset 3 is taken"):
        yard.log.restore(place, [LogRecord(*place, 3, 5, None, b"", ())], 4)
    assert len(everything(yard.log)[place]) == 10


# A log that numbers and dates records itself, as Kafka does ---------------------------------------------


class Numbering:
    """The part of a log that an import uses, over an embedded one."""

    def __init__(self, log: LocalLog) -> None:
        self._log = log

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)


def test_kafka_gets_the_records_and_keeps_their_offsets(yard: Yard, empty: LocalLog) -> None:
    yard.fill(50)
    yard.commit(yard.topics.gate_group, yard.topics.executions, 3)
    yard.export()
    done = Import(yard.read(), Numbering(empty), yard.topics).run()  # type: ignore[arg-type]
    assert (done.keeps_times, done.left_out) == (False, [yard.topics.checkpoints])
    place = TopicPartition(yard.topics.executions, 0)
    expected = [replace(record, timestamp_ms=0) for record in everything(yard.log)[place]]
    assert [replace(record, timestamp_ms=0) for record in everything(empty)[place]] == expected
    position = empty.consumer(yard.topics.gate_group).committed([place])[place]
    assert position is not None
    assert position.offset == 3


def test_compacted_topics_are_renumbered_where_gaps_cannot_be_kept(
    with_gaps: tuple[Yard, dict[TopicPartition, list[LogRecord]]], empty: LocalLog
) -> None:
    yard, kept = with_gaps
    done = Import(yard.read(), Numbering(empty), yard.topics).run()  # type: ignore[arg-type]
    assert done.renumbered == [yard.topics.lifetimes]
    for place, records in kept.items():
        found = everything(empty)[place]
        assert [(one.offset, one.value) for one in found] == list(enumerate(one.value for one in records))


def test_a_gap_in_the_log_itself_is_refused_where_it_cannot_be_kept(yard: Yard, empty: LocalLog) -> None:
    yard.fill(30)
    yard.log.delete_before({TopicPartition(yard.topics.executions, 2): 4})
    yard.export()
    with pytest.raises(UserError, match=r"executions\[2\] has 6 records up to offset 10.*with --local"):
        Import(yard.read(), Numbering(empty), yard.topics).run()  # type: ignore[arg-type]
    assert empty.topics("") == []


def test_a_record_that_lands_elsewhere_ends_the_import(
    yard: Yard, empty: LocalLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.fill(9)
    yard.export()
    log = Numbering(empty)
    monkeypatch.setattr(log, "offsets", lambda places: dict.fromkeys(places, (0, 0)), raising=False)
    empty.create_topics(yard.topics.descriptions(3))
    producer = empty.producer()
    producer.append(yard.topics.executions, 0, key=None, value=b"somebody else's")
    producer.close()
    with pytest.raises(DeliveryFailed, match="record 0 has landed at 1: somebody else"):
        Import(yard.read(), log, yard.topics).run()  # type: ignore[arg-type]
