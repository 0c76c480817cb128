"""Brings an archive back into an empty log. Called by `headgate audit import`.

Order: the records, partition by partition, then what the groups had committed. An import that is interrupted
leaves a log that is not empty; it is thrown away and begun anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final

from headgate_graphs.errors import DeliveryFailed, HeadgateError, LogUnavailable, UserError
from headgate_streams.archive.manifest import ArchivedPartition, ArchivedTopic
from headgate_streams.archive.planning import check_prefix
from headgate_streams.archive_log import ArchiveLog
from headgate_streams.local_log import LocalLog
from headgate_streams.port import Committed, Delivery, Log, LogProducer, LogRecord, TopicPartition
from headgate_streams.ranges import read_range
from headgate_streams.topics import Topics

BATCH_RECORDS: Final = 500
"""Records of one transaction of the embedded log, and between two looks at Kafka's reports."""
JOIN_S: Final = 60.0
"""How long a group may take to give its partitions to the import, which commits for it."""
Progress = Callable[[int, int], None]
"""(records done, records in all)."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import has done."""

    records: int
    keeps_times: bool
    """Whether append times are those of the archive; Kafka gives its own."""
    renumbered: list[str]
    """Compacted topics whose records have other offsets now: their gaps are closed."""
    left_out: list[str]
    """Topics that would be wrong in the new log."""


class Import:
    """One import of an archive into a log."""

    def __init__(
        self, archive: ArchiveLog, log: Log, topics: Topics, progress: Progress | None = None
    ) -> None:
        """Take where from and where to."""
        self._archive = archive
        self._log = log
        self._topics = topics
        self._progress = progress
        self._is_local = isinstance(log, LocalLog)
        self._total = sum(span.records for span in archive.manifest.partitions)
        self._done = 0

    def run(self) -> Imported:
        """Make the topics and append everything.

        Raises:
            UserError: The log is not empty, is in use, or cannot hold the archive as it is.
            ArchiveBroken: The archive is not what its manifest says.
            LogUnavailable, DeliveryFailed, BlobUnavailable: Begin anew with an empty log.
        """
        manifest = self._archive.manifest
        check_prefix(self._topics, manifest)
        left_out = [] if self._is_local else [self._topics.checkpoints]
        wanted = {one.name: one for one in manifest.topics if one.name not in left_out}
        spans = [one for one in manifest.partitions if one.topic in wanted]
        self._check_target(wanted)
        renumbered = sorted(self._renumbered(wanted, spans))
        self._log.create_topics(self._archive.describe(wanted).values())
        for span in spans:
            self._copy(span, is_renumbered=span.topic in renumbered)
        self._commit(wanted)
        return Imported(self._done, self._is_local, renumbered, left_out)

    def _check_target(self, wanted: Mapping[str, ArchivedTopic]) -> None:
        found = self._log.describe(wanted).values()
        places = [TopicPartition(one.name, number) for one in found for number in range(one.partitions)]
        for place, (_, end) in self._log.offsets(places).items():
            if end:
                raise UserError(
                    f"{place.topic}[{place.partition}] has had {end} records: import into an empty log"
                )
        for group in {one.group for one in self._archive.manifest.positions}:
            if self._log.members(group):
                raise UserError(f"group {group} has members: stop gates and workers before an import")

    def _renumbered(
        self, wanted: Mapping[str, ArchivedTopic], spans: list[ArchivedPartition]
    ) -> Iterator[str]:
        """Yield the topics whose offsets will differ; raises UserError when they must not."""
        for span in spans if not self._is_local else ():
            if span.records == span.end:
                continue
            if wanted[span.topic].config.get("cleanup.policy") != "compact":
                raise UserError(
                    f"{span.topic}[{span.partition}] has {span.records} records up to offset {span.end}, and "
                    "Kafka can leave no gaps: import it into an embedded log with --local"
                )
            yield span.topic

    def _copy(self, span: ArchivedPartition, *, is_renumbered: bool) -> None:
        records = read_range(self._archive, span.place, span.first, span.end)
        batches = iter(lambda: list(islice(records, BATCH_RECORDS)), [])
        if isinstance(self._log, LocalLog):
            for batch in batches:
                self._log.restore(span.place, batch, batch[-1].offset + 1)
                self._count(len(batch))
            self._log.restore(span.place, [], span.end)
            return
        producer, landing = self._log.producer(), _Landing(is_renumbered)
        try:
            for batch in batches:
                landing.append(producer, batch)
                self._count(len(batch))
            producer.flush()
        finally:
            producer.close()
        landing.check()

    def _count(self, records: int) -> None:
        self._done += records
        if self._progress is not None:
            self._progress(self._done, self._total)

    def _commit(self, wanted: Mapping[str, ArchivedTopic]) -> None:
        """Commit what each group had committed, so that nobody does again what was done."""
        by_group: dict[tuple[str, str], dict[TopicPartition, Committed]] = {}
        for one in self._archive.manifest.positions:
            if one.topic in wanted:
                place = TopicPartition(one.topic, one.partition)
                by_group.setdefault((one.group, one.topic), {})[place] = Committed(one.offset, one.metadata)
        for (group, topic), positions in by_group.items():
            self._commit_group(group, topic, positions)

    def _commit_group(self, group: str, topic: str, positions: Mapping[TopicPartition, Committed]) -> None:
        ends = {place: end for place, (_, end) in self._log.offsets(positions).items()}
        consumer = self._log.consumer(group)
        try:
            # Begun at their ends, the partitions give no records.
            consumer.subscribe([topic], lambda places: {one: ends[one] for one in places if one in ends})
            deadline = time.monotonic() + JOIN_S
            while not consumer.assignment() >= positions.keys():
                if time.monotonic() > deadline:
                    raise LogUnavailable(f"group {group} has not given its partitions within {JOIN_S:g} s")
                consumer.poll(0.1)
            consumer.commit(positions)
        finally:
            consumer.close()


class _Landing:
    """Appends records and sees to it that they land where they were."""

    def __init__(self, is_renumbered: bool) -> None:
        self._is_renumbered = is_renumbered
        self._fault: HeadgateError | None = None

    def append(self, producer: LogProducer, batch: list[LogRecord]) -> None:
        for record in batch:
            producer.append(
                record.topic,
                record.partition,
                key=record.key,
                value=record.value,
                headers=record.headers,
                on_delivery=partial(self._on_delivery, f"{record.topic}[{record.partition}]", record.offset),
            )
        producer.poll()
        self.check()

    def _on_delivery(self, where: str, offset: int, delivery: Delivery) -> None:
        """Keep the first fault; the client does not take an exception from here."""
        if delivery.error is not None:
            self._fault = self._fault or delivery.error
        elif delivery.offset != offset and not self._is_renumbered:
            why = f"{where}: record {offset} has landed at {delivery.offset}: somebody else writes there"
            self._fault = self._fault or DeliveryFailed(why)

    def check(self) -> None:
        """Raise what went wrong."""
        if self._fault is not None:
            raise self._fault
