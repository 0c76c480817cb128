"""Fixtures of every test: real servers, names that no other test has, an environment without Headgate."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from deploy.servers.cache import ServerUnavailable
from hatch_build import FOLD, compiled
from headgate_guardrails.folding import IS_COMPILED
from tests import real_servers
from tests.real_servers import PostgresServer, S3Server

ROOT = Path(__file__).parents[1]
CHAOS = ROOT / "tests" / "resilience"
SERVERS = {
    "kafka_bootstrap": "kafka",
    "secured_kafka": "kafka",
    "minio": "minio",
    "postgres": "postgres",
}
"""Fixture that needs a server -> its mark."""
KEPT = ("HEADGATE_TEST_", "HEADGATE_CACHE")
"""What may be said to the tests from outside; any other HEADGATE_ variable would change what is tested."""


def pytest_configure(config: pytest.Config) -> None:
    """Clear the environment; the controller of a run (or its only process) makes its servers' folder."""
    for name in list(os.environ):
        if name.startswith("HEADGATE_") and not name.startswith(KEPT):
            del os.environ[name]
    os.environ["NO_PROXY"] = "127.0.0.1,localhost"
    if not hasattr(config, "workerinput"):
        real_servers.begin_run()


def pytest_report_header() -> str:
    """Say which fold is tested."""
    return f"fold: {'compiled, see `make interpreted`' if IS_COMPILED else 'interpreted'}"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what this run started."""
    if not hasattr(config, "workerinput"):
        real_servers.end_run()


def pytest_sessionstart() -> None:
    """Python takes a compiled module even when its source has changed since: then nothing would be tested."""
    made = max((library.stat().st_mtime for library in compiled(ROOT)), default=None)
    if made is not None and any(
        path.stat().st_mtime > made for path in (ROOT / "guardrails" / FOLD).glob("*.py")
    ):
        pytest.exit("the fold has changed since it was compiled: `make compiled`, or `make interpreted`", 2)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the servers that its fixtures need, so that `-m "not kafka"` leaves it out.

    Tests that draw many examples are marked `property`: `make test-unit` leaves them to `make test`.

    The runs of chaos take a third of all time. With several processes, to each of which whole files are
    given, one begins with them, and the others do the rest.
    """
    items.sort(key=lambda item: item.path.parent != CHAOS)
    for item in items:
        drawn = hasattr(getattr(item, "obj", None), "hypothesis")
        if drawn or "properties" in item.path.name:
            item.add_marker("property")
        names = getattr(item, "fixturenames", ())
        for fixture, mark in SERVERS.items():
            if fixture in names:
                item.add_marker(mark)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make the servers' programs before the first test, whose timeout must not count those minutes."""
    if session.config.option.collectonly:
        return
    for mark, prepare in real_servers.PREPARE.items():
        if any(item.get_closest_marker(mark) for item in session.items):
            with contextlib.suppress(ServerUnavailable):  # the fixture says it
                prepare()


def _unavailable(what: str, error: Exception) -> NoReturn:
    reason = f"no {what}: {error}"
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(f"{reason} (in CI this is a failure)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def kafka_bootstrap() -> Iterator[str]:
    """host:port of a real Kafka broker, one for the whole run."""
    with contextlib.ExitStack() as stack:
        try:
            address = stack.enter_context(real_servers.kafka_address())
        except ServerUnavailable as error:
            _unavailable("Kafka", error)
        yield address


@pytest.fixture(scope="session")
def minio() -> Iterator[S3Server]:
    """A real S3-compatible store, one for the whole run; `minio.bucket()` makes a new bucket."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(real_servers.s3_server())
        except ServerUnavailable as error:
            _unavailable("MinIO", error)
        yield server


@pytest.fixture(scope="session")
def postgres() -> PostgresServer:
    """A real PostgreSQL server, one for the whole run; `postgres.database()` makes a new, empty database."""
    try:
        return real_servers.postgres_server()
    except ServerUnavailable as error:
        _unavailable("PostgreSQL", error)


@pytest.fixture
def topic_prefix() -> str:
    """A prefix of topic and group names that no other test has."""
    return f"hg-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def tenant() -> str:
    """A tenant id that no other test has."""
    return f"tenant-{uuid.uuid4().hex[:12]}"
