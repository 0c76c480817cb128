"""What a check found: a verdict for each invariant, examples, counts and figures. Made by `check_log`."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Final

TITLES: Final = {
    "I1": "nothing lost: every start reaches exactly one terminal status",
    "I2": "one accepted result per execution; what comes later is not acted on",
    "I3": "conservation: the ledger is the sum over unique runs, every hold is closed",
    "I4": "gate: no dispatch after an abort or in a pause, none beyond a cap",
    "I5": "iterations, fan-out and retries stay within their caps",
    "I6": "a join fires once per visit, with the inputs its strategy asks for",
    "I7": "provenance: every execution follows from one that exists",
    "I8": "a zombie changes nothing: what is said again is said with the same bytes",
    "I9": "isolation: nothing of one tenant is found with another",
    "I10": "committed offsets never pass unfinished work; lag returns to 0",
    "I11": "determinism: a fresh fold gives the same outputs and state digests",
    "I12": "blobs: every reference resolves with its size and sha256",
    "I13": "dead letters: one for each bad input, with its bytes and coordinates",
    "I14": "liveness: every tenant progresses to the end of its work",
}
"""What each invariant says, in one line."""
_DETAILS: Final = ("log: ", "records")
"""Beginnings of counts that are in the JSON alone."""
EXAMPLES: Final = 10
"""Violations of one invariant that are kept whole; the others are counted."""


class Verdict(enum.Enum):
    """What a check says of one invariant."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    NOT_CHECKED = "NOT CHECKED"


@dataclass(frozen=True, slots=True)
class Violation:
    """One place where an invariant is broken."""

    where: str
    """topic[partition]@offset, or the lifetime, group or file that it is about."""
    what: str
    """One line for people."""


@dataclass(slots=True)
class Invariant:
    """What was found out about one invariant."""

    id: str
    looked_at: int = 0
    """Records, executions or lifetimes that were compared."""
    violations: int = 0
    examples: list[Violation] = field(default_factory=list)
    why_not: str = ""
    """Why it was not checked, or not in full; empty when it was."""

    @property
    def verdict(self) -> Verdict:
        """FAIL with any violation; NOT CHECKED when nothing was compared and a reason is known."""
        if self.violations:
            return Verdict.FAIL
        return Verdict.NOT_CHECKED if self.why_not and not self.looked_at else Verdict.PASS

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "id": self.id,
            "title": TITLES[self.id],
            "verdict": self.verdict.value,
            "looked_at": self.looked_at,
            "violations": self.violations,
            "examples": [{"where": one.where, "what": one.what} for one in self.examples],
            "not_checked": self.why_not,
        }


@dataclass(slots=True)
class Report:
    """What one check found."""

    invariants: dict[str, Invariant]
    """By id, I1 to I14."""
    counts: dict[str, int]
    """Records read, starts, ends by status, executions, and so on."""
    figures: dict[str, Any]
    """Everything else worth a line: seconds, records per second, maxima, lag by group."""
    settled: bool
    """Whether the workload was said to be over."""

    @property
    def violated(self) -> bool:
        """Whether any invariant is broken."""
        return any(one.verdict is Verdict.FAIL for one in self.invariants.values())

    def verdict(self, invariant: str) -> Verdict:
        """Return the verdict on one invariant."""
        return self.invariants[invariant].verdict

    def judge_latency(self, calm_p99_ms: float, healed_p99_ms: float) -> None:
        """Add to I14 what only who drove the load knows: the p99 after the last fault, and in calm."""
        liveness = self.invariants["I14"]
        liveness.looked_at += 1
        self.figures |= {"calm_p99_ms": calm_p99_ms, "healed_p99_ms": healed_p99_ms}
        if healed_p99_ms > 2 * calm_p99_ms:
            liveness.violations += 1
            what = f"p99 is {healed_p99_ms:.1f} ms after the last fault, {calm_p99_ms:.1f} ms in calm"
            liveness.examples.append(Violation("latency", what))

    def to_json(self) -> dict[str, Any]:
        """Return plain data, stable enough for scripts."""
        return {
            "violated": self.violated,
            "settled": self.settled,
            "invariants": [one.to_json() for one in self.invariants.values()],
            "counts": self.counts,
            "figures": self.figures,
        }

    def lines(self) -> list[str]:
        """Return the report for people."""
        found = []
        for one in self.invariants.values():
            found.append(f"{one.id:<4}{one.verdict.value:<12}{TITLES[one.id]}{_aside(one)}")
            found += [f"      {example.where}: {example.what}" for example in one.examples]
            left = one.violations - len(one.examples)
            if left > 0:
                found.append(f"      … and {left} more")
        told = {name: n for name, n in sorted(self.counts.items()) if n and not name.startswith(_DETAILS)}
        found.append("")
        found.append(f"{self.counts.get('records', 0)} records in {self.figures.get('seconds', 0)} s")
        found.append(", ".join(f"{name}: {count}" for name, count in told.items()))
        found.append("violated" if self.violated else "no violation")
        return found


def _aside(one: Invariant) -> str:
    parts = [f"{one.looked_at} looked at"] if one.looked_at else []
    parts += ["nothing of the kind in this log"] if not one.looked_at and not one.why_not else []
    parts += [f"{one.violations} violations"] if one.violations else []
    parts += [one.why_not] if one.why_not else []
    return f" ({'; '.join(parts)})" if parts else ""
