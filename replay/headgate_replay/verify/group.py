"""Some partitions verified side by side by one process, each output topic read once for all of them.

Each fold goes on for a few records in turn. Whose outputs stand before those of another on some output
partition is folded first, so the folds go in about the order in which the gates went, and little waits for
its counterpart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from headgate_guardrails.fold.turn import (
    CONTROL_EVENTS,
    DEAD_LETTERS,
    LIFETIMES,
    PLAN_INPUTS,
    TASK_INPUTS,
    Output,
)
from headgate_replay.reading.installation import Installation
from headgate_replay.reading.strands import Strand, Strands
from headgate_replay.verify.findings import LAST, Finding, Findings, Kind, Point
from headgate_replay.verify.matching import Expected, Matcher, OutputStrand, Standing
from headgate_replay.verify.refolding import FoldFails, Refold
from headgate_streams.pace import Pace
from headgate_streams.port import LogRecord, TopicPartition
from headgate_streams.topics import partition_for, spread

_TURN: Final = 64
"""Records that one fold takes before others are looked at."""
_MOST_OWED: Final = 2_000
"""Outputs that one partition may wait for while there are others to fold."""

Progress = Callable[[int], None]
"""Called with the number of records that were folded since the call before."""


class Part(NamedTuple):
    """One partition to be verified."""

    partition: int
    first: int
    """What is compared begins with this record; what comes before it is only folded."""
    end: int
    is_cut: bool
    """Whether the log goes on behind the end."""


class Counts(NamedTuple):
    """What a group has done."""

    folded: int = 0
    """Records of the log."""
    read: int = 0
    """Records of all topics."""
    compared: int = 0
    """Outputs that were held against each other."""
    repeats: int = 0
    compacted: int = 0
    """Outputs that the log may have lost by compaction or retention."""
    states: int = 0
    """States that were held against a checkpoint."""

    def __add__(self, other: Counts) -> Counts:  # type: ignore[override]
        return Counts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class _Fold(NamedTuple):
    """One partition at work."""

    refold: Refold
    strand: Strand
    standing: Standing


class Group:
    """The partitions, their folds, and what is known of the outputs."""

    def __init__(
        self,
        installation: Installation,
        folds: Mapping[Part, Refold],
        outputs: Mapping[TopicPartition, tuple[int, int]],
        pace: Pace,
        only: str = "",
    ) -> None:
        """Begin; `outputs` says from where to where each output partition is read."""
        topics = installation.topics
        self._installation = installation
        self._only = only
        kinds = installation.outputs()
        logs = {
            TopicPartition(topics.executions, part.partition): (refold.state.next_offset, part.end)
            for part, refold in folds.items()
        }
        self._strands = Strands(installation.log, logs | dict(outputs), pace)
        self._folds = {
            part.partition: _Fold(refold, self._strands[place], Standing(*part[:3], is_cut=part.is_cut))
            for (part, refold), place in zip(folds.items(), logs, strict=True)
        }
        self.findings = Findings()
        beginnings = installation.log.offsets(outputs)
        self._matcher = Matcher(
            self._strands,
            {place: self._output(place, kinds[place.topic], beginnings[place][0]) for place in outputs},
            {number: fold.standing for number, fold in self._folds.items()},
            self.findings,
            only,
        )
        self._folded = 0
        self._places: dict[tuple[str, str], list[TopicPartition]] = {}
        """Partitions in which outputs are, by their kind and queue."""

    def _output(self, place: TopicPartition, kind: type[Any], beginning: int) -> OutputStrand:
        strand = self._strands[place]
        return OutputStrand(
            strand,
            kind,
            is_compacted=place.topic == self._installation.topics.lifetimes,
            lost_its_beginning=0 < beginning >= strand.position,
        )

    def run(self, progress: Progress) -> Counts:
        """Fold and compare everything; what was found is in `findings`."""
        try:
            wanted: int | None = None
            while (fold := self._choose(wanted)) is not None:
                before = self._folded
                self._turn(fold)
                wanted = self._matcher.match()
                progress(self._folded - before)
            self._matcher.finish()
        finally:
            self._strands.close()
        matcher = self._matcher
        states = sum(fold.refold.compared for fold in self._folds.values())
        return Counts(
            self._folded, self._strands.read, matcher.compared, matcher.repeats, matcher.compacted, states
        )

    def _choose(self, wanted: int | None) -> _Fold | None:
        """Return whom to fold next: who is waited for, else who is furthest behind in log time."""
        if wanted is not None and not self._folds[wanted].standing.is_done:
            return self._folds[wanted]
        left = [fold for fold in self._folds.values() if not fold.standing.is_done]
        return min(left, key=self._when, default=None)

    def _when(self, fold: _Fold) -> tuple[bool, int]:
        head = self._strands.head(fold.strand)
        return fold.standing.owed > _MOST_OWED, head.timestamp_ms if head is not None else 0

    def _turn(self, fold: _Fold) -> None:
        standing, strand = fold.standing, fold.strand
        for _ in range(_TURN):
            if standing.is_done:
                return
            head = self._strands.head(strand)
            if head is None or head.offset != strand.next_offset:
                lost = f"record {strand.next_offset} is gone from the middle of the log"
                self._close(standing, Kind.LOST, Point(strand.next_offset, -1), lost)
                return
            strand.drop()
            self._fold(fold, head)
            standing.position = max(standing.position, head.offset + 1)

    def _fold(self, fold: _Fold, record: LogRecord) -> None:
        standing = fold.standing
        self._folded += 1
        try:
            outputs = fold.refold.apply(record)
        except FoldFails as error:
            self._close(standing, Kind.FAILED, Point(record.offset, -1), f"the fold fails {error}")
            return
        for index, output in enumerate(outputs):
            expected = Expected(Point(record.offset, index), output)
            self._matcher.expect(standing, self._place_of(output), expected)
        if not self._only and (wrong := fold.refold.wrong_digest()):
            self._close(standing, Kind.STATE, Point(record.offset, LAST), wrong)

    def _close(self, standing: Standing, kind: Kind, point: Point, detail: str) -> None:
        self._matcher.find(standing, Finding(kind, standing.partition, point, detail=detail))

    def _place_of(self, output: Output) -> TopicPartition:
        kind = output.topic
        places = self._places.get((kind, output.queue)) or self._places_of(kind, output.queue)
        if kind in (TASK_INPUTS, PLAN_INPUTS):
            return places[spread(output.key, len(places))]
        return places[partition_for(output.tenant_id, len(places))]

    def _places_of(self, kind: str, queue: str) -> list[TopicPartition]:
        topics = self._installation.topics
        name = {
            TASK_INPUTS: topics.task_inputs(queue),
            PLAN_INPUTS: topics.plan_inputs(queue),
            CONTROL_EVENTS: topics.control_events,
            LIFETIMES: topics.lifetimes,
            DEAD_LETTERS: topics.dead_letters,
        }[kind]
        places = [TopicPartition(name, number) for number in range(self._installation.partitions)]
        self._places[kind, queue] = places
        return places
