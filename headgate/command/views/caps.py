"""Spend of one lifetime against each cap of the policies in force."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from headgate.command.views.state import LifetimeState
from headgate_guardrails.policy import Policy

MEASURED = frozenset({"tokens_used", "cost_nano_usd", "latency_ms", "executions", "iterations"})
"""Metrics that can be summed from what happened; the gate alone knows the others."""


@dataclass(frozen=True, slots=True)
class Cap:
    """One cap of one rule, and how much of it this lifetime has used; wire units (cost in nano-USD)."""

    policy: str
    version: int
    rule: str
    scope: str
    metric: str
    limit: int
    used: int

    @property
    def label(self) -> str:
        """Rule, scope and metric in words; of a tenant's cap only this lifetime's part is known here."""
        part = "tenant, this run's part" if self.scope == "tenant" else self.scope
        metric = "cost" if self.metric.startswith("cost") else self.metric
        return f"{self.rule} ({part}) {metric}"


def caps_of(policies: Iterable[Policy], state: LifetimeState) -> list[Cap]:
    """Return every cap of every `limit` rule, in document order; raised caps have their new value."""
    return [
        Cap(
            policy.name, policy.version, rule.name, rule.scope, metric,
            _raised(state, policy.name, rule.name, metric, limit), _used(state, rule.scope, metric),
        )
        for policy in policies
        for rule in policy.rules
        if rule.limit is not None
        for metric, limit in rule.limit.caps().items()
        if metric in MEASURED
    ]  # fmt: skip


def _raised(state: LifetimeState, policy: str, rule: str, metric: str, limit: int) -> int:
    spellings = {metric, "cost_usd", "cost_nano_usd"} if metric.startswith("cost") else {metric}
    found = (state.caps.get((policy, rule, spelling)) for spelling in sorted(spellings))
    return next((value for value in found if value is not None), limit)


def _used(state: LifetimeState, scope: str, metric: str) -> int:
    if metric == "iterations":
        visits = Counter({(a.node_id): 0 for a in state.attempts.values()})
        for attempt in state.attempts.values():
            visits[attempt.node_id] = max(visits[attempt.node_id], attempt.iteration)
        return max(visits.values(), default=0)
    if scope == "execution":
        usages = (attempt.usage for one in state.everything for attempt in one.attempts.values())
        name = "cost_nano_usd" if metric.startswith("cost") else metric
        return max((int(getattr(usage, name, 0)) for usage in usages), default=0)
    return state.settled_total().of(metric)
