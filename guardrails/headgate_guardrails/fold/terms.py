"""On what terms a node's executions are dispatched: worked out once for each graph, read at every dispatch.

The hot path asks a node's hold, timeout and lease for every event. What the graph says does not change, so
it is asked once, when the first lifetime of the graph begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from headgate_graphs.model import Plan, Task
from headgate_graphs.progress import GraphOrchestrator
from headgate_guardrails.fold.inputs import InputForm
from headgate_guardrails.fold.ledger import NOTHING, Amount

NOBODY_SERVES = ("human", "graph")
"""Task types that are dispatched to no worker."""
HUMAN, SUBGRAPH = NOBODY_SERVES
START_WITHIN_MS = 3_600_000
"""How long an input may wait for a worker before it is dispatched anew."""
LEASE_MS = 10_000
"""How long an announced run may be silent; heartbeats come at a third of it."""
LEASED_ABOVE_MS = 60_000
"""A node that may run longer than this is leased even without limits."""
TIMEOUT_MS = 60_000
"""How long a handler may run when its node does not say."""
HUMAN_TIMEOUT_MS = 86_400_000
"""How long a person may take when the node does not say."""


class Terms:
    """What holds for every execution of one node."""

    __slots__ = (
        "form",
        "has_effects",
        "hold",
        "is_counted",
        "is_leased",
        "is_plan",
        "is_served",
        "max_visits",
        "needs_facts",
        "node",
        "normal_ways",
        "only_way",
        "queue",
        "reserved",
        "timeout_ms",
        "wait_ms",
    )

    def __init__(self, graphs: GraphOrchestrator, node: Task | Plan) -> None:
        self.node = node
        self.is_plan = isinstance(node, Plan)
        self.is_served = self.is_plan or node.type not in NOBODY_SERVES
        """Whether workers serve it: it is dispatched as an input."""
        self.has_effects = isinstance(node, Task) and node.config.effects == "external"
        """Whether it changes things outside, which a fork must not do again unasked."""
        self.hold = _hold_of(node)
        """What the rules are asked about at admission, and what a run is charged that says nothing."""
        self.reserved = self.hold if self.is_served else NOTHING
        """What is held from the dispatch on."""
        self.timeout_ms = _timeout_of(node)
        """How long one run may take."""
        self.is_leased = self.is_served and _is_leased(node, self.hold, self.timeout_ms)
        """Whether runs are announced and leased: they are paid for, or they are long."""
        self.wait_ms = _wait_of(self)
        """How long the gate waits for a plain result, the beginning of a leased run, or a person."""
        limits = graphs.graph.limits
        self.is_counted = limits.max_in_flight is not None or bool(limits.max_in_flight_by_type)
        """Whether the graph caps what is in flight."""
        self.max_visits = limits.max_iterations
        """Visits of one lifetime to it; one more aborts the lifetime."""
        self.needs_facts = graphs.needs_facts(node.id)
        """Whether an edge out of it looks at the result."""
        self.only_way = graphs.only_way(node.id)
        """Where every result of a task goes, "" when that has to be asked: most tasks have one edge."""
        self.normal_ways = graphs.normal_ways(node.id)
        """Targets that a plan may name alone, and nothing more has to be asked: most decisions are so."""
        self.queue = node.config.queue or ""
        self.form = InputForm(graphs.graph, node, self.hold, self.timeout_ms, self.is_leased and LEASE_MS)
        """Makes its inputs."""


def _hold_of(node: Task | Plan) -> Amount:
    limits = node.config.limits
    return Amount(limits.tokens_used or 0, limits.cost_nano_usd or 0)


def _timeout_of(node: Task | Plan) -> int:
    if node.config.timeout_ms is not None:
        return node.config.timeout_ms
    return HUMAN_TIMEOUT_MS if node.type == HUMAN else TIMEOUT_MS


def _is_leased(node: Task | Plan, hold: Amount, timeout_ms: int) -> bool:
    if node.config.leased is not None:
        return node.config.leased
    return not hold.is_zero or timeout_ms > LEASED_ABOVE_MS


def _wait_of(terms: Terms) -> int:
    if not terms.is_served:
        return terms.timeout_ms
    return START_WITHIN_MS if terms.is_leased else START_WITHIN_MS + terms.timeout_ms


@lru_cache(maxsize=1024)
def terms_of(graphs: GraphOrchestrator) -> Mapping[str, Terms]:
    """Return the terms of every node of a graph, by its id. Cached for each orchestrator."""
    return {node_id: Terms(graphs, node) for node_id, node in graphs.nodes.items()}
