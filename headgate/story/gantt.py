"""Executions as bars over time: a band for each lifetime, a row for each node, a bar for each execution."""

from __future__ import annotations

from html import escape

from headgate.story.axis import RIGHT, Axis, drawing, grid, told, words
from headgate.story.model import Life, Note, Step, Story
from headgate.words import clock, shortened, usd

LANE = 17
"""Height of a bar with the space below it."""
BAR = 12
HEAD = 24
"""Room above the first band, for the axis; as much again when control events are marked."""
SHORTEST = 3
"""Width of a bar that took hardly any time."""
MARK = 8
"""Radius of a control event's number."""
BAND = 22
"""Height of the line that begins a lifetime."""
MOST_BANDS = 60
"""Lifetimes that are drawn node by node; above it each is one bar, so that a page stays one."""
MOST_LIVES = 2_000
"""Lifetimes that are drawn at all; the table has every one."""
SHOWN_BELOW = 14
"""Characters of a sub-graph's id before the axis."""
SHOWN_NAME = 24
"""Characters of a node's name before the axis."""


def gantt(story: Story, axis: Axis) -> str:
    """Return the drawing; empty when nothing was run."""
    if not story.lives:
        return ""
    parts: list[str] = []
    head = y = float(2 * HEAD if story.notes else HEAD)
    is_whole = len(story.lives) <= MOST_BANDS
    for life in list(story.lives.values())[:MOST_LIVES]:
        if len(story.lives) > 1 or not is_whole:
            parts.append(_band(life, axis, y, is_bar=not is_whole))
            y += BAND
        if is_whole:
            drawn, y = _rows(story, life, axis, y)
            parts.append(drawn)
    behind = grid(axis, head - 8, y, named=True)
    return drawing(y + 8, "executions over time", behind + "".join(parts) + _marks(story.notes, axis, y))


def _band(life: Life, axis: Axis, y: float, *, is_bar: bool) -> str:
    begin, end = life.began_ms or axis.begin_ms, life.ended_ms or axis.end_ms
    width = max(2.0, axis.x(end) - axis.x(begin))
    graph = life.view.graph_id if life.view is not None else ""
    name = shortened(life.lifetime_id, SHOWN_BELOW if life.depth else SHOWN_NAME)
    kind = f"life {_word(life.status)}" if is_bar else "band"
    return (
        words(4 + 12 * life.depth, y + 14, name, "name life-name")
        + f'<rect class="{kind}" x="{axis.x(begin)}" y="{y + 5}" width="{width:.2f}" height="{BAR}" rx="3">'
        + told(f"{life.lifetime_id} {graph}: {life.status}")
        + "</rect>"
        + ("" if is_bar else _in_band(axis.x(begin), y, f"{graph} · {life.status}"))
    )


def _in_band(x: float, y: float, text: str) -> str:
    """Return what stands in a lifetime's band; before it where there is no room to the right."""
    is_late = x > RIGHT - 160
    return words(x - 6 if is_late else x + 6, y + 14.5, text, "in-band", anchor="end" if is_late else "start")


def _rows(story: Story, life: Life, axis: Axis, y: float) -> tuple[str, float]:
    """Return the rows of one lifetime, a node each in the order of its first visit, and where they end."""
    by_node: dict[str, list[Step]] = {}
    for step in story.steps_of(life.lifetime_id):
        by_node.setdefault(step.node_id or "?", []).append(step)
    parts = []
    for node, steps in by_node.items():
        lanes: list[float] = []
        bars = [_placed(step, axis, y, lanes) for step in steps]
        height = max(1, len(lanes)) * LANE
        indent = 4 + 12 * (life.depth + (1 if len(story.lives) > 1 else 0))
        parts.append(f'<line class="row" x1="0" x2="{RIGHT}" y1="{y + height + 1}" y2="{y + height + 1}"/>')
        parts.append(words(indent, y + 12.5, shortened(node, SHOWN_NAME), "name"))
        parts += bars
        y += height + 3
    return "".join(parts), y


