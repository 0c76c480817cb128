"""What the gate remembers of one partition: its tenants, their policies and windows. No logic.

Insertion order of every dict is part of the state: it comes from the log and a checkpoint keeps it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate_graphs.progress import GraphOrchestrator
from headgate_guardrails.fold.evaluator import PolicyEvaluator
from headgate_guardrails.fold.ledger import Spend
from headgate_guardrails.fold.lifetimes import Lifetimes
from headgate_guardrails.fold.line import Line
from headgate_guardrails.fold.rules import CompiledPolicy
from headgate_guardrails.fold.windows import Windows

if TYPE_CHECKING:
    from headgate_guardrails.fold.snapshot import Capturing

LOGIC_VERSION = 2
"""The newest logic that this binary decides by; it knows the one before, too. See docs/adr/0009."""


class Registered(NamedTuple):
    """A graph version: its text, which a checkpoint keeps, and what is made of it."""

    definition_json: str
    orchestrator: GraphOrchestrator


MAX_POLICY_RECORDS = 1_000
"""Policy records that are remembered, so that a repeated one does not bring an old version back."""


class PolicyBook:
    """The policies of a tenant or of the platform: those in force, and every version that ever was."""

    __slots__ = ("in_force", "records", "versions")

    def __init__(self) -> None:
        self.in_force: dict[str, CompiledPolicy] = {}
        """By name."""
        self.versions: dict[tuple[str, int], str] = {}
        """SHA-256 of every version that was ever set, by (name, version)."""
        self.records: dict[str, bool] = {}
        """Envelope ids of the last records, oldest first."""


class Tenant:
    """Everything of one tenant."""

    __slots__ = (
        "budgets",
        "busy",
        "changed_at",
        "commands",
        "ended",
        "evaluator",
        "frozen",
        "graphs",
        "lifetimes",
        "policies",
        "spend",
        "tenant_id",
        "waiting",
        "windows",
    )

    def __init__(self, tenant_id: str) -> None:
        self.tenant_id: str = tenant_id
        self.spend = Spend()
        self.windows = Windows({})
        self.budgets: dict[tuple[str, str, str], int] = {}
        self.graphs: dict[tuple[str, str], Registered] = {}
        """By (graph id, version)."""
        self.policies = PolicyBook()
        self.evaluator: PolicyEvaluator | None = None
        """What judges by the tenant's policies and those of the platform; None when there are none."""
        self.frozen: dict[str, str] = {}
        """Why nothing is dispatched, by graph id; "" for every graph."""
        self.waiting = Line()
        """Lifetimes with queued work."""
        self.busy: dict[tuple[str, str], int] = {}
        """Executions in flight by (graph id, handler type) and (graph id, ""), for graphs with such caps."""
        self.lifetimes = Lifetimes(self.graphs)
        self.ended: dict[str, int] = {}
        """Tombstones: when each may be forgotten, by lifetime id, oldest first."""
        self.commands: dict[str, bool] = {}
        """Ids of the last commands that were obeyed, oldest first."""
        self.changed_at = 0
        """Offset of the last record that concerned it: one checkpoint tells by it what to write again."""

    def judge_by(self, platform: PolicyBook) -> None:
        """Make the evaluator of the tenant's own policies and the platform's anew."""
        policies = [*platform.in_force.values(), *self.policies.in_force.values()]
        self.evaluator = PolicyEvaluator(policies) if policies else None
        if self.evaluator:
            self.windows = self.evaluator.windows_after(self.windows)

    def newest(self, graph_id: str, version: str) -> tuple[str, str] | None:
        """Return the key of the named version, or of the newest one when none is named."""
        if version:
            return (graph_id, version) if (graph_id, version) in self.graphs else None
        versions = [key for key in self.graphs if key[0] == graph_id]
        return max(versions, key=lambda key: [int(part) for part in key[1].split(".")], default=None)


class Quarantine:
    """A tenant whose records wait in the log because the fold raised on one."""

    __slots__ = ("announced", "error", "from_offset", "waiting")

    def __init__(self, from_offset: int, error: str, announced: bool = False) -> None:
        self.from_offset = from_offset
        """The first record that waits."""
        self.error = error
        self.announced = announced
        """Whether the record that says so has been folded."""
        self.waiting: list[int] = []
        """Offsets of the records that wait: good ones, by the keys and the rules that held when they came."""


class PartitionState:
    """Everything of one partition as of an offset. Made empty, or by `snapshot.restore`."""

    __slots__ = (
        "capturing",
        "clock_ms",
        "heap",
        "keys",
        "logic_version",
        "next_offset",
        "partition",
        "partitions",
        "platform",
        "quarantined",
        "stale",
        "tenants",
        "ticket_key",
        "tickets_kept",
    )

    def __init__(self, partition: int, partitions: int) -> None:
        self.partition = partition
        self.partitions = partitions
        """Partitions of the log: a tenant's records are refused in any but its own."""
        self.capturing: Capturing | None = None
        """A capture that is under way: it is told of each tenant before that changes."""
        self.next_offset = 0
        """Offset of the first record that is not in this state."""
        self.clock_ms = 0
        """The fold's clock: the highest append time seen, Unix ms."""
        self.logic_version = 1
        """Raised by records alone, so that what was folded under one version is always folded under it."""
        self.quarantined: dict[str, Quarantine] = {}
        self.keys: dict[str, bytes] = {}
        """Public keys that may sign orders; empty bytes for one that is revoked."""
        self.ticket_key = ""
        """Fingerprint of the key by which the inputs of lifetimes that start are signed, "" for none."""
        self.tickets_kept: frozenset[str] = frozenset()
        """Fingerprints of the keys of the lifetimes that it was restored with."""
        self.tenants: dict[str, Tenant] = {}
        self.platform = PolicyBook()
        """Policies that hold for every tenant."""
        self.heap: list[tuple[int, str, str]] = []
        """(due, tenant, lifetime) of each wake-up; an entry that is not its lifetime's `wake` is stale."""
        self.stale = 0
        """How many entries of the heap no longer count."""
