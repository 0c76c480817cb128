"""Spend as the catalog's rows say it: in SQL what `spend.charges` does with records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Connection, Select, and_, cast, func, literal, or_, select

from headgate_catalog.spend import (
    AMOUNTS,
    HOUR_MS,
    NO_MODEL,
    Charge,
    Period,
    Spend,
    SpendBy,
    beyond,
    summed,
)
from headgate_catalog.tables import LEDGER, LIFETIMES, RUNS

_LOW: Final = 2**32
"""Sums are made of the upper and the lower half of each number, as no hostile usage may overflow them."""
_SAME_LIFETIME: Final = and_(
    LIFETIMES.c.tenant_id == RUNS.c.tenant_id, LIFETIMES.c.lifetime_id == RUNS.c.lifetime_id
)


def spend(
    connection: Connection, by: SpendBy, within: Period, tenant: str | None = None
) -> dict[str | int, Spend]:
    """Return the sums by key, of one tenant or of all; that of an hour is its beginning in Unix ms."""
    key = _KEYS[by]
    asked = (
        select(key.label("key"), func.count().label("runs"), *_halves())
        .join_from(RUNS, LIFETIMES, _SAME_LIFETIME)
        .where(RUNS.c.when_ms >= within.from_ms, RUNS.c.when_ms < within.to_ms)
        .where(or_(LIFETIMES.c.is_closed == 0, RUNS.c.log_offset <= LIFETIMES.c.source_offset))
        .group_by(key)
    )
    sums = {row.key: _spend(row, row.runs) for row in connection.execute(_of(asked, RUNS, tenant))}
    for name, more in summed(_gaps(connection, within, tenant), by, within).items():
        sums[name] = sums.get(name, Spend()).plus(more)
    return sums


_KEYS: Final[dict[SpendBy, ColumnElement[Any]]] = {
    SpendBy.TENANT: RUNS.c.tenant_id,
    SpendBy.GRAPH: LIFETIMES.c.graph_id,
    SpendBy.NODE: RUNS.c.node_id,
    SpendBy.MODEL: RUNS.c.model,
    SpendBy.HOUR: RUNS.c.when_ms - RUNS.c.when_ms % HOUR_MS,
}


def _gaps(connection: Connection, within: Period, tenant: str | None) -> Iterator[Charge]:
    """Yield what newest views hold beyond the reports up to them, node by node; most hold nothing."""
    ledger, mine = LEDGER.c, LIFETIMES.c
    reports = and_(
        RUNS.c.tenant_id == ledger.tenant_id,
        RUNS.c.lifetime_id == ledger.lifetime_id,
        RUNS.c.node_id == ledger.node_id,
        RUNS.c.log_offset <= mine.source_offset,
    )
    of_lifetime = and_(mine.tenant_id == ledger.tenant_id, mine.lifetime_id == ledger.lifetime_id)
    columns = (ledger.tenant_id, ledger.node_id, mine.graph_id, mine.updated_ms, mine.is_closed)
    amounts = [ledger[name] for name in AMOUNTS]
    halves = _halves()
    asked = (
        select(*columns, *(amount.label(f"{amount.name}_ledger") for amount in amounts), *halves)
        .select_from(LEDGER.join(LIFETIMES, of_lifetime).outerjoin(RUNS, reports))
        .where(mine.updated_ms >= within.from_ms, mine.updated_ms < within.to_ms)
        .group_by(ledger.lifetime_id, *columns, *amounts)
        .having(or_(*(_differs(name) for name in AMOUNTS)))
    )
    for row in connection.execute(_of(asked, LEDGER, tenant)):
        held = Spend(*(getattr(row, f"{name}_ledger") for name in AMOUNTS))
        gap = beyond(held, _spend(row, 0), is_closed=bool(row.is_closed))
        if any(gap):
            yield Charge(row.tenant_id, row.graph_id, row.node_id, NO_MODEL, row.updated_ms, gap)


def _of(asked: Select[Any], table: Any, tenant: str | None) -> Select[Any]:
    return asked if tenant is None else asked.where(table.c.tenant_id == tenant)


def _sum(number: ColumnElement[Any]) -> ColumnElement[int]:
    return func.coalesce(cast(func.sum(number), BigInteger), literal(0))


def _upper(name: str) -> ColumnElement[int]:
    return _sum(RUNS.c[name] // _LOW)


def _lower(name: str) -> ColumnElement[int]:
    return _sum(RUNS.c[name] % _LOW)


def _halves() -> list[ColumnElement[int]]:
    halves = [(_upper(name).label(f"{name}_upper"), _lower(name).label(f"{name}_lower")) for name in AMOUNTS]
    return [half for both in halves for half in both]


def _differs(name: str) -> ColumnElement[bool]:
    """Whether a node's amount in the ledger is not the sum of what was reported: carries and all."""
    lower, held = _lower(name), LEDGER.c[name]
    return or_(lower % _LOW != held % _LOW, _upper(name) + lower // _LOW != held // _LOW)


def _spend(row: Any, runs: int) -> Spend:
    amounts = (getattr(row, f"{name}_upper") * _LOW + getattr(row, f"{name}_lower") for name in AMOUNTS)
    return Spend(*amounts)._replace(runs=runs)