def _placed(step: Step, axis: Axis, y: float, lanes: list[float]) -> str:
    """Return a step's bar in the first lane that is free."""
    begin, end = axis.x(_begin(step, axis)), axis.x(step.ended_ms or axis.end_ms)
    lane = next((number for number, busy in enumerate(lanes) if busy <= begin), len(lanes))
    lanes[lane:] = [end, *lanes[lane + 1 :]]
    return _bar(step, axis, y + lane * LANE + 3, (begin, max(begin + SHORTEST, end)))


def _begin(step: Step, axis: Axis) -> int:
    known = (step.held_ms, step.asked_ms, step.began_ms, step.ended_ms)
    return next((one for one in known if one is not None), axis.begin_ms)


def _bar(step: Step, axis: Axis, y: float, span: tuple[float, float]) -> str:
    """Return a bar of up to three parts: held back, waiting for a worker, running."""
    begin, end = span
    asked = begin if step.held_ms is None else axis.x(step.asked_ms or step.ended_ms or axis.end_ms)
    ran = asked if step.asked_ms is None else axis.x(step.began_ms or step.ended_ms or axis.end_ms)
    ran = min(max(asked, ran), end - SHORTEST)
    text = f"#{step.iteration}" + (f" try {step.attempt}" if step.attempt > 1 else "")
    inside = words(ran + 4, y + 9.5, text, "in-bar") if end - ran > 9 * len(text) and step.iteration else ""
    return (
        f"<g>{told(_hint(step))}{_thin('held', begin, asked, y)}{_thin('wait', asked, ran, y)}"
        f'<rect class="run {_word(step.status)}" x="{ran}" y="{y}" width="{end - ran:.2f}" height="{BAR}" '
        f'rx="2"/>{inside}</g>'
    )


def _thin(kind: str, begin: float, end: float, y: float) -> str:
    if end - begin <= 0.5:
        return ""
    return (
        f'<rect class="{kind}" x="{begin}" y="{y + 3}" width="{end - begin:.2f}" height="{BAR - 6}" rx="1"/>'
    )


def _word(status: str) -> str:
    return escape(status.replace(" ", "-"))


def _hint(step: Step) -> str:
    lines = [f"{step.label}: {step.status}"]
    for name, at in (("dispatched", step.asked_ms), ("began", step.began_ms), ("ended", step.ended_ms)):
        lines += [f"{name} {clock(at)}"] if at is not None else []
    if step.usage.cost_nano_usd or step.usage.tokens_used:
        lines.append(f"{usd(step.usage.cost_nano_usd)}, {step.usage.tokens_used:,} tokens")
    lines += [f"by {step.who}"] if step.who else []
    lines += [part for part in (step.cause, *step.rules, step.outcome) if part]
    return "\n".join(shortened(line) for line in lines)


def _marks(notes: list[Note], axis: Axis, bottom: float) -> str:
    """Return the line of each control event, with its number in the list below the drawing.

    Numbers that would cover each other stand side by side.
    """
    parts, free = [], 0.0
    for number, note in enumerate(notes, 1):
        x = axis.x(note.when_ms)
        head = min(max(x, free), RIGHT + 12)
        free = head + 2 * MARK + 1
        parts.append(
            f'<a href="#note-{number}"><g class="mark {note.tone}">{told(_note_hint(note))}'
            f'<path d="M{head},{MARK + 3}L{x},{2 * MARK + 8}V{bottom}"/>'
            f'<circle cx="{head}" cy="{MARK + 3}" r="{MARK}"/>'
            + words(head, MARK + 6.5, str(number), "mark-number", anchor="middle")
            + "</g></a>"
        )
    return "".join(parts)


def _note_hint(note: Note) -> str:
    return shortened(f"{note.kind}: {note.text}")
