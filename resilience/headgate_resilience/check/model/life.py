"""One lifetime as its records show it: visits, decisions, what was accepted, which joins have gone on."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from headgate_protos.v1.common_pb2 import Payload
from headgate_resilience.check.facts import View, digest
from headgate_resilience.check.model.ledger import Account
from headgate_resilience.check.model.shape import Shape

Key = tuple[str, str]
"""(tenant, lifetime)."""


class Frame(NamedTuple):
    """Which branch of which visit of which fork something is in."""

    node: str
    execution_id: str
    branch: str


Lineage = tuple[Frame, ...]


class Visit:
    """One visit to one node: what asked for it and how often it was tried."""

    __slots__ = ("attempt", "failures", "input_digest", "iteration", "lineage", "node", "tried", "upstream")

    def __init__(self, node: str, iteration: int, upstream: tuple[str, ...], lineage: Lineage) -> None:
        self.node = node
        self.iteration = iteration
        self.upstream = upstream
        self.lineage = lineage
        self.attempt = 0
        """The last one that was dispatched."""
        self.tried = ""
        """Its execution id."""
        self.failures = 0
        """Results of it that were accepted as failures."""
        self.input_digest = b""
        """What a task must be given; empty when that is not known."""


class Life:
    """One lifetime."""

    __slots__ = (
        "abort_told", "accepted", "account", "by_id", "counts", "decisions", "end", "fired",
        "graph", "is_paused", "key", "loose", "parent", "shape", "upstreams", "view", "visits", "withheld",
    )  # fmt: skip

    def __init__(
        self, key: Key, graph: Key, shape: Shape | None, account: Account, parent: Life | None
    ) -> None:
        self.key = key
        self.graph = graph
        self.shape = shape
        """None when the graph's record is gone: then only what needs no graph is checked."""
        self.account = account
        self.parent = parent
        self.visits: dict[tuple[str, int], Visit] = {}
        self.by_id: dict[str, Visit] = {}
        """Every execution that exists: dispatched, asked of a person, a sub-graph, or rejected."""
        self.counts: dict[str, int] = {}
        """Visits so far, by node."""
        self.accepted: dict[str, bytes] = {}
        """Digest of the result that was accepted, by execution."""
        self.decisions: dict[str, list[str]] = {}
        """Tasks that an accepted decision led to, by the plan's execution."""
        self.withheld: set[str] = set()
        """Executions that a rule rejected, before or after they ran."""
        self.upstreams: set[tuple[str, tuple[str, ...]]] = set()
        """(node, upstream) of every first try: nothing may follow twice."""
        self.fired: set[tuple[str, str]] = set()
        """(plan, visit) of joins that have gone on."""
        self.is_paused = False
        self.abort_told = False
        self.loose = False
        """Whether something was put off or cancelled, so that visits may come out of order."""
        self.end: View | None = None
        self.view: View | None = None

    @property
    def where(self) -> str:
        """tenant/lifetime."""
        return "/".join(self.key)

    def expect(
        self, node: str, upstream: tuple[str, ...], lineage: Lineage, input_digest: bytes = b""
    ) -> Visit:
        """Note that something asks for one more visit to a node."""
        iteration = self.counts[node] = self.counts.get(node, 0) + 1
        visit = self.visits[node, iteration] = Visit(node, iteration, upstream, lineage)
        visit.input_digest = input_digest
        self.by_id[id_of(self.key, node, iteration, 1)] = visit
        return visit

    def lineage_beyond(self, visit: Visit, execution_id: str, target: str) -> Lineage:
        """Return the lineage of what follows over the edge to `target`."""
        if self.shape is None or self.shape.edges.get((visit.node, target)) != "parallel":
            return visit.lineage
        return (*outside(visit.lineage, visit.node), Frame(visit.node, execution_id, target))

    def decide(self, visit: Visit, execution_id: str, result: Any) -> None:
        """Expect the visits that a plan's accepted decision leads to."""
        chosen = self.shape.chosen(visit.node, result.next_task_ids) if self.shape is not None else None
        if chosen is None:
            return
        self.decisions[execution_id] = chosen
        own = {one.task_id: digest(one.input_data.SerializeToString()) for one in result.next_inputs}
        value = value_digest(result)
        for target in chosen:
            lineage = self.lineage_beyond(visit, execution_id, target)
            self.expect(target, (execution_id,), lineage, own.get(target, value))

    def rejected(self, node: str, execution_id: str) -> None:
        """Note that a rule rejected an execution, dispatched or not."""
        self.withheld.add(execution_id)
        if execution_id in self.by_id:
            return
        for (name, iteration), visit in self.visits.items():
            if name == node and id_of(self.key, node, iteration, visit.attempt + 1) == execution_id:
                self.by_id[execution_id] = visit
                return


def value_digest(result: Any) -> bytes:
    """Return the digest of a result's value as the payload in which it travels on."""
    if result.WhichOneof("value") == "blob_reference":
        return digest(Payload(blob=result.blob_reference).SerializeToString())
    text = result.json_result if result.WhichOneof("value") else "null"
    return digest(Payload(json=text).SerializeToString())


def outside(lineage: Lineage, fork: str) -> Lineage:
    """Return the frames outside a fork's own; all of them when it has none."""
    for place, frame in enumerate(lineage):
        if frame.node == fork:
            return lineage[:place]
    return lineage


def id_of(key: Key, node: str, iteration: int, attempt: int) -> str:
    """Return the id that an attempt must have: DESIGN's hash, worked out anew."""
    text = f"{key[0]}\0{key[1]}\0{node}\0{iteration}\0{attempt}\x000"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
