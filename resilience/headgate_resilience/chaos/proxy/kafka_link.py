"""A link to a Kafka cluster: follows requests and replies, stands in for every broker it learns of."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter

from headgate_resilience.chaos.proxy.frames import (
    METADATA,
    NAMES,
    Address,
    Request,
    brokers_in,
    moved,
    number_of,
    read_frame,
    request_of,
    without_brokers,
)
from headgate_resilience.chaos.proxy.link import Link
from headgate_resilience.chaos.proxy.weather import Dropped, Weather


class KafkaLink(Link):
    """Leads one client to a cluster that speaks in the clear; the brokers need not know about it."""

    def __init__(self, weather: Weather) -> None:
        super().__init__(weather)
        self._places: dict[Address, Address] = {}

    def serve(
        self, client: tuple[StreamReader, StreamWriter], server: tuple[StreamReader, StreamWriter]
    ) -> tuple[asyncio.Task[None], asyncio.Task[None]]:
        """Follow one connection."""
        open_requests: dict[int, Request] = {}
        return (
            asyncio.create_task(self._up(client[0], server[1], open_requests)),
            asyncio.create_task(self._down(server[0], client[1], open_requests)),
        )

    async def _up(self, client: StreamReader, server: StreamWriter, asked: dict[int, Request]) -> None:
        while True:
            frame = await read_frame(client)
            request = request_of(frame)
            await self.weather.passing(up=True)
            asked[request.number] = request
            server.write(frame)
            await server.drain()

    async def _down(self, server: StreamReader, client: StreamWriter, asked: dict[int, Request]) -> None:
        while True:
            frame = await read_frame(server)
            request = asked.pop(number_of(frame), None)
            await self.weather.passing(up=False)
            if request is not None and NAMES.get(request.kind) in self.weather.eaten:
                self.weather.meals += 1
                raise Dropped
            if request is not None and request.kind == METADATA:
                await self._learn(frame, request.version)
                if self.weather.is_brokerless:
                    frame = without_brokers(frame, request.version)
                    self.weather.spoiled += 1
            client.write(moved(frame, self._places))
            await client.drain()

    async def _learn(self, frame: bytes, version: int) -> None:
        for broker in brokers_in(frame, version):
            if broker not in self._places:
                self._places[broker] = await self.listen(broker)
