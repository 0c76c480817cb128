"""A story: lifetimes, the executions in them, and the verdicts and orders between them. Plain values."""

from __future__ import annotations

from dataclasses import dataclass, field

from headgate_catalog.happening import Happening
from headgate_protos.v1.common_pb2 import ResourceUsage
from headgate_protos.v1.execution_pb2 import LifetimeStart, LifetimeView

Order = tuple[int, int, int]
"""Sorts what happened as the gate saw it; see `Happening.order`."""


@dataclass(slots=True)
class Step:
    """One execution, or one that a rule kept from being dispatched. Times are log time, Unix milliseconds."""

    execution_id: str
    lifetime_id: str
    order: Order
    node_id: str = ""
    kind: str = ""
    """task or plan; empty when nothing says it."""
    iteration: int = 0
    """Which visit to the node, from 1; 0 when nothing says it."""
    attempt: int = 0
    status: str = "pending"
    """An execution's status in words, or `held back` for one that is not dispatched (yet)."""
    upstream: tuple[str, ...] = ()
    """Executions whose results led here."""
    previous: str = ""
    """The attempt before this one."""
    held_ms: int | None = None
    """Since when a rule or a pause held it back, if one did."""
    asked_ms: int | None = None
    """When the gate dispatched it."""
    began_ms: int | None = None
    ended_ms: int | None = None
    usage: ResourceUsage = field(default_factory=ResourceUsage)
    who: str = ""
    """The worker, where it announced itself, or the person."""
    cause: str = ""
    """Which edge, plan decision or failure led to it."""
    outcome: str = ""
    """What a plan chose, or the error."""
    told_at: int = -1
    """Offset of the record that reported it; -1 for none."""
    rules: list[str] = field(default_factory=list)
    """Rules that held it back, refused it or were broken by it, each with its numbers."""

    @property
    def label(self) -> str:
        """Return node, visit and try in short, such as "write #2" or "write #2 try 3"."""
        visit = f" #{self.iteration}" if self.iteration else ""
        return f"{self.node_id}{visit}" + (f" try {self.attempt}" if self.attempt > 1 else "")

    @property
    def is_open(self) -> bool:
        """Whether its result is awaited."""
        return self.status in ("pending", "running")


@dataclass(slots=True)
class Life:
    """One lifetime."""

    lifetime_id: str
    depth: int
    """Levels of sub-graphs above it."""
    start: LifetimeStart | None = None
    view: LifetimeView | None = None
    began_ms: int | None = None
    ended_ms: int | None = None
    """When its status became terminal; None while it lives."""
    status: str = "starting"


@dataclass(frozen=True, slots=True)
class Note:
    """A control event or an operator's order."""

    when_ms: int
    order: Order
    lifetime_id: str
    """Empty for what concerns a whole graph or tenant."""
    execution_id: str
    kind: str
    """Such as PAUSE_LIFETIME, or raise-budget."""
    who: str
    """gate, or the person who gave the order."""
    text: str
    """The rules with their numbers, or the reason."""
    tone: str
    """What it does: warn, hold, stop, go or order."""


@dataclass(slots=True)
class Story:
    """Everything told of one lifetime and its sub-graphs, or of a tenant within a time range."""

    title: str
    tenant: str
    happenings: list[Happening]
    """In the gate's order."""
    lives: dict[str, Life] = field(default_factory=dict)
    """By id, in the order in which they became known."""
    steps: dict[str, Step] = field(default_factory=dict)
    """By execution id, in the order in which they became known."""
    notes: list[Note] = field(default_factory=list)

    def steps_of(self, lifetime_id: str) -> list[Step]:
        """Return the steps of one lifetime, in order."""
        return [step for step in self.steps.values() if step.lifetime_id == lifetime_id]

    def span(self, lifetime_id: str = "") -> tuple[int, int]:
        """Return when it began and ended: of a lifetime that has ended, when the last of its work had.

        (0, 1) when nothing has happened; never empty, so that it can be drawn.
        """
        times = [one.when_ms for one in self.happenings]
        life = self.lives.get(lifetime_id)
        if life is not None and life.ended_ms is not None:
            # Who asks again for what has ended makes it no longer.
            ends = [step.ended_ms for step in self.steps.values() if step.ended_ms is not None]
            last = max([life.ended_ms, *ends, *(note.when_ms for note in self.notes)])
            times = [when for when in times if when <= last]
        begin = min(times, default=0)
        return begin, max([begin + 1, *times])
