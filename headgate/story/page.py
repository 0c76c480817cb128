"""A story as one page that needs nothing beside it: bars, spend against caps, control events, every event.

Everything that came from outside is escaped here or in the drawings: no text of a run becomes markup.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from headgate.command.views.timeline import timeline_rows
from headgate.story.axis import Axis, when_words
from headgate.story.charts import Chart, chart
from headgate.story.gantt import gantt
from headgate.story.look import SCRIPT, STYLE
from headgate.story.model import Story
from headgate.story.spending import DRAWN, Points, Records, cap_lines, charges_in, charges_of, spent
from headgate.story.telling import HELD_BACK, REPEATED
from headgate.words import fork_words, metric_word, shortened, usd, violation_line
from headgate_graphs.units import format_duration
from headgate_replay.pages import page, table

MOST_ROWS = 5_000
"""Events in the table of a page; `--table` and `--json` have all."""
COLUMNS = ("when", "who", "what", "lifetime", "node", "visit", "status", "cost", "tokens", "why")
NUMBERS = ("visit", "cost", "tokens")


def story_page(story: Story, records: Records, lifetime_id: str) -> str:
    """Return the HTML of a lifetime's story, or with no lifetime of a tenant's.

    `records` is all that the log holds for the tenant: policies, raised budgets and spend come from it.
    """
    axis = Axis(*story.span(lifetime_id))
    body = [
        *_head(story, lifetime_id, axis),
        '<h2>Executions</h2><p class="legend">',
        *(f'<span><i class="{kind}"></i>{name}</span>' for kind, name in _LEGEND),
        "</p>",
        gantt(story, axis),
        "<h2>Spend over time, against the caps in force</h2>",
        *(chart(one, axis, story.notes) for one in _charts(story, records, lifetime_id)),
        "<h2>Control events</h2>",
        _notes(story),
        "<h2>By node</h2>",
        table(("node", "visits", "executions", "tokens", "cost", "handler seconds"), _by_node(story)),
        "<h2>Every event</h2>",
        _events(story),
    ]
    return page(story.title, body, style=STYLE, script=SCRIPT)


_LEGEND = (
    ("wait", "waits for a worker"),
    ("completed", "completed"),
    ("failed", "failed"),
    ("rejected", "rejected"),
    ("held-back", "held back by a rule"),
    ("aborted", "aborted"),
    ("running", "not ended"),
)


def _head(story: Story, lifetime_id: str, axis: Axis) -> Iterator[str]:
    life = story.lives.get(lifetime_id)
    status = life.status if life is not None else ""
    pill = f' <span class="pill {escape(status)}">{escape(status)}</span>' if status else ""
    yield f"<h1>{escape(story.title)}{pill}</h1>"
    view = life.view if life is not None else None
    if view is not None:
        yield f'<p class="soft">graph {escape(view.graph_id)} {escape(view.graph_version)} '
        yield f"of tenant {escape(story.tenant)}, from {when_words(axis.begin_ms)}</p>"
        if view.HasField("fork_of"):
            yield f'<p class="soft">{escape(fork_words(view.fork_of))}</p>'
        why = [f"stopped by {violation_line(one)}" for one in view.violations]
        why = why or ([view.reason] if view.reason else [])
        yield from (f'<p class="reason">{escape(line)}</p>' for line in why)
    cards = "".join(
        f"<div><b>{escape(value)}</b>{escape(name)}</div>"
        for name, value in _figures(story, lifetime_id, axis)
    )
    yield f'<div class="cards">{cards}</div>'


def _figures(story: Story, lifetime_id: str, axis: Axis) -> list[tuple[str, str]]:
    charges = charges_of(story.happenings)
    cost, tokens = sum(one.cost_nano_usd for one in charges), sum(one.tokens_used for one in charges)
    life = story.lives.get(lifetime_id)
    if life is not None and life.view is not None:
        # What the gate charged for runs that died is in the view alone.
        cost = max(cost, life.view.usage.cost_nano_usd)
        tokens = max(tokens, life.view.usage.tokens_used)
    ran = sum(1 for one in story.steps.values() if one.status not in (REPEATED, HELD_BACK))
    below = len(story.lives) - (1 if lifetime_id else 0)
    return [
        ("took", _duration(axis.end_ms - axis.begin_ms)),
        ("cost", usd(cost)),
        ("tokens", f"{tokens:,}"),
        ("executions", f"{ran:,}"),
        ("control events", f"{len(story.notes):,}"),
        *([("sub-graphs" if lifetime_id else "lifetimes", f"{below:,}")] if below else []),
    ]


def _duration(ms: int) -> str:
    return f"{ms / 1000:.2f} s" if ms < 60_000 else format_duration(ms // 1000 * 1000)


def _charts(story: Story, records: Records, lifetime_id: str) -> Iterator[Chart]:
    """Yield a lifetime's spend against its caps; of a tenant, what was spent, and each cap by itself."""
    charges = charges_of(story.happenings)
    caps = cap_lines(records, story.tenant, lifetime_id)
    for metric in DRAWN:
        own = [cap for cap in caps if cap.metric == metric] if lifetime_id else []
        sums = _as_ledger(story, lifetime_id, metric, spent(charges, metric))
        if sums or own:
            name = metric_word(metric).removesuffix("_used")
            yield Chart(name if lifetime_id else f"{name}, summed", metric, sums, own)
    if not lifetime_id:
        everything = charges_in(records)
        for cap in caps:
            sums = spent(everything, cap.metric, cap.window_ms, is_sliding=cap.is_sliding)
            yield Chart(shortened(cap.rule, 24), cap.metric, sums, [cap])


