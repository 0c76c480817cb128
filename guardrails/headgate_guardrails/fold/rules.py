"""Policies made ready to judge: what a rule is to the evaluator, and the caps as one compiled comparison.

Nearly every event breaks no rule, so the caps of a tenant are first asked all at once: the lowest cap of
each sum, joined by `or` into one expression that Python compiles when the policy is set. Only when it is
true are the rules looked at one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate_guardrails.fold.conditions import RuleCondition, compile_rule
from headgate_protos.v1 import control_pb2

if TYPE_CHECKING:
    from headgate_guardrails.policy import NameList, NoProgress, Policy, Rule

ALLOW, WARN, THROTTLE, REJECT, PAUSE, ABORT = range(6)
"""Verdicts, weakest first."""
VERDICTS = {
    "warn": WARN,
    "throttle": THROTTLE,
    "reject_execution": REJECT,
    "pause_lifetime": PAUSE,
    "abort_lifetime": ABORT,
}
SCOPES = {
    "execution": control_pb2.POLICY_SCOPE_EXECUTION,
    "lifetime": control_pb2.POLICY_SCOPE_LIFETIME,
    "tenant": control_pb2.POLICY_SCOPE_TENANT,
}
EXECUTION, LIFETIME, TENANT = 1, 2, 3
"""The scopes as the wire numbers them."""


class CompiledRule(NamedTuple):
    """A rule as it is judged."""

    policy: str
    book: str
    """The policy's name, with a "*" before it when it is the platform's: two books may use one name."""
    version: int
    name: str
    scope: int
    verdict: int
    action: str
    shadow: bool
    window_ms: int
    sliding: bool
    pause_ttl_ms: int
    """0 for a pause that waits for an operator."""
    delay_ms: int
    condition: RuleCondition | None
    allow: NameList | None
    deny: NameList | None
    no_progress: NoProgress | None

    @property
    def key(self) -> tuple[str, str]:
        """(book, rule), under which its window is kept."""
        return self.book, self.name

    @property
    def scope_name(self) -> str:
        """execution, lifetime or tenant."""
        return next(name for name, scope in SCOPES.items() if scope == self.scope)

    @property
    def says(self) -> str:
        """What breaks the rule, when it is no cap; empty for a limit."""
        if self.condition is not None:
            return self.condition.text
        for word, names in (("allow", self.allow), ("deny", self.deny), ("no progress", self.no_progress)):
            if names is not None:
                given = names.model_dump(mode="json", exclude_none=True)
                return f"{word}: " + ", ".join(f"{kind} {value}" for kind, value in given.items())
        return ""


class Cap(NamedTuple):
    """One cap of one rule."""

    rule: CompiledRule
    metric: str
    value: int
    settled_only: bool
    """True for a `when` that compares a sum: it sees what is settled and not what is held."""


class CompiledPolicy(NamedTuple):
    """A policy as it is judged."""

    policy: Policy
    rules: tuple[CompiledRule, ...]
    caps: tuple[Cap, ...]


def book_of(policy: str, *, platform: bool) -> str:
    """Return the name under which a policy's windows and raised caps are kept."""
    return f"*{policy}" if platform else policy


def compile_policy(policy: Policy, *, platform: bool = False) -> CompiledPolicy:
    """Return the policy ready to judge, for one tenant or for the platform."""
    caps: list[Cap] = []
    rules: list[CompiledRule] = []
    for rule in policy.rules:
        compiled = _compile(policy, rule, book_of(policy.name, platform=platform))
        rules.append(compiled)
        if rule.limit is not None:
            caps += [Cap(compiled, metric, value, False) for metric, value in rule.limit.caps().items()]
        elif compiled.condition is not None and compiled.condition.as_cap and compiled.scope != EXECUTION:
            caps.append(Cap(compiled, *compiled.condition.as_cap, True))
    return CompiledPolicy(policy, tuple(rules), tuple(caps))


