"""`verify_log`: which partitions, from where to where, in how many processes; then what they have found."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

from headgate_graphs.errors import UserError
from headgate_guardrails.checkpoints import CheckpointStore
from headgate_guardrails.fold.quarantine import Hold
from headgate_guardrails.folding import surroundings
from headgate_replay.reading.installation import Installation
from headgate_replay.reading.moments import Range
from headgate_replay.reading.processes import in_processes
from headgate_replay.verify.divergence import Divergence, readable
from headgate_replay.verify.findings import NOWHERE, Finding, Kind
from headgate_replay.verify.group import Counts, Group, Part, Progress
from headgate_replay.verify.quarantines import announced_holds
from headgate_replay.verify.refolding import Refold, checkpoint_digests, starting_state
from headgate_replay.verify.report import Measured, VerifyReport
from headgate_streams.blobs import BlobStore
from headgate_streams.opening import open_blob_store, open_log
from headgate_streams.pace import Pace
from headgate_streams.port import Log, TopicPartition
from headgate_streams.ranges import read_range
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import partition_for

SKEW_MS = 600_000
"""An output may seem so much older than its record: brokers' clocks differ."""


@dataclass(frozen=True, slots=True)
class VerifyInput:
    """What is to be verified."""

    range: Range = field(default_factory=Range)
    """Which records; what comes before them is folded, and not compared."""
    tenant: str = ""
    """The one tenant whose outputs are compared; empty for everybody."""
    partitions: frozenset[int] = frozenset()
    """The partitions that are looked at; empty for all, or for the tenant's."""
    from_checkpoint: bool = False
    """Whether the state before the range comes from a checkpoint, and not from the log's beginning. Without a
    first moment, the range begins at each partition's newest checkpoint."""
    processes: int = 1
    """How many work side by side, at most."""
    records_per_s: float = 0.0
    """Most records that are read in a second, by all together; 0 for as many as there are."""


class Share(NamedTuple):
    """What one process does."""

    parts: Sequence[Part]
    outputs: Mapping[TopicPartition, tuple[int, int]]
    asked: VerifyInput


class Found(NamedTuple):
    """What one process has found."""

    counts: Counts
    divergences: Sequence[Divergence]
    strays: int
    cpu_seconds: float
    peak_rss_bytes: int


