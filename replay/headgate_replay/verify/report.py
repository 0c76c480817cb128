"""What a verification has found, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headgate_replay.verify.divergence import Divergence
from headgate_replay.verify.group import Counts, Part


@dataclass(frozen=True, slots=True)
class Measured:
    """What it took."""

    seconds: float
    cpu_seconds: float
    """Of all processes together."""
    peak_rss_bytes: int
    """Of the largest process."""
    processes: int


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The parts that were verified and what was found."""

    parts: Sequence[Part]
    counts: Counts
    divergences: Sequence[Divergence]
    """The first of each partition that has one, in the order of the log's time."""
    strays: int
    """Records of output topics that no gate wrote."""
    not_acted_on: int
    """Records at the end of the log that no gate has committed yet; they are not looked at."""
    measured: Measured

    @property
    def per_core(self) -> float:
        """Records that one core folds in a second, their outputs compared."""
        return self.counts.folded / max(self.measured.cpu_seconds, 1e-9)

    @property
    def verified_per_core(self) -> float:
        """Records of all topics that one core verifies in a second: those folded, and those compared."""
        verified = self.counts.folded + self.counts.compared
        return verified / max(self.measured.cpu_seconds, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        measured = self.measured
        return {
            "verified": not self.divergences,
            "partitions": [part._asdict() for part in self.parts],
            **self.counts._asdict(),
            "strays": self.strays,
            "not_acted_on": self.not_acted_on,
            "divergences": [one.to_json() for one in self.divergences],
            "seconds": round(measured.seconds, 3),
            "cpu_seconds": round(measured.cpu_seconds, 3),
            "records_per_s_and_core": round(self.verified_per_core),
            "folded_per_s_and_core": round(self.per_core),
            "peak_rss_bytes": measured.peak_rss_bytes,
            "processes": measured.processes,
        }

    def lines(self) -> list[str]:
        """Return it for people: what was looked at, then what differs."""
        counts, measured = self.counts, self.measured
        lines = [
            f"{counts.folded:,} records of {len(self.parts)} partitions folded, {counts.compared:,} outputs "
            f"and {counts.states:,} states compared, no handler called",
            f"{measured.seconds:,.1f} s in {measured.processes} processes, "
            f"{self.verified_per_core:,.0f} records/s a core, {self.per_core:,.0f} of them folded",
        ]
        if counts.repeats:
            lines.append(f"{counts.repeats:,} outputs were written again, as after a crash of a gate")
        if counts.compacted:
            lines.append(
                f"{counts.compacted:,} outputs are not there: compaction or retention has taken them"
            )
        if self.not_acted_on:
            lines.append(f"{self.not_acted_on:,} records at the end are not acted on yet: not looked at")
        if self.strays:
            lines.append(f"{self.strays:,} records of output topics were not written by a gate")
        if not self.divergences:
            return [*lines, "no divergence"]
        for one in self.divergences:
            lines += one.lines()
        return lines
