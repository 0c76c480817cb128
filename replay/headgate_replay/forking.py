"""The start of a lifetime that repeats another one's history up to a point; pure."""

from __future__ import annotations

from collections.abc import Iterable

from headgate_graphs.errors import UserError
from headgate_graphs.model import AgentGraph, Task
from headgate_guardrails.fold.forking import MAX_VISITS
from headgate_protos.v1.execution_pb2 import ForkOrigin, LifetimeFork, RecordedVisit
from headgate_replay.history import History

MAX_FORK_BYTES = 900_000
"""A history above this does not fit into a record of the log; large values are mere references."""


def offset_of(history: History, at: str) -> int:
    """Return the offset up to which the history counts; raises UserError when there is no such event.

    `at` is an offset of the log, an execution id, or NODE#VISIT: just after what that came to was taken.
    """
    if at.isdecimal():
        return int(at)
    node, _, number = at.rpartition("#")
    for offset, execution_id, one in history.visits:
        is_named = (one.visit.node_id, str(one.visit.iteration)) == (node, number)
        if at == execution_id or (node and is_named):
            return offset
    known = ", ".join(f"{one.visit.node_id}#{one.visit.iteration}" for _, own, one in history.visits if own)
    raise UserError(
        f"--at {at[:160]!a} is no event of {history.lifetime_id}: give an offset of the log, an execution "
        f"id, or one of {known or 'none: nothing has come to a result'}"
    )


def fork_of(history: History, offset: int, graph: AgentGraph, effects_allowed: Iterable[str]) -> LifetimeFork:
    """Return what a start begins with: all that was taken up to `offset`, and records that spare effects.

    `graph` is the one that the fork will run. Raises UserError when it does not fit into a record.
    """
    fork = LifetimeFork(
        origin=ForkOrigin(lifetime_id=history.lifetime_id, offset=offset),
        prefix=(one for when, _, one in history.visits if when <= offset),
        stubs=(one for when, _, one in history.visits if when > offset and _has_effects(graph, one)),
        effects_allowed=effects_allowed,
    )
    if max(len(fork.prefix), len(fork.stubs)) > MAX_VISITS:
        raise UserError(f"{len(fork.prefix)} visits are more than the {MAX_VISITS} that a fork may repeat")
    if fork.ByteSize() > MAX_FORK_BYTES:
        raise UserError(
            f"what {history.lifetime_id} did up to there has {fork.ByteSize():,} bytes, a fork may repeat "
            f"{MAX_FORK_BYTES:,}: fork earlier, or keep large results in the blob store (inline_limit_bytes)"
        )
    return fork


def _has_effects(graph: AgentGraph, one: RecordedVisit) -> bool:
    node = graph.nodes.get(one.visit.node_id)
    return isinstance(node, Task) and node.config.effects == "external"
