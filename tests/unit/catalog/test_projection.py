"""Projecting: exact whatever comes twice or in another order, refused where it cannot be exact."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select, text

from headgate_catalog.database import Database
from headgate_catalog.positions import Position
from headgate_catalog.projector import Projector
from headgate_catalog.repositories import ExecutionRepository
from headgate_catalog.rows import Batch
from headgate_catalog.stripping import TYPES
from headgate_catalog.tables import CATALOG, HAPPENINGS, LIFETIMES, METADATA, POSITIONS
from headgate_catalog.writing import SomebodyElseWrites, write
from headgate_graphs.errors import CatalogUnavailable, LogTruncated, UserError
from headgate_streams.local_log import LocalLog
from headgate_streams.port import LogRecord, TopicPartition
from tests.unit.catalog.worlds import TENANTS, TOPICS, world

Tables = dict[str, list[tuple[Any, ...]]]


def tables_of(url: str) -> Tables:
    """Return every row of every table but the positions' times."""
    database = Database(url)
    with database.reading() as connection:
        found = {
            table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
            for table in METADATA.sorted_tables
            if table is not CATALOG and table is not POSITIONS
        }
    database.close()
    return found


def everything(log: LocalLog) -> list[LogRecord]:
    """Return all records of all topics, topic by topic."""
    places = [TopicPartition(name, 0) for name in log.topics(TOPICS.prefix)]
    reader = log.reader()
    reader.assign(dict.fromkeys(places, 0))
    found: list[LogRecord] = []
    while records := reader.poll(0.0, 10_000):
        found += records
    reader.close()
    return found


