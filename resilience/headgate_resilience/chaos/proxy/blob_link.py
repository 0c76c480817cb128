"""A link to a blob store that speaks HTTP: may answer in its place, cut what is read, or change it."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from dataclasses import dataclass
from typing import Final

from headgate_resilience.chaos.proxy.link import Link
from headgate_resilience.chaos.proxy.weather import Dropped

_PIECE_BYTES: Final = 65_536
_SORRY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)
_METHODS: Final = {b"GET": "get", b"PUT": "put", b"HEAD": "head", b"DELETE": "delete", b"POST": "post"}


@dataclass
class _Exchange:
    """What a connection is about just now: S3 clients ask one thing at a time on each."""

    method: str = ""
    is_spoiled: bool = False


class BlobLink(Link):
    """Leads clients to one store."""

    def serve(
        self, client: tuple[StreamReader, StreamWriter], server: tuple[StreamReader, StreamWriter]
    ) -> tuple[asyncio.Task[None], asyncio.Task[None]]:
        """Follow one connection."""
        exchange = _Exchange()
        return (
            asyncio.create_task(self._up(client, server[1], exchange)),
            asyncio.create_task(self._down(server[0], client[1], exchange)),
        )

    async def _up(
        self, client: tuple[StreamReader, StreamWriter], server: StreamWriter, exchange: _Exchange
    ) -> None:
        while piece := await client[0].read(_PIECE_BYTES):
            method = _METHODS.get(piece[:8].partition(b" ")[0])
            if method is not None:
                exchange.method, exchange.is_spoiled = method, False
            await self.weather.passing(up=True)
            if self.weather.answers == "error":
                self.weather.spoiled += 1
                client[1].write(_SORRY)
                await client[1].drain()
                raise Dropped
            server.write(piece)
            await server.drain()

    async def _down(self, server: StreamReader, client: StreamWriter, exchange: _Exchange) -> None:
        while piece := await server.read(_PIECE_BYTES):
            await self.weather.passing(up=False)
            if exchange.method in self.weather.eaten:
                self.weather.meals += 1
                raise Dropped
            client.write(self._spoiled(piece, exchange))
            await client.drain()
            if exchange.is_spoiled and self.weather.answers == "truncated":
                raise Dropped

    def _spoiled(self, piece: bytes, exchange: _Exchange) -> bytes:
        """Return the piece as the weather leaves it; only the first of what is read is touched."""
        head, mark, body = piece.partition(b"\r\n\r\n")
        wanted = self.weather.answers in ("truncated", "corrupt")
        if not wanted or exchange.method != "get" or exchange.is_spoiled or not (mark and body):
            return piece
        exchange.is_spoiled = True
        self.weather.spoiled += 1
        if self.weather.answers == "truncated":
            return head + mark + body[: len(body) // 2]
        return head + mark + bytes([body[0] ^ 1]) + body[1:]