def _as_ledger(story: Story, lifetime_id: str, metric: str, points: Points) -> Points:
    """Raise the sum to what the gate's views say: a run that died is charged its hold and reports nothing."""
    views = ((one.when_ms, one.view) for one in story.happenings if one.lifetime_id == lifetime_id)
    said = [(when, int(getattr(view.usage, metric))) for when, view in views if view is not None]
    raised: Points = []
    most = 0
    for when, value in sorted([*points, *said]):
        if value > most:
            most = value
            raised.append((when, value))
    return raised


def _notes(story: Story) -> str:
    if not story.notes:
        return '<p class="soft">None: nothing was held back, refused, paused or ordered.</p>'
    lines = (
        f'<li id="note-{number}" class="{note.tone}" value="{number}"><b>{escape(note.kind)}</b> '
        f'<span class="soft">{when_words(note.when_ms)}, by {escape(note.who)}'
        f"{_about(story, note.execution_id)}</span><br>{escape(note.text)}</li>"
        for number, note in enumerate(story.notes, 1)
    )
    return f'<ol class="notes">{"".join(lines)}</ol>'


def _about(story: Story, execution_id: str) -> str:
    step = story.steps.get(execution_id)
    return f", about {escape(step.label)}" if step is not None else ""


def _by_node(story: Story) -> Iterator[tuple[object, ...]]:
    found: dict[str, tuple[int, int, int, int, int]] = {}
    for step in story.steps.values():
        visits, count, tokens, cost, ms = found.get(step.node_id, (0, 0, 0, 0, 0))
        usage = step.usage
        found[step.node_id] = (
            visits + (step.attempt <= 1), count + 1, tokens + usage.tokens_used,
            cost + usage.cost_nano_usd, ms + usage.latency_ms,
        )  # fmt: skip
    for node, (visits, count, tokens, cost, ms) in sorted(found.items(), key=lambda one: -one[1][3]):
        yield node, visits, count, f"{tokens:,}", usd(cost), f"{ms / 1000:.2f}"


def _events(story: Story) -> str:
    rows = timeline_rows(story)
    columns = [one for one in COLUMNS if one != "lifetime" or len(story.lives) > 1]
    lines = "".join(_event_row(row, columns) for row in rows[:MOST_ROWS])
    head = "".join(f'<th class="{"number" if one in NUMBERS else ""}">{one}</th>' for one in columns)
    left = len(rows) - MOST_ROWS
    more = f'<p class="soft">and {left:,} more: see --table or --json</p>' if left > 0 else ""
    return (
        '<input id="find" type="search" placeholder="show only events with …" aria-label="filter">'
        f'<div class="wide"><table class="events"><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>{more}"
    )


def _event_row(row: dict[str, Any], columns: list[str]) -> str:
    visit = f"#{row['iteration']}" if row["iteration"] else ""
    attempt = row["attempt"]
    visit += f" try {attempt}" if isinstance(attempt, int) and attempt > 1 else ""
    shown = row | {"visit": visit, "when": str(row["when"]).replace("T", " ").removesuffix("Z")}
    cells = (
        f'<td class="{_cell_class(column, row)}">{escape(str(shown[column]))}</td>' for column in columns
    )
    return f"<tr>{''.join(cells)}</tr>"


def _cell_class(column: str, row: dict[str, Any]) -> str:
    if column == "status":
        return f"status {escape(str(row['status']).replace(' ', '-'))}"
    return "number" if column in NUMBERS else column
