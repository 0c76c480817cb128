"""Registers graphs and applies policies so that doing it again changes nothing and a clash is told."""

from __future__ import annotations

import hashlib

from headgate.client import Client
from headgate_graphs.errors import UserError
from headgate_graphs.model import AgentGraph
from headgate_guardrails.policy import Policy, policy_from_json


def register_new(client: Client, graph: AgentGraph) -> bool:
    """Register a graph version unless it is registered already; return whether it was new.

    Raises UserError when the same version is registered with other content: a version never changes.
    """
    sha256 = hashlib.sha256(graph.canonical_json().encode()).hexdigest()
    name, version = graph.metadata.id, graph.metadata.version
    for known in client.observer.graphs(graph.tenant_id):
        if (known.graph_id, known.version) != (name, version):
            continue
        if known.sha256 == sha256:
            return False
        raise UserError(
            f"graph {name} {version} is registered for tenant {graph.tenant_id} with other content: "
            "a version never changes, so raise metadata.version"
        )
    client.register_graph(graph)
    return True


def apply_new(client: Client, policy: Policy, tenant: str) -> bool:
    """Apply a policy unless exactly it is in force already; return whether it was applied.

    Raises UserError when the same version was set with other content: a version never changes.
    """
    text = policy.canonical_json()
    known = client.observer.policy_version(tenant, policy.name, policy.version)
    if known is not None and known.document_json != text:
        raise UserError(
            f"policy {policy.name} v{policy.version} was set for tenant {tenant} with other content: "
            "a version never changes, so raise metadata.version"
        )
    if known is not None and known in client.observer.policies(tenant):
        return False
    client.apply_policy(policy, tenant)
    return True


def policies_in_force(client: Client, tenant: str) -> list[Policy]:
    """Return the policies that the log puts in force for a tenant, the platform's among them."""
    return [policy_from_json(known.document_json) for known in client.observer.policies(tenant)]
