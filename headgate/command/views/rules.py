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
    if rule.limit is not None:
        return _caps(rule.limit.caps(), rule.window_ms)
    if rule.when is not None:
        return rule.when
    kinds = ("no_progress", "allow", "deny")
    name, terms = next((kind, found) for kind in kinds if (found := getattr(rule, kind)) is not None)
    parts = (f"{key} {_listed(value)}" for key, value in terms.model_dump(exclude_none=True).items())
    return f"{name.replace('_', ' ')}: " + ", ".join(parts)


def _caps(caps: dict[str, int], window_ms: int | None) -> str:
    texts = (
        f"{'cost' if metric.startswith('cost') else metric} ≤ {amount(metric, value)}"
        for metric, value in caps.items()
    )
    return ", ".join(texts) + (f" per {format_duration(window_ms)}" if window_ms else "")


def _listed(value: object) -> str:
    return " ".join(str(one) for one in value) if isinstance(value, tuple | list) else str(value)
