"""Partitions take turns in the gate: a backlog in one delays the others by a share of a batch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate_guardrails.queues import PartitionQueues
from headgate_streams.port import LogRecord


def records(partition: int, count: int, first: int = 0) -> list[LogRecord]:
    return [LogRecord("log", partition, first + n, 0, None, b"", ()) for n in range(count)]


def places(taken: list[LogRecord]) -> list[tuple[int, int]]:
    return [(record.partition, record.offset) for record in taken]


def test_a_few_records_behind_a_backlog_of_another_partition_are_in_the_next_batch() -> None:
    queues = PartitionQueues()
    queues.add(records(0, 1_000) + records(1, 3))
    taken = queues.take(100)
    assert places(taken)[:3] == [(1, 0), (1, 1), (1, 2)]
    assert places(taken)[3:] == [(0, n) for n in range(97)]
    assert len(queues) == 903


def test_full_partitions_get_equal_shares() -> None:
    queues = PartitionQueues()
    queues.add(records(0, 500) + records(1, 400) + records(2, 300))
    taken = [record.partition for record in queues.take(90)]
    assert [taken.count(partition) for partition in range(3)] == [30, 30, 30]


def test_no_partition_is_left_out_of_a_batch_that_is_smaller_than_their_number() -> None:
    queues = PartitionQueues()
    for partition in range(5):
        queues.add(records(partition, 10 - partition))
    assert {record.partition for record in queues.take(1)} == set(range(5))


def test_what_somebody_else_will_read_is_forgotten() -> None:
    queues = PartitionQueues()
    queues.add(records(0, 5) + records(1, 2))
    queues.drop(0)
    queues.drop(7)
    assert (len(queues), places(queues.take(10))) == (2, [(1, 0), (1, 1)])


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 30)), max_size=6), max_size=8),
    st.integers(1, 40),
)
def test_every_record_comes_once_and_each_partition_keeps_its_order(
    polls: list[list[tuple[int, int]]], most: int
) -> None:
    queues, ends, taken = PartitionQueues(), [0] * 5, []
    for poll in polls:
        for partition, count in poll:
            queues.add(records(partition, count, ends[partition]))
            ends[partition] += count
        taken += queues.take(most)
    while queues:
        taken += queues.take(most)
    for partition, end in enumerate(ends):
        assert [record.offset for record in taken if record.partition == partition] == list(range(end))
