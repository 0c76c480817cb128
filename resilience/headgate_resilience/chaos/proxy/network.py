"""The links of a run, on an event loop of their own thread; faults only change their weather."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from headgate_graphs.errors import UserError
from headgate_resilience.chaos.proxy.blob_link import BlobLink
from headgate_resilience.chaos.proxy.frames import Address
from headgate_resilience.chaos.proxy.kafka_link import KafkaLink
from headgate_resilience.chaos.proxy.link import Link
from headgate_resilience.chaos.proxy.weather import Weather

T = TypeVar("T")
ANSWER_S = 10.0


class Network:
    """Links by name: one for each process to Kafka, and one for all to the blob store."""

    def __init__(self, seed: int) -> None:
        """Start the loop's thread."""
        self.weather: dict[str, Weather] = {}
        self._seed = seed
        self._links: list[Link] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-network", daemon=True)
        self._thread.start()

    def kafka(self, name: str, bootstrap: str) -> str:
        """Return bootstrap servers by which a client reaches the cluster over a link of that name."""
        link = KafkaLink(self._weather(name))
        self._links.append(link)
        servers = [address_of(one) for one in bootstrap.split(",")]
        return ",".join(_text(self._do(link.listen(server))) for server in servers)

    def blobs(self, name: str, server: str) -> str:
        """Return host:port by which clients reach a store over a link of that name."""
        link = BlobLink(self._weather(name))
        self._links.append(link)
        return _text(self._do(link.listen(address_of(server))))

    def clear(self) -> None:
        """Heal every link."""
        for weather in self.weather.values():
            weather.clear()

    def close(self) -> None:
        """Close every link and end the thread."""
        for link in self._links:
            self._do(link.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ANSWER_S)
        self._loop.close()

    def _weather(self, name: str) -> Weather:
        return self.weather.setdefault(
            name,
            Weather(dice=random.Random(f"{self._seed}/{name}")),  # noqa: S311
        )

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(ANSWER_S)


def address_of(text: str) -> Address:
    """Return host:port as an address; raises UserError when it is none."""
    host, colon, port = text.strip().rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise UserError(f"{text[:64]!a} is not host:port")
    return Address(host.strip("[]"), int(port))


def _text(address: Address) -> str:
    return f"{address.host}:{address.port}"
