"""Reads topics outside any group: everything up to now, or on and on. Every wait has an end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from headgate_graphs.errors import LogUnavailable, UserError
from headgate_streams.port import Log, LogRecord, TopicPartition

SILENCE_S = 10.0
"""How long a log that has more records may say nothing before it counts as unavailable."""


def partitions_of(log: Log, topics: Sequence[str]) -> list[TopicPartition]:
    """Return every partition of those `topics` that exist."""
    return [
        TopicPartition(name, number)
        for name, description in log.describe(topics).items()
        for number in range(description.partitions)
    ]


def count_partitions(log: Log, topic: str) -> int:
    """Return how many partitions a topic was made with; raises UserError when it does not exist."""
    found = log.describe([topic])
    if topic not in found:
        raise UserError(f"topic {topic} does not exist: make the topics first with `headgate topics create`")
    return found[topic].partitions


def read_to_now(
    log: Log,
    partitions: Sequence[TopicPartition],
    start: Callable[[TopicPartition, int], int] = lambda _, beginning: beginning,
) -> Iterator[LogRecord]:
    """Yield what the partitions hold at this moment, each in offset order, from the offset `start` gives.

    `start` receives the partition and its first offset. Raises LogUnavailable when the log falls silent.
    """
    ends = log.offsets(partitions)
    left = {where: (start(where, first), end) for where, (first, end) in ends.items() if end > first}
    left = {where: (at, end) for where, (at, end) in left.items() if end > at}
    if not left:
        return
    reader = log.reader()
    try:
        reader.assign({where: at for where, (at, _) in left.items()})
        yield from _drain(reader.poll, {where: end for where, (_, end) in left.items()})
    finally:
        reader.close()


def _drain(
    poll: Callable[[float], list[LogRecord]], ends: Mapping[TopicPartition, int]
) -> Iterator[LogRecord]:
    open_ends = dict(ends)
    heard = time.monotonic()
    while open_ends:
        records = poll(0.2)
        for record in records:
            where = TopicPartition(record.topic, record.partition)
            end = ends[where]
            if record.offset < end:
                yield record
            if record.offset >= end - 1:
                open_ends.pop(where, None)
        if records:
            heard = time.monotonic()
        elif time.monotonic() - heard > SILENCE_S:
            raise LogUnavailable(f"the log has said nothing for {SILENCE_S:.0f} s, with more to read")
