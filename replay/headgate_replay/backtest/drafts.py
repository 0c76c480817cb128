"""A draft in the place of the policy of its name, in a state that is folded for it alone."""

from __future__ import annotations

from collections.abc import Sequence

from headgate_guardrails.fold.definitions import judge_by
from headgate_guardrails.fold.rules import CompiledPolicy
from headgate_guardrails.fold.state import PartitionState, PolicyBook
from headgate_guardrails.policy import Policy


class Draft:
    """One or several policies, each in the place of the one of its name."""

    def __init__(self, policies: Sequence[Policy], *, tenant: str = "", added: bool = False) -> None:
        """Take the drafts; `tenant` is the only one for whom they hold, and nobody else's change.

        `added` puts them in force for each tenant (or that one) even where no policy has their name.
        """
        self._tenant = tenant
        self._added = added
        self._policies = {one.name: one for one in policies}

    def put_in_force(self, state: PartitionState) -> None:
        """Replace what the log has set under these names; what is replaced already stays."""
        changed = not self._tenant and self._replace(state.platform, platform=True, added=False)
        for tenant in state.tenants.values():
            is_meant = self._tenant in (tenant.tenant_id, "")
            replaced = is_meant and self._replace(
                tenant.policies, platform=False, added=self._added and not self._is_platform(state)
            )
            if changed or replaced:
                tenant.judge_by(state.platform)

    def _is_platform(self, state: PartitionState) -> bool:
        return any(name in state.platform.in_force for name in self._policies)

    def _replace(self, book: PolicyBook, *, platform: bool, added: bool) -> bool:
        changed = False
        for name, policy in self._policies.items():
            known = book.in_force.get(name)
            if (known is None and not added) or (known is not None and known.policy == policy):
                continue
            book.in_force[name] = _compiled(policy, platform=platform)
            changed = True
        return changed


def _compiled(policy: Policy, *, platform: bool) -> CompiledPolicy:
    compiled, error = judge_by(policy.canonical_json(), platform)
    if compiled is None:
        raise ValueError(error)
    return compiled
