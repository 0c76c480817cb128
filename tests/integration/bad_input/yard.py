"""One gate and workers on a real broker, at whom anything may be thrown; and a look at what they say."""

from __future__ import annotations

import itertools
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from headgate.client import Client
from headgate.embedding import Service, stop_all
from headgate.reading import partitions_of
from headgate.words import TERMINAL, status_word
from headgate_graphs.errors import BadRecord
from headgate_graphs.model import AgentGraph, NodeKind
from headgate_guardrails.gate import Gate
from headgate_guardrails.policy import Policy
from headgate_guardrails.settings import GateSettings
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1.execution_pb2 import DeadLetter, ExecutionEnvelope, LifetimeStart, LifetimeView
from headgate_protos.v1.plan_pb2 import PlanExecution, PlanInput
from headgate_protos.v1.task_pb2 import TaskExecution, TaskInput
from headgate_streams.codec import decode, encode
from headgate_streams.port import Headers, LogRecord
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import partition_for
from headgate_workers.context import PlanContext, TaskContext
from headgate_workers.handlers import Handler, HandlerRegistry
from headgate_workers.results import Decision
from headgate_workers.secrets import remember_secret
from headgate_workers.settings import WorkerSettings
from headgate_workers.worker import Worker
from tests.support import eventually
from tests.unit.guardrails.graphs_for_tests import graph

PARTITIONS = 2
HOME = 0
"""Every tenant of these tests lives in this partition, so that whoever stalls it stalls all."""
MANUAL = "manual"
"""A queue that no worker serves: the test itself reports what it likes."""
SECRET = "sk-very-secret-indeed"
LARGEST_BYTES = 16_000_000
WAIT_S = 30.0
LINE = [("p1", "t1"), ("t1", "p2"), ("p2", "end", "final")]


def line(*, queue: str = "", entry: str = "p1", **configs: dict[str, Any]) -> AgentGraph:
    """Return p1 -> t1 -> p2 -> end, all of it on one queue."""
    given = {name: dict(configs.get(name, {})) for name in ("p1", "t1", "p2")}
    for config in given.values():
        if queue:
            config["queue"] = queue
        config.setdefault("max_retries", 0)
    return graph(LINE, entry=entry, **given)  # type: ignore[arg-type]


