"""Clients that handlers share for as long as the worker lives, such as HTTP connection pools."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")
_LOGGER = logging.getLogger(__name__)
MAX_CLIENTS = 256
"""A handler that makes a client per execution has a fault; the oldest are let go then, unclosed."""


class SharedClients:
    """Things that are costly to make, by key; used on the handlers' event loop alone."""

    def __init__(self) -> None:
        self._clients: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returned the first time this key was asked for."""
        if key not in self._clients:
            while len(self._clients) >= MAX_CLIENTS:
                self._clients.pop(next(iter(self._clients)))
            self._clients[key] = make()
        found: T = self._clients[key]
        return found

    async def close(self) -> None:
        """Close everything by its `aclose` or `close`; a fault in one is logged and leaves the others."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            close = getattr(client, "aclose", None) or getattr(client, "close", None)
            try:
                closing = close() if close is not None else None
                if inspect.isawaitable(closing):
                    await closing
            except Exception:
                _LOGGER.warning("closing %s failed", type(client).__name__, exc_info=True)
