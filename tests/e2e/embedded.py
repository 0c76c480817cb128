"""Examples run inside the test's own process, and what their log says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

from headgate import Client
from headgate.words import control_word
from headgate_catalog.happening import Happening

EXAMPLES = Path(__file__).parents[2] / "examples"


def history(client: Client, *lifetimes: str) -> list[Happening]:
    """Return what happened to the lifetimes of tenant `default`, dispatches too, in the gate's order."""
    found = [one for lifetime in lifetimes for one in client.progress("default", lifetime)]
    return sorted(found, key=lambda one: one.order)


def most_in_flight(happenings: Iterable[Happening]) -> int:
    """Return the most executions that were dispatched and not yet settled, at any moment."""
    steps = (1 if one.dispatch else -1 if one.execution else 0 for one in happenings)
    return max(accumulate(steps), default=0)


def settled_per_second(happenings: Iterable[Happening]) -> Counter[int]:
    """Return how many executions were settled in each second of log time."""
    return Counter(one.when_ms // 1000 for one in happenings if one.execution)


def control_events(happenings: Iterable[Happening]) -> list[tuple[str, str]]:
    """Return (type, node) of each control event."""
    return [(control_word(one.event.type), one.event.node_id) for one in happenings if one.event]
