"""Dead letters as operators work with them: found by filters, put back as they were, deleted.

A record is put back at most once unless somebody says otherwise: before it is appended, a mark about its
letter is, on the letter's own partition. Only whoever's mark is the first about the letter goes on, so two
people (or a command that is run again) cannot both put it back, and a crash in between leaves a mark and no
second record.
"""

from __future__ import annotations

import getpass
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from headgate.reading import partitions_of, read_to_now
from headgate_graphs.errors import BadRecord, UserError
from headgate_graphs.ids import EVERY_TENANT
from headgate_protos.v1.execution_pb2 import DeadLetter, LetterRequeued
from headgate_streams.codec import decode, encode
from headgate_streams.headers import REQUEUED, TYPE
from headgate_streams.letters import headers_of
from headgate_streams.port import Delivery, Headers, Log, LogRecord, TopicPartition
from headgate_streams.topics import Topics, partition_for

APPEND_S = 15.0
"""How long one append may take to be durable."""
_MARK = LetterRequeued.DESCRIPTOR.name.encode()


@dataclass(frozen=True, slots=True)
class FoundLetter:
    """A dead letter and where it lies: `<partition>:<offset>` names it."""

    partition: int
    offset: int
    when_ms: int
    letter: DeadLetter
    requeued_ms: int | None = None
    """Log time at which it was put back (or was about to be); None when it never was."""

    @property
    def id(self) -> str:
        """As `headgate dlq` names it."""
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters are meant; what is None is not looked at."""

    tenant: str | None = None
    reason: str | None = None
    topic: str | None = None
    since_ms: int | None = None
    """Letters put aside at or after this log time."""
    before_ms: int | None = None
    """Letters put aside before this log time."""

    def takes(self, found: FoundLetter) -> bool:
        """Whether a letter is meant."""
        letter = found.letter
        return (
            self.tenant in (None, letter.tenant_id)
            and self.reason in (None, letter.reason)
            and self.topic in (None, letter.topic)
            and (self.since_ms is None or found.when_ms >= self.since_ms)
            and (self.before_ms is None or found.when_ms < self.before_ms)
        )


@dataclass(frozen=True, slots=True)
class Purge:
    """What deleting did, or would do, to one partition."""

    partition: int
    before: int
    """Everything below this offset goes."""
    letters: int
    """Letters among it."""
    kept: int
    """Letters that are meant and stay, as one that is not meant lies before them."""


class DeadLetters:
    """The dead letters of one placement. Holds nothing: every answer is as of now."""

    def __init__(self, log: Log, topics: Topics) -> None:
        self._log = log
        self._topics = topics

    def find(self, wanted: LetterFilter | None = None) -> list[FoundLetter]:
        """Return the letters that are meant, newest last."""
        wanted = wanted or LetterFilter()
        places, since_ms = self._places(wanted.tenant), wanted.since_ms
        records = read_to_now(
            self._log,
            places,
            lambda where, first: max(first, self._log.offset_at(where, since_ms)) if since_ms else first,
        )
        found = [one for one in _letters(records) if wanted.takes(one)]
        return sorted(found, key=lambda one: (one.when_ms, one.partition, one.offset))

    def named(self, letter_id: str) -> FoundLetter:
        """Return the letter called `<partition>:<offset>`; raises UserError when there is none."""
        partition, _, offset = letter_id.partition(":")
        if partition.isdecimal() and offset.isdecimal() and len(letter_id) < 40:
            where = TopicPartition(self._topics.dead_letters, int(partition))
            if where in self._places(None):
                for one in _letters(read_to_now(self._log, [where])):
                    if one.offset == int(offset):
                        return one
        raise UserError(f"no dead letter {letter_id[:64]!a}: see `headgate dlq list --every-tenant`")

    def requeue(self, found: FoundLetter, *, again: bool = False) -> Delivery:
        """Append the record of a letter once more, with its key, value and headers, and one header more.

        Raises:
            UserError: It is not here whole, it is not of the log, or it was put back before.
        """
        self._check(found, again=again)
        if not self._mark(found, again=again):
            raise UserError(f"dead letter {found.id}: somebody else is putting it back at this moment")
        letter = found.letter
        more: Headers = ((REQUEUED, found.id.encode()),)
        headers = tuple((name, value) for name, value in headers_of(letter) if name != REQUEUED)
        return self._append(
            TopicPartition(letter.topic, self._target(letter)),
            key=None if letter.has_no_key else letter.key,
            value=None if letter.has_no_value else letter.value,
            headers=headers + more,
        )

    def plan_purge(self, wanted: LetterFilter) -> list[Purge]:
        """Return what of each partition can go: its oldest records, as far as every letter is meant."""
        plans = []
        for where in self._places(wanted.tenant):
            begin, end = self._log.offsets([where])[where]
            found = list(_letters(read_to_now(self._log, [where])))
            before = next((one.offset for one in found if not wanted.takes(one)), end)
            gone = sum(one.offset < before for one in found)
            kept = sum(one.offset >= before and wanted.takes(one) for one in found)
            if before > begin or kept:
                plans.append(Purge(where.partition, before, gone, kept))
        return plans

    def purge(self, plans: Sequence[Purge]) -> None:
        """Delete what `plan_purge` said; what has come since stays."""
        topic = self._topics.dead_letters
        self._log.delete_before({TopicPartition(topic, one.partition): one.before for one in plans})

    def _places(self, tenant: str | None) -> list[TopicPartition]:
        places = partitions_of(self._log, [self._topics.dead_letters])
        if tenant is None or not places:
            return places
        return [TopicPartition(self._topics.dead_letters, partition_for(tenant, len(places)))]

    def _check(self, found: FoundLetter, *, again: bool) -> None:
        letter = found.letter
        if not letter.is_whole:
            raise UserError(
                f"dead letter {found.id}: its record of {letter.value_size_bytes} bytes was not kept whole,"
                " so it cannot be put back; send it again from where it came from"
            )
        if letter.topic != self._topics.executions:
            raise UserError(
                f"dead letter {found.id}: only records of {self._topics.executions} are put back; a gate"
                f" dispatches anew what nobody answers, so nothing of {letter.topic} needs to be"
            )
        if found.requeued_ms is not None and not again:
            raise UserError(f"dead letter {found.id} was put back before; --again puts it back once more")

    def _target(self, letter: DeadLetter) -> int:
        """Return the record's partition: the one it was in, unless that was what was wrong."""
        if letter.reason != "WRONG_PARTITION" or letter.tenant_id == EVERY_TENANT:
            return letter.partition
        return partition_for(letter.tenant_id, len(partitions_of(self._log, [letter.topic])))

    def _mark(self, found: FoundLetter, *, again: bool) -> bool:
        """Say that the record is put back; return whether it is ours to do so."""
        where = TopicPartition(self._topics.dead_letters, found.partition)
        tenant = found.letter.tenant_id or EVERY_TENANT
        mark = LetterRequeued(
            letter_offset=found.offset,
            requeue_id=secrets.token_hex(8),
            issued_by=getpass.getuser(),
            tenant_id=tenant,
            again=again,
        )
        value, headers = encode(mark, tenant)
        self._append(where, key=tenant.encode(), value=value, headers=headers)
        records = read_to_now(self._log, [where], lambda _, first: max(first, found.offset))
        marks = [one for record in records if (one := _mark_in(record)) is not None]
        about = [one for one in marks if one.letter_offset == found.offset]
        return again or about[0].requeue_id == mark.requeue_id

    def _append(
        self, where: TopicPartition, *, key: bytes | None, value: bytes | None, headers: Headers
    ) -> Delivery:
        delivered: list[Delivery] = []
        producer = self._log.producer()
        try:
            producer.append(
                where.topic,
                where.partition,
                key=key,
                value=value,
                headers=headers,
                on_delivery=delivered.append,
            )
            producer.flush(APPEND_S)
        finally:
            producer.close()
        if delivered[0].error is not None:
            raise delivered[0].error
        return delivered[0]