class Handlers:
    """What workers run: a node's params say what is wrong with it."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        """Calls by tenant."""

    def registry(self) -> HandlerRegistry:
        return HandlerRegistry(
            [
                Handler(NodeKind.TASK, "work", self.work),
                Handler(NodeKind.PLAN, "work", self.decide),
            ]
        )

    async def work(self, ctx: TaskContext) -> Any:
        self.calls[ctx.tenant_id] += 1
        match ctx.params.get("does"):
            case "raise":
                raise ValueError(f"\x1b[31mred\nsecond line %s {SECRET} " + "x" * 10_000)
            case "object":
                return object()
            case "deep":
                return _nested(150)
            case "gigabyte":
                return ["x" * 2**20] * 1024
            case "large":
                return "x" * 2**21
            case "nan":
                ctx.usage.add(cost_usd=float("nan"))
            case "negative":
                ctx.usage.add(tokens_used=-1)
            case "read":
                return len(ctx.input)
        return {"zero": 0}

    async def decide(self, ctx: PlanContext) -> Any:
        self.calls[ctx.tenant_id] += 1
        match ctx.params.get("does"):
            case "none":
                return None
            case "flood":
                return Decision([f"t{n}" for n in range(int(ctx.params["count"]))])
            case "elsewhere":
                return Decision(["nowhere"])
        return Decision(ctx.allowed_next[:1])


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


class Watch:
    """Reads what gate and workers write, from the beginning on."""

    def __init__(self, client: Client) -> None:
        topics = client.topics
        self._log = client.log
        self._types: dict[str, Any] = {
            topics.dead_letters: DeadLetter,
            topics.lifetimes: LifetimeView,
            topics.executions: ExecutionEnvelope,
        }
        for queue in ("", MANUAL):
            self._types |= {topics.task_inputs(queue): TaskInput, topics.plan_inputs(queue): PlanInput}
        self.letters: list[DeadLetter] = []
        self.views: dict[tuple[str, str], LifetimeView] = {}
        self.inputs: list[TaskInput | PlanInput] = []
        """What gates dispatched; what the tests wrote has no source and is not here."""
        self.results: list[TaskExecution | PlanExecution] = []
        self.ready = threading.Event()

    def run(self, stop: threading.Event) -> None:
        reader = self._log.reader()
        try:
            reader.assign(dict.fromkeys(partitions_of(self._log, list(self._types)), 0))
            while not stop.is_set():
                for record in reader.poll(0.02):
                    self._keep(record)
                self.ready.set()
        finally:
            reader.close()

    def _keep(self, record: LogRecord) -> None:
        try:
            message: Any = decode(record, self._types[record.topic])
        except BadRecord:
            return
        if isinstance(message, DeadLetter):
            self.letters.append(message)
        elif isinstance(message, LifetimeView):
            known = self.views.get((message.tenant_id, message.lifetime_id))
            if known is None or not (_has_ended(known) and not _has_ended(message)):
                self.views[(message.tenant_id, message.lifetime_id)] = message
        elif isinstance(message, ExecutionEnvelope):
            kind = message.WhichOneof("payload")
            if kind in ("task_execution", "plan_execution"):
                self.results.append(getattr(message, kind))
        elif message.HasField("source"):
            self.inputs.append(message)


def _has_ended(view: LifetimeView) -> bool:
    return status_word(view.status) in TERMINAL


@dataclass
class Yard:
    """Everything that runs, and how to throw things at it."""

    client: Client
    watch: Watch
    handlers: Handlers
    services: list[Service]
    blobs: Path
    large: Any
    """A producer that takes records of any size."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    # -- what is thrown ------------------------------------------------------------------------------

    def tenant(self) -> str:
        """Return a tenant that nobody has used, who lives in HOME."""
        while True:
            name = f"tenant-{uuid.uuid4().hex[:8]}"
            if partition_for(name, PARTITIONS) == HOME:
                return name

    def raw(
        self,
        topic: str,
        value: bytes | None,
        headers: Headers,
        key: bytes | None,
        partition: int = HOME,
    ) -> tuple[str, int, int]:
        """Append whatever is given; return where it landed."""
        landed: list[Any] = []
        self.large.append(topic, partition, key=key, value=value, headers=headers, on_delivery=landed.append)
        self.large.flush()
        assert landed[0].error is None, landed[0].error
        return topic, landed[0].partition, landed[0].offset

    def envelope(self, tenant: str, lifetime: str = "", **payload: Any) -> tuple[str, int, int]:
        """Append an envelope, sound or not, with headers that fit it."""
        made = ExecutionEnvelope(
            envelope_id=uuid.uuid4().hex, tenant_id=tenant, lifetime_id=lifetime, **payload
        )
        value, headers = encode(made, tenant)
        return self.raw(self.client.topics.executions, value, headers, tenant.encode())

    def start(self, tenant: str, lifetime: str = "run", data: Any = None, graph_id: str = "g") -> Any:
        start = LifetimeStart(graph_id=graph_id, input=pb.Payload(json=json.dumps(data)))
        start.issued_at.GetCurrentTime()
        return self.envelope(tenant, lifetime, lifetime_start=start)

    def register(self, tenant: str, definition: AgentGraph, *policies: Policy) -> None:
        self.client.register_graph(definition.for_tenant(tenant))
        for policy in policies:
            self.client.apply_policy(policy, tenant)

    def run(self, definition: AgentGraph, *policies: Policy, data: Any = None) -> tuple[str, LifetimeView]:
        """Run a graph for a new tenant; return the tenant and the last view."""
        tenant = self.tenant()
        self.register(tenant, definition, *policies)
        self.start(tenant, data=data)
        return tenant, self.ended(tenant)

    def report(self, given: Any, *, run_id: str = "", **more: Any) -> tuple[str, int, int]:
        """Report on an input as a worker of the manual queue, with whatever is given."""
        is_plan = isinstance(given, PlanInput)
        made: Any = (PlanExecution if is_plan else TaskExecution)(
            tenant_id=given.tenant_id, ticket=given.ticket
        )
        made.headers.CopyFrom(given.headers)
        made.headers.run_id = run_id or uuid.uuid4().hex
        made.headers.status = pb.EXECUTION_STATUS_COMPLETED
        made.result.success = True
        made.resource_usage.CopyFrom(more.pop("usage", pb.ResourceUsage()))
        if "next_ids" in more:
            made.result.next_task_ids.extend(more.pop("next_ids"))
        if "blob" in more:
            made.result.blob_reference.CopyFrom(more.pop("blob"))
        else:
            made.result.json_result = more.pop("json", "null")
        for name, value in more.items():
            setattr(made.headers, name, value)
        kind = "plan_execution" if is_plan else "task_execution"
        return self.envelope(given.tenant_id, given.headers.lifetime_id, **{kind: made})

    # -- what comes of it ----------------------------------------------------------------------------

    def letter(self, place: tuple[str, int, int]) -> DeadLetter:
        """Wait for the letter about a record."""
        return eventually(lambda: self.letters_about(place), timeout_s=WAIT_S)[0]

    def letters_about(self, place: tuple[str, int, int]) -> list[DeadLetter]:
        return [one for one in self.watch.letters if (one.topic, one.partition, one.offset) == place]

    def view(self, tenant: str, lifetime: str = "run") -> LifetimeView | None:
        return self.watch.views.get((tenant, lifetime))

    def ended(self, tenant: str, lifetime: str = "run") -> LifetimeView:
        """Wait for a lifetime's end."""

        def has_ended() -> LifetimeView | None:
            self.check()
            view = self.view(tenant, lifetime)
            return view if view is not None and _has_ended(view) else None

        found = eventually(has_ended, timeout_s=WAIT_S)
        assert found is not None
        return found

    def status(self, tenant: str, status: str, lifetime: str = "run") -> LifetimeView:
        """Wait until a lifetime has this status."""

        def has_it() -> LifetimeView | None:
            self.check()
            view = self.view(tenant, lifetime)
            return view if view is not None and status_word(view.status) == status else None

        found = eventually(has_it, timeout_s=WAIT_S)
        assert found is not None
        return found

    def inputs(self, tenant: str, node: str = "") -> list[Any]:
        """Return what was dispatched for a tenant, repeats left out."""
        seen = {}
        for one in self.watch.inputs:
            if one.tenant_id == tenant and node in ("", one.headers.node_id):
                seen[one.headers.execution_id] = one
        return list(seen.values())

    def input(self, tenant: str, node: str) -> Any:
        """Wait for the first input of a node."""

        def dispatched() -> list[Any]:
            self.check()
            return self.inputs(tenant, node)

        return eventually(dispatched, timeout_s=WAIT_S)[0]

    def others_go_on(self) -> float:
        """Run one lifetime of another tenant in the same partition; return how many seconds it took."""
        began = time.monotonic()
        lifetime = f"canary-{next(self._numbers)}"
        self.start(self.canary, lifetime)
        view = self.ended(self.canary, lifetime)
        assert status_word(view.status) == "completed", view
        return time.monotonic() - began

    def place(self, environment: pytest.MonkeyPatch) -> list[str]:
        """Return the options with which a command works on this log."""
        settings = self.client.settings
        environment.setenv("HEADGATE_TOPIC_PREFIX", settings.topic_prefix)
        environment.setenv("HEADGATE_PARTITIONS", str(settings.partitions))
        return ["--kafka", str(settings.kafka)]

    def check(self) -> None:
        """Raise what ended the gate or a worker."""
        for service in self.services:
            service.check()

    def __post_init__(self) -> None:
        self.canary = self.tenant()
        self.register(self.canary, line())


