"""Three brokers go on without one of them, and it comes back with its data and ports."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from deploy.servers import cluster
from deploy.servers.cache import ServerUnavailable
from deploy.servers.cluster import Cluster
from deploy.servers.processes import free_port, stop
from headgate_streams.kafka_log import KafkaLog
from headgate_streams.port import TopicDescription, TopicPartition
from tests.real_servers import RUN_VARIABLE
from tests.support import eventually

PROXIES = tuple(free_port() for _ in range(3))


@pytest.fixture(scope="module")
def brokers() -> Iterator[Cluster]:
    home = Path(os.environ[RUN_VARIABLE]) / "cluster"
    try:
        yield cluster.run(home, PROXIES)
    except ServerUnavailable as error:
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(f"no three brokers: {error} (in CI this is a failure)", pytrace=False)
        pytest.skip(f"no three brokers: {error}")
    finally:
        if (home / "ports.json").exists():
            cluster.stop_all(home)


def test_three_brokers_go_on_without_one_and_take_it_back(brokers: Cluster) -> None:
    log = KafkaLog(brokers.address)
    where = TopicPartition("hg.log", 0)
    log.create_topics([TopicDescription(where.topic, 3, {})])
    producer = log.producer()
    producer.append(*where, key=b"k", value=b"1")
    producer.flush()

    second = brokers.node(2)
    assert second is not None
    stop(second, grace_s=0)
    assert brokers.node(2) is None
    producer.append(*where, key=b"k", value=b"2")
    producer.flush(60)
    assert cluster.start_again(brokers.home, 2).address == second.address
    assert cluster.find(brokers.home) == brokers
    producer.append(*where, key=b"k", value=b"3")
    producer.close()
    assert log.offsets([where]) == {where: (0, 3)}
    log.close()

    client = AdminClient({"bootstrap.servers": brokers.address})
    partitions = eventually(lambda: client.list_topics(timeout=10).topics["hg.log"].partitions, 30)
    assert {len(one.replicas) for one in partitions.values()} == {3}


def test_who_comes_in_by_a_proxy_is_told_the_proxys_ports(brokers: Cluster) -> None:
    client = AdminClient({"bootstrap.servers": f"127.0.0.1:{brokers.proxied[0]}"})
    told = {one.port for one in client.list_topics(timeout=20).brokers.values()}
    assert told == set(PROXIES)
    direct = AdminClient({"bootstrap.servers": brokers.address})
    assert {one.port for one in direct.list_topics(timeout=20).brokers.values()} == {
        one.client for one in brokers.ports
    }


def test_running_cluster_is_found_and_not_started_again(brokers: Cluster) -> None:
    before = [brokers.node(number) for number in (1, 2, 3)]
    assert cluster.run(brokers.home, PROXIES) == brokers
    assert [brokers.node(number) for number in (1, 2, 3)] == before


def test_each_broker_needs_a_proxy_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ServerUnavailable, match="as many proxy ports"):
        cluster.run(tmp_path, PROXIES[:2])
    with pytest.raises(ServerUnavailable, match="no cluster"):
        cluster.find(tmp_path)
