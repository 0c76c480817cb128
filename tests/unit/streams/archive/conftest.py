"""An installation in memory with a little of everything, and an archive in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headgate_streams.archive.export import Export, Exported
from headgate_streams.archive.objects import Archive
from headgate_streams.archive_log import ArchiveLog
from headgate_streams.blobs import MemoryBlobStore
from headgate_streams.local_log import LocalLog
from headgate_streams.port import Committed, Log, LogRecord, TopicPartition
from headgate_streams.ranges import read_range
from headgate_streams.signing import SigningKey
from headgate_streams.topics import Topics

PARTITIONS = 3


class Yard:
    """A log, an archive of it, and short ways to fill, export and read them."""

    def __init__(self) -> None:
        self.topics = Topics("yard_1")
        self.log = LocalLog(":memory:")
        self.log.create_topics(self.topics.descriptions(PARTITIONS, ["gpu_a"]))
        self.blobs = MemoryBlobStore()
        self.archive = Archive(self.blobs, "memory")

    def fill(self, count: int, topic: str = "") -> None:
        """Append `count` records, some without a key, a value or headers."""
        producer = self.log.producer()
        for number in range(count):
            producer.append(
                topic or self.topics.executions,
                number % PARTITIONS,
                key=b"key-%d" % number if number % 3 else None,
                value=bytes([number % 256]) * number if number % 4 else None,
                headers=(("one", b"1"), ("two", b"")) if number % 2 else (),
            )
        producer.close()

    def commit(self, group: str, topic: str, offset: int) -> None:
        """Commit one position as a member of the group."""
        consumer = self.log.consumer(group)
        consumer.subscribe([topic])
        consumer.poll(0.0)
        consumer.commit({TopicPartition(topic, 0): Committed(offset, "so far")})
        consumer.close()

    def export(self, key: SigningKey | None = None) -> Exported:
        return Export(self.log, self.topics, self.archive, key=key).run()

    def read(self) -> ArchiveLog:
        return ArchiveLog(self.archive)


def everything(log: Log) -> dict[TopicPartition, list[LogRecord]]:
    """Return all records of a log, by partition."""
    found = log.describe(log.topics(""))
    places = [TopicPartition(one.name, number) for one in found.values() for number in range(one.partitions)]
    return {place: list(read_range(log, place, *span)) for place, span in log.offsets(places).items()}


@pytest.fixture
def yard() -> Iterator[Yard]:
    yard = Yard()
    yield yard
    yard.log.close()
