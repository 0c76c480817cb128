"""Reads topics outside any group: everything up to now, or on and on. Every wait has an end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from headgate_graphs.errors import UserError
from headgate_streams.port import Log, LogRecord, TopicPartition
from headgate_streams.ranges import read_ranges

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
    yield from read_ranges(log, left, SILENCE_S)
