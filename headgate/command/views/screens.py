"""How a run is shown while it goes: live on a terminal, plain lines elsewhere, nothing with --json."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from headgate.command.faults import complain
from headgate.command.place import Place
from headgate.command.printing import say
from headgate.command.views.advice import frozen_lines, quarantine_lines, waiting_lines
from headgate.command.views.state import LifetimeState
from headgate.running import Run
from headgate.words import (
    clock,
    control_word,
    event_words,
    execution_word,
    nested,
    shortened,
    status_word,
    usd,
    violation_line,
)
from headgate_catalog.happening import Happening
from headgate_graphs.model import AgentGraph
from headgate_protos.v1.control_pb2 import ExecutionEvent
from headgate_protos.v1.execution_pb2 import LifetimeView


class Screen(Protocol):
    """Shows a run while it goes."""

    def show(self, happening: Happening) -> None:
        """Take in one happening that the state has taken in already."""

    def tick(self) -> None:
        """Called about ten times a second."""

    def warn(self, line: str) -> None:
        """Show a warning."""


class SilentScreen:
    """Shows nothing but warnings: for --json."""

    def show(self, happening: Happening) -> None:
        """Nothing."""

    def tick(self) -> None:
        """Nothing."""

    def warn(self, line: str) -> None:
        """Write the line to stderr."""
        complain(line)


class PlainScreen(SilentScreen):
    """One line for each thing that happens, for logs and pipes."""

    def __init__(self, place: Place, run: Run, state: LifetimeState) -> None:
        self._place, self._run, self._state = place, run, state
        self._waited: set[str] = set()

    def show(self, happening: Happening) -> None:
        """Write the line of a happening, if it has one."""
        line = happening_line(happening)
        if line:
            say(f"{clock(happening.when_ms)} {line}")
        if happening.view is not None or happening.event is not None:
            self._say_waiting()

    def tick(self) -> None:
        """Write what has kept the run from beginning, if something has."""
        self._say_waiting()

    def _say_waiting(self) -> None:
        waiting = waiting_lines(self._place, self._run.lifetime_id, self._state)
        frozen = frozen_lines(self._place, self._state.frozen)
        held = quarantine_lines(self._place, self._state.quarantined)
        for line in (*waiting, *frozen, *held):
            if line not in self._waited:
                say(line)
        self._waited = {*waiting, *frozen, *held}


def happening_line(happening: Happening) -> str:
    """Return one line for people, indented by its level; empty when it says nothing new to them."""
    line = _line(happening)
    if not line or not happening.depth:
        return line
    if happening.view is not None:
        return "  " * happening.depth + line
    return nested(line, happening.lifetime_id, happening.depth).replace("/", " ", 1)


def _line(happening: Happening) -> str:
    if happening.dispatch is not None:
        headers = happening.dispatch.headers
        again = f" attempt {headers.attempt}" if headers.attempt > 1 else ""
        return f"{headers.node_id} #{headers.iteration}{again} dispatched"
    if happening.execution is not None:
        return _result_line(happening)
    if happening.event is not None:
        return _event_line(happening.event)
    if happening.view is not None:
        return _view_line(happening.view)
    return ""


def _event_line(event: ExecutionEvent) -> str:
    shadow = "shadow " if event.shadow else ""
    broken = "; ".join(violation_line(one) for one in event.violations)
    words = (f"{shadow}{control_word(event.type)}", event.node_id, broken or event_words(event))
    return " ".join(word for word in words if word)


def _view_line(view: LifetimeView) -> str:
    reason = f": {shortened(view.reason)}" if view.reason else ""
    below = f"sub-graph {view.graph_id} {view.graph_version} {view.lifetime_id}"
    return f"{below if view.parent_lifetime_id else 'lifetime'} {status_word(view.status).upper()}{reason}"


def _result_line(happening: Happening) -> str:
    done = happening.execution
    assert done is not None  # noqa: S101 - the caller has looked
    headers, usage, error = done.headers, done.resource_usage, done.result.error
    spent = (
        f" {usage.tokens_used:,} tokens {usd(usage.cost_nano_usd)}"
        if usage.tokens_used or usage.cost_nano_usd
        else ""
    )
    chosen = getattr(done.result, "next_task_ids", ())
    where = f" → {', '.join(chosen)}" if chosen else ""
    why = f" {error.code}: {shortened(error.message)}" if error.code else ""
    word = execution_word(headers.status)
    return (
        f"{headers.node_id} #{headers.iteration} {word} in {usage.latency_ms / 1000:.2f} s{spent}{where}{why}"
    )


@contextmanager
def open_screen(place: Place, graph: AgentGraph, run: Run, state: LifetimeState) -> Iterator[Screen]:
    """Open the screen that fits: --json, a terminal, or neither."""
    if place.json:
        yield SilentScreen()
        return
    policies = ", ".join(f"{one.name} v{one.version}" for one in run.policies) or "none"
    doing = "going on with" if run.known_before else "running"
    say(f"{doing} {graph.metadata.id} {graph.metadata.version} as {run.lifetime_id} · policies: {policies}")
    if not sys.stdout.isatty():
        yield PlainScreen(place, run, state)
        return
    from headgate.command.views.live import LiveScreen

    with LiveScreen(place, graph, run, state) as live:
        yield live


def seconds_since(ms: int) -> float:
    """Return how long ago a log time was, by this machine's clock; 0 when the clocks disagree."""
    return max(0.0, time.time() - ms / 1000)
