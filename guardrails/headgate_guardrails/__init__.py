"""Who may go on: policies, the deterministic fold that judges by them, and the gate that runs it.

Names are imported when they are first touched: who only reads a policy does not pay for the gate.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate_guardrails.cases import CaseResult, run_cases
    from headgate_guardrails.explain import RuleStanding, explain
    from headgate_guardrails.gate import Gate
    from headgate_guardrails.policy import Policy, load_policy, policy_from_json
    from headgate_guardrails.settings import GateSettings

_HOME = {
    "CaseResult": "cases",
    "run_cases": "cases",
    "RuleStanding": "explain",
    "explain": "explain",
    "Gate": "gate",
    "Policy": "policy",
    "load_policy": "policy",
    "policy_from_json": "policy",
    "GateSettings": "settings",
}

__all__ = [
    "CaseResult",
    "Gate",
    "GateSettings",
    "Policy",
    "RuleStanding",
    "explain",
    "load_policy",
    "policy_from_json",
    "run_cases",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
