"""Identifiers: their grammar and how the deterministic ones are made. Used by every folder."""

from __future__ import annotations

import hashlib
import re
from typing import NewType

from headgate_graphs.errors import BadRecord

TenantId = NewType("TenantId", str)
LifetimeId = NewType("LifetimeId", str)
NodeId = NewType("NodeId", str)
ExecutionId = NewType("ExecutionId", str)
RunId = NewType("RunId", str)

EVERY_TENANT = TenantId("*")
"""Tenant of records that concern a whole partition: ticks, logic versions, platform policies."""

END = NodeId("end")
"""Reserved target of FINAL edges; a plan that names it ends the lifetime."""

_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{1,38}[a-z0-9]")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def is_tenant_id(text: str) -> bool:
    """Whether `text` is 3-40 lower-case ASCII letters, digits and inner hyphens."""
    return _TENANT.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether `text` may name a node, graph, lifetime, policy, rule or queue: 1-128 of [A-Za-z0-9._-]."""
    return _NAME.fullmatch(text) is not None


def tenant_id(text: str) -> TenantId:
    """Return `text` as a TenantId; raises BadRecord BAD_TENANT_ID with the value escaped and capped."""
    if not is_tenant_id(text):
        raise BadRecord(
            "BAD_TENANT_ID",
            f"{text[:64]!a} is not a tenant id: 3-40 lower-case letters, digits and inner hyphens",
        )
    return TenantId(text)


def execution_id(
    tenant: str, lifetime: str, node: str, iteration: int, attempt: int, branch: int = 0
) -> ExecutionId:
    """Return the id of one attempt: 32 hex digits of BLAKE2b over all that identifies it.

    Pure, so that a gate which repeats a decision after a crash makes the same id.
    """
    text = f"{tenant}\x00{lifetime}\x00{node}\x00{iteration}\x00{attempt}\x00{branch}"
    return ExecutionId(hashlib.blake2b(text.encode(), digest_size=16).hexdigest())