def _compile(policy: Policy, rule: Rule, book: str) -> CompiledRule:
    return CompiledRule(
        policy=policy.name,
        book=book,
        version=policy.version,
        name=rule.name,
        scope=SCOPES[rule.scope],
        verdict=VERDICTS[rule.action],
        action=rule.action,
        shadow=policy.mode == "shadow",
        window_ms=rule.window_ms or 0,
        sliding=rule.sliding,
        pause_ttl_ms=rule.pause.ttl_ms or 0,
        delay_ms=rule.throttle.delay_ms,
        condition=compile_rule(rule.when) if rule.when is not None else None,
        allow=rule.allow,
        deny=rule.deny,
        no_progress=rule.no_progress,
    )


Comparison = Callable[..., bool]
"""Called with `_ARGUMENTS`; it reads only what some cap is about."""

_ARGUMENTS = "L, T, W, clock, owner, iteration, tokens, cost, charge, fan_out"
"""Sums of the lifetime and of the tenant, the windows, the lifetime, its visit, the hold that is asked for;
what an execution is charged and how many tasks it named."""
_FIELDS = {
    "tokens_used": "tokens",
    "cost_nano_usd": "cost",
    "latency_ms": "latency_ms",
    "payload_bytes": "payload_bytes",
    "executions": "executions",
}
_HELD = {"tokens_used": "held_tokens", "cost_nano_usd": "held_cost", "executions": "open_holds"}
_ASKED = {"tokens_used": "tokens", "cost_nano_usd": "cost"}
_USED = {
    "tokens_used": "charge.tokens",
    "cost_nano_usd": "charge.cost",
    "latency_ms": "charge.latency_ms",
    "payload_bytes": "charge.payload_bytes",
    "fan_out": "fan_out",
}
_OF_LIFETIME = {
    "iterations": "iteration",
    "wall_time_ms": "clock - owner.started_at",
    "depth": "owner.depth",
}


def comparison(caps: Iterable[Cap], windows: dict[tuple[str, str], int], *, admission: bool) -> Comparison:
    """Return one function that is true when any of the caps may be passed.

    `windows` maps a windowed rule to its place among the windows. What an execution used is read at
    settlement, what it asks for at admission.
    """
    lowest: dict[str, int] = {}
    for cap in caps:
        text = _expression(cap, windows, admission)
        if text:
            lowest[text] = min(lowest.get(text, cap.value), cap.value)
    asked = [f"{text} > {value:d}" for text, value in lowest.items() if not _is_implied(text, lowest)]
    if any("W." in text for text in asked):
        asked.insert(0, "(clock >= W.until and W.move(clock))")
    body = " or ".join(asked) or "False"
    # The text is made of the fixed names above and integers alone: nothing of the policy's own text is in it.
    made: Comparison = eval(f"lambda {_ARGUMENTS}: {body}", {"__builtins__": {}})  # noqa: S307
    return made


def _is_implied(text: str, lowest: Mapping[str, int]) -> bool:
    """Whether a sum is asked with what is held on top of it, too, and need not be as low for that."""
    value = lowest[text]
    return any(more.startswith(f"{text} + ") and least <= value for more, least in lowest.items())


def _expression(cap: Cap, windows: dict[tuple[str, str], int], admission: bool) -> str:
    """Return what a cap is compared with; "" for what is not known yet and so passes no cap."""
    rule, metric, _, settled_only = cap
    if metric in _OF_LIFETIME:
        return _OF_LIFETIME[metric]
    if rule.scope == EXECUTION:
        return _ASKED.get(metric, "") if admission else _USED[metric]
    held_in = "L" if rule.scope == LIFETIME else "T"
    field = _FIELDS[metric]
    text = (
        f"W.fresh.{field} + W.each[{windows[rule.key]}].spend.{field}"
        if rule.window_ms
        else f"{held_in}.{field}"
    )
    if settled_only:
        return text
    if metric in _HELD:
        text += f" + {held_in}.{_HELD[metric]}"
    if admission and metric in _HELD:
        text += f" + {_ASKED.get(metric, '1')}"
    return text


def violation(rule: CompiledRule, expression: str = "", **numbers: Any) -> control_pb2.GuardrailViolation:
    """Return the proof that a rule was broken."""
    return control_pb2.GuardrailViolation(
        policy=rule.policy,
        version=rule.version,
        rule=rule.name,
        scope=rule.scope,  # type: ignore[arg-type]
        expression=expression,
        action=rule.action,
        **numbers,
    )
