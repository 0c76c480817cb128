"""A site for each test, on the embedded log and on Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.headgate.site import Site


@pytest.fixture(params=["local", pytest.param("kafka", marks=pytest.mark.kafka)])
def site(request: pytest.FixtureRequest, tmp_path: Path, topic_prefix: str) -> Iterator[Site]:
    variables = {"HEADGATE_TOPIC_PREFIX": topic_prefix}
    if request.param == "kafka":
        variables["HEADGATE_KAFKA"] = request.getfixturevalue("kafka_bootstrap")
    site = Site(tmp_path, variables)
    yield site
    site.close()
