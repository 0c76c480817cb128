"""Topics in memory behind the log port, to be read: what a replay reads in unit tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from headgate_streams.port import Committed, Log, LogRecord, TopicDescription, TopicPartition
from tests.unit.resilience.check.topics_in_memory import MemoryTopics


class MemoryLog:
    """Serves what a replay uses of the port; records may be missing, as after a compaction."""

    def __init__(self, topics: MemoryTopics, committed: int | None = None) -> None:
        self._records = topics.records
        self._committed = committed

    def describe(self, topics: Iterable[str]) -> dict[str, TopicDescription]:
        return {
            name: TopicDescription(name, len(self._records[name]), {})
            for name in topics
            if name in self._records
        }

    def topics(self, prefix: str) -> list[str]:
        return sorted(name for name in self._records if name.startswith(prefix))

    def offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        return {place: self._span(place) for place in partitions}

    def _span(self, place: TopicPartition) -> tuple[int, int]:
        records = self._records[place.topic][place.partition]
        return (records[0].offset, records[-1].offset + 1) if records else (0, 0)

    def offset_at(self, partition: TopicPartition, timestamp_ms: int) -> int:
        records = self._records[partition.topic][partition.partition]
        later = (record.offset for record in records if record.timestamp_ms >= timestamp_ms)
        return next(later, self._span(partition)[1])

    def topic_id(self, topic: str) -> str:
        return ""

    def reader(self) -> MemoryReader:
        return MemoryReader(self._records)

    def consumer(self, group: str) -> MemoryLog:
        return self

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Committed | None]:
        committed = None if self._committed is None else Committed(self._committed, "")
        return dict.fromkeys(partitions, committed)

    def close(self) -> None:
        """Nothing is held."""


class MemoryReader:
    """Reads in offset order, the partitions one after the other."""

    def __init__(self, records: dict[str, dict[int, list[LogRecord]]]) -> None:
        self._records = records
        self._positions: dict[TopicPartition, int] = {}

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        self._positions = dict(positions)

    def poll(self, timeout_s: float, max_records: int = 500) -> list[LogRecord]:
        for place, position in self._positions.items():
            records = self._records[place.topic][place.partition]
            found = [record for record in records if record.offset >= position][:max_records]
            if found:
                self._positions[place] = found[-1].offset + 1
                return found
        return []

    def close(self) -> None:
        """Nothing is held."""


def log_of(topics: MemoryTopics, committed: int | None = None) -> Log:
    """Return the topics as a log; `committed` is where every gate is said to be."""
    return cast(Any, MemoryLog(topics, committed))
