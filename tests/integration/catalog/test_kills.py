"""A catalog whose process is killed again and again is the one that is made in one go, in both databases."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.client import Client
from headgate.lookup import catalog_lookup
from headgate.settings import HeadgateSettings
from headgate_catalog.database import Database
from headgate_catalog.projector import Projector
from headgate_streams.local_log import LocalLog
from tests.real_servers import PostgresServer
from tests.unit.catalog.test_projection import tables_of
from tests.unit.catalog.test_same_answers import answers
from tests.unit.catalog.worlds import TENANTS, TOPICS, world

KILLS = 12
BATCH = 6
"""Records of one transaction: few, so that a small log takes many."""
PROJECT = f"""
import sys
from pathlib import Path
from headgate_catalog import projector
from headgate_catalog.database import Database
from headgate_streams.local_log import LocalLog
from headgate_streams.topics import Topics

projector.BATCH_RECORDS = {BATCH}
made = projector.Projector(LocalLog(Path(sys.argv[1])), Topics({TOPICS.prefix!r}), Database(sys.argv[2]))
made.prepare()
made.catch_up(lambda done, whole: print(done, whole, flush=True))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a log full of everything."""
    folder = tmp_path_factory.mktemp("home")
    log = LocalLog(folder / "log.sqlite3")
    world(11, 350, is_at_rest=True).keep(log)
    log.close()
    return folder


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """Two empty databases of one kind."""
    if request.param == "sqlite":
        return [f"sqlite:///{tmp_path}/{name}.sqlite3" for name in ("killed", "whole")]
    server: PostgresServer = request.getfixturevalue("postgres")
    return [server.database(), server.database()]


def project_and_kill(log: Path, url: str, batches: int, wait_s: float) -> bool:
    """Project until so many batches are told and a moment more; return whether the end was not reached."""
    argv = [sys.executable, "-c", PROJECT, str(log), url]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(batches):
            if not process.stdout.readline():
                break
        try:
            process.wait(wait_s)
        except subprocess.TimeoutExpired:
            process.kill()
        process.stdout.read()
    assert process.returncode in (0, -9)
    return process.returncode != 0


def test_a_catalog_that_is_killed_again_and_again_is_exact(home: Path, urls: list[str]) -> None:
    killed, whole = urls
    log_path, rng = home / "log.sqlite3", random.Random(7)
    kills = sum(
        project_and_kill(log_path, killed, rng.randint(0, 6), rng.uniform(0.0, 0.02)) for _ in range(KILLS)
    )
    assert kills >= KILLS - 3
    assert not project_and_kill(log_path, killed, 10_000, 60)
    client = Client.open(HeadgateSettings(local=home, topic_prefix=TOPICS.prefix, partitions=1))
    database = Database(whole)
    projector = Projector(client.log, TOPICS, database)
    projector.prepare()
    projector.catch_up(lambda *_: None)
    database.close()
    assert tables_of(killed) == tables_of(whole)
    with catalog_lookup(client, killed) as found:
        assert found.behind().records == 0
        for tenant in TENANTS:
            assert answers(found, tenant) == answers(client, tenant)
    client.close()
