"""Runs one long-lived service in the foreground: a ready line, signals, a graceful stop with a deadline."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from headgate.command.faults import ExitCode, complain
from headgate.command.logs import show_client_logs
from headgate.command.place import Place
from headgate.command.printing import say, say_json
from headgate.embedding import Service
from headgate_graphs.errors import Disposition, HeadgateError
from headgate_streams.collector import spare_the_collector

AGAIN_S = 1.0
"""How long to wait before a log that was lost is tried again."""
_LOGGER = logging.getLogger(__name__)


class LogLost(HeadgateError):
    """The log, or the blob store, was there and did not come back in time."""


def serve(
    place: Place, make: Callable[[], Service], ready_line: str, deadline_s: float, retry_s: float
) -> None:
    """Run the service that `make` returns until SIGTERM or SIGINT; raises what ended it otherwise.

    The first signal stops intake and waits for what runs, up to `deadline_s`; the second ends the process.
    Once it has been ready, a log that does not answer is tried again, with a new service, for `retry_s`; then
    LogLost is raised. A log that does not answer at the start is raised as it is: the user's to look at.
    """
    run = _Run(place, make, ready_line)
    with _signals(run.stop, deadline_s):
        lost_at = 0.0
        while not run.is_over():
            if run.steady_s >= retry_s:
                lost_at = 0.0
            lost_at = lost_at or time.monotonic()
            left_s = lost_at + retry_s - time.monotonic()
            if left_s <= 0:
                raise LogLost(f"the log was lost for {retry_s:g} s: {run.error}") from run.error
            _LOGGER.warning("the log was lost, trying again for %.0f s: %s", left_s, run.error)
            run.stop.wait(min(AGAIN_S, left_s))


class _Run:
    """One service after the other, each as long as it lives."""

    def __init__(self, place: Place, make: Callable[[], Service], ready_line: str) -> None:
        self.stop = threading.Event()
        self.error: HeadgateError | None = None
        """What ended the newest service, when trying again may help."""
        self.steady_s = 0.0
        """How long the newest service was ready."""
        self._place, self._make, self._ready_line = place, make, ready_line
        self._is_announced = False

    def is_over(self) -> bool:
        """Run one service to its end; return whether that was asked for, and raise what cannot be helped."""
        if self.stop.is_set():
            return True
        service = self._make()
        service.start()
        ready_at = self._watch(service)
        self.steady_s = time.monotonic() - ready_at if ready_at else 0.0
        try:
            service.join(0)
        except HeadgateError as error:
            if error.disposition is not Disposition.RETRY or not self._is_announced:
                raise
            if self.stop.is_set():
                raise LogLost(f"the log was lost while stopping: {error}") from error
            self.error = error
            return False
        return True

    def _watch(self, service: Service) -> float:
        """Return when the service was ready (0 for never), having waited for its end."""
        ready_at = 0.0
        while service.is_alive():
            service.done.wait(0.1 if ready_at else 0.02)
            if self.stop.is_set():
                service.stop.set()
            if not ready_at and service.ready.is_set():
                ready_at = time.monotonic()
                self._announce(service)
        return ready_at

    def _announce(self, service: Service) -> None:
        spare_the_collector()
        if self._is_announced:
            _LOGGER.warning("the log is back: %s goes on", service.name)
            return
        self._is_announced = True
        show_client_logs()
        _say_ready(self._place, service, self._ready_line)


def _say_ready(place: Place, service: Service, line: str) -> None:
    if place.json:
        say_json({"ready": service.name, "pid": os.getpid(), "message": line})
    else:
        say(line)


@contextmanager
def _signals(stop: threading.Event, deadline_s: float) -> Iterator[None]:
    """Turn SIGTERM and SIGINT into `stop`; put back what was there before."""
    deadline = threading.Timer(deadline_s, _give_up, (deadline_s,))
    deadline.daemon = True

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()
        deadline.start()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        deadline.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _give_up(deadline_s: float) -> None:
    """End the process: what runs still is run again by whoever takes over, so nothing is lost."""
    complain(f"stopping took longer than {deadline_s:g} s: ending now; unfinished work is given out again")
    sys.stdout.flush()
    os._exit(int(ExitCode.BROKEN))
