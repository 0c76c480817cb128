"""The live view of a run on a terminal: nodes, caps, control events, redrawn in place."""

from __future__ import annotations

from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from headgate.command.faults import one_line
from headgate.command.place import Place
from headgate.command.printing import console
from headgate.command.views.advice import frozen_lines, quarantine_lines, waiting_lines
from headgate.command.views.caps import caps_of
from headgate.command.views.screens import happening_line, seconds_since
from headgate.command.views.state import Attempt, LifetimeState, Spend
from headgate.running import Run
from headgate.words import SHOWN_ID, TERMINAL, amount, clock, control_word, usd
from headgate_catalog.happening import Happening
from headgate_graphs.model import AgentGraph

COLOURS = {
    "completed": "green",
    "running": "cyan",
    "pending": "cyan",
    "starting": "dim",
    "paused": "yellow",
    "rejected": "yellow",
    "failed": "red",
    "aborted": "red",
}
EVENT_COLOURS = {
    "ABORT_LIFETIME": "red",
    "QUARANTINE_TENANT": "red",
    "RELEASE_TENANT": "green",
    "RESUME_LIFETIME": "green",
    "THROTTLE_EXECUTION": "cyan",
}
"""Of control events; all others are yellow."""
SHOWN_BELOW = 6
"""Living sub-graphs that are shown, the newest; all of them are in `status`."""
SHOWN_EVENTS = 6
"""Newest control events that are shown; all of them are in the timeline."""


class LiveScreen:
    """Redraws one run a few times a second; leaves its last picture on the terminal."""

    def __init__(self, place: Place, graph: AgentGraph, run: Run, state: LifetimeState) -> None:
        self._place, self._graph, self._run, self._state = place, graph, run, state
        self._events: list[Text] = []
        self._live = Live(console=console(), auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Draw once more and stop."""
        self.tick()
        self._live.stop()

    def show(self, happening: Happening) -> None:
        """Remember a control event; all else is in the state."""
        if happening.event is not None:
            line = one_line(f"{clock(happening.when_ms)} {happening_line(happening)}")
            style = EVENT_COLOURS.get(control_word(happening.event.type), "yellow")
            self._events = [*self._events, Text(line, style=style)][-SHOWN_EVENTS:]

    def tick(self) -> None:
        """Draw."""
        self._live.update(self._picture(), refresh=True)

    def warn(self, line: str) -> None:
        """Show a warning among the control events."""
        self._events.append(Text(one_line(line), style="bold yellow"))

    def _picture(self) -> RenderableType:
        parts: list[RenderableType] = [self._title(), self._nodes()]
        caps = self._caps()
        if caps.row_count:
            parts.append(caps)
        waiting = waiting_lines(self._place, self._run.lifetime_id, self._state)
        frozen = frozen_lines(self._place, self._state.frozen)
        held = quarantine_lines(self._place, self._state.quarantined)
        parts += [Text(one_line(line), style="bold magenta") for line in (*waiting, *frozen, *held)]
        return Group(*parts, *self._events)

    def _title(self) -> Text:
        state = self._state
        total = state.settled_total()
        spent = f"  {usd(total.cost_nano_usd)}  {total.tokens_used:,} tokens"
        status = Text(state.status.upper(), style=f"bold {COLOURS.get(state.status, 'white')}")
        return Text.assemble(status, "  ", (self._run.lifetime_id, "dim"), spent)

    def _nodes(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("node", "status", "visit", "tokens", "cost", "seconds"):
            table.add_column(column, justify="left" if column in ("node", "status") else "right")
        newest = {attempt.node_id: attempt for attempt in self._state.attempts.values()}
        for node in self._graph.nodes:
            table.add_row(*_node(node, newest.get(node), self._state))
        living = [(name, one) for name, one in self._state.below.items() if one.status not in TERMINAL]
        for name, one in living[-SHOWN_BELOW:]:
            self._add_below(table, name, one)
        if len(living) > SHOWN_BELOW:
            table.add_row(Text(f"… and {len(living) - SHOWN_BELOW} more sub-graphs", style="dim"))
        return table

    def _add_below(self, table: Table, name: str, state: LifetimeState) -> None:
        """Add a living sub-graph: its name and the nodes it has come to, indented by its level."""
        indent = "  " * state.depth
        graph = state.view.graph_id if state.view is not None else ""
        status = Text(state.status, style=COLOURS.get(state.status, "white"))
        table.add_row(Text(one_line(f"{indent}{graph} {name[:SHOWN_ID]}"), style="dim"), status)
        for node, attempt in {one.node_id: one for one in state.attempts.values()}.items():
            table.add_row(*_node(node, attempt, state, indent + "  "))

    def _caps(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("cap", "spent", "of", ""):
            table.add_column(column, justify="right" if column in ("spent", "of") else "left")
        for cap in caps_of(self._run.policies, self._state):
            share = cap.used / cap.limit if cap.limit else 1.0
            style = "red" if share >= 1 else "yellow" if share > 0.8 else "green"
            bar = ProgressBar(total=1.0, completed=min(share, 1.0), width=24, complete_style=style)
            table.add_row(cap.label, amount(cap.metric, cap.used), amount(cap.metric, cap.limit), bar)
        return table


def _node(node: str, attempt: Attempt | None, state: LifetimeState, indent: str = "") -> tuple[Text, ...]:
    """Return one row: a node and its newest attempt."""
    if attempt is None:
        return Text(indent + node, style="dim"), Text("-", style="dim")
    spend = state.spend.get(node) or Spend()
    busy = seconds_since(attempt.since_ms) if attempt.open else 0.0
    numbers = (
        str(attempt.iteration),
        f"{spend.tokens_used:,}",
        usd(spend.cost_nano_usd),
        f"{spend.latency_ms / 1000 + busy:.1f}",
    )
    word = "running" if attempt.open else attempt.status
    tries = f" (attempt {attempt.attempt})" if attempt.attempt > 1 else ""
    style = COLOURS.get(word, "white")
    return Text(indent + node), Text(word + tries, style=style), *(Text(number) for number in numbers)