@contextmanager
def yard_on(bootstrap: str, prefix: str, folder: Path) -> Iterator[Yard]:
    """Run a gate, a task and a plan worker on one log; stop them at the end."""
    settings = StreamSettings(
        kafka=bootstrap,
        local=folder / "log",
        topic_prefix=prefix,
        partitions=PARTITIONS,
        blob_url=f"file://{folder}/blobs",
    )
    client = Client.open(settings)
    client.create_topics((MANUAL,))
    _allow_large_records(bootstrap, [client.topics.executions, client.topics.task_inputs()])
    handlers, watch = Handlers(), Watch(client)
    remember_secret(SECRET)
    mine = WorkerSettings(concurrency=16, idle_wait_s=0.01)
    gate = Gate(client.log, client.blobs, settings, GateSettings(poll_ms=10))
    workers = [
        Worker(client.log, client.blobs, kind, handlers.registry(), mine, settings)
        for kind in (NodeKind.TASK, NodeKind.PLAN)
    ]
    services = [
        Service("watch", watch.run, watch.ready),
        Service("gate", gate.run, gate.ready),
        *(Service(f"worker-{n}", worker.run, worker.ready) for n, worker in enumerate(workers)),
    ]
    large = Client.open(
        settings.model_copy(update={"kafka_options": {"message.max.bytes": str(LARGEST_BYTES)}})
    )
    producer = large.log.producer()
    try:
        for service in services:
            service.start()
        for service in services:
            assert service.ready.wait(60), f"{service.name} is not ready"
        yield Yard(client, watch, handlers, services, folder / "blobs", producer)
    finally:
        producer.close()
        try:
            stop_all(services, 20)
        finally:
            large.close()
            client.close()


def _allow_large_records(bootstrap: str, topics: list[str]) -> None:
    """Let the broker take what no sound client would send."""
    entry = ConfigEntry("max.message.bytes", str(LARGEST_BYTES), incremental_operation=AlterConfigOpType.SET)
    resources = [ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry]) for name in topics]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.incremental_alter_configs(resources).values():
        future.result(timeout=30)
