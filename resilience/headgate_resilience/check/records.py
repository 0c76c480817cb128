"""Where a check gets its records: the raw topics, behind one interface, so that an archive may serve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from headgate_graphs.errors import UserError
from headgate_streams.port import Log, LogRecord, TopicPartition
from headgate_streams.ranges import read_ranges
from headgate_streams.topics import Topics


class Records(Protocol):
    """The raw records of one installation, as of the moment when it was opened."""

    @property
    def partitions(self) -> int:
        """Partitions of the executions topic."""

    @property
    def topics(self) -> Topics:
        """How the installation's topics are named."""

    def names(self) -> list[str]:
        """Return the names of all topics of the installation that exist."""

    def spans(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Return (first offset, end) of each partition of a topic; the end is fixed at the first call."""

    def ends(self, topic: str) -> Mapping[int, int]:
        """Return where each partition of a topic ends at this moment."""

    def read(self, topic: str, partition: int | None = None) -> Iterator[LogRecord]:
        """Yield the records of one partition, or of all, each in offset order, up to the end of `spans`."""

    def committed(self, group: str, topic: str) -> Mapping[int, int]:
        """Return the group's committed offset of each partition that has one."""


class LogRecords:
    """The topics of a log."""

    def __init__(self, log: Log, topics: Topics) -> None:
        """Open the installation; raises UserError when there is none."""
        self._log = log
        self.topics = topics
        found = log.describe(log.topics(f"{topics.prefix}."))
        self._counts = {name: topic.partitions for name, topic in found.items()}
        self._spans: dict[str, dict[int, tuple[int, int]]] = {}
        if topics.executions not in found:
            raise UserError(f"there is no topic {topics.executions}: nothing to check")
        self.partitions = self._counts[topics.executions]

    def names(self) -> list[str]:
        """Return the names of all topics of the installation that exist."""
        return sorted(self._counts)

    def spans(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Return (first offset, end) of each partition; empty when there is no such topic."""
        known = self._spans.get(topic)
        if known is None:
            known = self._spans[topic] = self._now(topic)
        return known

    def ends(self, topic: str) -> Mapping[int, int]:
        """Return where each partition of a topic ends at this moment."""
        return {partition: end for partition, (_, end) in self._now(topic).items()}

    def _now(self, topic: str) -> dict[int, tuple[int, int]]:
        spans = self._log.offsets(places) if (places := self._places(topic)) else {}
        return {place.partition: span for place, span in spans.items()}

    def _places(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for number in range(self._counts.get(topic, 0))]

    def read(self, topic: str, partition: int | None = None) -> Iterator[LogRecord]:
        """Yield the records; raises LogUnavailable when the log falls silent with more to read."""
        spans = {
            TopicPartition(topic, number): span
            for number, span in self.spans(topic).items()
            if partition in (None, number)
        }
        return read_ranges(self._log, spans)

    def committed(self, group: str, topic: str) -> Mapping[int, int]:
        """Return the group's committed offsets; asking takes no part in the group."""
        consumer = self._log.consumer(group)
        try:
            found = consumer.committed(self._places(topic))
        finally:
            consumer.close()
        return {place.partition: known.offset for place, known in found.items() if known is not None}
