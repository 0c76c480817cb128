"""Spend over time as a step line on the page's time axis, with the caps in force as lines. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from itertools import pairwise

from headgate.story.axis import LEFT, RIGHT, Axis, drawing, grid, told, words
from headgate.story.model import Note
from headgate.story.spending import CapLine, Points
from headgate.words import amount
from headgate_graphs.units import format_duration

TOP, BOTTOM, HEIGHT = 26, 150, 164
FAR = 4
"""A cap above so many times all that is spent is said in words: drawn, it would flatten the line."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Spend in one metric, what it may be, and the notes that are marked in it."""

    title: str
    metric: str
    spent: Points
    caps: list[CapLine]


def chart(one: Chart, axis: Axis, notes: list[Note]) -> str:
    """Return the drawing, and a line on each cap that lies too far above it."""
    seen = _seen(one.spent, axis)
    most = max(value for _, value in seen)
    limits = [value for cap in one.caps for _, value in _seen(cap.points, axis) if value <= FAR * most]
    scale = Scale(one.metric, max([1, most, *limits]))
    parts = [grid(axis, TOP, BOTTOM, named=False), words(4, TOP + 4, one.title, "name life-name")]
    parts += [scale.tick(share) for share in (0.0, 0.5, 1.0)]
    parts.append(_spent(seen, axis, scale))
    parts += [_cap(cap, axis, scale) for cap in one.caps]
    for note in notes:
        x = axis.x(note.when_ms)
        parts.append(f'<g class="mark {note.tone}"><path d="M{x},{TOP}V{BOTTOM}"/></g>')
    return drawing(HEIGHT, one.title, "".join(parts)) + _far(one, axis, scale)


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps a value to y."""

    metric: str
    most: int
    """The largest value that is drawn."""

    def y(self, value: int) -> float:
        """Return where a value is drawn."""
        return round(BOTTOM - (BOTTOM - TOP - 8) * value / self.most, 2)

    def tick(self, share: float) -> str:
        """Return the line at a share of the largest value, and what it is."""
        value = int(self.most * share)
        return (
            f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{self.y(value)}" y2="{self.y(value)}"/>'
            + words(LEFT - 6, self.y(value) + 3, amount(self.metric, value), "tick", anchor="end")
        )


def _seen(points: Points, axis: Axis) -> Points:
    """Return what lies within the axis; what was before stands at its beginning, 0 for nothing."""
    before = next((value for when, value in reversed(points) if when < axis.begin_ms), 0)
    within = [(when, value) for when, value in points if axis.begin_ms <= when <= axis.end_ms]
    return [(axis.begin_ms, before), *within]


def _spent(seen: Points, axis: Axis, scale: Scale) -> str:
    path = f"M{LEFT},{scale.y(seen[0][1])}"
    path += "".join(f"H{axis.x(when)}V{scale.y(value)}" for when, value in seen[1:]) + f"H{RIGHT}"
    return (
        f'<path class="area" d="{path}V{BOTTOM}H{LEFT}Z"/><path class="spent" d="{path}">'
        f"{told(amount(scale.metric, seen[-1][1]))}</path>"
    )


def _cap(cap: CapLine, axis: Axis, scale: Scale) -> str:
    """Return a cap's line while it was in force, and its name where it is at the end."""
    points = [(when, value) for when, value in cap.points if when <= axis.end_ms]
    parts = []
    for (when, value), (until, _) in pairwise([*points, (axis.end_ms, 0)]):
        if 0 <= value <= scale.most and until >= axis.begin_ms:
            y = scale.y(value)
            parts.append(
                f'<path class="cap" d="M{axis.x(when)},{y}H{axis.x(until)}">{told(_said(cap, value))}</path>'
            )
    if points and 0 <= points[-1][1] <= scale.most:
        parts.append(words(LEFT + 6, scale.y(points[-1][1]) - 4, _said(cap, points[-1][1]), "cap-name"))
    return "".join(parts)


def _said(cap: CapLine, value: int) -> str:
    window = f" in {format_duration(cap.window_ms)}" if cap.window_ms else ""
    raised = " (raised)" if value != cap.points[0][1] else ""
    return f"{cap.rule} of {cap.policy}: {amount(cap.metric, value)}{window}{raised}, {cap.action}"


def _far(one: Chart, axis: Axis, scale: Scale) -> str:
    """Return a line on the caps that are not drawn."""
    last = [(cap, value) for cap in one.caps for _, value in [_seen(cap.points, axis)[-1]]]
    far = [_said(cap, value) for cap, value in last if value > scale.most]
    return f'<p class="soft far">above the drawing: {escape("; ".join(far))}</p>' if far else ""