def verify_log(
    log: Log,
    blobs: BlobStore,
    settings: StreamSettings,
    asked: VerifyInput,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Verify the installation that the settings name; `progress` hears (records folded, records in all).

    Raises UserError when there is nothing to fold, or this process may not; LogUnavailable when the log does
    not answer.
    """
    began_s = time.monotonic()
    installation = Installation(log, settings.topics())
    parts, not_acted_on = _parts(installation, blobs, asked)
    outputs = _outputs(installation, parts)
    total = sum(part.end - part.first for part in parts)
    count = 1 if settings.in_memory and settings.is_embedded else min(asked.processes, len(parts))
    shares = [Share(some, outputs, asked) for some in _split(parts, max(count, 1))]
    done = 0

    def folded(records: int) -> None:
        nonlocal done
        done += records
        if progress is not None:
            progress(done, total)

    if count <= 1:
        found = [verify_share(log, blobs, settings, share, folded) for share in shares if share.parts]
    else:
        found = in_processes(_work, [(settings, share) for share in shares], folded)
    return _report(found, parts, not_acted_on, (time.monotonic() - began_s, max(count, 1)))


def _parts(installation: Installation, blobs: BlobStore, asked: VerifyInput) -> tuple[list[Part], int]:
    """Return what is verified of each partition, and how many records nobody has acted on."""
    acted_on = installation.acted_on()
    parts, ahead = [], 0
    wanted = _wanted(installation, asked)
    store = CheckpointStore(installation.log, blobs, installation.topics) if asked.from_checkpoint else None
    for place, span in sorted(installation.spans([installation.topics.executions]).items()):
        if place.partition not in wanted:
            continue
        first, end = asked.range.within(installation.log, place, span)
        is_cut = end < span[1]
        if acted_on is not None and acted_on[place.partition] < end:
            ahead += end - max(acted_on[place.partition], first)
            end = acted_on[place.partition]
        if store is not None and asked.range.first is None:
            first = starting_state(installation, store, place, end).next_offset
        if first < end:
            parts.append(Part(place.partition, first, end, is_cut))
    return parts, ahead


def _wanted(installation: Installation, asked: VerifyInput) -> frozenset[int]:
    there = frozenset(range(installation.partitions))
    if asked.partitions - there:
        raise UserError(
            f"there is no partition {max(asked.partitions)}: {installation.topics.executions} has "
            f"{installation.partitions}, from 0"
        )
    if not asked.tenant:
        return asked.partitions or there
    home = partition_for(asked.tenant, installation.partitions)
    if asked.partitions - {home}:
        raise UserError(f"tenant {asked.tenant} is in partition {home}, and in no other")
    return frozenset({home})


def _outputs(installation: Installation, parts: Sequence[Part]) -> dict[TopicPartition, tuple[int, int]]:
    """Return from where to where each output partition is read: all, or from the time of the first record."""
    spans = installation.spans(installation.outputs())
    if not parts or min(part.first for part in parts) == 0:
        return dict(spans)
    firsts = [_time_of(installation, part) for part in parts]
    since_ms = min(firsts) - SKEW_MS
    return {
        place: (max(span[0], installation.log.offset_at(place, since_ms)), span[1])
        for place, span in spans.items()
    }


def _time_of(installation: Installation, part: Part) -> int:
    place = TopicPartition(installation.topics.executions, part.partition)
    for record in read_range(installation.log, place, part.first, part.end):
        return record.timestamp_ms
    return 0


def _split(parts: Iterable[Part], count: int) -> list[list[Part]]:
    """Return the partitions for each of `count` processes, so that all have about as much to fold."""
    shares: list[list[Part]] = [[] for _ in range(count)]
    sizes = [0] * count
    for part in sorted(parts, key=lambda one: one.first - one.end):
        smallest = sizes.index(min(sizes))
        shares[smallest].append(part)
        sizes[smallest] += part.end - part.first
    return shares


def _work(settings: StreamSettings, share: Share, progress: Progress) -> Found:
    """Do a share in a process of its own."""
    with closing(open_log(settings)) as log:
        return verify_share(log, open_blob_store(settings), settings, share, progress)


def verify_share(
    log: Log, blobs: BlobStore, settings: StreamSettings, share: Share, progress: Progress
) -> Found:
    """Verify some partitions; those that differ once more with the tenants held that the gates have held."""
    began = time.process_time()
    process = _Process(log, blobs, settings, share)
    process.verify(share.parts, progress)
    for part in share.parts:
        if part.partition in process.found:
            process.verify_with_holds(part)
    divergences = [readable(process.installation, *one) for one in process.found.values()]
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Found(process.counts, divergences, process.strays, time.process_time() - began, rss)


class _Process:
    """What one process knows and has found."""

    def __init__(self, log: Log, blobs: BlobStore, settings: StreamSettings, share: Share) -> None:
        asked = share.asked
        self.installation = Installation(log, settings.topics())
        topics = self.installation.topics
        self._share = share
        self._store = CheckpointStore(log, blobs, topics) if asked.from_checkpoint else None
        self._pace = Pace(asked.records_per_s / max(asked.processes, 1))
        self._means = surroundings(log, topics.executions, settings)
        self._digests = checkpoint_digests(self.installation)
        self.counts = Counts()
        self.strays = 0
        self.found: dict[int, tuple[Finding, int]] = {}
        """By partition: what differs first, and the logic version there."""

    def verify(self, parts: Sequence[Part], progress: Progress, holds: Sequence[Hold] = ()) -> None:
        """Fold and compare some partitions."""
        folds = {part: self._refold(part, holds) for part in parts}
        group = Group(self.installation, folds, self._share.outputs, self._pace, self._share.asked.tenant)
        self.counts += group.run(progress)
        self.strays = max(self.strays, group.findings.strays)
        for part, fold in folds.items():
            finding = group.findings.first.get(part.partition)
            if finding is not None:
                self.found[part.partition] = (finding, fold.state.logic_version)
        if group.findings.stray is not None:
            stray = group.findings.stray
            self.found.setdefault(-1, (Finding(Kind.STRAY, stray.partition, NOWHERE, record=stray), 0))

    def verify_with_holds(self, part: Part) -> None:
        """Fold a partition that differs once more, if gates have held tenants there."""
        holds = announced_holds(self.installation, part.partition)
        if holds:
            self.found.pop(part.partition)
            self.verify([part], _unheard, holds)

    def _refold(self, part: Part, holds: Sequence[Hold]) -> Refold:
        place = TopicPartition(self.installation.topics.executions, part.partition)
        up_to = min([part.first, *(hold.offset for hold in holds)])
        state = starting_state(self.installation, self._store, place, up_to)
        return Refold(state, self._means, holds, part.first, self._digests.get(part.partition, {}))


def _unheard(_records: int) -> None:
    """Nothing: these records were counted before."""


def _report(
    found: Sequence[Found], parts: Sequence[Part], not_acted_on: int, took: tuple[float, int]
) -> VerifyReport:
    counts = Counts()
    for one in found:
        counts += one.counts
    divergences = {(d.partition, d.where, d.offset): d for one in found for d in one.divergences}
    seconds, processes = took
    return VerifyReport(
        sorted(parts),
        counts,
        sorted(divergences.values(), key=lambda d: (d.time_ms is None, d.time_ms, d.partition)),
        max((one.strays for one in found), default=0),
        not_acted_on,
        Measured(
            seconds,
            sum(one.cpu_seconds for one in found),
            max((one.peak_rss_bytes for one in found), default=0),
            processes,
        ),
    )
