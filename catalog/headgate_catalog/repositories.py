"""What the catalog says about lifetimes and executions, in the words in which the log says it.

A repository reads over a connection of `Database.reading`, so that several answers are as of one moment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select

from headgate_catalog.happening import Happening
from headgate_catalog.stripping import TYPES, whole_view
from headgate_catalog.tables import CONTROL_EVENTS, EXECUTIONS, HAPPENINGS, LIFETIMES, OWN_RECORD, RUNS
from headgate_protos.v1.control_pb2 import OperatorCommand
from headgate_protos.v1.execution_pb2 import GraphRegistered, LifetimeView

_TOGETHER: Final = 500
"""Lifetimes that one question names, at most."""


class LifetimeRepository:
    """The newest view of each lifetime."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of_tenant(self, tenant: str) -> list[LifetimeView]:
        """Return the newest view of every lifetime of a tenant, oldest start first."""
        return self._views(LIFETIMES.c.tenant_id == tenant)

    def family(self, tenant: str, lifetime_id: str, *, below: bool) -> list[LifetimeView]:
        """Return the view of a lifetime and, with `below`, those of its sub-graphs of every level."""
        mine = LIFETIMES.c.tenant_id == tenant
        found = level = self._views(mine, LIFETIMES.c.lifetime_id == lifetime_id)
        while below and level:
            above = [view.lifetime_id for view in level]
            level = [
                view
                for ids in _pieces(above)
                for view in self._views(mine, LIFETIMES.c.parent_lifetime_id.in_(ids))
            ]
            found = found + level
        return found

    def _views(self, *conditions: Any) -> list[LifetimeView]:
        asked = select(LIFETIMES.c.view, LIFETIMES.c.content).where(*conditions)
        ordered = asked.order_by(LIFETIMES.c.started_ms, LIFETIMES.c.lifetime_id)
        return [
            whole_view(bytes(view), bytes(content or b""))
            for view, content in self._connection.execute(ordered)
        ]


@dataclass(frozen=True, slots=True)
class Execution:
    """One attempt at a visit to a node; times are the log's, in Unix milliseconds."""

    execution_id: str
    node_id: str
    node_type: str
    iteration: int
    attempt: int
    parent_execution_id: str
    """The attempt before; empty for the first."""
    upstream_execution_ids: tuple[str, ...]
    queue: str
    status: str
    error_code: str
    dispatched_ms: int | None
    started_ms: int | None
    """When its run was announced; None for plain work, which announces nothing."""
    ended_ms: int | None
    cost_nano_usd: int
    """Of the run whose result came first, as it reported it; as are the next two."""
    tokens_used: int
    model: str


class ExecutionRepository:
    """Executions, and all that happened to the lifetimes they are of."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of_lifetime(self, tenant: str, lifetime_id: str) -> list[Execution]:
        """Return the executions of one lifetime, in the order in which they are first heard of."""
        own = EXECUTIONS.c
        first_run = (
            (RUNS.c.tenant_id == own.tenant_id)
            & (RUNS.c.lifetime_id == own.lifetime_id)
            & (RUNS.c.run_id == own.run_id)
        )
        asked = (
            select(EXECUTIONS, RUNS.c.cost_nano_usd, RUNS.c.tokens_used, RUNS.c.model)
            .select_from(EXECUTIONS.outerjoin(RUNS, first_run))
            .where(own.tenant_id == tenant, own.lifetime_id == lifetime_id)
        )
        found = [_execution(row) for row in self._connection.execute(asked)]
        return sorted(found, key=lambda one: (_first_ms(one), one.node_id, one.iteration, one.attempt))

    def happenings(self, tenant: str, lifetime_ids: Collection[str]) -> Iterator[Happening]:
        """Yield all that happened to some lifetimes, without what users put in, in no order of lifetimes.

        An empty id means what concerned a graph or the whole tenant.
        """
        own = HAPPENINGS.c
        for ids in _pieces(list(lifetime_ids)):
            asked = select(HAPPENINGS).where(own.tenant_id == tenant, own.lifetime_id.in_(ids))
            ordered = asked.order_by(own.lifetime_id, own.log_offset, own.source_index)
            yield from map(_happening, self._connection.execute(ordered))

    def between(self, tenant: str, since_ms: int, until_ms: int) -> Iterator[Happening]:
        """Yield all that happened to a tenant in a range of log time, ends included, in the gate's order."""
        own = HAPPENINGS.c
        asked = select(HAPPENINGS).where(own.tenant_id == tenant, own.when_ms.between(since_ms, until_ms))
        ordered = asked.order_by(own.log_offset, own.source_index)
        yield from map(_happening, self._connection.execute(ordered))

    def graphs(self, tenant: str) -> list[GraphRegistered]:
        """Return every graph version registered for a tenant, first registration first."""
        found: dict[tuple[str, str], GraphRegistered] = {}
        for one in self.happenings(tenant, [""]):
            if isinstance(one.message, GraphRegistered):
                found.setdefault((one.message.graph_id, one.message.version), one.message)
        return list(found.values())

    def orders(self, tenant: str) -> list[tuple[int, OperatorCommand]]:
        """Return (log time, command) of what was ordered for a graph or the tenant and was obeyed."""
        obeyed = select(CONTROL_EVENTS.c.command_id).where(
            CONTROL_EVENTS.c.tenant_id == tenant, CONTROL_EVENTS.c.lifetime_id == ""
        )
        known = set(self._connection.execute(obeyed).scalars())
        return [
            (one.when_ms, one.message)
            for one in self.happenings(tenant, [""])
            if isinstance(one.message, OperatorCommand) and one.message.command_id in known
        ]


def _execution(row: Any) -> Execution:
    return Execution(
        execution_id=row.execution_id,
        node_id=row.node_id,
        node_type=row.node_type,
        iteration=row.iteration,
        attempt=row.attempt,
        parent_execution_id=row.parent_execution_id,
        upstream_execution_ids=tuple(filter(None, row.upstream_execution_ids.split(","))),
        queue=row.queue,
        status=row.status,
        error_code=row.error_code,
        dispatched_ms=row.dispatched_ms,
        started_ms=row.started_ms,
        ended_ms=row.ended_ms,
        cost_nano_usd=row.cost_nano_usd or 0,
        tokens_used=row.tokens_used or 0,
        model=row.model or "",
    )


def _first_ms(one: Execution) -> int:
    return min(when for when in (one.dispatched_ms, one.started_ms, one.ended_ms, 2**62) if when is not None)


def _happening(row: Any) -> Happening:
    order = (
        (row.log_offset, 0, 0) if row.source_index == OWN_RECORD else (row.log_offset, 1, row.source_index)
    )
    message = TYPES[row.kind].FromString(bytes(row.message))
    return Happening(row.when_ms, order, message, row.lifetime_id, tenant_id=row.tenant_id)


def _pieces(ids: list[str]) -> Iterator[list[str]]:
    return (ids[at : at + _TOGETHER] for at in range(0, len(ids), _TOGETHER))
