"""What the fold says now, held against what lies on the output topics, both as streams.

For each source partition, what it led to lies on each output partition in source order, among what others
led to. So the next thing that is expected there is met at the head, or behind what other folds have still to
come to; an output is read once, compared as bytes, and forgotten. What comes again, as after a crash of a
gate, is told by its source, as every consumer tells it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from headgate_guardrails.fold.turn import Output
from headgate_protos.v1.common_pb2 import Source
from headgate_protos.v1.execution_pb2 import DeadLetter
from headgate_replay.reading.strands import Strand, Strands
from headgate_replay.verify.findings import Finding, Findings, Kind, Point
from headgate_streams.codec import headers_of
from headgate_streams.headers import SCHEMA, TENANT, TYPE
from headgate_streams.port import LogRecord, TopicPartition

_RECENT: Final = 5_000
"""Outputs (at least) whose repeats are compared; gates repeat what they said since their last commit."""
_OURS: Final = frozenset({TYPE, SCHEMA, TENANT})
"""Headers that are part of an output; others may differ, as those of tracing do."""


class Expected(NamedTuple):
    """What the fold says."""

    point: Point
    output: Output


class Standing:
    """How far the fold of one source partition has come."""

    __slots__ = ("closed_at", "end", "first", "is_cut", "owed", "partition", "position")

    def __init__(self, partition: int, first: int, end: int, *, is_cut: bool = False) -> None:
        self.partition = partition
        self.is_cut = is_cut
        """Whether the log goes on behind `end`, and with it what is said."""
        self.first = first
        """What earlier records led to is not compared."""
        self.end = end
        """Nor what records from here on led to."""
        self.position = first
        """Of the record that is folded next."""
        self.owed = 0
        """Outputs that are expected and not met yet."""
        self.closed_at: Point | None = None
        """Where it differs: nothing behind that is compared any more."""

    @property
    def is_done(self) -> bool:
        """Whether nothing more is to be folded."""
        return self.closed_at is not None or self.position >= self.end


class OutputStrand:
    """One partition of an output topic."""

    __slots__ = (
        "count", "gap_at", "gaps", "guess", "is_compacted", "kind", "lost_its_beginning", "over", "seen",
        "strand", "waiting",
    )  # fmt: skip

    def __init__(
        self, strand: Strand, kind: type[Any], *, is_compacted: bool, lost_its_beginning: bool
    ) -> None:
        self.strand = strand
        self.kind = kind
        self.is_compacted = is_compacted
        """Whether the log may take out a record when a newer one has its key."""
        self.lost_its_beginning = lost_its_beginning
        """Whether retention has taken what was said first."""
        self.waiting: dict[int, deque[Expected]] = {}
        """What is expected and was not met yet, by source partition."""
        self.count = 0
        """How many those are together."""
        self.seen: dict[int, Point] = {}
        """The highest source that was met, by source partition: what is not above it is a repeat."""
        self.gaps = 0
        """Places so far where offsets are missing."""
        self.gap_at: dict[int, int] = {}
        """`gaps` when the last output of a source partition was met."""
        self.over: set[int] = set()
        """Source partitions of which something was met that is behind all that is compared."""
        self.guess = -1
        """The source partition that was met last: most often it comes again."""


class Matcher:
    """All output partitions, and the folds that expect something there."""

    def __init__(
        self,
        strands: Strands,
        outputs: Mapping[TopicPartition, OutputStrand],
        standings: Mapping[int, Standing],
        findings: Findings,
        only: str = "",
    ) -> None:
        """Begin with nothing expected; `only` names the one tenant whose outputs are compared."""
        self._strands = strands
        self._outputs = outputs
        self._standings = standings
        self._findings = findings
        self._cut = {number for number, one in standings.items() if one.is_cut}
        self._only = only.encode()
        self._busy: dict[TopicPartition, OutputStrand] = {}
        self._recent: dict[tuple[int, int, int], int] = {}
        self._older: dict[tuple[int, int, int], int] = {}
        self.compared = 0
        self.repeats = 0
        self.compacted = 0
        """Expected, and not there because the topic is compacted or has lost its beginning."""

    def expect(self, standing: Standing, place: TopicPartition, expected: Expected) -> None:
        """Look out for an output."""
        if self._only and expected.output.tenant_id.encode() != self._only:
            return
        one = self._outputs.get(place)
        if one is None:
            self.find(
                standing, Finding(Kind.MISSING, standing.partition, expected.point, place, expected.output)
            )
            return
        one.waiting.setdefault(standing.partition, deque()).append(expected)
        one.count += 1
        standing.owed += 1
        self._busy[place] = one

    def match(self) -> int | None:
        """Compare as far as the folds have come; return a partition whose fold others wait for, if any."""
        wanted = None
        for place, one in list(self._busy.items()):
            found = self._match(one, everything=False)
            wanted = found if found is not None else wanted
            if not one.count:
                self._busy.pop(place, None)
        return wanted

    def finish(self) -> None:
        """Read every output partition to its end, when the folds have come to theirs."""
        for one in self._outputs.values():
            self._match(one, everything=True)

    # -- one output partition ----------------------------------------------------------------------------

    def _match(self, one: OutputStrand, *, everything: bool) -> int | None:
        strand = one.strand
        while one.count or (everything and not self._is_over(one)):
            head = strand.at_hand[0] if strand.at_hand else self._strands.head(strand)
            if head is None:
                self._miss_the_rest(one)
                return None
            if head.offset != strand.next_offset:
                one.gaps += 1
                strand.next_offset = head.offset
            queue = one.waiting.get(one.guess)
            if queue and queue[0].output.value == head.value:
                self._meet(one, self._standings[one.guess], head)
            elif (wanted := self._look(one, head)) is not None:
                return wanted
            strand.drop()
        return None

    def _is_over(self, one: OutputStrand) -> bool:
        """Whether all that comes is behind the range; partitions that end within it say nothing more."""
        return bool(self._cut) and one.over >= self._cut

    def _look(self, one: OutputStrand, head: LogRecord) -> int | None:
        """Find out what the head is; return its source partition when that has to be folded first."""
        if self._only and (TENANT, self._only) not in head.headers:
            return None
        source = _source_of(one, head)
        if source is None:
            self._stray(one, head)
            return None
        standing = self._standings.get(source.partition)
        point = Point(source.offset, source.index)
        if standing is None:
            return None
        if point.offset >= standing.end or (standing.closed_at is not None and point >= standing.closed_at):
            one.over.add(source.partition)
            return None
        if point.offset < standing.first:
            return None
        seen = one.seen.get(source.partition)
        if seen is not None and point <= seen:
            self._repeat(standing, point, head)
            return None
        queue = one.waiting.get(source.partition) or deque()
        while queue and queue[0].point < point:
            self._miss(one, standing)
        if queue and queue[0].point == point:
            self._meet(one, standing, head)
        elif point.offset < standing.position:
            one.seen[source.partition] = point
            self.find(standing, Finding(Kind.EXTRA, standing.partition, point, one.strand.place, None, head))
        else:
            return standing.partition
        return None

    def _meet(self, one: OutputStrand, standing: Standing, head: LogRecord) -> None:
        point, output = self._pop(one, standing)
        partition = standing.partition
        one.seen[partition], one.gap_at[partition], one.guess = point, one.gaps, partition
        self.compared += 1
        self._remember(standing, point, head)
        if not _is_same(output, head):
            place = one.strand.place
            self.find(standing, Finding(Kind.DIFFERS, partition, point, place, output, head))

    def _remember(self, standing: Standing, point: Point, head: LogRecord) -> None:
        """Keep what stands for an output; the older half is forgotten at once: one by one costs more."""
        self._recent[standing.partition, *point] = hash(head.value)
        if len(self._recent) >= _RECENT:
            self._older, self._recent = self._recent, {}

    def _repeat(self, standing: Standing, point: Point, head: LogRecord) -> None:
        self.repeats += 1
        key = (standing.partition, *point)
        known = self._recent.get(key) or self._older.get(key)
        if known is not None and known != hash(head.value):
            place = TopicPartition(head.topic, head.partition)
            self.find(standing, Finding(Kind.REPEAT, standing.partition, point, place, None, head))

    def _miss_the_rest(self, one: OutputStrand) -> None:
        if one.strand.next_offset < one.strand.end:
            one.gaps += 1
        for partition, queue in one.waiting.items():
            while queue:
                self._miss(one, self._standings[partition])

    def _miss(self, one: OutputStrand, standing: Standing) -> None:
        point, output = self._pop(one, standing)
        partition = standing.partition
        is_gone = one.is_compacted and one.gaps != one.gap_at.get(partition, 0)
        if is_gone or (one.lost_its_beginning and partition not in one.seen):
            self.compacted += 1
            return
        self.find(standing, Finding(Kind.MISSING, partition, point, one.strand.place, output))

    def _pop(self, one: OutputStrand, standing: Standing) -> Expected:
        one.count -= 1
        standing.owed -= 1
        return one.waiting[standing.partition].popleft()

    def _stray(self, one: OutputStrand, head: LogRecord) -> None:
        """Note what no gate wrote; workers write letters, and operators that a letter was put back."""
        if one.kind is not DeadLetter:
            is_believed = (TYPE, one.kind.__name__.encode()) in head.headers
            self._findings.add_stray(head, is_believed=is_believed)

    def find(self, standing: Standing, finding: Finding) -> None:
        """Keep what differs first, and expect nothing of the partition that comes after it."""
        self._findings.add(finding)
        standing.closed_at = close = self._findings.first[standing.partition].point
        for one in self._outputs.values():
            queue = one.waiting.get(standing.partition)
            while queue and queue[-1].point >= close:
                queue.pop()
                one.count -= 1
                standing.owed -= 1


def _source_of(one: OutputStrand, record: LogRecord) -> Source | None:
    """Return what a record says that it was made from; None when it is no output of a gate."""
    try:
        message = one.kind.FromString(record.value or b"")
    except (DecodeError, ValueError):
        return None
    return message.source if message.HasField("source") else None


def _is_same(output: Output, record: LogRecord) -> bool:
    if record.value != output.value or record.key != output.key.encode():
        return False
    expected = headers_of(output.kind.__name__, output.tenant_id)
    return record.headers == expected or _ours(record.headers) == expected


def _ours(headers: Iterable[tuple[str, bytes]]) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, value) for name, value in headers if name in _OURS)
