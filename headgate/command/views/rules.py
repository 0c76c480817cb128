"""Rows of `policy show`, `policy list` and `policy explain`: rules, versions, and where a rule stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from headgate.versions import PolicyVersion
from headgate.words import amount, metric_word, moment
from headgate_graphs.ids import EVERY_TENANT
from headgate_graphs.units import format_duration
from headgate_guardrails.policy import Policy, Rule, policy_from_json

if TYPE_CHECKING:
    from headgate_guardrails.explain import RuleStanding
    from headgate_protos.v1.control_pb2 import GuardrailViolation

RULE_COLUMNS = ("policy", "rule", "scope", "limit or condition", "action")
VERSION_COLUMNS = ("policy", "version", "for", "mode", "rules", "first set", "in force since")
STANDING_COLUMNS = ("policy", "rule", "scope", "metric", "value", "held", "limit", "left", "next")
STANDING_NUMBERS = ("value", "held", "limit", "left")
ACTS = {
    "warn": "warns",
    "throttle": "delays",
    "reject_execution": "rejects",
    "pause_lifetime": "pauses",
    "abort_lifetime": "aborts",
}


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
    texts = (f"{metric_word(metric)} ≤ {amount(metric, value)}" for metric, value in caps.items())
    return ", ".join(texts) + (f" per {format_duration(window_ms)}" if window_ms else "")


def _listed(value: object) -> str:
    return " ".join(str(one) for one in value) if isinstance(value, tuple | list) else str(value)


def version_row(version: PolicyVersion) -> tuple[str, ...]:
    """Return one row for a policy version."""
    whom = "every tenant" if version.owner == EVERY_TENANT else version.owner
    policy = policy_from_json(version.policy.document_json)
    since = moment(version.in_force_since_ms) if version.in_force_since_ms is not None else "-"
    first = moment(version.first_set_ms)
    return policy.name, str(policy.version), whom, policy.mode, str(len(policy.rules)), first, since


def version_data(version: PolicyVersion) -> dict[str, Any]:
    """Return a policy version as plain data."""
    since = version.in_force_since_ms
    return {
        "policy": version.policy.name,
        "version": version.policy.version,
        "tenant": version.owner,
        "sha256": version.policy.sha256,
        "first_set": moment(version.first_set_ms),
        "in_force": version.is_in_force,
        "in_force_since": moment(since) if since is not None else None,
    }


def standing_row(standing: RuleStanding, broken: Sequence[GuardrailViolation] = ()) -> tuple[str, ...]:
    """Return one row for where a rule stands; money in USD, empty where a column does not apply."""
    metric = standing.metric
    window = f" per {format_duration(standing.window_ms)}" if standing.window_ms else ""
    raised = " (raised)" if standing.raised else ""
    return (
        f"{standing.policy} v{standing.version}",
        standing.rule,
        standing.scope,
        f"{metric_word(metric)}{window}",
        _shown(metric, standing.committed),
        _shown(metric, standing.held) if standing.committed is not None else "",
        _shown(metric, standing.limit) + raised,
        _shown(metric, standing.left),
        what_next(standing, broken),
    )


def standing_data(standing: RuleStanding, broken: Sequence[GuardrailViolation] = ()) -> dict[str, Any]:
    """Return where a rule stands as plain data, in wire units (cost in nano-USD)."""
    more = {"left": standing.left, "is_broken": standing.is_broken, "next": what_next(standing, broken)}
    return asdict(standing) | more


def what_next(standing: RuleStanding, broken: Sequence[GuardrailViolation] = ()) -> str:
    """Return what a rule does, and at what; what it has done when it is among the `broken` ones of a view."""
    key = (standing.policy, standing.rule, standing.metric)
    for one in broken:
        if (one.policy, one.rule, one.metric) == key:
            asked = f": {amount(one.metric, one.requested)} asked for" if one.requested else ""
            return f"has {_PAST.get(one.action, one.action)} it{asked}"
    act = f"would have {_PAST[standing.action]}" if standing.shadow else ACTS[standing.action]
    if standing.expression:
        return f"{act} when {standing.expression}"
    if standing.left == 0:
        return f"{act} at the next event" if standing.is_broken else f"{act} whatever asks for more"
    return f"{act} above {_shown(standing.metric, standing.limit)}"


_PAST = {
    "warn": "warned",
    "throttle": "delayed",
    "reject_execution": "rejected",
    "pause_lifetime": "paused",
    "abort_lifetime": "aborted",
}


def _shown(metric: str, value: int | None) -> str:
    return "" if value is None else amount(metric, value)
