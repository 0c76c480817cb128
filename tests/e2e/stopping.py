"""Two workers of each kind and a gate on one log, handlers that run until stopped, and a stopwatch."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from headgate.client import Client
from headgate.embedding import Service, gate_service, stop_all
from headgate.reading import partitions_of, read_to_now
from headgate_graphs.model import AgentGraph, NodeKind
from headgate_protos.v1.control_pb2 import ControlType, ExecutionEvent, OperatorCommand
from headgate_protos.v1.task_pb2 import TaskInput
from headgate_streams.settings import StreamSettings
from headgate_workers import Decision, PlanContext, TaskContext
from headgate_workers.handlers import Handler, HandlerRegistry
from headgate_workers.settings import WorkerSettings
from headgate_workers.worker import Worker
from tests.support import eventually

READY_S = 60.0
WAIT_S = 60.0
Key = tuple[str, str]
"""(tenant, lifetime)."""


def graph(tenant: str, timeout: str = "5m", **limits: Any) -> AgentGraph:
    """Return one long task between two plans."""
    return AgentGraph.model_validate(
        {
            "metadata": {"id": "long", "version": "1.0.0", "tenant_id": tenant},
            "entry": "begin",
            "plans": [{"id": "begin", "type": "turn"}, {"id": "finish", "type": "turn"}],
            "tasks": [{"id": "work", "type": "work", "config": {"timeout": timeout, "limits": limits}}],
            "edges": [
                {"from": "begin", "to": "work"},
                {"from": "work", "to": "finish"},
                {"from": "finish", "to": "end", "type": "final"},
            ],
        }
    )


@dataclass
class Diary:
    """What the handlers did, by the monotonic clock of this process."""

    begun: list[tuple[float, Key]] = field(default_factory=list)
    over: dict[Key, float] = field(default_factory=dict)
    """When a lifetime's budget was passed, by the handler that passed it."""
    stopped: dict[Key, float] = field(default_factory=dict)
    done: list[Key] = field(default_factory=list)
    let_go: set[Key] = field(default_factory=set)
    """Lifetimes whose handlers may return."""
    spending: set[Key] = field(default_factory=set)
    """Lifetimes whose handlers spend 50 tokens each hundredth of a second."""
    budget: int = 1_000

    async def work(self, ctx: TaskContext, data: dict[str, Any]) -> str:
        """Run until let go, cancelled, or for `data["seconds"]`."""
        key = (ctx.tenant_id, ctx.lifetime_id)
        self.begun.append((time.monotonic(), key))
        until_s = time.monotonic() + data.get("seconds", WAIT_S)
        spent = 0
        try:
            while key not in self.let_go and time.monotonic() < until_s:
                await asyncio.sleep(0.01)
                if key in self.spending:
                    ctx.usage.add(tokens_used=50)
                    spent += 50
                    if spent > self.budget:
                        self.over.setdefault(key, time.monotonic())
        except asyncio.CancelledError:
            self.stopped[key] = time.monotonic()
            raise
        ctx.usage.add(tokens_used=0)
        self.done.append(key)
        return "done"

    async def turn(self, ctx: PlanContext) -> Decision:
        """Go on to the task, then to the end."""
        return Decision(next=ctx.allowed_next, output=None if ctx.upstream else ctx.start_input)

    def registry(self) -> HandlerRegistry:
        task = Handler(NodeKind.TASK, "work", self.work)
        return HandlerRegistry([task, Handler(NodeKind.PLAN, "turn", self.turn)])


