"""The command: projects, ends, goes on, and answers through the catalog as through the log."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from headgate_streams.local_log import LocalLog
from tests.e2e.command_line import answer, headgate, running
from tests.real_servers import PostgresServer
from tests.unit.catalog.worlds import TENANTS, TOPICS, world

PLACE = {"HEADGATE_TOPIC_PREFIX": TOPICS.prefix, "HEADGATE_PARTITIONS": "1"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with a log."""
    log = LocalLog(tmp_path / ".headgate/log.sqlite3")
    world(12, 150, is_at_rest=True).keep(log)
    log.close()
    return tmp_path


def test_commands_answer_the_same_with_and_without_a_catalog(home: Path, postgres: PostgresServer) -> None:
    url, tenant = postgres.database(), TENANTS[0]
    first = answer("catalog", "--once", "--url", url, cwd=home, **PLACE)
    assert first["records"] > 150
    with running("catalog", cwd=home, HEADGATE_CATALOG_URL=url, **PLACE) as process:
        assert process.stop(signal.SIGTERM) == 0
    asked = PLACE | {"HEADGATE_TENANT": tenant}
    for question in (("list",), ("spend", "--by", "model"), ("spend", "--by", "tenant"), ("status",)):
        said = answer(*question, cwd=home, **asked)
        assert answer(*question, cwd=home, HEADGATE_CATALOG_URL=url, **asked) == said
    again = answer("catalog", "--rebuild", "--until-caught-up", "--url", url, cwd=home, **PLACE)
    assert again["records"] == first["records"]


def test_an_answer_that_is_behind_says_so(home: Path) -> None:
    url = f"sqlite:///{home}/other.sqlite3"
    asked = PLACE | {"HEADGATE_CATALOG_URL": url, "HEADGATE_TENANT": TENANTS[0]}
    missing = headgate("list", cwd=home, **asked)
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert "run `headgate catalog`" in missing.stderr
    assert headgate("catalog", "--once", cwd=home, **asked).returncode == 0
    log = LocalLog(home / ".headgate/log.sqlite3")
    producer = log.producer()
    producer.append(TOPICS.executions, 0, key=b"acme", value=b"rubbish")
    producer.close()
    log.close()
    behind = headgate("list", cwd=home, **asked)
    assert behind.returncode == 0
    assert "behind the log: 1 records" in behind.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("spend", "--from", "yesterday"), "--from: 'yesterday' is neither"),
        (("spend", "--from", "2030-01-02", "--to", "2030-01-01"), "--to must be after --from"),
        (("catalog", "--once", "--url", "mysql://h/d"), "catalog_url: 'mysql' is not supported"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = headgate(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
