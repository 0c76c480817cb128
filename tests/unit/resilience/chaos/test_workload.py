"""The workload on an embedded log: the same seed asks for the same, and what it asks for comes to its end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headgate import Headgate
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_resilience.chaos.workload import graphs, handlers
from headgate_resilience.chaos.workload.driver import Driver
from headgate_streams.local_log import LocalLog
from headgate_streams.port import TopicPartition
from headgate_streams.topics import Topics
from tests.support import eventually

SLOWED = {"seed": 3, "canary": "canary-default-0", "turns": 3, "size": 100, "flaky": 30}


def asked_for(path: Path, seed: int) -> list[tuple[str, str, str]]:
    """Return tenant, lifetime and input of the first starts."""
    log, topics = LocalLog(path), Topics("chaos")
    log.create_topics(topics.descriptions(2))
    driver = Driver(log, topics, 2, seed=seed, tenants=3, rate=500, most_open=1_000, open_now=lambda: 0)
    driver.prepare()
    driver.start()
    eventually(lambda: len(driver.acknowledged) >= 40)
    driver.finish()
    assert driver.error is None
    found = []
    reader = log.reader()
    reader.assign({TopicPartition(topics.executions, n): 0 for n in range(2)})
    while records := reader.poll(0.2):
        for record in records:
            envelope = ExecutionEnvelope.FromString(record.value or b"")
            if envelope.HasField("lifetime_start"):
                found.append((envelope.tenant_id, envelope.lifetime_id, envelope.lifetime_start.input.json))
    reader.close()
    driver.close()
    log.close()
    return sorted(found, key=lambda one: int(one[1].rpartition("-")[2]))[:40]


def test_the_same_seed_starts_the_same_lifetimes_with_the_same_inputs(tmp_path: Path) -> None:
    first, second, other = (asked_for(tmp_path / f"{n}.sqlite3", seed) for n, seed in enumerate((5, 5, 6)))
    assert first == second
    assert first != other
    assert all(json.loads(text)["canary"].startswith(f"canary-{tenant}-") for tenant, _, text in first)


@pytest.mark.parametrize("make", [graphs.loop, graphs.fan, graphs.leaf, graphs.spend])
def test_every_graph_of_the_workload_completes(tmp_path: Path, make: object) -> None:
    (tmp_path / "graph.py").write_text(
        f"from headgate_resilience.chaos.workload import graphs\ngraph = graphs.{make.__name__}()\n"  # type: ignore[attr-defined]
    )
    with Headgate(":memory:", handlers=[handlers]) as headgate:
        outcome = headgate.run(tmp_path / "graph.py", SLOWED, timeout_s=60)
    assert outcome.status == "completed", outcome