def _letters(records: Iterator[LogRecord]) -> Iterator[FoundLetter]:
    """Yield the letters among records of whole partitions, each with what became of it.

    A gate or a worker that died before it committed says the same of a record again: the first letter counts.
    """
    letters: dict[tuple[int, int], FoundLetter] = {}
    about_records: set[tuple[str, int, int]] = set()
    for record in records:
        mark = _mark_in(record)
        if mark is not None:
            about = letters.get((record.partition, mark.letter_offset))
            if about is not None and about.requeued_ms is None:
                letters[(record.partition, mark.letter_offset)] = replace(
                    about, requeued_ms=record.timestamp_ms
                )
            continue
        try:
            letter = decode(record, DeadLetter)
        except BadRecord:
            continue  # nobody but gates and workers writes here; what else is there is no letter
        about_record = (letter.topic, letter.partition, letter.offset)
        if about_record in about_records:
            continue
        about_records.add(about_record)
        letters[(record.partition, record.offset)] = FoundLetter(
            record.partition, record.offset, record.timestamp_ms, letter
        )
    yield from letters.values()


def _mark_in(record: LogRecord) -> LetterRequeued | None:
    if (TYPE, _MARK) not in record.headers:
        return None
    try:
        return decode(record, LetterRequeued)
    except BadRecord:
        return None
