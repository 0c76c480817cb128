"""Runs one long-lived service in the foreground: a ready line, signals, a graceful stop with a deadline."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from headgate.command.faults import ExitCode, complain
from headgate.command.logs import show_client_logs
from headgate.command.place import Place
from headgate.command.printing import say, say_json
from headgate.embedding import Service

READY_TIMEOUT_S = 60.0
"""How long a service may take until it says that it is ready: a gate folds what it missed first."""


def serve(place: Place, service: Service, ready_line: str, deadline_s: float) -> None:
    """Run `service` until SIGTERM or SIGINT; raises what ended it otherwise.

    The first signal stops intake and waits for what runs, up to `deadline_s`; the second ends the process.
    """
    with _signals(service.stop, deadline_s):
        service.start()
        announced = False
        while service.is_alive():
            service.done.wait(0.1 if announced else 0.02)
            if not announced and service.ready.is_set():
                announced = True
                show_client_logs()
                _say_ready(place, service, ready_line)
    service.join(0)


def _say_ready(place: Place, service: Service, line: str) -> None:
    if place.json:
        say_json({"ready": service.name, "pid": os.getpid(), "message": line})
    else:
        say(line)


@contextmanager
def _signals(stop: threading.Event, deadline_s: float) -> Iterator[None]:
    """Turn SIGTERM and SIGINT into `stop`; put back what was there before."""

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()
        timer = threading.Timer(deadline_s, _give_up, (deadline_s,))
        timer.daemon = True
        timer.start()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _give_up(deadline_s: float) -> None:
    """End the process: what runs still is run again by whoever takes over, so nothing is lost."""
    complain(f"stopping took longer than {deadline_s:g} s: ending now; unfinished work is given out again")
    sys.stdout.flush()
    os._exit(int(ExitCode.BROKEN))
