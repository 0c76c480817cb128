"""One lifetime as it is seen from outside: what was asked for, what must follow, what joins have gathered.

Shares nothing with the fold.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from headgate_protos.v1 import execution_pb2
from tests.unit.guardrails.properties.accounts import LifeAccount
from tests.unit.guardrails.properties.routes import Definition, Facts, JoinShape, Next

MOST_ATTEMPTS = 40
"""Tries of one visit: retries, those lost, those given back because of a pause."""

Visit = tuple[str, str]
"""A join's plan and the execution id of the fork."""


class Violation(AssertionError):
    """Something that must hold did not."""


@dataclass(slots=True)
class Seen:
    """One execution: dispatched, shown to a person, a sub-graph, or rejected before dispatch."""

    execution_id: str
    node: str
    iteration: int
    attempt: int
    upstream: tuple[str, ...]
    result: Any = None
    """What was accepted; None until then, and for failures that nobody reported."""
    rejected: bool = False
    delivered: bool = False
    """Whether what comes of it is expected already."""

    @property
    def failed(self) -> bool:
        """Whether there is no good result that counts."""
        return self.rejected or self.result is None or not self.result.success


@dataclass(slots=True)
class Life:
    """One lifetime."""

    tenant: str
    lifetime_id: str
    graph_id: str
    definition: Definition
    joins: dict[str, JoinShape] | None
    start_input: str
    account: LifeAccount
    parent: Life | None = None
    parent_execution_id: str = ""
    seen: dict[str, Seen] = field(default_factory=dict)
    last: dict[tuple[str, int], Seen] = field(default_factory=dict)
    """Latest attempt by (node, iteration)."""
    pending: dict[str, list[tuple[int, tuple[str, ...]]]] = field(default_factory=dict)
    """By node: (iteration, upstream) of what must be done there and is not yet; for plans iteration 0."""
    failures: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Tries of each visit that were reported as failures."""
    visits: Counter[str] = field(default_factory=Counter)
    """Visits to each task that decisions have asked for."""
    arrivals: dict[Visit, dict[str, str]] = field(default_factory=dict)
    """What was delivered to a join first: execution by branch."""
    fired: set[Visit] = field(default_factory=set)
    due: int = 0
    """Log time at which it must have ended for its age."""
    pause_due: int = 0
    """Log time at which a pause must have ended it, 0 for never."""
    paused: bool = False
    aborted: bool = False
    loose: bool = False
    """Whether something was put off or cancelled, so that not all that is asked for need be done."""
    final: bool = False
    """Whether an accepted result of this record ends the lifetime."""
    end: execution_pb2.LifetimeView | None = None
    view: execution_pb2.LifetimeView | None = None

    @property
    def where(self) -> str:
        """Tenant and id."""
        return f"{self.tenant}/{self.lifetime_id}"

    @property
    def is_paused(self) -> bool:
        """Whether it or one above it is paused."""
        return self.paused or (self.parent is not None and self.parent.is_paused)

    def identify(self, node: str, execution_id: str) -> tuple[int, int]:
        """Return iteration and attempt of an execution that is known by its id only."""
        tries = [(iteration, 1) for iteration in range(1, self.definition.max_iterations + 1)]
        tries += [(number, last.attempt + 1) for (name, number), last in self.last.items() if name == node]
        for iteration, attempt in tries:
            if execution_id == id_of(self.tenant, self.lifetime_id, node, iteration, attempt):
                return iteration, attempt
        raise Violation(f"I7: {execution_id} is no execution of {self.where}/{node}")

    def take(self, seen: Seen) -> bool:
        """Note an execution; whether something that was accepted asks for it."""
        if seen.attempt == 1:
            iteration = 0 if seen.node in self.definition.plans else seen.iteration
            wanted = (iteration, seen.upstream)
            queue = self.pending.get(seen.node, [])
            if wanted not in queue:
                return False
            queue.remove(wanted)
        self.note(seen)
        return True

    def note(self, seen: Seen) -> None:
        """Note an execution."""
        self.seen[seen.execution_id] = self.last[seen.node, seen.iteration] = seen

    def upstream_of(self, node: str, iteration: int) -> tuple[str, ...] | None:
        """Return what asks for this visit of a task; None when nothing does."""
        return next((up for number, up in self.pending.get(node, ()) if number == iteration), None)

    # -- what follows from a result ------------------------------------------------------------------

    def follow(self, seen: Seen, after: Next) -> None:
        """Expect what a result leads to."""
        seen.delivered = True
        self.final = self.final or after.final
        for target in after.targets:
            iteration = 0
            if target not in self.definition.plans:
                self.visits[target] += 1
                iteration = self.visits[target]
            self.pending.setdefault(target, []).append((iteration, (seen.execution_id,)))
        for plan in after.joins if self.joins is not None else ():
            visit, branch = self.visit_of(seen, plan)
            self.arrivals.setdefault((plan, visit), {}).setdefault(branch, seen.execution_id)

    def follow_task(self, seen: Seen) -> None:
        """Expect what a task's good result leads to."""
        self.follow(seen, self.definition.after_task(seen.node, facts_of(seen)))

    def deliver_failure(self, seen: Seen) -> None:
        """A failed task goes on to its plan: asked when it does, for nobody can tell before."""
        if seen.failed and not seen.delivered and seen.node not in self.definition.plans:
            after = self.definition.after_task(seen.node, facts_of(seen))
            self.follow(seen, after._replace(final=False))

    def withhold(self, seen: Seen) -> None:
        """A result is rejected: what it would have caused is forgotten, its failure goes on in its place."""
        for node, queue in self.pending.items():
            mine = [one for one in queue if one[1] == (seen.execution_id,)]
            for one in mine:
                queue.remove(one)
                self.visits[node] -= bool(one[0])
        for arrived in self.arrivals.values():
            for branch in [b for b, one in arrived.items() if one == seen.execution_id]:
                del arrived[branch]
        self.final = False
        seen.rejected, seen.delivered = True, False
        self.deliver_failure(seen)

    def given_to(self, seen: Seen) -> str:
        """Return the JSON text that a task must be given."""
        if not seen.upstream:
            return self.start_input
        decision = self.seen[seen.upstream[0]].result
        own = {one.task_id: one.input_data.json for one in decision.next_inputs}
        text: str = own.get(seen.node, decision.json_result or "null")
        return text

    # -- joins -----------------------------------------------------------------------------------------

    def visit_of(self, seen: Seen, plan: str) -> tuple[str, str]:
        """Walk back to the fork that a join belongs to; return its execution and the branch."""
        assert self.joins is not None
        fork = self.joins[plan].fork
        one = seen
        while one.upstream:
            before = self.seen[one.upstream[0]]
            if before.node == fork and self.definition.types[fork, one.node] == "parallel":
                return before.execution_id, one.node
            one = before
        return seen.execution_id, seen.node

    def branches(self, plan: str, visit: str) -> list[str]:
        """Return the branches of a visit that feed a join, in the order in which they were sent out."""
        assert self.joins is not None
        fork = self.seen[visit]
        shape = self.joins[plan]
        if fork.node != shape.fork:
            return [fork.node]
        if fork.node in self.definition.plans:
            chosen = list(dict.fromkeys(fork.result.next_task_ids))
        else:
            after = self.definition.after_task(fork.node, facts_of(fork))
            chosen = [t for t in after.targets if self.definition.types[fork.node, t] == "parallel"]
        return [branch for branch in chosen if branch in shape.feeders]

    def full(self, plan: str, visit: str) -> bool:
        """Whether a join has all it needs to go on at once."""
        arrived = self.arrivals[plan, visit]
        expected = self.branches(plan, visit)
        terms = self.definition.join_terms[plan]
        good = sum(not self.seen[one].failed for one in arrived.values())
        enough = terms.strategy != "all" and good >= terms.at_once(len(expected))
        return enough or set(arrived) >= set(expected)

    def unfired(self) -> list[Visit]:
        """Return every join to which something was delivered and which has not gone on."""
        return [visit for visit in self.arrivals if visit not in self.fired]

    def join_fires(self, seen: Seen) -> str:
        """Take note that a join goes on; return what is wrong with that, empty when nothing is."""
        plan = seen.node
        traced = [self.visit_of(self.seen[one], plan) for one in seen.upstream]
        if len({visit for visit, _ in traced}) != 1:
            return f"inputs of {len({visit for visit, _ in traced})} visits"
        visit = (plan, traced[0][0])
        if visit in self.fired:
            return "the join fired twice in one visit"
        self.fired.add(visit)
        branches, expected = [branch for _, branch in traced], self.branches(*visit)
        if branches != [branch for branch in expected if branch in branches]:
            return f"inputs of {branches}, sent out {expected}"
        # What has lost is cancelled, and what of it was never dispatched without a word.
        self.loose = self.loose or (self.definition.join_terms[plan].cancels and branches != expected)
        arrived = self.arrivals.get(visit, {})
        for one, branch in zip(seen.upstream, branches, strict=True):
            if arrived.get(branch) != one:
                return f"{one} is not what {branch} delivered first"
        good = sum(not self.seen[one].failed for one in seen.upstream)
        return self.definition.join_terms[plan].fault(len(expected), len(branches), good)


def facts_of(seen: Seen) -> Facts:
    """Return what edge conditions see of an execution that is over."""
    result = seen.result
    told = result is not None and not seen.rejected and result.metadata_json
    return {
        "success": not seen.failed,
        "iteration": seen.iteration,
        "result": json.loads(result.json_result) if not seen.failed and result.json_result else None,
        "metadata": json.loads(result.metadata_json) if told else {},
    }


def id_of(tenant: str, lifetime: str, node: str, iteration: int, attempt: int) -> str:
    """Return the id that an attempt must have: DESIGN §5, worked out anew."""
    text = "\0".join([tenant, lifetime, node, str(iteration), str(attempt), "0"])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
