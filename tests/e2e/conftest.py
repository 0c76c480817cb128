"""What the tests of the semantics run on: one stage for each kind of log, a tenant for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from headgate_streams.settings import StreamSettings
from tests.e2e.semantics import Run, documents_of
from tests.e2e.stage import PARTITIONS, Stage, staged


@pytest.fixture(scope="session", params=["local", pytest.param("kafka", marks=pytest.mark.kafka)])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    home = tmp_path_factory.mktemp("stage")
    where = {"local": home}
    if request.param == "kafka":
        where |= {"kafka": request.getfixturevalue("kafka_bootstrap")}
    prefix = f"hg-{uuid.uuid4().hex[:12]}"
    with staged(StreamSettings.read(**where, partitions=PARTITIONS, topic_prefix=prefix)) as stage:
        yield stage


@pytest.fixture
def run(request: pytest.FixtureRequest, stage: Stage, tenant: str) -> Iterator[Run]:
    """The graphs and policies that the test needs, registered for a tenant of its own."""
    run = Run(stage, tenant)
    run.use(*documents_of(request))
    yield run
    run.close()
