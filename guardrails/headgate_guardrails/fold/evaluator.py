"""Judges what would be dispatched and what was settled, by all policies of a tenant at once. Pure.

Two moments: *admission* asks before a dispatch, with what it would reserve; *settlement* asks after a
result, about that result and the sums it changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate_graphs.conditions import ConditionFailed
from headgate_graphs.model import AgentGraph, Plan, Task
from headgate_guardrails.fold.ledger import Amount, Charge, Spend
from headgate_guardrails.fold.progressing import Step, stuck
from headgate_guardrails.fold.rules import (
    ALLOW,
    EXECUTION,
    LIFETIME,
    TENANT,
    THROTTLE,
    Cap,
    CompiledPolicy,
    CompiledRule,
    comparison,
    violation,
)
from headgate_guardrails.fold.windows import Window, Windows
from headgate_protos.v1 import control_pb2

if TYPE_CHECKING:
    from headgate_guardrails.fold.lifetime import Lifetime
    from headgate_guardrails.fold.state import Tenant
    from headgate_guardrails.policy import NameList


class Match(NamedTuple):
    """One broken rule and its numbers."""

    rule: CompiledRule
    violation: control_pb2.GuardrailViolation
    owner: Lifetime | None = None
    """The lifetime above, when it is its cap that was passed and not the lifetime's own."""


class Candidate(NamedTuple):
    """What is judged: an execution that would be dispatched, or one that was settled."""

    graph: AgentGraph
    node: Task | Plan
    iteration: int
    attempt: int
    requested: Amount
    """What it would reserve; nothing at settlement."""
    charge: Charge | None
    """What it is charged; None at admission."""
    model: str = ""
    success: bool = True
    fan_out: int = 0


