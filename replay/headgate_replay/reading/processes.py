"""Work on several cores: the same function in processes of their own, which tell how far they are."""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from typing import Any, Final, TypeVar

from headgate_streams.collector import spare_the_collector

R = TypeVar("R")

_LOOK_S: Final = 0.1
_TELL_EVERY: Final = 5_000
"""Records between two messages of a process."""


class Stopped(Exception):
    """Another process has failed, so nobody wants this one's result."""


def in_processes(
    work: Callable[..., R], given: Sequence[tuple[Any, ...]], progress: Callable[[int], None]
) -> list[R]:
    """Return what `work` gives for each of the arguments, each in a process; raises the first error.

    `work` is a function of a module; its last argument is a function that hears how many records were done.
    What it takes and returns can be pickled.
    """
    context = multiprocessing.get_context("spawn")
    told, stop = context.Queue(), context.Event()
    with ProcessPoolExecutor(len(given), context, initializer=_begin, initargs=(told, stop)) as pool:
        futures = [pool.submit(_run, work, arguments) for arguments in given]
        try:
            while not _is_over(futures):
                _pass_on(told, progress)
            _pass_on(told, progress)
            return [future.result(timeout=0) for future in sorted(futures, key=_failed_first)]
        finally:
            stop.set()


def _is_over(futures: Sequence[Future[Any]]) -> bool:
    done, left = wait(futures, _LOOK_S, FIRST_EXCEPTION)
    return not left or any(future.exception() is not None for future in done)


def _failed_first(future: Future[Any]) -> bool:
    return not future.done() or future.exception() is None


def _pass_on(told: Any, progress: Callable[[int], None]) -> None:
    while True:
        try:
            progress(told.get_nowait())
        except queue.Empty:
            return


_told: Any = None
_stop: Any = None


def _begin(told: Any, stop: Any) -> None:
    """Remember, in a new process, whom to tell."""
    global _told, _stop
    spare_the_collector()
    _told, _stop = told, stop


def _run(work: Callable[..., R], arguments: tuple[Any, ...]) -> R:
    untold = 0

    def progress(records: int) -> None:
        nonlocal untold
        untold += records
        if untold >= _TELL_EVERY:
            _told.put(untold)
            untold = 0
        if _stop.is_set():
            raise Stopped

    result = work(*arguments, progress)
    _told.put(untold)
    return result
