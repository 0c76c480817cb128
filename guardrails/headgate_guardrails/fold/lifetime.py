"""One run of a graph as the gate remembers it: what it spent, what is in flight, what waits. No logic.

Insertion order of every dict is part of the state: it comes from the log and a checkpoint keeps it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate_graphs.progress import GraphOrchestrator, Lineage
from headgate_guardrails.fold.ledger import Amount, Spend
from headgate_guardrails.fold.progressing import Step
from headgate_guardrails.fold.terms import terms_of
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, execution_pb2, task_pb2

if TYPE_CHECKING:
    from headgate_guardrails.fold.evaluator import PolicyEvaluator


class Work(NamedTuple):
    """One thing to be done at one node: all that is needed to dispatch it, now or later."""

    node_id: str
    iteration: int
    attempt: int
    parent_execution_id: str
    upstream_ids: tuple[str, ...]
    lineage: Lineage
    input_data: pb.Payload | None
    """For tasks."""
    upstreams: tuple[task_pb2.TaskExecution, ...]
    """For plans."""
    lost: int
    """Attempts at this visit that were lost with their worker; they do not count as retries."""
    given_back: int = 0
    """Attempts at this visit that a worker gave back unbegun because of a pause; nor do these."""


class Run:
    """One announced run of an execution: its lease and its hold."""

    __slots__ = ("hold", "lease_until", "run_id", "stop_at")

    def __init__(self, run_id: str, hold: Amount, lease_until: int, stop_at: int) -> None:
        self.run_id = run_id
        self.hold = hold
        self.lease_until = lease_until
        self.stop_at = stop_at
        """Log time after which even a living lease is given up, ms."""


class InFlight:
    """A dispatched execution that has no accepted result yet."""

    __slots__ = ("due", "hold", "leased", "remind_at", "runs", "work")

    def __init__(self, work: Work, hold: Amount | None, due: int, leased: bool) -> None:
        self.work = work
        self.hold = hold
        """Reserved at dispatch; None once the first run has taken it over."""
        self.due = due
        """Log time by which a plain execution must be done and a leased one begun, ms."""
        self.leased = leased
        self.runs: dict[str, Run] = {}
        self.remind_at = 0
        """For a human task, when a person is reminded next, 0 for never."""


class Orphan(NamedTuple):
    """A hold whose run may still be spending although nobody waits for its result."""

    execution_id: str
    node_id: str
    hold: Amount
    due: int
    """Log time at which it is closed at the hold (a run that began) or at nothing (one that never did)."""
    began: bool


class Join:
    """Results gathered for one visit of one join."""

    __slots__ = ("arrived", "due", "expected", "fired", "lineage")

    def __init__(self, expected: tuple[str, ...], lineage: Lineage) -> None:
        self.expected = expected
        self.lineage = lineage
        self.arrived: dict[str, task_pb2.TaskExecution] = {}
        self.fired = False
        self.due = 0
        """When it stops waiting, 0 for never."""


class Guard:
    """What is special in a lifetime that repeats another one's history: its effects, and its own policy."""

    __slots__ = ("beside", "evaluator", "message", "stubs")

    def __init__(self, message: execution_pb2.LifetimeFork) -> None:
        self.message = message
        """Its origin, absent below a fork, the stubs, what is allowed, and its own policy; nothing else."""
        self.evaluator: PolicyEvaluator | None = None
        """What judges a lifetime that has a policy of its own; made when first asked for."""
        self.beside: PolicyEvaluator | None = None
        """The tenant's, as it was when that was made."""
        self.stubs = {(one.visit.node_id, one.visit.iteration): one for one in message.stubs}
        """Recorded results by (task, iteration)."""

    def allows(self, node_id: str) -> bool:
        """Whether a task's effects may happen again."""
        allowed = self.message.effects_allowed
        return node_id in allowed or "*" in allowed


class NodeTally:
    """Visits of a lifetime to a node, and what they cost."""

    __slots__ = ("iterations", "spend")

    def __init__(self) -> None:
        self.iterations = 0
        self.spend = Spend()


