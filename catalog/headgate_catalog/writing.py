"""Writes a batch: positions and rows in one transaction, so that neither is ever without the other.

Every statement says what to do with a key that is there already, in a way that does not depend on the order
of topics: the first report of a run counts, the newest view of a lifetime, and of an execution what came
first to dispatch, start and end it.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Table,
    and_,
    case,
    func,
    literal_column,
    or_,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from headgate_catalog.positions import Positions
from headgate_catalog.rows import Batch, Row
from headgate_catalog.tables import (
    CONTROL_EVENTS,
    EXECUTIONS,
    HAPPENINGS,
    LEDGER,
    LIFETIMES,
    POSITIONS,
    RUNS,
)
from headgate_graphs.errors import UserError

Insert = postgresql.Insert | sqlite.Insert
_EXECUTION: Final[Row] = {
    column.name: None if column.nullable else 0 if column.name in ("iteration", "attempt") else ""
    for column in EXECUTIONS.columns
}
# Written out: all that a statement with many rows may take as a parameter is the rows.
_EMPTY: Final[ColumnElement[Any]] = literal_column("''")
_ZERO: Final[ColumnElement[Any]] = literal_column("0")
_ONE: Final[ColumnElement[Any]] = literal_column("1")
_REJECTED: Final[ColumnElement[Any]] = literal_column("'rejected'")
_RUNNING: Final[ColumnElement[Any]] = literal_column("'running'")
_PENDING: Final[ColumnElement[Any]] = literal_column("'pending'")


class SomebodyElseWrites(UserError):
    """Two processes project into one database; the second one to notice ends."""


def write(connection: Connection, batch: Batch, before: Positions, after: Positions) -> None:
    """Write rows and positions. Raises SomebodyElseWrites when the positions are not `before`."""
    _advance(connection, before, after)
    _insert_new(connection, HAPPENINGS, batch.happenings.values())
    _insert_new(connection, RUNS, batch.runs.values())
    _insert_new(connection, CONTROL_EVENTS, batch.control_events.values())
    if batch.executions:
        rows = [{**_EXECUTION, "status": _open_status(row), **row} for row in batch.executions.values()]
        _execute_many(connection, _upsert_executions(connection), rows)
    if batch.lifetimes:
        _write_lifetimes(connection, batch)


def _advance(connection: Connection, before: Positions, after: Positions) -> None:
    """Move the positions first: in both databases that takes the lock that a second writer waits for."""
    for place, position in after.items():
        moved = connection.execute(
            update(POSITIONS)
            .where(POSITIONS.c.topic == place.topic, POSITIONS.c.partition == place.partition)
            .where(POSITIONS.c.next_offset == before[place].next_offset)
            .values(next_offset=position.next_offset, as_of_ms=position.as_of_ms)
        )
        if moved.rowcount != 1:
            raise SomebodyElseWrites(
                f"another process has written to this catalog ({place.topic}[{place.partition}] has moved): "
                "run one `headgate catalog` for each database"
            )


def insert_into(connection: Connection, table: Table) -> Any:
    """Return the database's own INSERT, which knows ON CONFLICT."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)


def _insert_new(connection: Connection, table: Table, rows: Iterable[Row]) -> None:
    found = list(rows)
    if found:
        _execute_many(connection, insert_into(connection, table).on_conflict_do_nothing(), found)


def _open_status(row: Row) -> str:
    return "running" if row.get("started_ms") is not None else "pending"


def _upsert_executions(connection: Connection) -> Any:
    """Return the statement that adds what a batch knows of executions to what is known."""
    insert = insert_into(connection, EXECUTIONS)
    known, new = EXECUTIONS.c, insert.excluded
    values: dict[str, Any] = {
        name: _filled(known[name], new[name])
        for name in ("node_id", "node_type", "parent_execution_id", "upstream_execution_ids", "queue")
    }
    values |= {name: _filled(known[name], new[name], _ZERO) for name in ("iteration", "attempt")}
    values |= {name: func.coalesce(known[name], new[name]) for name in ("dispatched_ms", "started_ms")}
    ends = and_(
        new.ended_order.is_not(None),
        or_(known.ended_order.is_(None), new.ended_order < known.ended_order),
    )
    values |= {
        name: case((ends, new[name]), else_=known[name])
        for name in ("error_code", "run_id", "ended_ms", "ended_order")
    }
    values["status"] = case(
        (ends, new.status),
        (known.ended_order.is_not(None), known.status),
        (or_(known.started_ms.is_not(None), new.started_ms.is_not(None)), _RUNNING),
        else_=_PENDING,
    )
    return insert.on_conflict_do_update(index_elements=EXECUTIONS.primary_key.columns, set_=values)


def _filled(known: Column[Any], new: Column[Any], empty: Any = _EMPTY) -> Any:
    return case((known == empty, new), else_=known)


def _write_lifetimes(connection: Connection, batch: Batch) -> None:
    """Put newer views in place, and with each the spend of its nodes."""
    insert = insert_into(connection, LIFETIMES)
    new = insert.excluded
    is_newer = tuple_(*_place(new)) > tuple_(*_place(LIFETIMES.c))
    keys = LIFETIMES.primary_key.columns
    values = {column.name: new[column.name] for column in LIFETIMES.columns if not column.primary_key}
    upsert = insert.on_conflict_do_update(index_elements=keys, set_=values, where=is_newer)
    _execute_many(connection, upsert, list(batch.lifetimes.values()))
    _write_ledger(connection, batch)


def _place(columns: Any) -> list[ColumnElement[Any]]:
    """Return `happening.place_of` of a row."""
    is_of_a_run = case((columns.status == _REJECTED, _ZERO), else_=_ONE)
    return [is_of_a_run, columns.source_offset, columns.source_index]


def _write_ledger(connection: Connection, batch: Batch) -> None:
    """Put the nodes' spend of each view in place; it never becomes less, so an older view changes nothing."""
    rows = [row for nodes in batch.ledger.values() for row in nodes]
    if not rows:
        return
    insert = insert_into(connection, LEDGER)
    keys = LEDGER.primary_key.columns
    names = [column.name for column in LEDGER.columns if not column.primary_key]
    most = func.greatest if connection.dialect.name == "postgresql" else func.max
    values = {name: most(LEDGER.c[name], insert.excluded[name]) for name in names}
    upsert = insert.on_conflict_do_update(index_elements=keys, set_=values)
    _execute_many(connection, upsert, rows)


def _execute_many(connection: Connection, statement: Any, rows: list[Row]) -> None:
    """Execute an INSERT with each row, whose keys are all the same.

    The statement is compiled once and the rows go to the driver as they are: looking at each value once more
    would cost a quarter of the whole projection.
    """
    compiled = statement.compile(dialect=connection.dialect, column_keys=list(rows[0]))
    given: Any = rows
    if compiled.positional:
        pick = itemgetter(*compiled.positiontup)
        given = [pick(row) for row in rows]
    connection.exec_driver_sql(str(compiled), given)
