"""Brokers that a run of chaos may end and start: one, or three."""

from __future__ import annotations

import os
import random
import signal
import socket
from pathlib import Path

from deploy.servers import cluster, kafka
from deploy.servers.processes import Running, recorded, stop


def kept_port() -> int:
    """Return a free port that the system gives to nobody who connects: a broker that is away keeps it."""
    for port in random.sample(range(20_000, 32_000), 1_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port on 127.0.0.1 between 20000 and 32000")


def _end(running: Running | None, *, hard: bool) -> None:
    if running is None:
        return
    if hard:
        os.kill(running.pid, signal.SIGKILL)
    stop(running, grace_s=20.0)


class OneBroker:
    """A single broker in a folder."""

    def __init__(self, home: Path) -> None:
        self._home = home.resolve()
        self.address = kafka.run(self._home, kept_port()).address

    def names(self) -> list[str]:
        return ["the broker"]

    def stop(self, name: str, *, hard: bool) -> None:
        _end(recorded(self._home), hard=hard)

    def start(self, name: str) -> None:
        if recorded(self._home) is None:
            kafka.start_node(self._home, int(self.address.rpartition(":")[2]))

    def close(self) -> None:
        if (running := recorded(self._home)) is not None:
            stop(running, grace_s=0)


class ThreeBrokers:
    """A cluster of three in a folder."""

    def __init__(self, home: Path) -> None:
        self._home = home.resolve()
        self._cluster = cluster.run(self._home)
        self.address = self._cluster.address

    def names(self) -> list[str]:
        return [f"broker {number}" for number in range(1, len(self._cluster.ports) + 1)]

    def stop(self, name: str, *, hard: bool) -> None:
        _end(self._cluster.node(_number(name)), hard=hard)

    def start(self, name: str) -> None:
        cluster.start_again(self._home, _number(name))

    def close(self) -> None:
        cluster.stop_all(self._home)


def _number(name: str) -> int:
    return int(name.rpartition(" ")[2])
