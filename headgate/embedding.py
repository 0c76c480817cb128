"""Gate and workers as threads of this process: what `run`, `gate` and `worker` start."""

from __future__ import annotations

import threading
from collections.abc import Callable

from headgate.client import Client
from headgate_graphs.errors import HeadgateError
from headgate_graphs.model import NodeKind
from headgate_guardrails.gate import Gate
from headgate_guardrails.settings import GateSettings
from headgate_streams.settings import StreamSettings
from headgate_workers.handlers import HandlerRegistry
from headgate_workers.settings import WorkerSettings
from headgate_workers.worker import Worker


class Service:
    """One long-lived loop on a thread of its own. `stop` asks it to end; `join` raises what ended it."""

    def __init__(self, name: str, run: Callable[[threading.Event], None], ready: threading.Event) -> None:
        self.name = name
        self.ready = ready
        self.stop = threading.Event()
        self.done = threading.Event()
        self._run = run
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=f"headgate-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread; returns at once, `ready` is set when the service can do its work."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether the loop still runs."""
        return self._thread.is_alive()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; return whether it came, and raise what caused it if that was not `stop`."""
        self._thread.join(timeout_s if timeout_s > 0 else None)
        self.check()
        return not self._thread.is_alive()

    def check(self) -> None:
        """Raise what ended the loop, if something did."""
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            self._run(self.stop)
            if not self.stop.is_set():
                self._error = HeadgateError(f"{self.name} ended without being asked to")
        except BaseException as error:  # it is raised again where the thread is joined
            self._error = error
        finally:
            self.done.set()


def gate_service(
    client: Client, settings: StreamSettings, gate_settings: GateSettings | None = None
) -> Service:
    """Return a gate on the client's log, not yet started."""
    gate = Gate(client.log, client.blobs, settings, gate_settings)
    return Service("gate", gate.run, gate.ready)


def worker_service(
    client: Client,
    settings: StreamSettings,
    kind: NodeKind,
    registry: HandlerRegistry,
    queues: tuple[str, ...] = (),
    concurrency: int | None = None,
) -> Service:
    """Return a worker on the client's log, not yet started; no queues means the default queue."""
    given = {"queues": queues or ("",)} | ({"concurrency": concurrency} if concurrency else {})
    worker = Worker(client.log, client.blobs, kind, registry, WorkerSettings(**given), settings)
    name = f"{kind.value}-worker" + "".join(f".{queue}" for queue in queues if queue)
    return Service(name, worker.run, worker.ready)


def stop_all(services: list[Service], deadline_s: float) -> None:
    """Ask all to end, workers and gates at once, and wait; raises what ended one of them before."""
    for service in services:
        service.stop.set()
    for service in services:
        service.join(deadline_s)
