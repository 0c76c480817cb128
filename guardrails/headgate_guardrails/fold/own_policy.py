"""A policy that a fork brings for itself: in place of its tenant's of that name, beside all others. Pure.

It may loosen what the tenant's policy said, as a raised budget may, and never what the platform's says. It
has no rule that looks at the tenant or at a window: those count what others spend. See docs/adr/0017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate_guardrails.fold.definitions import judge_by
from headgate_guardrails.fold.evaluator import PolicyEvaluator

if TYPE_CHECKING:
    from headgate_guardrails.fold.lifetime import Guard, Lifetime
    from headgate_guardrails.fold.state import Tenant


def fault_in(document_json: str) -> str:
    """Return why a fork may not bring this policy, "" when it may."""
    compiled, error = judge_by(document_json, False)
    if compiled is None:
        return error
    for rule in compiled.policy.rules:
        if rule.scope == "tenant" or rule.window_ms:
            what = "has a window" if rule.window_ms else "is about the tenant"
            return (
                f"rule {rule.name} {what}: a policy for one lifetime has rules of scope execution and "
                f"lifetime alone"
            )
    return ""


def evaluator_of(tenant: Tenant, lifetime: Lifetime) -> PolicyEvaluator | None:
    """Return what judges a lifetime: the tenant's policies, or those with its own among them."""
    fork = lifetime.fork
    if fork is None or not fork.message.policy_json:
        return tenant.evaluator
    if fork.evaluator is None or fork.beside is not tenant.evaluator:
        fork.evaluator, fork.beside = _made(tenant, fork), tenant.evaluator
    return fork.evaluator


def _made(tenant: Tenant, fork: Guard) -> PolicyEvaluator | None:
    own, _ = judge_by(fork.message.policy_json, False)
    if own is None:  # only what has no fault is kept
        return tenant.evaluator
    replaced = tenant.policies.in_force.get(own.policy.name)
    others = () if tenant.evaluator is None else tenant.evaluator.policies
    windowed = () if tenant.evaluator is None else tenant.evaluator.windowed
    return PolicyEvaluator([*(one for one in others if one is not replaced), own], windowed)
