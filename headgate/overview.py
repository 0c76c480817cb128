"""What a tenant's work looks like now: lifetimes, spend today, freezes, people waited for, stop latency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from headgate.quarantine import Quarantine
from headgate.words import TERMINAL, status_word
from headgate_catalog.spend import NOTHING, Period, Spend
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope, LifetimeView, WaitingView

DAY_MS = 86_400_000
EDGES_MS = (10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000)
"""Upper edges of the histogram's buckets; a last one is open."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """An operator's pause of a whole graph or tenant that is in force."""

    graph_id: str
    """The frozen graph; empty for all of the tenant."""
    reason: str
    by: str
    since_ms: int
    """Log time, Unix milliseconds."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A person that a living lifetime waits for."""

    view: LifetimeView
    waiting: WaitingView


@dataclass(frozen=True, slots=True)
class Latencies:
    """How long after their end the last handlers of lifetimes stopped, in milliseconds, ascending."""

    values_ms: Sequence[int]

    def percentile(self, percent: int) -> int:
        """Return the smallest value that `percent` of all are not above; 0 without any."""
        if not self.values_ms:
            return 0
        rank = -(-len(self.values_ms) * percent // 100)
        return self.values_ms[max(0, rank - 1)]

    def histogram(self) -> list[tuple[int | None, int]]:
        """Return (upper edge, how many are within it and above the one before); None for the open last."""
        edges: tuple[int | None, ...] = (*EDGES_MS, None)
        found = Counter(next((edge for edge in EDGES_MS if value <= edge), None) for value in self.values_ms)
        return [(edge, found[edge]) for edge in edges]


@dataclass(slots=True)
class Overview:
    """A tenant at one moment."""

    tenant_id: str
    statuses: dict[str, int] = field(default_factory=dict)
    """Lifetimes by status, sub-graphs among them."""
    below: int = 0
    """How many of them are sub-graphs."""
    spent_today: Spend = NOTHING
    """Since midnight UTC, as `headgate spend` counts it."""
    frozen: list[Freeze] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    paused: list[LifetimeView] = field(default_factory=list)
    latencies: Latencies = Latencies(())
    quarantine: Quarantine | None = None
    """Set when the tenant's records wait because the fold failed on one of them."""


def overview(
    tenant_id: str,
    views: Sequence[LifetimeView],
    spent_today: Spend,
    frozen: list[Freeze],
) -> Overview:
    """Return what views, spend and freezes together say of a tenant. Pure."""
    made = Overview(tenant_id, spent_today=spent_today, frozen=frozen)
    made.statuses = dict(Counter(status_word(view.status) for view in views))
    made.below = sum(bool(view.parent_lifetime_id) for view in views)
    made.waiting = waiting_in(views)
    made.paused = [view for view in views if status_word(view.status) == "paused"]
    stops = (view.stop_latency for view in views if view.HasField("stop_latency"))
    made.latencies = Latencies(sorted(stop.ToMilliseconds() for stop in stops))
    return made


def today(now_ms: int) -> Period:
    """Return the day of a moment, in UTC."""
    begin_ms = now_ms - now_ms % DAY_MS
    return Period(begin_ms, begin_ms + DAY_MS)


def waiting_in(views: Iterable[LifetimeView]) -> list[Waiting]:
    """Return the people that living lifetimes wait for, the nearest deadline first."""
    living = (view for view in views if status_word(view.status) not in TERMINAL)
    found = [Waiting(view, one) for view in living for one in view.waiting]
    return sorted(found, key=lambda one: (one.waiting.deadline.seconds, one.waiting.deadline.nanos))


def freezes(records: Iterable[tuple[int, ExecutionEnvelope]]) -> list[Freeze]:
    """Return the freezes in force after these (log time, record) in log order, oldest first."""
    frozen: dict[str, Freeze] = {}
    seen: set[str] = set()
    for when_ms, envelope in records:
        command = envelope.command
        kind = command.WhichOneof("command")
        if envelope.lifetime_id or kind not in ("pause", "resume") or command.command_id in seen:
            continue
        seen.add(command.command_id)
        if kind == "resume":
            frozen.pop(command.resume.graph_id, None)
        else:
            order = command.pause
            frozen.setdefault(
                order.graph_id, Freeze(order.graph_id, order.reason, command.issued_by, when_ms)
            )
    return list(frozen.values())
