"""What a backtest has found, side by side: as it was, and under each draft."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from headgate_replay.backtest.tally import Stop, Usage


class WronglyStopped(NamedTuple):
    """A run that completed, and that a draft would have stopped."""

    tenant_id: str
    lifetime_id: str
    stop: Stop


@dataclass(slots=True)
class SideReport:
    """One side."""

    name: str
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By (`policy v1 rule`, verdict)."""
    spent: Usage = field(default_factory=Usage)
    """Within the range."""
    saved_by: dict[str, Usage] = field(default_factory=dict)
    """What runs would not have spent after a rule stopped them, by that rule."""
    wrongly_stopped: int = 0
    """Runs that completed, and would have been stopped here."""
    named: list[WronglyStopped] = field(default_factory=list)
    """The first of those."""
    unlived: int = 0
    """Executions that are dispatched here alone: what would have come of them is not known."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data; money in nano-USD."""
        return {
            "name": self.name,
            "verdicts": [
                {"rule": rule, "verdict": verdict, "count": count}
                for (rule, verdict), count in sorted(self.verdicts.items())
            ],
            "spent": self.spent._asdict(),
            "saved_by": {rule: usage._asdict() for rule, usage in sorted(self.saved_by.items())},
            "completed_runs_stopped": self.wrongly_stopped,
            "completed_runs_stopped_named": [
                {"tenant_id": one.tenant_id, "lifetime_id": one.lifetime_id, **one.stop._asdict()}
                for one in self.named
            ],
            "dispatches_without_a_result": self.unlived,
        }


@dataclass(slots=True)
class BacktestReport:
    """All sides."""

    live: SideReport
    drafts: Sequence[SideReport]
    course: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    """(log time, nano-USD spent since the time before in a partition: as it was, then under each draft)."""
    records: int = 0
    cpu_seconds: float = 0.0

    @classmethod
    def of(cls, names: Sequence[str]) -> BacktestReport:
        """Return an empty report."""
        return cls(SideReport("live"), [SideReport(name) for name in names])

    @property
    def sides(self) -> Sequence[SideReport]:
        """As it was, then each draft."""
        return (self.live, *self.drafts)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield (rule, verdict, count on each side)."""
        keys = sorted({key for side in self.sides for key in side.verdicts})
        for rule, verdict in keys:
            yield rule, verdict, *(f"{side.verdicts[rule, verdict]:,}" for side in self.sides)

    def saved(self, side: SideReport) -> Usage:
        """Return what would not have been spent."""
        return self.live.spent - side.spent

    def spend_over_time(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield (log time, nano-USD spent so far: as it was, then under each draft)."""
        sums = [0] * len(self.sides)
        for time_ms, spent in sorted(self.course):
            sums = [before + more for before, more in zip(sums, spent, strict=True)]
            yield time_ms, tuple(sums)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain data; money in nano-USD."""
        return {
            "live": self.live.to_json(),
            "drafts": [one.to_json() | {"saved": self.saved(one)._asdict()} for one in self.drafts],
            "spend_over_time": [
                {"time_ms": time_ms, "spent_nano_usd": spent} for time_ms, spent in self.spend_over_time()
            ],
            "records": self.records,
            "cpu_seconds": round(self.cpu_seconds, 3),
        }
