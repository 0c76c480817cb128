"""Every policy version that was ever set for a tenant, and which of them are in force; read from the log."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from headgate_graphs.errors import PolicyInvalid
from headgate_guardrails.policy import policy_from_json
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope, PolicySet


@dataclass(slots=True)
class PolicyVersion:
    """One version of one policy, as it was first set."""

    owner: str
    """Whose it is: a tenant, or "*" for every tenant."""
    policy: PolicySet
    first_set_ms: int
    """Log time, Unix milliseconds."""
    in_force_since_ms: int | None = None
    """Log time of the set that put it in force; None when another version is, or none."""

    @property
    def is_in_force(self) -> bool:
        """Whether the gate judges by it."""
        return self.in_force_since_ms is not None


def policies_as_set(records: Iterable[tuple[int, ExecutionEnvelope]]) -> Iterator[tuple[int, PolicyVersion]]:
    """Yield (log time, version) of each set that the gate obeys, given (log time, envelope) in log order.

    As the gate does, it passes over a record that it has seen, a document that does not load and a version
    with other content than it had. One version that is set twice is one object.
    """
    found: dict[tuple[str, str, int], PolicyVersion] = {}
    seen: set[str] = {""}
    for when_ms, envelope in records:
        if envelope.WhichOneof("payload") != "policy_set" or envelope.envelope_id in seen:
            continue
        seen.add(envelope.envelope_id)
        version = _first_set(found, envelope.tenant_id, envelope.policy_set, when_ms)
        if version is not None:
            yield when_ms, version


def policy_versions(records: Iterable[tuple[int, ExecutionEnvelope]]) -> list[PolicyVersion]:
    """Return the versions, first set first, given (log time, envelope) in log order."""
    found: dict[tuple[str, str, int], PolicyVersion] = {}
    in_force: dict[tuple[str, str], PolicyVersion] = {}
    for when_ms, version in policies_as_set(records):
        name = version.policy.name
        found.setdefault((version.owner, name, version.policy.version), version)
        before = in_force.get((version.owner, name))
        if before is not version:
            if before is not None:
                before.in_force_since_ms = None
            version.in_force_since_ms = when_ms
            in_force[version.owner, name] = version
    return list(found.values())


def _first_set(
    found: dict[tuple[str, str, int], PolicyVersion], owner: str, policy: PolicySet, when_ms: int
) -> PolicyVersion | None:
    """Return the version that a set means, kept from now on; None when the gate refuses it."""
    key = (owner, policy.name, policy.version)
    known = found.get(key)
    if known is not None:
        return known if known.policy.sha256 == policy.sha256 else None
    if not _loads(policy):
        return None
    found[key] = PolicyVersion(owner, policy, when_ms)
    return found[key]


def _loads(policy: PolicySet) -> bool:
    if hashlib.sha256(policy.document_json.encode()).hexdigest() != policy.sha256:
        return False
    try:
        loaded = policy_from_json(policy.document_json)
    except PolicyInvalid:
        return False
    return (loaded.name, loaded.version) == (policy.name, policy.version)
