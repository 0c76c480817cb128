"""Three Kafka brokers on one machine, each its own controller too, for tests of what a single one cannot do.

    cluster = run(home)                       # bootstrap servers: cluster.address
    stop(cluster.node(2), grace_s=0)          # or os.kill(cluster.node(2).pid, SIGKILL)
    start_again(home, 2)                      # same data, same ports
    stop_all(home)

With `proxy_ports` each broker has a second listener that it advertises at the given port: clients that come
in through a proxy there stay behind it, and `address` still reaches the brokers directly.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.servers import kafka
from deploy.servers.cache import ServerUnavailable
from deploy.servers.processes import Running, recorded, stop

HEAP = "512m"
"""Memory of each broker's objects."""
_REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
}
_QUICK = {
    "broker.session.timeout.ms": "6000",
    "broker.heartbeat.interval.ms": "1000",
    "replica.lag.time.max.ms": "6000",
    "controlled.shutdown.enable": "true",
}
"""A killed broker loses its partitions after six seconds instead of nine."""


@dataclass(frozen=True)
class Ports:
    """Where one broker listens on 127.0.0.1."""

    client: int
    broker: int
    """For the other brokers."""
    controller: int
    proxied: int
    """What a proxy forwards to; 0 without one."""


@dataclass(frozen=True)
class Cluster:
    """The brokers of one folder; node numbers begin with 1."""

    home: Path
    ports: tuple[Ports, ...]

    @property
    def address(self) -> str:
        """Bootstrap servers, past any proxy."""
        return ",".join(f"127.0.0.1:{one.client}" for one in self.ports)

    @property
    def proxied(self) -> tuple[int, ...]:
        """The ports that the proxies forward to, in the order of `proxy_ports`."""
        return tuple(one.proxied for one in self.ports)

    def node(self, number: int) -> Running | None:
        """Return a broker that runs; None when it does not."""
        return recorded(_home(self.home, number))


def run(home: Path, proxy_ports: Sequence[int] = (), nodes: int = 3) -> Cluster:
    """Start the brokers of `home`, those that run already excepted; return once each answers.

    Ports and data of earlier brokers in `home` are kept, and `proxy_ports` (one for each) with them.
    """
    home = home.resolve()
    if proxy_ports and len(proxy_ports) != nodes:
        raise ServerUnavailable(f"{nodes} brokers need as many proxy ports, not {len(proxy_ports)}")
    if not _ports_file(home).exists():
        _make(home, proxy_ports, nodes)
    cluster = find(home)
    # A broker answers once most controllers are up, so they start side by side.
    with ThreadPoolExecutor(len(cluster.ports)) as pool:
        list(pool.map(lambda number: start_again(home, number), _numbers(cluster)))
    return cluster


def find(home: Path) -> Cluster:
    """Return the cluster that was made in `home`, whether its brokers run or not."""
    try:
        said = json.loads(_ports_file(home).read_text())
    except OSError:
        raise ServerUnavailable(f"there is no cluster in {home}") from None
    return Cluster(home.resolve(), tuple(Ports(**one) for one in said))


def start_again(home: Path, number: int) -> Running:
    """Start one broker with the data and ports it had; return it once it answers."""
    ports = find(home).ports[number - 1]
    own = _home(home.resolve(), number)
    return recorded(own) or kafka.start_node(own, ports.client, HEAP)


def stop_all(home: Path, grace_s: float = 0.0) -> None:
    """Stop every broker side by side; their data are kept."""
    cluster = find(home)
    running = [node for number in _numbers(cluster) if (node := cluster.node(number)) is not None]
    with ThreadPoolExecutor(max(1, len(running))) as pool:
        list(pool.map(lambda node: stop(node, grace_s), running))


def _numbers(cluster: Cluster) -> range:
    return range(1, len(cluster.ports) + 1)


def _home(home: Path, number: int) -> Path:
    return home / f"broker-{number}"


def _ports_file(home: Path) -> Path:
    return home / "ports.json"


def _make(home: Path, proxy_ports: Sequence[int], nodes: int) -> None:
    """Choose ports, write every node's settings and format its data."""
    ports = [
        Ports(_new_port(), _new_port(), _new_port(), _new_port() if proxy_ports else 0) for _ in range(nodes)
    ]
    voters = ",".join(f"{n}@127.0.0.1:{one.controller}" for n, one in enumerate(ports, 1))
    cluster = kafka.cluster_id()
    for number, one in enumerate(ports, 1):
        own = _home(home, number)
        own.mkdir(parents=True, exist_ok=True)
        options = {"node.id": str(number), "controller.quorum.voters": voters, **_REPLICATED, **_QUICK}
        options["controller.quorum.bootstrap.servers"] = ""  # the voters are said once and for all
        proxy_port = proxy_ports[number - 1] if proxy_ports else 0
        kafka.write_settings(own, one.client, one.controller, {**options, **_listeners(one, proxy_port)})
        kafka.format_data(own, cluster, [])
    _ports_file(home).write_text(json.dumps([asdict(one) for one in ports]))


_given = iter(random.sample(range(20_000, 32_000), 4_000))
"""Ports below those that the system gives to whoever connects: a broker that is away keeps its own."""


def _new_port() -> int:
    """Return a port that is free and was not returned before."""
    for port in _given:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ServerUnavailable("no free port on 127.0.0.1 between 20000 and 32000")


def _listeners(ports: Ports, proxy_port: int) -> dict[str, str]:
    listening = {"PLAINTEXT": ports.client, "BROKER": ports.broker, "CONTROLLER": ports.controller}
    advertised = {"PLAINTEXT": ports.client, "BROKER": ports.broker}
    if proxy_port:
        listening["PROXIED"], advertised["PROXIED"] = ports.proxied, proxy_port
    return {
        "listeners": _addresses(listening.items()),
        "advertised.listeners": _addresses(advertised.items()),
        "inter.broker.listener.name": "BROKER",
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listening),
    }


def _addresses(ports: Iterable[tuple[str, int]]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports)
