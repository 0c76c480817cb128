"""Sees runs end, as a client does: reads the public views on a thread of its own."""

from __future__ import annotations

import threading
import time

from headgate_loadtest.installation import Installation
from headgate_protos.v1.common_pb2 import LifetimeStatus
from headgate_protos.v1.execution_pb2 import LifetimeView

_POLL_S = 0.05


class Watcher:
    """Reads the topic of views from its end on, until it is told to stop."""

    def __init__(self, installation: Installation) -> None:
        self.seen_ns: dict[str, int] = {}
        """When the terminal view of a run was seen first, by the monotonic clock."""
        self.status: dict[str, str] = {}
        """How each has ended."""
        self.conflicts: list[str] = []
        """Runs that ended twice, and differently."""
        self.failure: BaseException | None = None
        self._reader = installation.log.reader()
        self._reader.assign(installation.ends(installation.topics.lifetimes))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load-watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and release the reader; raises what ended it before."""
        self._stop.set()
        self._thread.join(15)
        self._reader.close()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                records = self._reader.poll(_POLL_S, 2_000)
                now_ns = time.monotonic_ns()
                for record in records:
                    if record.value and (record.key or b"").endswith(b"/end"):
                        self._note(LifetimeView.FromString(record.value), now_ns)
        except BaseException as error:  # told by `stop`
            self.failure = error

    def _note(self, view: LifetimeView, now_ns: int) -> None:
        status = LifetimeStatus.Name(view.status).removeprefix("LIFETIME_STATUS_").lower()
        known = self.status.setdefault(view.lifetime_id, status)
        if known != status:
            self.conflicts.append(view.lifetime_id)
        self.seen_ns.setdefault(view.lifetime_id, now_ns)
