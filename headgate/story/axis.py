"""The time axis that all drawings of a page share, and the text of SVG elements. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from headgate.words import clock, moment

WIDTH = 1200
"""Width of every drawing, in its own units; a page scales it."""
LEFT = 190
"""Where the time axis begins; names stand before it."""
RIGHT = WIDTH - 24
STEPS_MS = tuple(
    unit * count
    for unit, counts in (
        (1, (1, 2, 5, 10, 20, 50, 100, 200, 500)),
        (1_000, (1, 2, 5, 10, 15, 30)),
        (60_000, (1, 2, 5, 10, 15, 30)),
        (3_600_000, (1, 2, 4, 8, 12)),
        (86_400_000, (1, 2, 7, 14, 30, 90, 365)),
    )
    for count in counts
)
"""Distances between two ticks that people count in, in milliseconds."""
MOST_TICKS = 10


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps log time (Unix milliseconds) to x."""

    begin_ms: int
    end_ms: int

    def x(self, when_ms: int) -> float:
        """Return where a moment is drawn; what lies outside stands at the edge."""
        share = (when_ms - self.begin_ms) / max(1, self.end_ms - self.begin_ms)
        return round(LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, share)), 2)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Yield (x, what stands there): how long after the beginning."""
        span = max(1, self.end_ms - self.begin_ms)
        step = next((one for one in STEPS_MS if span / one <= MOST_TICKS), span // MOST_TICKS)
        for number in range(span // step + 1):
            at_ms = number * step
            yield self.x(self.begin_ms + at_ms), _after(at_ms, step) if at_ms else clock(self.begin_ms)


def _after(ms: int, step_ms: int) -> str:
    """Return how long after the beginning, as exactly as the ticks are apart."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if step_ms >= size or (ms >= size and step_ms * 10 >= size):
            return f"+{ms / size:g} {unit}"
    return f"+{ms:,} ms"


def grid(axis: Axis, top: float, bottom: float, *, named: bool) -> str:
    """Return the lines of the axis from `top` to `bottom`, with what stands there when `named`."""
    parts = []
    for x, text in axis.ticks():
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>')
        if named:
            parts.append(words(x, top - 6, text, "tick"))
    return "".join(parts)


def words(x: float, y: float, text: str, kind: str, *, anchor: str = "start") -> str:
    """Return a line of text, escaped."""
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def told(text: str) -> str:
    """Return what is shown when the pointer rests on an element, escaped."""
    return f"<title>{escape(text)}</title>"


def drawing(height: float, label: str, parts: str) -> str:
    """Return a whole drawing; `label` says what it is to who cannot see it."""
    return (
        f'<div class="wide"><svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">'
        f"{parts}</svg></div>"
    )


def when_words(when_ms: int) -> str:
    """Return a moment as a page shows it."""
    return moment(when_ms).replace("T", " ").removesuffix("Z") + " UTC"
