"""Graphs and policies that the log brings: checked, made ready, remembered by version."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from headgate_graphs.errors import BadRecord, GraphInvalid, PolicyInvalid, UserError
from headgate_graphs.loading import graph_from_json
from headgate_graphs.progress import GraphOrchestrator
from headgate_guardrails.fold.rules import CompiledPolicy, book_of, compile_policy
from headgate_guardrails.fold.state import MAX_POLICY_RECORDS, PartitionState, PolicyBook, Registered, Tenant
from headgate_guardrails.policy import policy_from_json
from headgate_protos.v1 import execution_pb2

MAX_GRAPH_VERSIONS = 1_000
"""Graph versions one tenant may register."""


@lru_cache(maxsize=1024)
def orchestrate(definition_json: str) -> tuple[GraphOrchestrator | None, str]:
    """Return the graph ready for progress, or None and why not. Cached: tenants share what is equal."""
    try:
        return GraphOrchestrator(graph_from_json(definition_json)), ""
    except (GraphInvalid, UserError) as error:
        return None, str(error)


@lru_cache(maxsize=1024)
def judge_by(document_json: str, platform: bool) -> tuple[CompiledPolicy | None, str]:
    """Return the policy ready to judge, for one tenant or for the platform; or None and why not."""
    try:
        return compile_policy(policy_from_json(document_json), platform=platform), ""
    except PolicyInvalid as error:
        return None, str(error)


def register(tenant: Tenant, given: execution_pb2.GraphRegistered) -> None:
    """Let starts name a graph version from here on; raises BadRecord BAD_GRAPH."""
    registered, error = orchestrate(given.definition_json)
    if registered is None:
        raise BadRecord("BAD_GRAPH", error)
    metadata = registered.graph.metadata
    key = (metadata.id, metadata.version)
    if key != (given.graph_id, given.version) or metadata.tenant_id != tenant.tenant_id:
        raise BadRecord("BAD_GRAPH", "id, version or tenant of the record are not those of the definition")
    known = tenant.graphs.get(key)
    if known is not None and known.definition_json != given.definition_json:
        raise BadRecord("BAD_GRAPH", f"{key[0]} {key[1]} is registered with other content: raise the version")
    if known is None and len(tenant.graphs) >= MAX_GRAPH_VERSIONS:
        raise BadRecord("BAD_GRAPH", f"the tenant has {MAX_GRAPH_VERSIONS} graph versions already")
    tenant.graphs[key] = Registered(given.definition_json, registered)


def set_policy(
    state: PartitionState, tenant: Tenant | None, envelope: execution_pb2.ExecutionEnvelope
) -> None:
    """Put a policy in force for one tenant, or for every tenant when none is given; raises BAD_POLICY."""
    platform = tenant is None
    replaced = _enter(state.platform if tenant is None else tenant.policies, envelope, platform)
    for each in state.tenants.values() if tenant is None else (tenant,):
        if replaced:
            _forget_raises(each, book_of(replaced, platform=platform))
        each.judge_by(state.platform)


def _enter(book: PolicyBook, envelope: execution_pb2.ExecutionEnvelope, platform: bool) -> str:
    """Put a policy in force; return its name when that replaced another version, else ""."""
    given = envelope.policy_set
    if not envelope.envelope_id:
        raise BadRecord(
            "BAD_POLICY", "a policy record needs an envelope_id, so that a repeat of it can be told"
        )
    if envelope.envelope_id in book.records:
        return ""
    compiled, error = judge_by(given.document_json, platform)
    if compiled is None:
        raise BadRecord("BAD_POLICY", error)
    name, version = compiled.policy.name, compiled.policy.version
    if (name, version) != (given.name, given.version):
        raise BadRecord("BAD_POLICY", "name or version of the record are not those of the document")
    if hashlib.sha256(given.document_json.encode()).hexdigest() != given.sha256:
        raise BadRecord("BAD_POLICY", "the document does not have the checksum that the record gives")
    if book.versions.setdefault((name, version), given.sha256) != given.sha256:
        raise BadRecord("BAD_POLICY", f"{name} v{version} was set with other content: raise the version")
    before = book.in_force.get(name)
    book.in_force[name] = compiled
    book.records[envelope.envelope_id] = True
    if len(book.records) > MAX_POLICY_RECORDS:
        del book.records[next(iter(book.records))]
    return name if before is not None and before.policy.version != version else ""


def _forget_raises(tenant: Tenant, book: str) -> None:
    """Another version is the last word on its caps: what was raised under the one before no longer holds."""
    for budgets in (tenant.budgets, *(lifetime.budgets for lifetime in tenant.lifetimes.held())):
        for key in [key for key in budgets if key[0] == book]:
            del budgets[key]
