"""One connection's two directions, and the listeners of a link. Subclasses say what a piece is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio import IncompleteReadError, StreamReader, StreamWriter

from headgate_resilience.chaos.proxy.frames import Address
from headgate_resilience.chaos.proxy.weather import LOOK_AGAIN_S, Dropped, Weather

logger = logging.getLogger(__name__)

HERE = "127.0.0.1"


class Link:
    """Listeners on this machine that lead to servers, under one weather. Belongs to one event loop."""

    def __init__(self, weather: Weather) -> None:
        self.weather = weather
        self._listeners: dict[Address, Address] = {}
        """Server -> where we listen for it."""
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def listen(self, server: Address) -> Address:
        """Return where clients reach `server` over this link."""
        if server not in self._listeners:
            made = await asyncio.start_server(lambda r, w: self._accept(server, r, w), HERE, 0)
            self._servers.append(made)
            self._listeners[server] = Address(HERE, int(made.sockets[0].getsockname()[1]))
        return self._listeners[server]

    async def close(self) -> None:
        """Close every listener and connection."""
        for server in self._servers:
            server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def serve(
        self, client: tuple[StreamReader, StreamWriter], server: tuple[StreamReader, StreamWriter]
    ) -> tuple[asyncio.Task[None], asyncio.Task[None]]:
        """Return the two running directions of one connection."""
        raise NotImplementedError

    async def _accept(self, server: Address, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._connections.add(task)
        try:
            await self._connect(server, reader, writer)
        finally:
            self._connections.discard(task)
            _reset(writer)

    async def _connect(self, server: Address, reader: StreamReader, writer: StreamWriter) -> None:
        if self.weather.is_refused:
            return
        try:
            beyond = await asyncio.open_connection(*server)
        except OSError:
            return  # the server is down: so are we
        try:
            await self._pass(self.serve((reader, writer), beyond))
        finally:
            _reset(beyond[1])

    async def _pass(self, directions: tuple[asyncio.Task[None], asyncio.Task[None]]) -> None:
        """Return when either direction ends or the connection is refused."""
        try:
            while not self.weather.is_refused:
                done, _ = await asyncio.wait(
                    directions, timeout=LOOK_AGAIN_S * 5, return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    break
        finally:
            for task in directions:
                task.cancel()
            for ended in await asyncio.gather(*directions, return_exceptions=True):
                _look_at(ended)


def _look_at(ended: BaseException | None) -> None:
    """Let the ends that belong to the trade go; log what is a mistake of ours."""
    expected = (Dropped, IncompleteReadError, ConnectionError, asyncio.CancelledError, type(None), OSError)
    if not isinstance(ended, expected):
        logger.warning("a link broke: %r", ended)


def _reset(writer: StreamWriter) -> None:
    with contextlib.suppress(Exception):  # it may be closed already, in any way
        writer.transport.abort()
