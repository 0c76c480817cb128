"""The embedded log: a durable SQLite file with partitions, groups and offsets, for one machine and no server.

Serves the log port. Threads of one process hand records to each other in memory once they are on disk; other
processes find them in the file. What is promised is what Kafka promises, for as many processes as share the
file: order within a partition, at-least-once reading, one owner per partition, commits by the owner alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from headgate_streams.local.consumer import LocalConsumer
from headgate_streams.local.database import OFFSET_BITS, Database
from headgate_streams.local.fetching import LocalReader
from headgate_streams.local.groups import count_living
from headgate_streams.local.heartbeats import Heartbeats
from headgate_streams.local.producer import LocalProducer
from headgate_streams.local.writer import Writer
from headgate_streams.port import LogRecord, TopicDescription, TopicPartition
from headgate_streams.topics import check_partitions


class _CreateTopics:
    """Work that creates topics which are missing."""

    durable = True

    def __init__(self, topics: Sequence[TopicDescription]) -> None:
        self._topics = topics
        self.created: list[str] = []

    def apply(self, writer: Writer) -> None:
        existing = dict(writer.connection.execute("SELECT name, partitions FROM topics").fetchall())
        for topic in self._topics:
            check_partitions(topic, existing.get(topic.name))
        for name, partitions, config in self._topics:
            if name in existing or name in self.created:
                continue
            row = (name, partitions, json.dumps(dict(config), sort_keys=True))
            writer.connection.execute("INSERT INTO topics VALUES (?, ?, ?)", row)
            writer.connection.executemany(
                "INSERT INTO partitions (topic, partition) VALUES (?, ?)",
                [(name, number) for number in range(partitions)],
            )
            self.created.append(name)
        if self.created:
            writer.changed()


class _DeleteBefore:
    """Work that deletes the oldest records of partitions."""

    durable = True

    def __init__(self, offsets: Mapping[int, int]) -> None:
        self._offsets = offsets

    def apply(self, writer: Writer) -> None:
        for pid, offset in self._offsets.items():
            base = pid << OFFSET_BITS
            end = base + min(offset, writer.places[pid].next_offset)
            writer.connection.execute("DELETE FROM records WHERE id >= ? AND id < ?", (base, end))
            for row_id in [row_id for row_id in writer.tail if base <= row_id < end]:
                del writer.tail[row_id]


class _Restore:
    """Work that appends records of another log as they were there."""

    durable = True

    def __init__(self, partition_id: int, records: Sequence[LogRecord], end: int) -> None:
        self._partition_id = partition_id
        self._records = records
        self._end = end

    def apply(self, writer: Writer) -> None:
        writer.restore(self._partition_id, self._records, self._end)


_NEXT: Final = "SELECT id, timestamp_ms FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT 1"


class LocalLog:
    """The embedded log of one file, shared by the threads of this process and by other processes."""

    def __init__(self, path: Path | str, *, max_record_bytes: int = 1_048_576) -> None:
        """Open or make the file; ":memory:" for a log that ends with this process. Raises LogUnavailable."""
        self._database = Database(path)
        self._writer = Writer(self._database)
        self._max_record_bytes = max_record_bytes
        self._heartbeats = Heartbeats(self._writer)

    def producer(self, *, gather_ms: int | None = None) -> LocalProducer:  # noqa: ARG002
        """Return a new producer; it gathers until `poll` anyway."""
        return LocalProducer(self._writer, self._max_record_bytes)

    def consumer(self, group: str) -> LocalConsumer:
        """Return a new member of `group`, once it subscribes."""
        return LocalConsumer(self._database, self._writer, self._heartbeats, group)

    def reader(self) -> LocalReader:
        """Return a new reader outside any group."""
        return LocalReader(self._database, self._writer)

    def create_topics(self, topics: Iterable[TopicDescription]) -> list[str]:
        """Create what is missing, all or none."""
        work = _CreateTopics(list(topics))
        self._writer.run(work)
        return work.created

    def describe(self, topics: Iterable[str]) -> dict[str, TopicDescription]:
        """Return those of `topics` that exist."""
        wanted = set(topics)
        rows = self._database.read("SELECT name, partitions, config FROM topics")
        return {
            row[0]: TopicDescription(row[0], row[1], json.loads(row[2])) for row in rows if row[0] in wanted
        }

    def topics(self, prefix: str) -> list[str]:
        """Return the names of all topics that begin with `prefix`, sorted."""
        names = [name for (name,) in self._database.read("SELECT name FROM topics")]
        return sorted(name for name in names if name.startswith(prefix))

    def offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """Return (beginning, end) of each; the beginning is 0 until something is deleted."""
        self._writer.refresh()
        ids = {tp: self._writer.partition_id(tp) for tp in partitions}
        ends = {tp: self._writer.places[pid].next_offset for tp, pid in ids.items()}
        return {tp: (self._database.beginning(pid, ends[tp]), ends[tp]) for tp, pid in ids.items()}

    def offset_at(self, partition: TopicPartition, timestamp_ms: int) -> int:
        """Search by halves, as append times never fall within a partition."""
        self._writer.refresh()
        pid = self._writer.partition_id(partition)
        base, end = pid << OFFSET_BITS, self._writer.places[pid].next_offset
        low, high, found = self._database.beginning(pid, end), end, end
        while low < high:
            middle = (low + high) // 2
            rows = self._database.read(_NEXT, (base + middle, base + high))
            if not rows:
                high = middle
            elif rows[0][1] < timestamp_ms:
                low = rows[0][0] - base + 1
            else:
                high, found = middle, rows[0][0] - base
        return found

    def restore(self, place: TopicPartition, records: Sequence[LogRecord], end: int) -> None:
        """Append records of a partition with the offsets and times that they had in another log.

        Gaps stay gaps, and the partition ends at `end`. Raises UserError when one of the offsets is taken.
        """
        self._writer.run(_Restore(self._writer.partition_id(place), records, end))

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Delete the rows; the file is not made smaller, but what is free in it is used again."""
        self._writer.run(_DeleteBefore({self._writer.partition_id(tp): at for tp, at in offsets.items()}))

    def members(self, group: str) -> int:
        """Count the members that are alive."""
        return count_living(self._database, group)

    def topic_id(self, topic: str) -> str:  # noqa: ARG002
        """Return nothing: a topic of this log is never deleted."""
        return ""

    def close(self) -> None:
        """Stop the heartbeats and close the file."""
        self._heartbeats.close()
        self._database.close()
