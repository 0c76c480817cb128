"""Collects what the parts of a check find, with a bounded number of examples each."""

from __future__ import annotations

from collections import Counter
from typing import Any

from headgate_resilience.check.report import EXAMPLES, TITLES, Invariant, Report, Violation

MOST_CHARACTERS = 300
"""Of one example; what is read may be anybody's."""


class Findings:
    """What has been found so far. One thread."""

    def __init__(self) -> None:
        self.invariants = {name: Invariant(name) for name in TITLES}
        self.counts: Counter[str] = Counter()
        self.figures: dict[str, Any] = {}

    def saw(self, invariant: str, count: int = 1) -> None:
        """Count things that were compared."""
        self.invariants[invariant].looked_at += count

    def fail(self, invariant: str, where: str, what: str) -> None:
        """Note one violation."""
        found = self.invariants[invariant]
        found.violations += 1
        if len(found.examples) < EXAMPLES:
            found.examples.append(Violation(_safe(where), _safe(what)))

    def need(self, invariant: str, holds: bool, where: str, what: str) -> None:
        """Count one comparison, and note a violation unless it holds."""
        self.invariants[invariant].looked_at += 1
        if not holds:
            self.fail(invariant, where, what)

    def not_checked(self, invariant: str, why: str) -> None:
        """Say why an invariant is not checked, or not in full; the first reasons are kept."""
        found = self.invariants[invariant]
        if why not in found.why_not and len(found.why_not) < MOST_CHARACTERS:
            found.why_not += f"; {_safe(why)}" if found.why_not else _safe(why)

    def highest(self, figure: str, value: int) -> None:
        """Keep the highest value of a figure."""
        if value > self.figures.get(figure, -1):
            self.figures[figure] = value

    def report(self, *, settled: bool) -> Report:
        """Return what was found."""
        return Report(self.invariants, dict(self.counts), self.figures, settled)


def _safe(text: str) -> str:
    """Return the text on one line, escaped and capped."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: MOST_CHARACTERS + 1])
    return shown if len(shown) <= MOST_CHARACTERS else shown[:MOST_CHARACTERS] + "…"
