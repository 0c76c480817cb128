"""What one lifetime has done so far, folded from its happenings. Pure; every view is drawn from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from headgate.words import TERMINAL, control_word, execution_word, status_word
from headgate_catalog.happening import Happening, place_of
from headgate_protos.v1.common_pb2 import ResourceUsage
from headgate_protos.v1.control_pb2 import ExecutionEvent, OperatorCommand, RaiseBudget
from headgate_protos.v1.execution_pb2 import ExecutionStarted, LifetimeStart, LifetimeView
from headgate_protos.v1.plan_pb2 import PlanExecution, PlanInput
from headgate_protos.v1.task_pb2 import TaskExecution, TaskInput


@dataclass(slots=True)
class Spend:
    """Money, tokens and runs, summed."""

    cost_nano_usd: int = 0
    tokens_used: int = 0
    latency_ms: int = 0
    runs: int = 0
    unpriced: int = 0
    """Runs whose cost is not known: the gate settles them at their hold."""

    def add(self, usage: ResourceUsage) -> None:
        """Add one run."""
        self.cost_nano_usd += usage.cost_nano_usd
        self.tokens_used += usage.tokens_used
        self.latency_ms += usage.latency_ms
        self.runs += 1
        self.unpriced += usage.unpriced

    def at_least(self, usage: ResourceUsage) -> Spend:
        """Return this, raised to what the ledger says."""
        return replace(
            self,
            cost_nano_usd=max(self.cost_nano_usd, usage.cost_nano_usd),
            tokens_used=max(self.tokens_used, usage.tokens_used),
            latency_ms=max(self.latency_ms, usage.latency_ms),
        )

    def plus(self, other: Spend) -> Spend:
        """Return the sum of both."""
        return Spend(
            self.cost_nano_usd + other.cost_nano_usd,
            self.tokens_used + other.tokens_used,
            self.latency_ms + other.latency_ms,
            self.runs + other.runs,
            self.unpriced + other.unpriced,
        )

    def of(self, metric: str) -> int:
        """Return the sum that a limit's metric means, in its wire unit."""
        if metric.startswith("cost"):
            return self.cost_nano_usd
        return self.runs if metric == "executions" else int(getattr(self, metric, 0))


@dataclass(slots=True)
class Attempt:
    """One execution: an attempt at a visit to a node."""

    execution_id: str
    node_id: str
    iteration: int
    attempt: int
    status: str
    since_ms: int
    ended_ms: int | None = None
    why: str = ""
    usage: ResourceUsage = field(default_factory=ResourceUsage)

    @property
    def open(self) -> bool:
        """Whether its result is still awaited."""
        return self.status in ("pending", "running")


