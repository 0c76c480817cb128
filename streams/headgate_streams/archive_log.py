"""The log of an archive: serves the reading half of the log port, so that whatever reads a log reads it.

What is read is checked as it is read; the first place that is not as it was written raises ArchiveBroken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NoReturn

from headgate_graphs.errors import UserError
from headgate_streams.archive.objects import Archive
from headgate_streams.archive.reading import ArchivedGroup, ArchiveReader, files_of, index_of, refuse
from headgate_streams.port import TopicDescription, TopicPartition


class ArchiveLog:
    """One archive as its last finished export has left it; a later export is seen by who opens it again."""

    def __init__(self, archive: Archive) -> None:
        """Read the manifest and the names of all files.

        Raises:
            UserError: There is no archive.
            ArchiveBroken: It is not signed as it must be, or its files do not fit together.
            BlobUnavailable: The store does not answer.
        """
        self._archive = archive
        self.manifest = archive.existing()
        self._index = index_of(archive, self.manifest)
        self._topics = {topic.name: topic for topic in self.manifest.topics}

    def producer(self, *, gather_ms: int | None = None) -> NoReturn:  # noqa: ARG002
        """Refuse."""
        refuse("nothing can be appended")

    def consumer(self, group: str) -> ArchivedGroup:
        """Return the group as it stood; it cannot be joined."""
        return ArchivedGroup(group, self.manifest)

    def reader(self) -> ArchiveReader:
        """Return a new reader."""
        return ArchiveReader(self._archive, self._index)

    def create_topics(self, topics: Iterable[TopicDescription]) -> NoReturn:  # noqa: ARG002
        """Refuse."""
        refuse("no topic can be made")

    def describe(self, topics: Iterable[str]) -> dict[str, TopicDescription]:
        """Return those of `topics` that are archived, as they were made."""
        found = (self._topics[name] for name in dict.fromkeys(topics) if name in self._topics)
        return {one.name: TopicDescription(one.name, one.partitions, one.config) for one in found}

    def topics(self, prefix: str) -> list[str]:
        """Return the names of all archived topics that begin with `prefix`, sorted."""
        return sorted(name for name in self._topics if name.startswith(prefix))

    def offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """Return (beginning, end) of each, as archived."""
        spans = {place: files_of(self._index, place).span for place in partitions}
        return {place: (span.first, span.end) for place, span in spans.items()}

    def offset_at(self, partition: TopicPartition, timestamp_ms: int) -> int:
        """Search the one file that has the time within."""
        found = files_of(self._index, partition)
        for file in found.from_time(timestamp_ms):
            for record in self._archive.records(file):
                if record.timestamp_ms >= timestamp_ms:
                    return record.offset
        return found.span.end

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> NoReturn:  # noqa: ARG002
        """Refuse."""
        refuse("nothing can be deleted")

    def members(self, group: str) -> None:  # noqa: ARG002
        """Return None: nobody can be a member."""
        return

    def topic_id(self, topic: str) -> str:
        """Return the id that the topic had in the log; empty when that log did not tell."""
        if topic not in self._topics:
            raise UserError(f"there is no topic {topic} in the archive")
        return self._topics[topic].topic_id

    def close(self) -> None:
        """Release nothing: the store is shared."""
