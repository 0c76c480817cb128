"""The runs of a worker as its consumer's thread sees them: begun, renewed, ended, given up."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Sequence

from headgate_workers.leases import LeaseBook
from headgate_workers.outcome import failed
from headgate_workers.run import Cause
from headgate_workers.runner import Finished, Runner
from headgate_workers.work import Work

_LOGGER = logging.getLogger(__name__)
MAX_RENEWED = 1_000
"""Runs of one heartbeat: about 200 KB, whatever the worker's concurrency."""
_LOOKS = 2
"""A process that was stopped and goes on sees an old silence once; a blocked loop is silent at every look."""


class Crew:
    """The runner and what it is at. One thread, the consumer's, where nothing else is said."""

    def __init__(self, make_runner: Callable[[], Runner], loop_patience_s: float) -> None:
        self._make_runner = make_runner
        self._patience_s = loop_patience_s
        self._running: dict[str, Work] = {}
        self._leases = LeaseBook()
        self._last_look_s = 0.0
        self._silent_looks = 0
        self.last_event_s = 0.0
        """When something last began or ended, by the monotonic clock."""

    def start(self) -> None:
        """Begin to serve."""
        self._runner = self._make_runner()
        self._runner.start()

    def close(self) -> None:
        """End the runner; what still runs is let go."""
        self._runner.close()

    def __len__(self) -> int:
        """Return how many handlers run."""
        return len(self._running)

    def works(self) -> list[Work]:
        """Return what runs."""
        return list(self._running.values())

    def submit(self, works: Sequence[Work], *, leased: bool = False) -> None:
        """Run these; leased ones must be renewed from now on."""
        self.last_event_s = time.monotonic()
        for work in works:
            self._running[work.run_id] = work
            if leased:
                self._leases.add(work, self.last_event_s)
        if works:
            self._runner.submit(works)

    def collect(self, wait_s: float) -> list[Finished]:
        """Return what has ended, waiting up to `wait_s` for the first."""
        ended: list[Finished] = []
        finished = self._runner.finished
        try:
            while True:
                ended += finished.get(timeout=wait_s) if wait_s and not ended else finished.get_nowait()
        except queue.Empty:
            pass
        self._forget(ended)
        return ended

    def renewals(self) -> list[tuple[str, list[Work]]]:
        """Return tenants whose leases must be renewed now, with their leased runs, MAX_RENEWED at most."""
        return [
            (tenant, works[at : at + MAX_RENEWED])
            for tenant, works in self._leases.due(time.monotonic())
            for at in range(0, len(works), MAX_RENEWED)
        ]

    def cancel(self, works: Sequence[Work], cause: Cause) -> None:
        """Cancel these."""
        self._runner.cancel(works, cause)

    def abort_lifetime(self, tenant: str, lifetime: str) -> None:
        """Cancel every run of a lifetime. Any thread."""
        self._runner.abort_lifetime(tenant, lifetime)

    def reject_execution(self, tenant: str, execution: str) -> None:
        """Cancel the runs of an execution. Any thread."""
        self._runner.reject_execution(tenant, execution)

    def replace_blocked(self) -> list[Finished]:
        """Replace an event loop that a handler blocks, where nothing can time out or be cancelled any more.

        Returns the runs that were given up with it, each as a failure; [] while the loop answers.
        """
        now_s = time.monotonic()
        if not self._running or now_s - self._last_look_s < self._patience_s / 4:
            return []
        self._last_look_s = now_s
        is_silent = self._runner.silent_s() >= self._patience_s
        self._silent_looks = self._silent_looks + 1 if is_silent else 0
        return self._replace() if self._silent_looks >= _LOOKS else []

    def _replace(self) -> list[Finished]:
        self._silent_looks = 0
        stuck = self._runner
        self.start()
        stuck.leave()
        ended = stuck.held_back()
        self._forget(ended)
        works = self.works()
        types = ", ".join(sorted({work.node_type for work in works}))
        why = f"an async handler blocks the event loop (make it sync, or await): one of {types}"
        _LOGGER.error("%s; %d runs are given up", why, len(works))
        given_up: list[Finished] = [(work, failed("LOOP_BLOCKED", why, retryable=True)) for work in works]
        self._forget(given_up)
        return ended + given_up

    def _forget(self, ended: list[Finished]) -> None:
        if not ended:
            return
        self.last_event_s = time.monotonic()
        for work, _ in ended:
            self._running.pop(work.run_id, None)
            if work.is_leased:
                self._leases.drop(work)