class Lifetime:
    """One run of a graph."""

    __slots__ = (
        "agenda",
        "budgets",
        "closing",
        "deadline",
        "delayed",
        "depth",
        "ended_at",
        "fork",
        "graph_key",
        "graphs",
        "inflight",
        "is_stirred",
        "issued_at",
        "joins",
        "lifetime_id",
        "nodes",
        "orphans",
        "outcome",
        "parent",
        "parent_execution_id",
        "parent_id",
        "parked",
        "pause_due",
        "pause_generation",
        "priority",
        "queued",
        "reason",
        "reported",
        "settled",
        "settling",
        "spend",
        "start_bytes",
        "start_input",
        "started_at",
        "status",
        "stopped_at",
        "terms",
        "ticket_key",
        "trail",
        "transit",
        "violations",
        "wake",
        "wall_due",
        "whole_below",
    )

    def __init__(self, lifetime_id: str, graph_key: tuple[str, str], graph: GraphOrchestrator) -> None:
        self.lifetime_id: str = lifetime_id
        self.graph_key = graph_key
        self.graphs = graph
        self.terms = terms_of(graph)
        """On what each node is dispatched, by its id."""
        self.status: int = pb.LIFETIME_STATUS_UNSPECIFIED
        """Changed by `states.move` alone, by which it begins, too."""
        self.reason = ""
        self.start_input = pb.Payload()
        """Set before anything is dispatched, and emptied at the end."""
        self.start_bytes = b""
        """The same as the inputs carry it, once the first was written; empty when it is large. Derived."""
        self.outcome: pb.Payload | None = None
        self.started_at = 0
        self.issued_at = 0
        """When the client asked for it, by the client's clock: how long a repeat of the start can come."""
        self.ended_at = 0
        self.deadline = 0
        self.wake = 0
        """When the partition's heap will next look at this lifetime, 0 for never."""
        self.pause_generation = 0
        self.pause_due = 0
        """When the pause in force turns into an abort, 0 for never."""
        self.spend = Spend()
        self.nodes: dict[str, NodeTally] = {}
        self.inflight: dict[str, InFlight] = {}
        self.parked: list[Work] = []
        """What a pause holds back, in order."""
        self.delayed: dict[str, tuple[int, Work]] = {}
        """Retries that wait for their back-off, by the execution id they will have: (due, work)."""
        self.joins: dict[tuple[str, str], Join] = {}
        """By (plan, visit)."""
        self.orphans: dict[str, Orphan] = {}
        """By run id; an execution that never began is under its execution id."""
        self.settled: dict[str, int] = {}
        """Runs that have been paid, with a checksum of their record, while results may still repeat."""
        self.budgets: dict[tuple[str, str, str], int] = {}
        """Raised caps by (policy, rule, metric)."""
        self.reported: dict[tuple[str, int, str], bool] = {}
        """Shadow verdicts and warnings already published, by (policy, version, rule)."""
        self.agenda: list[Work] = []
        """What is admitted next in this turn; empty between records."""
        self.transit: Lineage = ()
        """Where the result that is being routed is; empty between records."""
        self.settling = False
        """Whether its agenda is being worked off in this turn."""
        self.parent: Lifetime | None = None
        """The lifetime whose task of type `graph` started this one; its sums contain this one's."""
        self.parent_id = ""
        self.parent_execution_id = ""
        self.depth = 0
        self.priority = 0
        self.ticket_key = ""
        """Fingerprint of the key of its tickets; its results need none when it is empty."""
        self.queued: list[Work] = []
        """What waits for room in its graph, in order."""
        self.trail: list[Step] = []
        """Its last steps, kept only while a rule about progress is in force."""
        self.stopped_at = 0
        """Log time of the last report of a handler that was stopped at the end."""
        self.wall_due = 0
        """When a rule about wall time is next asked although nothing happens, 0 for never."""
        self.violations: list[control_pb2.GuardrailViolation] = []
        self.fork: Guard | None = None
        """Set for a fork and for the sub-graphs below one."""
        self.closing = 0
        """When an ended lifetime is reduced to a tombstone, 0 while it runs."""
        self.is_stirred = True
        """Whether it was asked for since `Lifetimes.look` last saw it."""
        self.whole_below = 0
        """Lifetimes below it that do not rest, and so refer to it."""

    @property
    def is_live(self) -> bool:
        """Whether it is running or paused."""
        return self.ended_at == 0

    @property
    def is_paused(self) -> bool:
        """Whether it or a lifetime above it is paused."""
        owner: Lifetime | None = self
        while owner is not None:
            if owner.status == pb.LIFETIME_STATUS_PAUSED:
                return True
            owner = owner.parent
        return False

    def node(self, node_id: str) -> NodeTally:
        """Return the node's tally, made when first asked for."""
        tally = self.nodes.get(node_id)
        if tally is None:
            tally = self.nodes[node_id] = NodeTally()
        return tally