class Watch:
    """Reads the control events as they come, and notes when each could be read."""

    def __init__(self, client: Client) -> None:
        self.events: list[tuple[float, ExecutionEvent]] = []
        self._places = partitions_of(client.log, [client.topics.control_events])
        self._client = client
        self.ready = threading.Event()

    def run(self, stop: threading.Event) -> None:
        reader = self._client.log.reader()
        reader.assign(dict.fromkeys(self._places, 0))
        try:
            while not stop.is_set():
                for record in reader.poll(0.02):
                    event = ExecutionEvent.FromString(record.value or b"")
                    self.events.append((time.monotonic(), event))
                self.ready.set()
        finally:
            reader.close()

    def when(self, tenant: str, type: ControlType, lifetime: str = "") -> float:
        """Wait for an event; return when it could be read."""
        whom = (tenant, lifetime, type)

        def seen() -> float:
            found = (at for at, e in self.events if (e.tenant_id, e.lifetime_id, e.type) == whom)
            return next(found, 0.0)

        return eventually(seen, WAIT_S, 0.005)


class Site:
    """The whole system in this process; each service has a log of its own, as it has as a process."""

    def __init__(self, settings: StreamSettings, concurrency: int) -> None:
        self.diary = Diary()
        self._stack = contextlib.ExitStack()
        self._settings = settings
        self.client = self._open()
        self.client.create_topics()
        self.watch = Watch(self._open())
        self._services = [
            gate_service(self._open(), settings),
            *(self._worker(kind, concurrency) for kind in NodeKind for _ in range(2)),
            Service("watch", self.watch.run, self.watch.ready),
        ]
        for service in self._services:
            service.start()
        for service in self._services:
            eventually(lambda one=service: one.ready.is_set() or one.check(), READY_S)  # type: ignore[misc]

    def _open(self) -> Client:
        return self._stack.enter_context(Client.open(self._settings))

    def _worker(self, kind: NodeKind, concurrency: int) -> Service:
        client = self._open()
        settings = WorkerSettings(concurrency=concurrency, drain_s=1.0)
        worker = Worker(client.log, client.blobs, kind, self.diary.registry(), settings, self._settings)
        return Service(f"{kind.value}-worker", worker.run, worker.ready)

    def close(self) -> None:
        try:
            stop_all(self._services, 30.0)
        finally:
            self._stack.close()

    def wait(self, predicate: Callable[[], object], interval_s: float = 0.02) -> None:
        """Wait until it holds; raises what ended a service meanwhile."""

        def holds() -> object:
            for service in self._services:
                service.check()
            return predicate()

        eventually(holds, WAIT_S, interval_s)

    def start(self, tenant: str, count: int, **data: Any) -> list[Key]:
        """Ask for so many runs of the tenant's graph."""
        keys = [(tenant, f"run-{number}") for number in range(count)]
        for _, lifetime in keys:
            self.client.start("long", data, tenant=tenant, lifetime_id=lifetime)
        return keys

    def begun(self, tenant: str) -> list[Key]:
        """Return the lifetimes of a tenant whose handler has begun, each as often as it has."""
        return [key for _, key in list(self.diary.begun) if key[0] == tenant]

    def order(self, tenant: str, **command: Any) -> float:
        """Give an order about all of a tenant; return when it was about to be given."""
        at = time.monotonic()
        self.client.command(tenant, "", OperatorCommand(**command))
        return at

    def inputs(self, tenant: str) -> list[TaskInput]:
        """Return every input of a task that the gate has made for a tenant."""
        places = partitions_of(self.client.log, [self.client.topics.task_inputs()])
        found = (TaskInput.FromString(record.value or b"") for record in read_to_now(self.client.log, places))
        return [one for one in found if one.tenant_id == tenant]


@contextlib.contextmanager
def site(settings: StreamSettings, concurrency: int) -> Iterator[Site]:
    """Run a site inside the block."""
    made = Site(settings, concurrency)
    try:
        yield made
    finally:
        made.close()


def shown(name: str, seconds: Sequence[float]) -> str:
    """Return "name p50 12 ms p99 34 ms"; the 99th of few is the slowest."""
    ordered = sorted(seconds)
    p50, p99 = (ordered[math.ceil(len(ordered) * part) - 1] for part in (0.5, 0.99))
    return f"{name} p50 {p50 * 1000:.0f} ms p99 {p99 * 1000:.0f} ms"