class PolicyEvaluator:
    """All policies that hold for one tenant, ready to judge. Made anew when one is set.

    Windows belong to the tenant's state: `windows_after` makes those that are missing.
    """

    def __init__(
        self, policies: Sequence[CompiledPolicy], windowed: Sequence[CompiledRule] | None = None
    ) -> None:
        """Make the policies ready; `windowed`: the rules that the tenant has windows for, if others do."""
        self.policies = tuple(policies)
        rules = [rule for compiled in policies for rule in compiled.rules]
        self.caps = tuple(cap for compiled in policies for cap in compiled.caps)
        as_caps = {cap.rule for cap in self.caps}
        self.windowed = tuple(rule for rule in rules if rule.window_ms) if windowed is None else windowed
        places = {rule.key: place for place, rule in enumerate(self.windowed)}
        settled = [cap for cap in self.caps if cap.rule.verdict != THROTTLE]
        self._over_at_admission = comparison(self.caps, places, admission=True)
        self._over_at_settlement = comparison(settled, places, admission=False)
        self._static = tuple(r for r in rules if r.allow or r.deny or (r.condition and r.condition.is_static))
        dynamic = [r for r in rules if r.condition and not r.condition.is_static and r not in as_caps]
        self._asked_at_admission = tuple(r for r in dynamic if r.condition and r.condition.at_admission)
        self._asked_at_settlement = tuple(
            r for r in dynamic if r.condition and r.condition.at_settlement and r.verdict != THROTTLE
        )
        self._models = tuple(r for r in rules if (names := r.allow or r.deny) and names.models is not None)
        self._progress = tuple(r for r in rules if r.no_progress)
        self.looks_at_fan_out = any(cap.metric == "fan_out" for cap in self.caps)
        """Whether it has to be known how many tasks a plan named."""
        self._looks_at_results = bool(self._asked_at_settlement or self._models or self._progress)
        """Whether any rule is asked about a result itself, and not only about sums."""
        self.trail_length = max(
            (
                max(2 * r.no_progress.repeats * 8, r.no_progress.failures or 0)
                for r in self._progress
                if r.no_progress
            ),
            default=0,
        )
        """Steps a lifetime has to remember for rules about progress, 0 for none."""
        self.wall_times = tuple(sorted({c.value for c in self.caps if c.metric == "wall_time_ms"}))
        """Ages in ms at which a rule about wall time is asked although nothing happens."""
        self._static_matches: dict[tuple[tuple[str, str], str], tuple[Match, ...]] = {}

    def windows_after(self, before: Windows) -> Windows:
        """Return the windows of these policies, with what those before them have counted."""
        known = dict(before.items())
        windows = {}
        for rule in self.windowed:
            window = known.get(rule.key)
            if window is None or (window.length_ms, window.sliding) != (rule.window_ms, rule.sliding):
                window = Window(rule.window_ms, rule.sliding)
            windows[rule.key] = window
        return Windows(windows)

    # -- admission ---------------------------------------------------------------------------------

    def surely_admits(
        self, tenant: Tenant, lifetime: Lifetime, clock: int, node_id: str, iteration: int, hold: Amount
    ) -> bool:
        """Whether `at_admission` would find nothing, when that can be said at once.

        So it is for nearly every event, and nothing needs to be made to ask it: that takes a third of the
        time of the long way.
        """
        return not (
            self._asked_at_admission
            or tenant.budgets
            or lifetime.budgets
            or lifetime.parent is not None
            or (self._static and self._static_matches.get((lifetime.graph_key, node_id)) != ())
            or self._over_at_admission(
                lifetime.spend,
                tenant.spend,
                tenant.windows,
                clock,
                lifetime,
                iteration,
                hold[0],
                hold[1],
                None,
                0,
            )
        )

    def at_admission(self, tenant: Tenant, lifetime: Lifetime, clock: int, it: Candidate) -> list[Match]:
        """Return every rule that the dispatch would break, strongest first."""
        matches: list[Match] = []
        over = self._over_at_admission
        owner: Lifetime | None = lifetime
        while owner is not None:
            own = owner is lifetime
            if (
                tenant.budgets
                or owner.budgets
                or over(
                    owner.spend,
                    tenant.spend,
                    tenant.windows,
                    clock,
                    owner,
                    it.iteration if own else 0,
                    *it.requested,
                    None,
                    it.fan_out,
                )
            ):
                matches += self._caps_over(tenant, owner, clock, it, own)
            owner = owner.parent
        if self._static:
            found = self._static_matches.get((lifetime.graph_key, it.node.id))
            matches += self._ask_static(tenant, lifetime, it) if found is None else found
        for rule in self._asked_at_admission:
            if _broken(rule, tenant, lifetime, it):
                matches.append(_condition_match(rule))
        return _ranked(matches) if matches else matches

    def _ask_static(self, tenant: Tenant, lifetime: Lifetime, it: Candidate) -> tuple[Match, ...]:
        """Ask what is the same in every visit to a node, once for each."""
        found = self._static_matches[lifetime.graph_key, it.node.id] = tuple(
            Match(rule, violation(rule, why)) for rule in self._static if (why := _static(rule, tenant, it))
        )
        return found

    # -- settlement --------------------------------------------------------------------------------

    def surely_settles(
        self, tenant: Tenant, lifetime: Lifetime, clock: int, iteration: int, charge: Charge, fan_out: int
    ) -> bool:
        """Whether `at_settlement` would find nothing, when that can be said at once."""
        return not (
            self._looks_at_results
            or tenant.budgets
            or lifetime.budgets
            or lifetime.parent is not None
            or self._over_at_settlement(
                lifetime.spend,
                tenant.spend,
                tenant.windows,
                clock,
                lifetime,
                iteration,
                0,
                0,
                charge,
                fan_out,
            )
        )

    def at_settlement(
        self, tenant: Tenant, lifetime: Lifetime, clock: int, it: Candidate, step: Step | None
    ) -> list[Match]:
        """Return every rule that a settled execution breaks, strongest first."""
        charge = it.charge
        if charge is None:
            return []
        matches: list[Match] = []
        over = self._over_at_settlement
        owner: Lifetime | None = lifetime
        while owner is not None:
            own = owner is lifetime
            if (
                tenant.budgets
                or owner.budgets
                or over(
                    owner.spend,
                    tenant.spend,
                    tenant.windows,
                    clock,
                    owner,
                    it.iteration if own else 0,
                    0,
                    0,
                    charge,
                    it.fan_out,
                )
            ):
                matches += self._caps_over(tenant, owner, clock, it, own)
            owner = owner.parent
        for rule in self._asked_at_settlement:
            if _broken(rule, tenant, lifetime, it):
                matches.append(_condition_match(rule))
        if it.model:
            matches += [
                Match(rule, violation(rule, f"model {it.model[:128]}"))
                for rule in self._models
                if _refuses(rule, "models", it.model)
            ]
        if step is not None:
            for rule in self._progress:
                why = stuck(lifetime.trail, rule.no_progress) if rule.no_progress else ""
                if why:
                    matches.append(Match(rule, violation(rule, why)))
        return _ranked(matches) if matches else matches

    def at_age(self, lifetime: Lifetime, clock: int) -> list[Match]:
        """Return the rules about wall time that a lifetime breaks by its age alone."""
        matches = []
        for cap in self.caps:
            if cap.metric == "wall_time_ms":
                limit = lifetime.budgets.get((cap.rule.book, cap.rule.name, cap.metric), cap.value)
                age = clock - lifetime.started_at
                if age > limit:
                    matches.append(_cap_match(cap, limit, age, 0, 0))
        return _ranked(matches)

    # -- one by one --------------------------------------------------------------------------------

    def _caps_over(
        self, tenant: Tenant, owner: Lifetime, clock: int, it: Candidate, own: bool
    ) -> Iterable[Match]:
        """Look at each cap; `own` is False for an ancestor, of which only the lifetime's sums are asked."""
        for cap in self.caps:
            rule = cap.rule
            if not own and (rule.scope != LIFETIME or cap.metric in ("iterations", "depth")):
                continue
            if it.charge is not None and rule.verdict == THROTTLE:
                continue
            raised = tenant.budgets if rule.scope == TENANT else owner.budgets
            limit = raised.get((rule.book, rule.name, cap.metric), cap.value)
            committed, held, asked = _measure(cap, tenant, owner, clock, it)
            if committed + held + asked > limit:
                yield _cap_match(cap, limit, committed, held, asked)._replace(owner=None if own else owner)


