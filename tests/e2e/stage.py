"""Gate and workers as threads on one log, handlers that do as a node's params say, and all that is said."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from headgate.client import Client
from headgate.embedding import Service, stop_all
from headgate.reading import partitions_of
from headgate_graphs.errors import NonRetryable
from headgate_graphs.model import NodeKind
from headgate_guardrails.gate import Gate
from headgate_guardrails.settings import GateSettings
from headgate_protos.v1.control_pb2 import ExecutionEvent
from headgate_protos.v1.execution_pb2 import DeadLetter, ExecutionEnvelope, LifetimeView
from headgate_protos.v1.plan_pb2 import PlanInput
from headgate_protos.v1.task_pb2 import TaskInput
from headgate_streams.port import LogConsumer, LogRecord, TopicPartition
from headgate_streams.settings import StreamSettings
from headgate_workers.context import Context, PlanContext, TaskContext
from headgate_workers.handlers import Handler, HandlerRegistry
from headgate_workers.results import Decision, Result
from headgate_workers.settings import WorkerSettings
from headgate_workers.worker import Worker

PARTITIONS = 4
SIDE_QUEUE = "side"
"""A named queue whose worker alone has the task type `aside`."""
TASK_TYPES = ("echo", "fail", "grow", "slow", "spend")


@dataclass(frozen=True)
class Call:
    """One time a handler was really run."""

    tenant: str
    lifetime: str
    node: str
    iteration: int
    attempt: int


@dataclass
class Handlers:
    """What the workers run: small handlers, each told by its node's params.

    Every one bills `usage` first. A `slow` task then waits for its door, which the test opens, so that no
    test depends on who is faster; a task with `seconds` takes so long.
    """

    calls: list[Call] = field(default_factory=list)
    stopped: list[Call] = field(default_factory=list)
    """Runs that were cancelled while they waited."""
    open_doors: set[tuple[str, str]] = field(default_factory=set)
    """(tenant, node), or (tenant, "") for all of a tenant."""

    def registry(self, *types: str) -> HandlerRegistry:
        tasks = [Handler(NodeKind.TASK, name, self.work) for name in types]
        return HandlerRegistry([*tasks, Handler(NodeKind.PLAN, "follow", self.follow)])

    async def work(self, ctx: TaskContext) -> Any:
        """Bill, wait, then fail, grow or give the `value` of the params back."""
        call = self._begin(ctx)
        kind = ctx._received.headers.node_type
        await self._wait(ctx, call, kind)
        times = ctx.params.get("times", 1_000_000 if kind == "fail" else 0)
        if ctx.attempt <= times:
            raise (NonRetryable if ctx.params.get("for_good") else RuntimeError)(f"told to fail: {call.node}")
        value = ctx.params.get("value", ctx.input)
        if kind == "grow":
            value = "x" * int(ctx.params.get("bytes", 1)) * ctx.iteration
        return Result(value, ctx.params.get("metadata", {}))

    async def follow(self, ctx: PlanContext) -> Decision:
        """Go where `visits` says for this visit (its last entry repeats), or `on_failure` after a failure.

        Gives `outputs` in turn, else what it was given: the start input, or each result by its node.
        """
        call = self._begin(ctx)
        await self._wait(ctx, call, "")
        params, seen = ctx.params, ctx.upstream
        visits = params.get("visits", [["end"] if "end" in ctx.allowed_next else ctx.allowed_next])
        chosen = visits[min(ctx.iteration, len(visits)) - 1]
        if "on_failure" in params and not all(one.success for one in seen):
            chosen = params["on_failure"]
        told = {one.node_id: one.value if one.success else one.error and one.error.code for one in seen}
        outputs = params.get("outputs")
        output = outputs[(ctx.iteration - 1) % len(outputs)] if outputs else told or ctx.start_input
        if ctx.attempt <= params.get("times", 0):
            raise RuntimeError(f"told to fail: {call.node}")
        return Decision(chosen, output, inputs=params.get("inputs", {}))

    def _begin(self, ctx: Context) -> Call:
        call = Call(ctx.tenant_id, ctx.lifetime_id, ctx.node_id, ctx.iteration, ctx.attempt)
        self.calls.append(call)
        if "usage" in ctx.params:
            ctx.usage.add(**ctx.params["usage"])
        return call

    async def _wait(self, ctx: Context, call: Call, kind: str) -> None:
        try:
            await asyncio.sleep(float(ctx.params.get("seconds", 0)))
            while (
                kind == "slow" and not {(call.tenant, call.node), (call.tenant, "")} & self.open_doors
            ):  # bounded by the node's timeout
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.stopped.append(call)
            raise


@dataclass(frozen=True)
class Said:
    """One record: where it lies and what it says. `order` is the order in which the gate saw it."""

    topic: str
    order: tuple[int, int, int]
    partition: int
    at_ms: int
    message: Any


class Watch:
    """Reads every topic from the beginning, all the time; keeps what was said by tenant."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.by_tenant: dict[str, list[Said]] = defaultdict(list)
        self.records: list[LogRecord] = []
        """The executions log as it is, for folding it anew."""
        topics = client.topics
        self._types: dict[str, Any] = {
            topics.executions: ExecutionEnvelope,
            topics.control_events: ExecutionEvent,
            topics.lifetimes: LifetimeView,
            topics.dead_letters: DeadLetter,
        }
        for queue in ("", SIDE_QUEUE):
            self._types |= {topics.task_inputs(queue): TaskInput, topics.plan_inputs(queue): PlanInput}
        self.ready = threading.Event()
        self._read: dict[TopicPartition, int] = {}

    def ends(self) -> dict[TopicPartition, int]:
        """Return where each partition ends now."""
        return {place: end for place, (_, end) in self._client.log.offsets(list(self._read)).items()}

    def has_read(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Whether everything before `ends` has been read."""
        return all(self._read[place] >= end for place, end in ends.items())

    def run(self, stop: threading.Event) -> None:
        """Read until `stop` is set."""
        reader = self._client.log.reader()
        try:
            self._read = dict.fromkeys(partitions_of(self._client.log, list(self._types)), 0)
            reader.assign(dict(self._read))
            while not stop.is_set():
                for record in reader.poll(0.02):
                    self._keep(record)
                self.ready.set()
        finally:
            reader.close()

    def _keep(self, record: LogRecord) -> None:
        message = self._types[record.topic].FromString(record.value or b"")
        if isinstance(message, ExecutionEnvelope):
            self.records.append(record)
            order = (record.offset, 0, 0)
        else:
            order = (message.source.offset, 1, message.source.index)
        said = Said(record.topic, order, record.partition, record.timestamp_ms, message)
        self.by_tenant[message.tenant_id].append(said)
        self._read[TopicPartition(record.topic, record.partition)] = record.offset + 1


@dataclass
class Stage:
    """Everything that runs on one log."""

    client: Client
    watch: Watch
    handlers: Handlers
    services: list[Service]
    offsets: LogConsumer
    """A member of the gate's group that takes part in nothing and may ask for its offsets."""

    def folded(self, partition: int) -> int:
        """Return up to where the gate has folded a partition and what it said of that is durable."""
        place = TopicPartition(self.client.topics.executions, partition)
        committed = self.offsets.committed([place])[place]
        return committed.offset if committed else 0

    def check(self) -> None:
        """Raise what ended a service, if something did."""
        for service in self.services:
            service.check()


@contextmanager
def staged(settings: StreamSettings) -> Iterator[Stage]:
    """Run a gate, and a task and a plan worker for each of the two queues; stop them at the end."""
    client = Client.open(settings)
    client.create_topics((SIDE_QUEUE,))
    handlers, watch = Handlers(), Watch(client)
    gate = Gate(client.log, client.blobs, settings, GateSettings(poll_ms=10))
    workers = {
        "tasks": _worker(client, settings, NodeKind.TASK, handlers.registry(*TASK_TYPES), ""),
        "plans": _worker(client, settings, NodeKind.PLAN, handlers.registry(), ""),
        "tasks-aside": _worker(client, settings, NodeKind.TASK, handlers.registry("aside"), SIDE_QUEUE),
        "plans-aside": _worker(client, settings, NodeKind.PLAN, handlers.registry(), SIDE_QUEUE),
    }
    services = [_service("watch", watch), _service("gate", gate)]
    services += [_service(name, worker) for name, worker in workers.items()]
    offsets = client.log.consumer(f"{settings.topic_prefix}.gate")
    stage = Stage(client, watch, handlers, services, offsets)
    try:
        for service in services:
            service.start()
        for service in services:
            assert service.ready.wait(30), f"{service.name} is not ready"
        yield stage
    finally:
        try:
            offsets.close()
            stop_all(services, 15)
        finally:
            client.close()


def _worker(
    client: Client, settings: StreamSettings, kind: NodeKind, registry: HandlerRegistry, queue: str
) -> Worker:
    mine = WorkerSettings(queues=(queue,), concurrency=64, idle_wait_s=0.02)
    return Worker(client.log, client.blobs, kind, registry, mine, settings)


def _service(name: str, what: Gate | Worker | Watch) -> Service:
    run: Callable[[threading.Event], None] = what.run
    return Service(name, run, what.ready)
