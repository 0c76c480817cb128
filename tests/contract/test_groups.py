"""What every log does for consumer groups: one owner per partition, commits by the owner alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from headgate_graphs.errors import PartitionLost, UserError
from headgate_streams.port import Committed, LogConsumer, LogRecord, TopicPartition
from tests.contract.conftest import Bench
from tests.support import eventually


def fill(bench: Bench, partitions: Sequence[int] = (0, 1, 2, 3), count: int = 3) -> None:
    producer = bench.producer()
    for partition in partitions:
        for number in range(count):
            producer.append(bench.topic, partition, key=b"k", value=b"%d" % number)
    producer.flush()


def collect(consumer: LogConsumer, count: int) -> list[LogRecord]:
    records: list[LogRecord] = []

    def enough() -> bool:
        records.extend(consumer.poll(0.1))
        return len(records) >= count

    eventually(enough, timeout_s=30)
    return records


def until_owned(count: int, *consumers: LogConsumer) -> None:
    """Poll until each consumer owns `count` partitions."""

    def owned() -> bool:
        for consumer in consumers:
            consumer.poll(0.05)
        return [len(consumer.assignment()) for consumer in consumers] == [count] * len(consumers)

    eventually(owned, timeout_s=30)


def test_group_without_commits_reads_from_the_beginning(bench: Bench) -> None:
    fill(bench)
    consumer = bench.consumer()
    assigned: list[TopicPartition] = []
    consumer.subscribe([bench.topic], on_assign=lambda added: assigned.extend(added) or {})
    records = collect(consumer, 12)
    assert sorted((r.partition, r.offset) for r in records) == [(p, o) for p in range(4) for o in range(3)]
    assert set(assigned) == consumer.assignment() == {TopicPartition(bench.topic, p) for p in range(4)}


def test_group_goes_on_from_what_it_committed_with_its_metadata(bench: Bench) -> None:
    fill(bench, [0])
    partition = TopicPartition(bench.topic, 0)
    consumer = bench.consumer()
    consumer.subscribe([bench.topic])
    collect(consumer, 3)
    consumer.commit({partition: Committed(2, "1;0:17.3")})
    consumer.close()

    heir = bench.consumer()
    heir.subscribe([bench.topic])
    assert [r.offset for r in collect(heir, 1)] == [2]
    other = TopicPartition(bench.topic, 1)
    assert heir.committed([partition, other]) == {partition: Committed(2, "1;0:17.3"), other: None}


def test_start_offset_chosen_at_assignment_wins(bench: Bench) -> None:
    fill(bench)
    first = TopicPartition(bench.topic, 0)
    consumer = bench.consumer()
    consumer.subscribe([bench.topic], on_assign=lambda _added: {first: 2})
    records = collect(consumer, 10)
    assert [r.offset for r in records if r.partition == 0] == [2]
    assert len(records) == 10


def test_committed_can_be_asked_during_assignment(bench: Bench) -> None:
    seen: dict[TopicPartition, Committed | None] = {}
    consumer = bench.consumer()

    def on_assign(added: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        seen.update(consumer.committed(added))
        return {}

    consumer.subscribe([bench.topic], on_assign)
    until_owned(4, consumer)
    assert seen == {TopicPartition(bench.topic, p): None for p in range(4)}


def test_members_share_partitions_and_none_has_two_owners(bench: Bench) -> None:
    first, second = bench.consumer(), bench.consumer()
    revoked: list[TopicPartition] = []
    first.subscribe([bench.topic], on_revoke=revoked.extend)
    until_owned(4, first)
    second.subscribe([bench.topic])
    until_owned(2, first, second)
    assert first.assignment().isdisjoint(second.assignment())
    assert set(revoked) == second.assignment()


def test_commit_inside_revoke_still_counts(bench: Bench) -> None:
    fill(bench, count=1)
    first, second = bench.consumer(), bench.consumer()

    def on_revoke(gone: Sequence[TopicPartition]) -> None:
        first.commit({partition: Committed(1, "from-revoke") for partition in gone})

    first.subscribe([bench.topic], on_revoke=on_revoke)
    collect(first, 4)
    second.subscribe([bench.topic])
    until_owned(2, first, second)
    found = second.committed(second.assignment())
    assert set(found.values()) == {Committed(1, "from-revoke")}


def test_closing_hands_over_at_once_and_calls_revoke(bench: Bench) -> None:
    first, second = bench.consumer(), bench.consumer()
    revoked: list[TopicPartition] = []
    first.subscribe([bench.topic], on_revoke=revoked.extend)
    until_owned(4, first)
    first.close()
    assert sorted(revoked) == [TopicPartition(bench.topic, p) for p in range(4)]
    assert first.assignment() == frozenset()
    second.subscribe([bench.topic])
    until_owned(4, second)


def test_commit_of_what_is_not_owned_is_refused_and_changes_nothing(bench: Bench) -> None:
    first, second = bench.consumer(), bench.consumer()
    first.subscribe([bench.topic])
    second.subscribe([bench.topic])
    until_owned(2, first, second)
    mine, theirs = min(first.assignment()), min(second.assignment())
    with pytest.raises(PartitionLost):
        first.commit({mine: Committed(1, ""), theirs: Committed(1, "")})
    assert first.committed([mine, theirs]) == {mine: None, theirs: None}


def test_paused_partitions_are_not_read_and_resumed_ones_lose_nothing(bench: Bench) -> None:
    consumer = bench.consumer()
    consumer.subscribe([bench.topic])
    until_owned(4, consumer)
    paused = TopicPartition(bench.topic, 0)
    consumer.pause([paused])
    fill(bench, [0, 1])
    assert [r.partition for r in collect(consumer, 3)] == [1, 1, 1]
    assert consumer.poll(0.3) == []
    consumer.resume([paused])
    assert [(r.partition, r.offset) for r in collect(consumer, 3)] == [(0, 0), (0, 1), (0, 2)]


def test_groups_do_not_disturb_each_other(bench: Bench) -> None:
    fill(bench, [0])
    one = bench.log.consumer(f"{bench.group}.one")
    two = bench.log.consumer(f"{bench.group}.two")
    try:
        for consumer in (one, two):
            consumer.subscribe([bench.topic])
            assert len(collect(consumer, 3)) == 3
            assert len(consumer.assignment()) == 4
    finally:
        one.close()
        two.close()


def test_subscribing_to_a_missing_topic_is_the_users_error(bench: Bench) -> None:
    with pytest.raises(UserError, match="there is no topic"):
        bench.consumer().subscribe([f"{bench.topic}.not"])


def test_error_in_a_callback_reaches_the_caller(bench: Bench) -> None:
    def on_assign(added: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        raise RuntimeError("no state")

    consumer = bench.consumer()
    consumer.subscribe([bench.topic], on_assign)

    def is_raised() -> bool:
        try:
            consumer.poll(0.1)
        except RuntimeError as error:
            return str(error) == "no state"
        return False

    eventually(is_raised, timeout_s=20)


def test_closing_twice_is_harmless(bench: Bench) -> None:
    consumer = bench.consumer()
    consumer.subscribe([bench.topic])
    until_owned(4, consumer)
    consumer.close()
    consumer.close()


def test_a_group_tells_how_many_members_it_has(bench: Bench) -> None:
    assert bench.log.members(bench.group) == 0
    first, second = bench.consumer(), bench.consumer()
    for consumer in (first, second):
        consumer.subscribe([bench.topic])
    until_owned(2, first, second)
    assert bench.log.members(bench.group) == 2
    second.close()
    eventually(lambda: bench.log.members(bench.group) == 1, timeout_s=15)
    assert bench.log.members(f"{bench.group}.other") == 0
