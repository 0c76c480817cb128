"""Policies made ready to judge: caps become integer comparisons, conditions become compiled CEL. Pure.

Two moments: *admission* asks before a dispatch, with what it would reserve; *settlement* asks after a
result, about that result and the sums it changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate_graphs.conditions import ConditionFailed
from headgate_guardrails.fold.conditions import RuleCondition, compile_rule
from headgate_guardrails.fold.ledger import Amount, Spend, Window
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2

if TYPE_CHECKING:
    from headgate_graphs.model import AgentGraph, Plan, Task
    from headgate_guardrails.fold.state import Lifetime, Tenant
    from headgate_guardrails.policy import Policy

ALLOW, REJECT, PAUSE, ABORT = range(4)
"""Verdicts, weakest first."""
ACTIONS = {"reject_execution": REJECT, "pause_lifetime": PAUSE, "abort_lifetime": ABORT}
SCOPES = {
    "execution": control_pb2.POLICY_SCOPE_EXECUTION,
    "lifetime": control_pb2.POLICY_SCOPE_LIFETIME,
    "tenant": control_pb2.POLICY_SCOPE_TENANT,
}
EXECUTION, LIFETIME, TENANT = 1, 2, 3
"""The scopes as the wire numbers them."""


class Cap(NamedTuple):
    """One cap of one limit rule."""

    rule: CompiledRule
    metric: str
    value: int


class CompiledRule(NamedTuple):
    """A rule as it is judged."""

    policy: str
    version: int
    name: str
    scope: int
    verdict: int
    action: str
    shadow: bool
    window_ms: int
    pause_ttl_ms: int
    """0 for a pause that waits for an operator."""
    condition: RuleCondition | None


class CompiledPolicy(NamedTuple):
    """A policy as it is judged."""

    policy: Policy
    caps: tuple[Cap, ...]
    at_settlement: tuple[CompiledRule, ...]
    at_admission: tuple[CompiledRule, ...]
    windowed: tuple[CompiledRule, ...]
    """Rules whose windows must be told of every settlement."""


class Match(NamedTuple):
    """One broken rule and its numbers."""

    rule: CompiledRule
    violation: control_pb2.GuardrailViolation


class Candidate(NamedTuple):
    """What is judged: an execution that would be dispatched, or one that was settled."""

    graph: AgentGraph
    node: Task | Plan
    iteration: int
    attempt: int
    requested: Amount
    """What it would reserve; nothing at settlement."""
    usage: pb.ResourceUsage | None
    """What it used; None at admission."""
    success: bool
    payload_bytes: int


def compile_policy(policy: Policy) -> CompiledPolicy:
    """Return the policy ready to judge."""
    caps: list[Cap] = []
    rules: list[CompiledRule] = []
    for rule in policy.rules:
        compiled = CompiledRule(
            policy=policy.name,
            version=policy.version,
            name=rule.name,
            scope=SCOPES[rule.scope],
            verdict=ACTIONS[rule.action],
            action=rule.action,
            shadow=policy.mode == "shadow",
            window_ms=rule.window_ms or 0,
            pause_ttl_ms=rule.pause.ttl_ms or 0,
            condition=compile_rule(rule.when) if rule.when is not None else None,
        )
        rules.append(compiled)
        if rule.limit is not None:
            caps += [Cap(compiled, metric, value) for metric, value in rule.limit.caps().items()]
    return CompiledPolicy(
        policy,
        tuple(caps),
        tuple(r for r in rules if r.condition and r.condition.at_settlement),
        tuple(r for r in rules if r.condition and r.condition.at_admission),
        tuple(r for r in rules if r.window_ms),
    )


class PolicyEvaluator:
    """Judges candidates of one tenant at one moment of log time."""

    __slots__ = ("clock_ms", "tenant")

    def __init__(self, tenant: Tenant, clock_ms: int) -> None:
        self.tenant = tenant
        self.clock_ms = clock_ms

    def settle(self, usage: pb.ResourceUsage) -> None:
        """Tell every window of the tenant of one settled run."""
        for compiled in self.tenant.policies.values():
            for rule in compiled.windowed:
                self._window(rule).settle(usage)

    def judge(self, lifetime: Lifetime, candidate: Candidate) -> list[Match]:
        """Return every broken rule, strongest first, then in the order of policies and rules."""
        matches: list[Match] = []
        settled = candidate.usage is not None
        for compiled in self.tenant.policies.values():
            for cap in compiled.caps:
                match = self._over(cap, lifetime, candidate)
                if match is not None:
                    matches.append(match)
            matches += [
                Match(rule, _condition_violation(rule))
                for rule in (compiled.at_settlement if settled else compiled.at_admission)
                if self._broken(rule, lifetime, candidate)
            ]
        if len(matches) > 1:
            matches.sort(key=lambda match: -match.rule.verdict)
        return matches

    def _over(self, cap: Cap, lifetime: Lifetime, candidate: Candidate) -> Match | None:
        rule, metric, limit = cap
        if rule.scope == EXECUTION:
            committed, held, asked = _of_execution(metric, candidate)
        else:
            if rule.scope == LIFETIME:
                spend = held_in = lifetime.spend
                raised = lifetime.budgets
            else:
                held_in = self.tenant.spend
                spend = self._window(rule) if rule.window_ms else held_in
                raised = self.tenant.budgets
            if raised:
                limit = raised.get((rule.policy, rule.name, metric), limit)
            committed, held, asked = _of_scope(metric, spend, held_in, candidate)
        measured = committed + held + asked
        if measured <= limit:
            return None
        return Match(
            rule,
            control_pb2.GuardrailViolation(
                policy=rule.policy,
                version=rule.version,
                rule=rule.name,
                scope=rule.scope,  # type: ignore[arg-type]
                metric=metric,
                measured=measured,
                limit=limit,
                committed=committed,
                held=held,
                requested=asked,
                action=rule.action,
            ),
        )

    def _broken(self, rule: CompiledRule, lifetime: Lifetime, candidate: Candidate) -> bool:
        condition = rule.condition
        if condition is None:
            return False
        spend = self.tenant.spend if rule.scope == TENANT else lifetime.spend
        facts = {name: _FACTS[name](self.tenant, lifetime, candidate, spend) for name in condition.needs}
        try:
            return condition.condition.holds(facts)
        except ConditionFailed:
            # What cannot be evaluated is treated as broken: a gate that errs stays shut.
            return True

    def _window(self, rule: CompiledRule) -> Spend:
        key = (rule.policy, rule.name)
        window = self.tenant.windows.get(key)
        if window is None:
            window = self.tenant.windows[key] = Window()
        return window.at(self.clock_ms, rule.window_ms)


def verdict_of(matches: Iterable[Match]) -> int:
    """Return the strongest verdict that must be obeyed; shadow rules never are."""
    return max((match.rule.verdict for match in matches if not match.rule.shadow), default=ALLOW)


def _of_execution(metric: str, candidate: Candidate) -> tuple[int, int, int]:
    usage = candidate.usage
    if usage is None:
        hold = candidate.requested
        return 0, 0, hold.tokens if metric == "tokens_used" else hold.cost if metric == "cost_nano_usd" else 0
    return getattr(usage, metric), 0, 0


def _of_scope(metric: str, spend: Spend, held: Spend, candidate: Candidate) -> tuple[int, int, int]:
    """Return (committed, held, requested) of one metric; what is asked for is nothing once it is settled."""
    admission = candidate.usage is None
    if metric == "tokens_used":
        return spend.tokens, held.held_tokens, candidate.requested.tokens
    if metric == "cost_nano_usd":
        return spend.cost, held.held_cost, candidate.requested.cost
    if metric == "latency_ms":
        return spend.latency_ms, 0, 0
    if metric == "executions":
        return spend.executions, held.open_holds, 1 if admission else 0
    return candidate.iteration - 1, 0, 1


def _condition_violation(rule: CompiledRule) -> control_pb2.GuardrailViolation:
    return control_pb2.GuardrailViolation(
        policy=rule.policy,
        version=rule.version,
        rule=rule.name,
        scope=rule.scope,  # type: ignore[arg-type]
        expression=rule.condition.text if rule.condition else "",
        action=rule.action,
    )


Fact = Callable[["Tenant", "Lifetime", Candidate, Spend], Any]


def _used(name: str) -> Fact:
    return lambda _t, _l, c, _s: getattr(c.usage, name) if c.usage is not None else 0


def _average(name: str) -> Fact:
    return lambda _t, _l, _c, s: float(getattr(s, name)) / s.executions if s.executions else 0.0


_USD = 1_000_000_000
_FACTS: Mapping[str, Fact] = {
    "tokens_used": _used("tokens_used"),
    "cost_usd": lambda _t, _l, c, _s: c.usage.cost_nano_usd / _USD if c.usage is not None else 0.0,
    "latency_ms": _used("latency_ms"),
    "input_tokens": _used("input_tokens"),
    "output_tokens": _used("output_tokens"),
    "payload_bytes": lambda _t, _l, c, _s: c.payload_bytes,
    "success": lambda _t, _l, c, _s: c.success,
    "iteration": lambda _t, _l, c, _s: c.iteration,
    "attempt": lambda _t, _l, c, _s: c.attempt,
    "node": lambda _t, _l, c, _s: {
        "id": c.node.id,
        "type": c.node.type,
        "kind": c.node.kind.value,
        "queue": c.node.config.queue or "",
    },
    "graph": lambda _t, _l, c, _s: {
        "id": c.graph.metadata.id,
        "version": c.graph.metadata.version,
        "tags": list(c.graph.metadata.tags),
    },
    "lifetime_id": lambda _t, lt, _c, _s: lt.lifetime_id,
    "tenant_id": lambda t, _l, _c, _s: t.tenant_id,
    "count__": lambda _t, _l, _c, s: s.executions,
    "sum_tokens_used_": lambda _t, _l, _c, s: s.tokens,
    "sum_cost_usd_": lambda _t, _l, _c, s: s.cost / _USD,
    "sum_latency_ms_": lambda _t, _l, _c, s: s.latency_ms,
    "max_tokens_used_": lambda _t, _l, _c, s: s.max_tokens,
    "max_cost_usd_": lambda _t, _l, _c, s: s.max_cost / _USD,
    "max_latency_ms_": lambda _t, _l, _c, s: s.max_latency_ms,
    "avg_tokens_used_": _average("tokens"),
    "avg_cost_usd_": lambda t, lt, c, s: _average("cost")(t, lt, c, s) / _USD,
    "avg_latency_ms_": _average("latency_ms"),
}
