"""Two runs of chaos for the whole session, on a broker of their own, which the runs may end and start."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.servers.cache import ServerUnavailable
from headgate_resilience.chaos.report import ChaosReport
from headgate_resilience.chaos.run import Wanted, run_chaos
from headgate_resilience.chaos.settings import ChaosSettings
from headgate_streams.settings import StreamSettings
from tests.conftest import _unavailable
from tests.real_servers import S3Server
from tests.resilience import scenarios
from tests.resilience.brokers import OneBroker

SEED = int(os.environ.get("HEADGATE_TEST_SEED", "4711"))
PARTITIONS = 8

Say = Callable[[str], None]


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Say:
    """Tell how a long run goes while it goes, past the capture, from one of several test processes too."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    began = time.monotonic()

    def tell(line: str) -> None:
        with capture.global_and_fixture_disabled():
            sys.stderr.write(f"\n{time.monotonic() - began:6.1f} s  {line}")

    return tell


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneBroker]:
    try:
        made = OneBroker(tmp_path_factory.mktemp("broker"))
    except ServerUnavailable as error:
        _unavailable("Kafka", error)
    yield made
    made.close()


def _settings(out: Path, rate: float, **more: object) -> ChaosSettings:
    given = {"seed": SEED, "rate": rate, "out": out, "calm_s": 4.0, "rest_s": 0.5, **more}
    return ChaosSettings.model_validate(given)


@pytest.fixture(scope="session")
def over_http(
    broker: OneBroker, minio: S3Server, tmp_path_factory: pytest.TempPathFactory, say: Say
) -> ChaosReport:
    """The long run: deaths at every step, and every fault that a store over HTTP allows."""
    streams = StreamSettings(
        kafka=broker.address,
        partitions=PARTITIONS,
        blob_url=f"s3://{minio.bucket()}/chaos",
        s3_endpoint_url=minio.endpoint_url,
        s3_access_key_id=minio.access_key,
        s3_secret_access_key=minio.secret_key,  # type: ignore[arg-type]
    )
    rounds = [*scenarios.deaths(), *scenarios.everything_else()]
    settings = _settings(tmp_path_factory.mktemp("over-http"), 16.0, old_logic=True)
    return run_chaos(Wanted(settings, streams, (), rounds, broker, command="make test"), say)


@pytest.fixture(scope="session")
def in_files(broker: OneBroker, tmp_path_factory: pytest.TempPathFactory, say: Say) -> ChaosReport:
    """The short run: a store of files, a full disk, and what is done to topics beside the run."""
    streams = StreamSettings(kafka=broker.address, partitions=PARTITIONS)
    settings = _settings(tmp_path_factory.mktemp("in-files"), 12.0)
    wanted = Wanted(settings, streams, (), list(scenarios.in_files()), broker, command="make test")
    return run_chaos(wanted, say)