@pytest.mark.parametrize("seed", [3, 4])
def test_order_of_topics_batches_and_repeats_change_nothing(
    seed: int, log: LocalLog, project: Callable[[], int], url: str, tmp_path: Path
) -> None:
    world(seed, 250, is_at_rest=False).keep(log)
    project()
    other, rng = f"sqlite:///{tmp_path}/other.sqlite3", random.Random(seed)
    database = Database(other)
    database.prepare("world")
    by_topic: dict[str, list[LogRecord]] = {}
    for record in everything(log):
        by_topic.setdefault(record.topic, []).append(record)
    queues = list(by_topic.values())
    while queues:
        queue, batch = rng.choice(queues), Batch(TOPICS, 1)
        size = rng.randint(1, 60)
        for record in queue[:size]:
            batch.take(record)
        del queue[: rng.choice([0, size // 2, size])]  # what was not deleted comes again
        queues = [one for one in queues if one]
        with database.writing() as connection:
            write(connection, batch, {}, {})
    database.close()
    assert tables_of(other) == tables_of(url)


def test_projecting_again_goes_on_where_it_was(log: LocalLog, project: Callable[[], int], url: str) -> None:
    made = world(5, 200, is_at_rest=False)
    made.keep(log)
    whole = project()
    before = tables_of(url)
    assert whole >= len(made.records)
    assert project() == 0
    assert tables_of(url) == before


def test_executions_are_those_of_the_log(log: LocalLog, project: Callable[[], int], url: str) -> None:
    made = world(6, 250, is_at_rest=True)
    made.keep(log)
    project()
    headers = [output.message.headers for output in made.outputs if output.topic.endswith("inputs")]
    database = Database(url)
    with database.reading() as connection:
        repository = ExecutionRepository(connection)
        whose = {(tenant, one.lifetime_id) for one in headers for tenant in TENANTS}
        found = {one.execution_id: one for key in whose for one in repository.of_lifetime(*key)}
    database.close()
    for one in headers:
        known = found[one.execution_id]
        assert (known.node_id, known.iteration, known.attempt) == (one.node_id, one.iteration, one.attempt)
        assert known.upstream_execution_ids == tuple(one.upstream_execution_ids)
        assert known.dispatched_ms is not None
    assert {one.status for one in found.values()} >= {"completed", "failed"}


def test_what_users_put_in_is_not_in_it(log: LocalLog, project: Callable[[], int], url: str) -> None:
    made = world(8, 200, is_at_rest=True)
    made.keep(log)
    project()
    database = Database(url)
    with database.reading() as connection:
        rows = connection.execute(select(HAPPENINGS.c.kind, HAPPENINGS.c.message)).all()
        views = connection.execute(select(LIFETIMES.c.view)).scalars().all()
    database.close()
    texts = [
        str(TYPES[kind].FromString(bytes(message)))
        for kind, message in rows
        if kind not in ("GraphRegistered", "PolicySet")
    ]
    for field in ("json", "blob", "input_data", "start_input", "ticket", "metadata", "outcome"):
        assert not [one for one in texts if field in one]
    assert b'"n"' not in b"".join(map(bytes, views))
    rare = {"KeyRegistered", "TicketKeyRegistered", "TenantQuarantined"}
    assert {kind for kind, _ in rows} >= set(TYPES) - rare


def test_text_that_no_database_takes_is_made_one_that_it_does(log: LocalLog) -> None:
    made = world(9, 150, is_at_rest=False)
    made.keep(log)
    batch = Batch(TOPICS, 1)
    for record in everything(log):
        batch.take(record)
    texts = [
        value
        for rows in (batch.executions, batch.runs, batch.lifetimes, batch.control_events)
        for row in rows.values()
        for value in row.values()
        if isinstance(value, str)
    ]
    assert texts
    assert not [value for value in texts if "\0" in value or len(value) > 4_096]


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    made = Database(url)
    yield made
    made.close()


def test_a_second_writer_is_refused(log: LocalLog, project: Callable[[], int], database: Database) -> None:
    world(10, 100, is_at_rest=False).keep(log)
    project()
    place = TopicPartition(TOPICS.executions, 0)
    with pytest.raises(SomebodyElseWrites, match="one `headgate catalog`"), database.writing() as connection:
        write(connection, Batch(TOPICS, 1), {place: Position(0, "", 0)}, {place: Position(5, "", 0)})


def change(url: str, statement: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_another_schema_is_refused_until_it_is_made_anew(
    log: LocalLog, project: Callable[[], int], url: str, database: Database
) -> None:
    world(10, 100, is_at_rest=False).keep(log)
    project()
    before = tables_of(url)
    change(url, "UPDATE headgate_catalog SET value = '0' WHERE name = 'schema_version'")
    projector = Projector(log, TOPICS, database)
    with pytest.raises(UserError, match=r"schema version '0', this headgate works with 1: .*--rebuild"):
        projector.prepare()
    projector.prepare(anew=True)
    projector.catch_up(lambda *_: None)
    assert tables_of(url) == before


def test_a_catalog_of_another_log_is_refused(project: Callable[[], int], log: LocalLog, url: str) -> None:
    log.create_topics(TOPICS.descriptions(1))
    project()
    change(url, "UPDATE headgate_catalog SET value = 'theirs' WHERE name = 'log'")
    with pytest.raises(UserError, match="of the log 'theirs', not of 'world'"):
        project()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE headgate_positions SET next_offset = 1000000", "ends at"),
        ("UPDATE headgate_positions SET topic_id = 'another'", "was made again"),
    ],
)
def test_a_log_that_is_not_the_one_that_was_read_is_refused(
    statement: str, said: str, log: LocalLog, project: Callable[[], int], url: str
) -> None:
    world(10, 100, is_at_rest=False).keep(log)
    project()
    change(url, statement)
    with pytest.raises(LogTruncated, match=f"{said}.*--rebuild"):
        project()


def test_what_retention_took_unread_is_told(log: LocalLog, project: Callable[[], int], url: str) -> None:
    world(10, 100, is_at_rest=False).keep(log)
    project()
    change(url, "UPDATE headgate_positions SET next_offset = 3")
    log.delete_before({TopicPartition(TOPICS.executions, 0): 10})
    with pytest.raises(LogTruncated, match=r"begins at 10, retention has taken .*--rebuild"):
        project()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://me:hidden@host/db",
        "postgresql+pg8000://h/d",
    ],
)
def test_a_url_that_cannot_be_is_one_line_without_its_password(url: str) -> None:
    with pytest.raises(UserError, match="catalog_url: ") as refused:
        Database(url)
    assert "hidden" not in str(refused.value)


def test_a_database_that_does_not_answer_is_told_without_its_password() -> None:
    database = Database("postgresql://me:hidden@127.0.0.1:1/db")
    with pytest.raises(CatalogUnavailable, match=r"me:\*\*\*@127.0.0.1:1/db") as refused:
        database.prepare("world")
    assert "hidden" not in str(refused.value)
    assert "\n" not in str(refused.value)
    database.close()


def test_a_catalog_that_is_not_there_yet_is_told(database: Database) -> None:
    with pytest.raises(UserError, match=r"no catalog in sqlite.*run `headgate catalog`"):
        database.check("world")
