"""`backtest_log`: each partition folded as it was and under each draft, and what came of it side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from headgate_graphs.errors import UserError
from headgate_guardrails.checkpoints import CheckpointStore
from headgate_guardrails.fold.authority import UnknownTicketKey
from headgate_guardrails.fold.engine import GuardrailEngine, Surroundings, UnknownLogic
from headgate_guardrails.fold.snapshot import capture, read_manifest, restore, seal
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.folding import surroundings
from headgate_guardrails.policy import Policy
from headgate_protos.v1 import common_pb2 as pb
from headgate_replay.backtest.drafts import Draft
from headgate_replay.backtest.report import BacktestReport, SideReport, WronglyStopped
from headgate_replay.backtest.tally import Ended, Usage
from headgate_replay.backtest.trial import Side
from headgate_replay.reading.installation import Installation
from headgate_replay.reading.moments import Range
from headgate_replay.verify.quarantines import announced_holds
from headgate_replay.verify.refolding import starting_state
from headgate_streams.blobs import BlobStore
from headgate_streams.pace import Pace
from headgate_streams.port import Log, LogRecord, TopicPartition
from headgate_streams.ranges import read_range
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import partition_for

POINTS = 200
"""Of the course of spend."""
MOST_NAMED = 1_000
"""Completed runs that a draft would have stopped, which are named; all are counted."""
_REPORT_EVERY = 500


@dataclass(frozen=True, slots=True)
class BacktestInput:
    """What is to be tried on what."""

    drafts: Sequence[tuple[str, Policy]]
    """(what it is called, the draft): each is tried by itself."""
    range: Range = field(default_factory=Range)
    tenant: str = ""
    """The one tenant for whom the drafts hold and who is counted; empty for everybody."""
    added: bool = False
    """Whether a draft is in force from the beginning even where no policy has its name."""
    from_checkpoint: bool = False
    records_per_s: float = 0.0


def backtest_log(
    log: Log,
    blobs: BlobStore,
    settings: StreamSettings,
    asked: BacktestInput,
    progress: Callable[[int, int], None] | None = None,
) -> BacktestReport:
    """Try the drafts on a part of the log; `progress` hears (records folded, records in all).

    Raises UserError when there is nothing to fold, or this process may not.
    """
    began = time.process_time()
    installation = Installation(log, settings.topics())
    home = partition_for(asked.tenant, installation.partitions) if asked.tenant else None
    spans = [
        (place, *asked.range.within(log, place, span))
        for place, span in sorted(installation.spans([installation.topics.executions]).items())
        if home in (None, place.partition)
    ]
    total = sum(max(end - first, 0) for _, first, end in spans)
    means = surroundings(log, installation.topics.executions, settings)
    store = CheckpointStore(log, blobs, installation.topics) if asked.from_checkpoint else None
    pace, report, done = Pace(asked.records_per_s), BacktestReport.of([n for n, _ in asked.drafts]), 0
    for place, first, end in spans:
        if first >= end:
            continue
        trial = _Partition(installation, store, place, (first, end), means, asked)
        for record in trial.records():
            pace.take()
            try:
                trial.take(record, report)
            except (UnknownTicketKey, UnknownLogic) as error:
                where = f"{place.topic}[{place.partition}]@{record.offset}"
                raise UserError(f"{where} cannot be folded here: {error}") from error
            done += 1
            if progress is not None and done % _REPORT_EVERY == 0:
                progress(done, total)
        trial.close(report)
    report.records, report.cpu_seconds = done, time.process_time() - began
    return report


class _Partition:
    """One partition, as it was and under each draft."""

    def __init__(
        self,
        installation: Installation,
        store: CheckpointStore | None,
        place: TopicPartition,
        span: tuple[int, int],
        means: Surroundings,
        asked: BacktestInput,
    ) -> None:
        self._log = installation.log
        self._place = place
        self._first, self._end = span
        holds = announced_holds(installation, place.partition)
        state = starting_state(installation, store, place, self._first)
        before = GuardrailEngine(state, means, holds, range(0))
        for record in read_range(self._log, place, state.next_offset, self._first):
            before.apply(record, is_silent=True)
        self.live = Side(before, None)
        self.sides = [
            Side(
                GuardrailEngine(_copy(state), means, holds, range(0)),
                Draft([policy], tenant=asked.tenant, added=asked.added),
            )
            for _, policy in asked.drafts
        ]
        self._tenant = asked.tenant
        self._told = [self._spent(side) for side in (self.live, *self.sides)]
        self._every = max(1, (self._end - self._first) // POINTS)

    def records(self) -> Iterator[LogRecord]:
        """Yield what the drafts are tried on."""
        return read_range(self._log, self._place, self._first, self._end)

    def take(self, record: LogRecord, report: BacktestReport) -> None:
        """Fold one record on every side."""
        then = self.live.take(record)
        ended = self.live.tally.hear(then, record, self._tenant)
        for side, found in zip(self.sides, report.drafts, strict=True):
            here = side.take(record)
            side.compare(here, then)
            self._end_here(side, side.tally.hear(here, record, self._tenant), found)
            self._end_then(side, ended, found)
        if (record.offset - self._first) % self._every == 0:
            self._tell(record.timestamp_ms, report)

    def _end_here(self, side: Side, ended: Sequence[Ended], found: SideReport) -> None:
        for one in ended:
            known = side.then.pop(one.run, None)
            if known is None:
                side.over[one.run] = one
            else:
                self._settle(side, known, one, found)

    def _end_then(self, side: Side, ended: Sequence[Ended], found: SideReport) -> None:
        for one in ended:
            known = side.over.pop(one.run, None)
            if known is None:
                side.then[one.run] = one
            else:
                self._settle(side, one, known, found)

    def _settle(self, side: Side, then: Ended, here: Ended | None, found: SideReport) -> None:
        """Count a run that is over on both sides, or that a draft still holds at the end."""
        side.forget(then.run)
        stop = side.tally.stopped.pop(then.run, None)
        if stop is None:
            return
        if here is not None:
            found.saved_by[stop.rule] = found.saved_by.get(stop.rule, Usage()) + (then.usage - here.usage)
        if then.status == pb.LIFETIME_STATUS_COMPLETED:
            found.wrongly_stopped += 1
            if len(found.named) < MOST_NAMED:
                found.named.append(WronglyStopped(*then.run, stop))

    def close(self, report: BacktestReport) -> None:
        """Count what is left at the end of the range."""
        for side, found in zip(self.sides, report.drafts, strict=True):
            for then in list(side.then.values()):
                self._settle(side, then, None, found)
            found.unlived += len(side.ahead)
            found.verdicts.update(side.tally.verdicts)
        report.live.verdicts.update(self.live.tally.verdicts)
        self._tell(self.live.engine.state.clock_ms, report)

    def _tell(self, time_ms: int, report: BacktestReport) -> None:
        """Add what was spent since it was told last to the course of spend."""
        now = [self._spent(side) for side in (self.live, *self.sides)]
        spent = [after - before for after, before in zip(now, self._told, strict=True)]
        if any(map(any, spent)):
            for one, found in zip(spent, (report.live, *report.drafts), strict=True):
                found.spent += one
            report.course.append((time_ms, tuple(one.cost_nano_usd for one in spent)))
        self._told = now

    def _spent(self, side: Side) -> Usage:
        """Return what the ledgers of those who are looked at say."""
        tenants = side.engine.state.tenants.values()
        spends = [one.spend for one in tenants if self._tenant in (one.tenant_id, "")]
        return Usage(sum(one.tokens for one in spends), sum(one.cost for one in spends))


def _copy(state: PartitionState) -> PartitionState:
    sealed = seal(capture(state))
    return restore(read_manifest(sealed.manifest), lambda entry: sealed.blobs[entry.sha256])
