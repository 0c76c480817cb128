"""Registers graphs and applies policies so that doing it again changes nothing and a clash is told."""

from __future__ import annotations

import hashlib

from headgate import envelopes
from headgate.client import Client
from headgate.versions import PolicyVersion
from headgate_graphs.errors import UserError
from headgate_graphs.model import AgentGraph
from headgate_guardrails.policy import Policy, policy_from_json
from headgate_streams.port import Delivery


def register_new(client: Client, graph: AgentGraph) -> Delivery | None:
    """Register a graph version; return where the record landed, None when it is registered already.

    Raises UserError when the same version is registered with other content: a version never changes.
    """
    sha256 = hashlib.sha256(graph.canonical_json().encode()).hexdigest()
    name, version = graph.metadata.id, graph.metadata.version
    for known in client.observer.graphs(graph.tenant_id):
        if (known.graph_id, known.version) != (name, version):
            continue
        if known.sha256 == sha256:
            return None
        raise UserError(
            f"graph {name} {version} is registered for tenant {graph.tenant_id} with other content: "
            "a version never changes, so raise metadata.version"
        )
    return client.register_graph(graph)


def apply_new(client: Client, policy: Policy, owner: str) -> Delivery | None:
    """Apply a policy to a tenant or "*"; return where the record landed, None when exactly it is in force.

    Raises UserError when the same version was set with other content: a version never changes.
    """
    known = _find(_versions(client, owner), policy.name, policy.version)
    if known is not None and known.policy.document_json != policy.canonical_json():
        raise UserError(
            f"policy {policy.name} v{policy.version} was set for tenant {owner} with other content: "
            "a version never changes, so raise metadata.version"
        )
    if known is not None and known.is_in_force:
        return None
    return client.apply_policy(policy, owner)


def roll_back(client: Client, owner: str, name: str, version: int) -> Delivery | None:
    """Put a policy version in force again; return where the record landed, None when it is in force.

    Raises UserError, naming the versions there are, when it was never set for that tenant (or "*").
    """
    versions = _versions(client, owner)
    known = _find(versions, name, version)
    if known is None:
        numbers = ", ".join(f"v{one.policy.version}" for one in versions if one.policy.name == name)
        names = ", ".join(dict.fromkeys(one.policy.name for one in versions)) or "none"
        was = f"its versions: {numbers}" if numbers else f"policies that were set: {names}"
        raise UserError(f"policy {name[:64]!a} v{version} was never set for tenant {owner} ({was})")
    if known.is_in_force:
        return None
    return client.submit(envelopes.policy_again(owner, known.policy))


def _versions(client: Client, owner: str) -> list[PolicyVersion]:
    """Return the versions that were set for `owner` itself."""
    return [one for one in client.observer.policy_versions(owner) if one.owner == owner]


def _find(versions: list[PolicyVersion], name: str, version: int) -> PolicyVersion | None:
    wanted = (name, version)
    return next((one for one in versions if (one.policy.name, one.policy.version) == wanted), None)


def policies_in_force(client: Client, tenant: str) -> list[Policy]:
    """Return the policies that the log puts in force for a tenant, the platform's among them."""
    return [policy_from_json(known.document_json) for known in client.observer.policies(tenant)]
