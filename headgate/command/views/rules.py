"""Rows of `policy show`: one for each rule."""

from __future__ import annotations

from headgate.words import amount
from headgate_graphs.units import format_duration
from headgate_guardrails.policy import Policy, Rule

RULE_COLUMNS = ("policy", "rule", "scope", "limit or condition", "action")


def rule_rows(policy: Policy) -> list[tuple[str, ...]]:
    """Return one row per rule, in document order."""
    mode = "" if policy.mode == "enforce" else f" ({policy.mode})"
    name = f"{policy.name} v{policy.version}{mode}"
    return [(name, rule.name, rule.scope, _condition(rule), rule.action) for rule in policy.rules]


def _condition(rule: Rule) -> str:
    if rule.limit is None:
        return str(rule.when)
    caps = (
        f"{'cost' if metric.startswith('cost') else metric} ≤ {amount(metric, value)}"
        for metric, value in rule.limit.caps().items()
    )
    window = f" per {format_duration(rule.window_ms)}" if rule.window_ms else ""
    return ", ".join(caps) + window
