"""Reads partitions from the files of an archive, and answers for its groups. Used by the archive log."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NoReturn

from headgate_graphs.errors import ArchiveBroken, LogTruncated, UserError
from headgate_streams.archive.format import GENESIS
from headgate_streams.archive.manifest import ArchivedFile, ArchivedPartition, Manifest
from headgate_streams.archive.objects import Archive
from headgate_streams.port import Committed, LogRecord, OnAssign, OnRevoke, TopicPartition

READ_ONLY: Final = "an archive is read-only"


def refuse(what: str) -> NoReturn:
    """Raise the one error for whatever would write."""
    raise UserError(f"{READ_ONLY}: {what}; bring it back with `headgate audit import`")


class PartitionFiles:
    """The files of one partition, by offset."""

    def __init__(self, span: ArchivedPartition, files: Sequence[ArchivedFile]) -> None:
        """Take the files in the order in which they were written; raises ArchiveBroken for a gap."""
        self.span = span
        self.files = files
        self._ends = [file.end for file in files]
        self._check()

    def _check(self) -> None:
        chain, end, records = GENESIS.hex(), self.span.first, 0
        for file in self.files:
            if (file.first, file.chain_before) != (end, chain):
                raise ArchiveBroken(f"{file.key}: it does not go on where the file before it ends, at {end}")
            chain, end, records = file.chain_after, file.end, records + file.records
        if (chain, end, records) != (self.span.chain, self.span.end, self.span.records):
            where = f"{self.span.topic}[{self.span.partition}]"
            raise ArchiveBroken(f"{where}: its files end otherwise than the manifest says, at {end}")

    def from_offset(self, offset: int) -> Sequence[ArchivedFile]:
        """Return the files that hold records from `offset` on."""
        return self.files[bisect_right(self._ends, offset) :]

    def from_time(self, timestamp_ms: int) -> Sequence[ArchivedFile]:
        """Return the files from the first on that has a record not before `timestamp_ms`."""
        late = (number for number, file in enumerate(self.files) if file.latest_ms >= timestamp_ms)
        return self.files[next(late, len(self.files)) :]


Index = Mapping[TopicPartition, PartitionFiles]


def index_of(archive: Archive, manifest: Manifest) -> Index:
    """Return the files of every partition; raises ArchiveBroken when they do not fit together."""
    found: dict[TopicPartition, list[ArchivedFile]] = {span.place: [] for span in manifest.partitions}
    for file in archive.files(manifest):
        place = TopicPartition(file.topic, file.partition)
        if place not in found:
            raise ArchiveBroken(f"{file.key}: the manifest names no such partition")
        found[place].append(file)
    return {span.place: PartitionFiles(span, found[span.place]) for span in manifest.partitions}


class ArchiveReader:
    """Reads chosen partitions. One file at a time is in memory, whatever the number of partitions."""

    def __init__(self, archive: Archive, index: Index) -> None:
        self._archive = archive
        self._index = index
        self._positions: dict[TopicPartition, int] = {}
        """Where each goes on; those that are read to their end are not here."""
        self._current: Iterator[LogRecord] = iter(())

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these from these offsets, in place of whatever was read before."""
        for place, offset in positions.items():
            span = files_of(self._index, place).span
            if not span.first <= offset <= span.end:
                where = f"{place.topic}[{place.partition}]"
                raise LogTruncated(f"{where} is archived from {span.first} to {span.end}, without {offset}")
        self._positions = dict(positions)
        self._current = self._all()

    def _all(self) -> Iterator[LogRecord]:
        """Yield file by file; the partitions take turns."""
        while self._positions:
            place, offset = next(iter(self._positions.items()))
            del self._positions[place]
            files = self._index[place].from_offset(offset)
            if not files:
                continue
            yield from (record for record in self._archive.records(files[0]) if record.offset >= offset)
            self._positions[place] = files[0].end

    def poll(self, timeout_s: float, max_records: int = 500) -> list[LogRecord]:
        """Return the next records; at the end wait, as at the end of any log, for what never comes."""
        records = list(islice(self._current, max_records))
        if not records and timeout_s > 0:
            time.sleep(timeout_s)
        return records

    def close(self) -> None:
        """Let the file go."""
        self._positions, self._current = {}, iter(())


def files_of(index: Index, place: TopicPartition) -> PartitionFiles:
    """Return the files of a partition; raises UserError when it is not in the archive."""
    found = index.get(place)
    if found is None:
        raise UserError(f"there is no partition {place.topic}[{place.partition}] in the archive")
    return found


class ArchivedGroup:
    """A consumer group as it stood when the archive was made: it says what it had committed, and no more."""

    def __init__(self, group: str, manifest: Manifest) -> None:
        self._group = group
        self._positions = {
            TopicPartition(one.topic, one.partition): Committed(one.offset, one.metadata)
            for one in manifest.positions
            if one.group == group
        }

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Committed | None]:
        """Return the group's committed positions; None where there was none."""
        return {place: self._positions.get(place) for place in partitions}

    def subscribe(
        self,
        topics: Sequence[str],
        on_assign: OnAssign | None = None,  # noqa: ARG002
        on_revoke: OnRevoke | None = None,  # noqa: ARG002
    ) -> None:
        """Refuse."""
        refuse(f"group {self._group} cannot be joined to read {', '.join(topics)}")

    def poll(self, timeout_s: float, max_records: int = 500) -> list[LogRecord]:  # noqa: ARG002
        """Return nothing: nobody has subscribed."""
        return []

    def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:  # noqa: ARG002
        """Refuse."""
        refuse(f"group {self._group} cannot commit")

    def assignment(self) -> frozenset[TopicPartition]:
        """Return nothing."""
        return frozenset()

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Do nothing: nothing is fetched."""

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Do nothing: nothing is fetched."""

    def close(self) -> None:
        """Do nothing: nobody has joined."""
