"""Keeps this process's members alive from a thread of its own, as theirs may be busy in a callback."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from headgate_graphs.errors import LogUnavailable
from headgate_streams.local.groups import Beat
from headgate_streams.local.writer import Writer

_logger = logging.getLogger(__name__)

_BEAT_S: Final = 1.0


class Heartbeats:
    """One thread that beats for every member of the process whose own thread still polls."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._members: dict[int, Callable[[], bool]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def keep(self, member_id: int, is_polling: Callable[[], bool]) -> None:
        """Beat for a member for as long as `is_polling` says yes."""
        with self._lock:
            self._members[member_id] = is_polling
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="headgate-local-beats", daemon=True)
                self._thread.start()

    def let_go(self, member_id: int) -> None:
        """No longer beat for a member."""
        with self._lock:
            self._members.pop(member_id, None)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while not self._stop.wait(_BEAT_S):
            with self._lock:
                alive = [member_id for member_id, is_polling in self._members.items() if is_polling()]
            if not alive:
                continue
            try:
                self._writer.run(Beat(alive))
            except LogUnavailable as error:
                _logger.warning("cannot renew group memberships: %s", error)