def verdict_of(matches: Iterable[Match]) -> int:
    """Return the strongest verdict that must be obeyed; shadow rules never are."""
    return max((match.rule.verdict for match in matches if not match.rule.shadow), default=ALLOW)


def _ranked(matches: list[Match]) -> list[Match]:
    if len(matches) > 1:
        matches.sort(key=lambda match: -match.rule.verdict)
    return matches


def _cap_match(cap: Cap, limit: int, committed: int, held: int, asked: int) -> Match:
    rule = cap.rule
    text = rule.condition.text if rule.condition else ""
    return Match(
        rule,
        violation(
            rule,
            text,
            metric=cap.metric,
            measured=committed + held + asked,
            limit=limit,
            committed=committed,
            held=held,
            requested=asked,
        ),
    )


def measures(cap: Cap, tenant: Tenant, lifetime: Lifetime, clock: int) -> tuple[int | None, int]:
    """Return (committed, held) of a cap as it stands; (None, 0) for what looks at one execution."""
    rule, metric = cap.rule, cap.metric
    if metric == "wall_time_ms":
        return clock - lifetime.started_at, 0
    if metric == "depth":
        return lifetime.depth, 0
    if metric == "iterations":
        return max((tally.iterations for tally in lifetime.nodes.values()), default=0), 0
    if rule.scope == EXECUTION:
        return None, 0
    held_in = lifetime.spend if rule.scope == LIFETIME else tenant.spend
    spend = tenant.windows[rule.key].at(clock) if rule.window_ms else held_in
    holds = {
        "tokens_used": held_in.held_tokens,
        "cost_nano_usd": held_in.held_cost,
        "executions": held_in.open_holds,
    }
    return getattr(spend, _SPEND[metric]), 0 if cap.settled_only else holds.get(metric, 0)


def _measure(cap: Cap, tenant: Tenant, owner: Lifetime, clock: int, it: Candidate) -> tuple[int, int, int]:
    """Return (committed, held, requested); at settlement nothing is requested any more."""
    rule, metric = cap.rule, cap.metric
    if metric == "wall_time_ms":
        return clock - owner.started_at, 0, 0
    if metric == "depth":
        return owner.depth, 0, 0
    if metric == "iterations":
        return it.iteration - 1, 0, 1
    if rule.scope == EXECUTION:
        return _of_execution(metric, it)
    held_in = owner.spend if rule.scope == LIFETIME else tenant.spend
    spend = tenant.windows[rule.key].at(clock) if rule.window_ms else held_in
    if cap.settled_only:
        return getattr(spend, _SPEND[metric]), 0, 0
    return _of_scope(metric, spend, held_in, it)


_SPEND = {
    "tokens_used": "tokens",
    "cost_nano_usd": "cost",
    "latency_ms": "latency_ms",
    "payload_bytes": "payload_bytes",
    "executions": "executions",
}


def _of_execution(metric: str, it: Candidate) -> tuple[int, int, int]:
    if it.charge is None:
        asked = {"tokens_used": it.requested.tokens, "cost_nano_usd": it.requested.cost}
        return 0, 0, asked.get(metric, 0)
    if metric == "fan_out":
        return it.fan_out, 0, 0
    return getattr(it.charge, _SPEND[metric]), 0, 0


