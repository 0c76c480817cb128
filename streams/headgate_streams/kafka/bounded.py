"""Bounds calls of the Kafka client that have no timeout: a commit or a close waits for a hung broker.

See librdkafka issue 3740. The call runs on a thread of its own; who waits gives up in time, and the call
ends whenever the broker comes back. A commit that succeeds late is one whose answer was lost, which every
reader of commits must live with anyway. The client lets one thread in at a time and does not get over two
that want in at once, so nobody may touch it before `is_free` says so.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

_T = TypeVar("_T")


class BoundedCalls:
    """Runs one call at a time on a daemon thread, which cannot keep the process from ending."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._left: Future[Any] | None = None
        self._left_at_s = 0.0

    @property
    def late_s(self) -> float:
        """How long ago the call that is under way was given up on; 0 when none is."""
        return 0.0 if self._left is None else time.monotonic() - self._left_at_s

    def is_free(self, timeout_s: float = 0.0) -> bool:
        """Whether no call is under way; waits up to `timeout_s` for one that was given up on."""
        if self._left is not None:
            try:
                self._left.exception(timeout_s)
            except TimeoutError:
                return False
            self._left = None
        return True

    def call(self, function: Callable[[], _T], timeout_s: float) -> _T:
        """Return what `function` returns or raises; raises TimeoutError when that takes longer."""
        if not self.is_free(timeout_s):
            raise TimeoutError
        if self._thread is None:
            self._start()
        future: Future[_T] = Future()
        self._calls.put((function, future))
        try:
            return future.result(timeout_s)
        except TimeoutError:
            self._left, self._left_at_s = future, time.monotonic()
            raise

    def end_with(self, function: Callable[[], Any]) -> None:
        """Call `function` once what is under way comes back, if it ever does; nobody waits for it."""
        if self._thread is None:
            self._start()
        self._calls.put((function, Future()))
        self.close()

    def close(self) -> None:
        """Let the thread end once it is free."""
        self._calls.put(None)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            function, future = item
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
