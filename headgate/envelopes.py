"""Makes the log records that people cause: registrations, policies, starts and operator commands.

Pure apart from new ids and the clock that people read; nothing decides by either.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from headgate_graphs.ids import EVERY_TENANT
from headgate_graphs.model import AgentGraph
from headgate_protos.v1.common_pb2 import Payload
from headgate_protos.v1.control_pb2 import OperatorCommand
from headgate_protos.v1.execution_pb2 import (
    ExecutionEnvelope,
    GraphRegistered,
    KeyRegistered,
    LifetimeStart,
    LogicVersionActivated,
    PolicySet,
    TicketKeyRegistered,
)

if TYPE_CHECKING:
    from headgate_guardrails.policy import Policy


def new_lifetime_id(graph_id: str) -> str:
    """Return a lifetime id nobody has: the graph's name and 12 random hex digits."""
    return f"{graph_id[:100]}-{uuid.uuid4().hex[:12]}"


def graph_registered(graph: AgentGraph) -> ExecutionEnvelope:
    """Return the record from which on starts of the graph's tenant may name this graph version."""
    text = graph.canonical_json()
    return ExecutionEnvelope(
        tenant_id=graph.tenant_id,
        graph_registered=GraphRegistered(
            graph_id=graph.metadata.id,
            version=graph.metadata.version,
            definition_json=text,
            sha256=_sha256(text),
        ),
    )


def policy_set(policy: Policy, tenant: str) -> ExecutionEnvelope:
    """Return the record from which on the policy is in force for `tenant`."""
    text = policy.canonical_json()
    return ExecutionEnvelope(
        tenant_id=tenant,
        policy_set=PolicySet(
            name=policy.name, version=policy.version, document_json=text, sha256=_sha256(text)
        ),
    )


def policy_again(owner: str, known: PolicySet) -> ExecutionEnvelope:
    """Return the record that puts a policy version in force again, with the very document it had."""
    again = PolicySet()
    again.CopyFrom(known)
    return ExecutionEnvelope(tenant_id=owner, policy_set=again)


def lifetime_start(
    tenant: str,
    lifetime_id: str,
    graph_id: str,
    version: str,
    payload: Payload,
    issued_by: str,
    priority: int = 0,
) -> ExecutionEnvelope:
    """Return the request for one run; an empty version means the newest registered."""
    start = LifetimeStart(
        graph_id=graph_id,
        graph_version=version,
        input=payload,
        issued_at=_now(),
        issued_by=issued_by,
        priority=priority,
    )
    return ExecutionEnvelope(tenant_id=tenant, lifetime_id=lifetime_id, lifetime_start=start)


def operator_command(
    tenant: str, lifetime_id: str, command: OperatorCommand, issued_by: str
) -> ExecutionEnvelope:
    """Return an operator's order; a command id that is already set is kept, so a repeat is ignored."""
    if not command.command_id:
        command.command_id = uuid.uuid4().hex
    command.issued_by = command.issued_by or issued_by
    command.issued_at.CopyFrom(_now())
    return ExecutionEnvelope(tenant_id=tenant, lifetime_id=lifetime_id, command=command)


def key_registered(key_id: str, public: bytes, *, revoked: bool = False) -> ExecutionEnvelope:
    """Return the record from which on a raw Ed25519 public key may sign, or may no longer."""
    key = KeyRegistered(key_id=key_id, ed25519_public_key=public, revoked=revoked)
    return ExecutionEnvelope(tenant_id=EVERY_TENANT, key_registered=key)


def ticket_key_registered(fingerprint: str) -> ExecutionEnvelope:
    """Return the record from which on lifetimes that start have tickets by the key of this fingerprint."""
    key = TicketKeyRegistered(fingerprint=fingerprint)
    return ExecutionEnvelope(tenant_id=EVERY_TENANT, ticket_key_registered=key)


def logic_activated(version: int) -> ExecutionEnvelope:
    """Return the record from which on the fold decides by this version of its logic."""
    return ExecutionEnvelope(tenant_id=EVERY_TENANT, logic_version=LogicVersionActivated(version=version))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _now() -> Timestamp:
    now = Timestamp()
    now.FromNanoseconds(time.time_ns())
    return now