@dataclass(slots=True)
class LifetimeState:
    """One lifetime: its attempts by execution id, spend by node, control events and newest view."""

    attempts: dict[str, Attempt] = field(default_factory=dict)
    spend: dict[str, Spend] = field(default_factory=dict)
    total: Spend = field(default_factory=Spend)
    events: list[ExecutionEvent] = field(default_factory=list)
    view: LifetimeView | None = None
    view_offset: int = -1
    """Offset of the log's record that led to the view."""
    caps: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """Raised caps by (policy, rule, metric), in wire units."""
    start: LifetimeStart | None = None
    depth: int = 0
    """Levels of sub-graphs above it, from the lifetime that is looked at."""
    below: dict[str, LifetimeState] = field(default_factory=dict)
    """Its sub-graphs of every level by lifetime id, in the order in which they became known."""
    frozen: dict[str, str] = field(default_factory=dict)
    """Reasons of the freezes in force that concern it, by graph id; "" for all of the tenant."""
    quarantined: str = ""
    """Why its tenant's records wait; empty when they do not."""
    _charged: set[str] = field(default_factory=set)

    @property
    def status(self) -> str:
        """Where the lifetime stands, as far as the gate has said; "starting" before it has."""
        return status_word(self.view.status) if self.view is not None else "starting"

    @property
    def everything(self) -> Iterator[LifetimeState]:
        """This lifetime and its sub-graphs."""
        yield self
        yield from self.below.values()

    @property
    def halted(self) -> bool:
        """Whether a pause, its own or a sub-graph's, keeps it from going on, and nothing is in flight."""
        return not self.in_flight and any(one.status == "paused" for one in self.everything)

    def settled(self) -> dict[str, Spend]:
        """Return the spend of each node that ran, as the ledger has it.

        A run that died is charged its hold by the gate and reports nothing; a result that came after the
        newest view is not in that view: so the larger of the two counts.
        """
        nodes = {node.node_id: node.usage for node in self.view.nodes} if self.view is not None else {}
        names = [*self.spend, *(name for name in nodes if name not in self.spend and nodes[name].ByteSize())]
        none = ResourceUsage()
        return {name: self.spend.get(name, Spend()).at_least(nodes.get(name, none)) for name in names}

    def settled_total(self) -> Spend:
        """Return the spend of the whole lifetime, its sub-graphs included, as `settled` does."""
        total = self.total
        for one in self.below.values():
            total = total.plus(one.total)
        return total.at_least(self.view.usage) if self.view is not None else total

    @property
    def in_flight(self) -> list[Attempt]:
        """Attempts whose result is awaited, those of sub-graphs too."""
        return [attempt for one in self.everything for attempt in one.attempts.values() if attempt.open]

    def apply(self, happening: Happening) -> bool:
        """Take in one happening; return whether it is new. Order does not matter, repeats are harmless."""
        message = happening.message
        if happening.depth:
            fresh = LifetimeState(depth=happening.depth)
            return self.below.setdefault(happening.lifetime_id, fresh).apply(replace(happening, depth=0))
        match message:
            case TaskExecution() | PlanExecution():
                return self._result(message, happening.when_ms)
            case TaskInput() | PlanInput():
                return self._dispatched(message, happening.when_ms)
            case ExecutionStarted():
                return self._started(message)
            case LifetimeView():
                return self._viewed(message)
            case ExecutionEvent():
                return self._controlled(message)
            case OperatorCommand():
                self._ordered(message)
            case LifetimeStart():
                if self.start is None:
                    self._raised(message.fork.budgets)
                self.start = self.start or message
        return True

    def _dispatched(self, message: TaskInput | PlanInput, when_ms: int) -> bool:
        headers = message.headers
        if headers.execution_id in self.attempts:
            return False
        self.attempts[headers.execution_id] = Attempt(
            headers.execution_id, headers.node_id, headers.iteration, headers.attempt, "pending", when_ms
        )
        return True

    def _started(self, message: ExecutionStarted) -> bool:
        attempt = self.attempts.get(message.execution_id)
        if attempt is None or attempt.status != "pending":
            return False
        attempt.status = "running"
        return True

    def _result(self, message: TaskExecution | PlanExecution, when_ms: int) -> bool:
        headers = message.headers
        self._charge(headers.node_id, headers.run_id or headers.execution_id, message.resource_usage)
        known = self.attempts.get(headers.execution_id)
        if known is not None and not known.open:
            return False
        why = (
            f"{message.result.error.code}: {message.result.error.message}"
            if message.result.error.code
            else ""
        )
        if isinstance(message, PlanExecution) and not why:
            why = "→ " + ", ".join(message.result.next_task_ids) if message.result.next_task_ids else ""
        self.attempts[headers.execution_id] = Attempt(
            headers.execution_id,
            headers.node_id,
            headers.iteration,
            headers.attempt,
            execution_word(headers.status),
            known.since_ms if known is not None else when_ms - int(message.resource_usage.latency_ms),
            when_ms,
            why,
            message.resource_usage,
        )
        return True

    def _charge(self, node_id: str, run_id: str, usage: ResourceUsage) -> None:
        if run_id in self._charged:
            return
        self._charged.add(run_id)
        self.spend.setdefault(node_id, Spend()).add(usage)
        self.total.add(usage)

    def _viewed(self, view: LifetimeView) -> bool:
        if self.view is not None and (
            place_of(view) <= place_of(self.view)
            or (self.status in TERMINAL and status_word(view.status) not in TERMINAL)
        ):
            return False
        self.view, self.view_offset = view, int(view.source.offset)
        return True

    def _controlled(self, event: ExecutionEvent) -> bool:
        if any(event.event_id and event.event_id == known.event_id for known in self.events):
            return False
        self.events.append(event)
        if not event.lifetime_id:
            self._frozen_or_thawed(event)
        attempt = self.attempts.get(event.execution_id)
        if attempt is not None and attempt.open and control_word(event.type) == "REJECT_EXECUTION":
            attempt.status, attempt.why = "rejected", event.reason
        return True

    def _frozen_or_thawed(self, event: ExecutionEvent) -> None:
        kind = control_word(event.type)
        if kind in ("QUARANTINE_TENANT", "RELEASE_TENANT"):
            self.quarantined = event.reason if kind == "QUARANTINE_TENANT" else ""
        elif kind == "PAUSE_LIFETIME":
            self.frozen[event.graph_id] = event.reason
        else:
            self.frozen.pop(event.graph_id, None)

    def _ordered(self, command: OperatorCommand) -> None:
        if command.WhichOneof("command") == "raise_budget":
            self._raised([command.raise_budget])

    def _raised(self, orders: Iterable[RaiseBudget]) -> None:
        for order in orders:
            self.caps[order.policy, order.rule, order.metric] = int(order.value)