def _of_scope(metric: str, spend: Spend, held: Spend, it: Candidate) -> tuple[int, int, int]:
    committed = getattr(spend, _SPEND[metric])
    if metric == "tokens_used":
        return committed, held.held_tokens, it.requested.tokens
    if metric == "cost_nano_usd":
        return committed, held.held_cost, it.requested.cost
    if metric == "executions":
        return committed, held.open_holds, 1 if it.charge is None else 0
    return committed, 0, 0


def _condition_match(rule: CompiledRule) -> Match:
    return Match(rule, violation(rule, rule.condition.text if rule.condition else ""))


def _broken(rule: CompiledRule, tenant: Tenant, lifetime: Lifetime, it: Candidate) -> bool:
    condition = rule.condition
    if condition is None:
        return False
    spend = tenant.spend if rule.scope == TENANT else lifetime.spend
    facts = {name: _FACTS[name](tenant, lifetime, it, spend) for name in condition.needs}
    try:
        return condition.condition.holds(facts)
    except ConditionFailed:
        # What cannot be evaluated is treated as broken: a gate that errs stays shut.
        return True


def _static(rule: CompiledRule, tenant: Tenant, it: Candidate) -> str:
    """Return why a node breaks a rule in every visit, "" when it does not."""
    node = it.node
    if rule.condition is not None:
        facts = {name: _STATIC_FACTS[name](tenant, it) for name in rule.condition.needs}
        try:
            return rule.condition.text if rule.condition.condition.holds(facts) else ""
        except ConditionFailed:
            return rule.condition.text
    if node.kind.value == "task" and _refuses(rule, "task_types", node.type):
        return f"task type {node.type}"
    if _refuses(rule, "queues", node.config.queue or ""):
        return f"queue {node.config.queue or 'default'}"
    model = node.config.params.get("model")
    if isinstance(model, str) and _refuses(rule, "models", model):
        return f"model {model[:128]}"
    return ""


def _refuses(rule: CompiledRule, kind: str, name: str) -> bool:
    """Whether the rule's list of this kind keeps the name out."""
    lists: tuple[tuple[NameList | None, bool], ...] = ((rule.allow, False), (rule.deny, True))
    for names, refused_when_listed in lists:
        listed = getattr(names, kind) if names is not None else None
        if listed is not None and (name in listed) is refused_when_listed:
            return True
    return False


Fact = Callable[["Tenant", "Lifetime", Candidate, Spend], Any]


def _used(name: str) -> Fact:
    return lambda _t, _l, c, _s: getattr(c.charge, name) if c.charge is not None else 0


def _average(name: str, unit: float = 1.0) -> Fact:
    return lambda _t, _l, _c, s: float(getattr(s, name)) / s.executions / unit if s.executions else 0.0


_USD = 1_000_000_000.0
_STATIC_FACTS: Mapping[str, Callable[[Tenant, Candidate], Any]] = {
    "node": lambda _t, c: {
        "id": c.node.id,
        "type": c.node.type,
        "kind": c.node.kind.value,
        "queue": c.node.config.queue or "",
    },
    "graph": lambda _t, c: {
        "id": c.graph.metadata.id,
        "version": c.graph.metadata.version,
        "tags": list(c.graph.metadata.tags),
    },
    "tenant_id": lambda t, _c: t.tenant_id,
}
_FACTS: Mapping[str, Fact] = {
    "tokens_used": _used("tokens"),
    "cost_usd": lambda _t, _l, c, _s: c.charge.cost / _USD if c.charge is not None else 0.0,
    "latency_ms": _used("latency_ms"),
    "input_tokens": _used("input_tokens"),
    "output_tokens": _used("output_tokens"),
    "model": lambda _t, _l, c, _s: c.model,
    "payload_bytes": _used("payload_bytes"),
    "success": lambda _t, _l, c, _s: c.success,
    "iteration": lambda _t, _l, c, _s: c.iteration,
    "attempt": lambda _t, _l, c, _s: c.attempt,
    "node": lambda t, _l, c, _s: _STATIC_FACTS["node"](t, c),
    "graph": lambda t, _l, c, _s: _STATIC_FACTS["graph"](t, c),
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
    "avg_cost_usd_": _average("cost", _USD),
    "avg_latency_ms_": _average("latency_ms"),
}
