"""The catalog process: reads the log outside any group, from its own positions, and projects it into SQL.

For each batch: read, turn into rows (pure), then write rows and positions in one transaction. A crash before
the commit leaves both as they were, one after it leaves both as they should be; so nothing is missing and
nothing is there twice, and whatever is suspected to be wrong can be made anew from the log.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from headgate_catalog.database import Database
from headgate_catalog.positions import Position, positions_in
from headgate_catalog.rows import Batch
from headgate_catalog.tables import POSITIONS
from headgate_catalog.writing import insert_into, write
from headgate_graphs.errors import LogTruncated, UserError
from headgate_streams.crash import crash_point
from headgate_streams.port import Log, LogReader, LogRecord, TopicPartition
from headgate_streams.topics import Topics

BATCH_RECORDS: Final = 2_000
"""Records of one transaction, at most."""
_POLL_S: Final = 0.5
_LOOK_S: Final = 5.0
"""How often it is looked for the topics of new queues."""


class Projector:
    """Projects one log into one database. One thread."""

    def __init__(self, log: Log, topics: Topics, database: Database) -> None:
        self._log = log
        self._topics = topics
        self._database = database
        self._positions: dict[TopicPartition, Position] = {}
        self._partitions = 0
        self.records = 0
        """How many were projected by this process."""
        self.ready = threading.Event()

    def prepare(self, *, anew: bool = False) -> None:
        """Make the tables, or check those that are there, and find the positions.

        Raises UserError for another schema or another log, or when the log has no topics; LogTruncated when
        a topic was made again, or retention has taken what was not projected yet.
        """
        found = self._log.describe([self._topics.executions])
        if self._topics.executions not in found:
            raise UserError(
                f"topic {self._topics.executions} does not exist: make the topics first with "
                "`headgate topics create`"
            )
        self._partitions = found[self._topics.executions].partitions
        self._database.prepare(self._topics.prefix, anew=anew)
        with self._database.reading() as connection:
            self._positions = positions_in(connection)
        self._find_partitions()

    def run(self, stop: threading.Event) -> None:
        """Project until `stop`; raises what ends it otherwise."""
        self.prepare()
        self.ready.set()
        self._follow(stop.is_set)

    def catch_up(self, progress: Callable[[int, int], None]) -> None:
        """Project what the log holds now; `progress` gets (records done, records in all) after each batch."""
        ends = {place: end for place, (_, end) in self._log.offsets(self._positions).items()}
        whole = self._left(ends)
        self._follow(lambda: self._left(ends) <= 0, lambda: progress(whole - self._left(ends), whole))

    def _left(self, ends: dict[TopicPartition, int]) -> int:
        return sum(max(0, end - self._positions[place].next_offset) for place, end in ends.items())

    def _follow(self, is_over: Callable[[], bool], told: Callable[[], None] = lambda: None) -> None:
        reader = self._log.reader()
        try:
            self._assign(reader)
            looked = time.monotonic()
            while not is_over():
                records = reader.poll(_POLL_S, BATCH_RECORDS)
                if records:
                    self._project(records)
                    told()
                if time.monotonic() - looked > _LOOK_S:
                    looked = time.monotonic()
                    if self._find_partitions():
                        self._assign(reader)
        finally:
            reader.close()

    def _assign(self, reader: LogReader) -> None:
        reader.assign({place: position.next_offset for place, position in self._positions.items()})

    def _project(self, records: Iterable[LogRecord]) -> None:
        batch, after = Batch(self._topics, self._partitions), dict[TopicPartition, Position]()
        for record in records:
            batch.take(record)
            place = TopicPartition(record.topic, record.partition)
            known = after.get(place) or self._positions[place]
            as_of_ms = max(known.as_of_ms, record.timestamp_ms)
            after[place] = Position(record.offset + 1, known.topic_id, as_of_ms)
        with self._database.writing() as connection:
            write(connection, batch, self._positions, after)
            crash_point("catalog-after-rows")
        crash_point("catalog-after-commit")
        self._positions |= after
        self.records += batch.records

    def _find_partitions(self) -> bool:
        """Take up partitions that were not known, and check those that were; return whether any is new."""
        makers = self._topics.of_named_queues()
        queues = [name for begin in makers for name in self._log.topics(begin)]
        names = [
            *(self._topics.executions, self._topics.lifetimes, self._topics.control_events),
            *(self._topics.task_inputs(), self._topics.plan_inputs(), *queues),
        ]
        places = [
            TopicPartition(name, number)
            for name, topic in self._log.describe(names).items()
            for number in range(topic.partitions)
        ]
        ids = {name: self._log.topic_id(name) for name in {place.topic for place in places}}
        offsets = self._log.offsets(places)
        new = {}
        for place in places:
            first, end = offsets[place]
            if (known := self._positions.get(place)) is None:
                new[place] = Position(first, ids[place.topic], 0)
            else:
                _check(place, known, ids[place.topic], first, end)
        if new:
            self._add(new)
        return bool(new)

    def _add(self, new: dict[TopicPartition, Position]) -> None:
        rows = [
            {"topic": place.topic, "partition": place.partition, **position._asdict()}
            for place, position in new.items()
        ]
        with self._database.writing() as connection:
            connection.execute(insert_into(connection, POSITIONS).on_conflict_do_nothing(), rows)
        self._positions |= new


def _check(place: TopicPartition, known: Position, topic_id: str, first: int, end: int) -> None:
    """Raise LogTruncated when the records after a position are not those of the log that was projected."""
    where = f"{place.topic}[{place.partition}]"
    rebuild = "make the catalog anew from what is there with `headgate catalog --rebuild`"
    if known.topic_id != topic_id:
        raise LogTruncated(f"topic {place.topic} was made again since the catalog read it: {rebuild}")
    if known.next_offset > end:
        raise LogTruncated(
            f"{where} ends at {end}, the catalog has read up to {known.next_offset}: {rebuild}"
        )
    if known.next_offset < first:
        raise LogTruncated(
            f"{where} begins at {first}, retention has taken what the catalog had not read since "
            f"{known.next_offset}: {rebuild}"
        )
