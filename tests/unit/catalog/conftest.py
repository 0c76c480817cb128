"""What the tests of the catalog share: a log with a client, and a catalog of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from headgate.client import Client
from headgate.lookup import CatalogLookup, catalog_lookup
from headgate_catalog.database import Database
from headgate_catalog.projector import Projector
from headgate_streams.blobs import MemoryBlobStore
from headgate_streams.local_log import LocalLog
from headgate_streams.settings import StreamSettings
from tests.unit.catalog.worlds import TOPICS


@pytest.fixture
def log() -> Iterator[LocalLog]:
    """An empty log in memory."""
    made = LocalLog(":memory:")
    yield made
    made.close()


@pytest.fixture
def client(log: LocalLog) -> Client:
    """A client of it."""
    return Client(log, MemoryBlobStore(), StreamSettings(topic_prefix=TOPICS.prefix, partitions=1))


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Where a catalog may be."""
    return f"sqlite:///{tmp_path}/catalog.sqlite3"


@pytest.fixture
def project(log: LocalLog, url: str) -> Callable[[], int]:
    """Projects what the log holds; gives how many records that were."""

    def catch_up() -> int:
        database = Database(url)
        projector = Projector(log, TOPICS, database)
        projector.prepare()
        projector.catch_up(lambda *_: None)
        database.close()
        return projector.records

    return catch_up


@pytest.fixture
def lookup(client: Client, url: str) -> Iterator[Callable[[], CatalogLookup]]:
    """Opens the catalog for questions."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(catalog_lookup(client, url))
