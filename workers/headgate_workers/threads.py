"""Threads for synchronous handlers and blob stores: one that hangs stops neither others nor the exit."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")
_IDLE_S = 10.0


class HandlerThreads:
    """Runs functions in threads, one function a thread; a hung one costs its own thread and no other.

    The number of running functions is bounded by who calls (the worker's concurrency), so a thread is
    made whenever none is idle; an idle one ends after ten seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._free = 0
        """Idle threads minus waiting jobs."""
        self._settled: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        """What the loop does not know of yet; it is woken for the first, not for each."""

    def run(self, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Begin `function` in a thread; return a future of the loop, which must be the running one."""
        future: asyncio.Future[T] = self._loop.create_future()
        with self._lock:
            self._free -= 1
            must_grow = self._free < 0
            if must_grow:
                self._free += 1
        job = partial(self._do, future, function, arguments)
        if must_grow:
            threading.Thread(target=self._work, args=(job,), name="headgate-handler", daemon=True).start()
        else:
            self._jobs.put(job)
        return future

    def _work(self, job: Callable[[], None] | None) -> None:
        while job is not None:
            job()
            del job
            with self._lock:
                self._free += 1
            job = self._next()

    def _next(self) -> Callable[[], None] | None:
        try:
            return self._jobs.get(timeout=_IDLE_S)
        except queue.Empty:
            with self._lock:
                # A job that was put since then counts on this thread.
                if self._free <= 0:
                    return self._jobs.get(timeout=1.0)
                self._free -= 1
                return None

    def _do(self, future: asyncio.Future[T], function: Callable[..., T], arguments: tuple[Any, ...]) -> None:
        try:
            value = function(*arguments)
        except StopIteration as error:  # a future cannot carry it
            self._settle(future, None, RuntimeError(f"the handler raised StopIteration: {error}"))
        except BaseException as error:
            self._settle(future, None, error)
        else:
            self._settle(future, value, None)

    def _settle(self, future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
        with self._lock:
            self._settled.append((future, value, error))
            if len(self._settled) > 1:
                return
        with contextlib.suppress(RuntimeError):  # the worker has ended; nobody waits any more
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        with self._lock:
            settled, self._settled = self._settled, []
        for future, value, error in settled:
            if future.done():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
