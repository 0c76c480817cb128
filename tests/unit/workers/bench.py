"""A real worker thread on an in-memory log, fed as the gate feeds it and read as the gate reads it."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from headgate_graphs.model import NodeKind
from headgate_protos.v1.common_pb2 import ExecutionStatus, Payload, Source
from headgate_protos.v1.control_pb2 import ControlType, ExecutionEvent
from headgate_protos.v1.execution_pb2 import DeadLetter, ExecutionEnvelope
from headgate_protos.v1.plan_pb2 import PlanExecution, PlanInput
from headgate_protos.v1.task_pb2 import TaskExecution, TaskInput
from headgate_streams.blobs import MemoryBlobStore
from headgate_streams.codec import decode, encode
from headgate_streams.local_log import LocalLog
from headgate_streams.payloads import BlobManager
from headgate_streams.port import Committed, TopicPartition
from headgate_streams.settings import MEMORY, StreamSettings
from headgate_streams.topics import Topics, partition_for
from headgate_workers.handlers import HandlerRegistry
from headgate_workers.settings import WorkerSettings
from headgate_workers.worker import Worker
from tests.support import eventually

PARTITIONS = 2
TENANT = "acme"
COMPLETED = ExecutionStatus.EXECUTION_STATUS_COMPLETED
FAILED = ExecutionStatus.EXECUTION_STATUS_FAILED
ABORTED = ExecutionStatus.EXECUTION_STATUS_ABORTED


def registry(*functions: Any) -> HandlerRegistry:
    made = HandlerRegistry()
    for function in functions:
        made.add(function)
    return made


class Bench:
    """One log, one blob store, any number of workers one after another."""

    def __init__(self, inline_limit_bytes: int = 1024) -> None:
        self.streams = StreamSettings.read(
            local=MEMORY, partitions=PARTITIONS, inline_limit_bytes=inline_limit_bytes
        )
        self.topics = Topics(self.streams.topic_prefix)
        self.log = LocalLog(":memory:")
        self.log.create_topics(self.topics.descriptions(PARTITIONS, ["big"]))
        self.blobs = MemoryBlobStore()
        self.manager = BlobManager(self.blobs, inline_limit_bytes, self.streams.max_blob_bytes)
        self.producer = self.log.producer()
        self._numbers = itertools.count(1)

    @contextmanager
    def worker(
        self, handlers: HandlerRegistry, kind: NodeKind = NodeKind.TASK, **settings: Any
    ) -> Iterator[threading.Event]:
        """Run a worker inside the block; yields the event that stops it."""
        made = Worker(
            self.log,
            self.blobs,
            kind,
            handlers,
            WorkerSettings(
                **{"drain_s": 2.0, "cancel_grace_s": 0.3, "commit_interval_s": 0.01, "idle_wait_s": 0.01}
                | settings
            ),
            self.streams,
        )
        self.running = made
        stop = threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                made.run(stop)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run, name="worker-under-test")
        thread.start()
        eventually(lambda: made.ready.is_set() or failures)
        try:
            yield stop
        finally:
            stop.set()
            thread.join(20)
        assert not thread.is_alive()
        if failures:
            raise failures[0]

    def task_input(self, type: str, value: Any = None, **more: Any) -> TaskInput:
        made = TaskInput(tenant_id=TENANT, input_data=self.manager.pack(TENANT, json.dumps(value)))
        self._fill(made, "task", type, more)
        return made

    def plan_input(self, type: str, upstream: list[TaskExecution], **more: Any) -> PlanInput:
        made = PlanInput(tenant_id=TENANT, upstream_task_executions=upstream)
        self._fill(made, "plan", type, more)
        return made

    def _fill(self, made: Any, kind: str, type: str, more: dict[str, Any]) -> None:
        number = next(self._numbers)
        made.headers.execution_id = more.pop("execution_id", f"execution-{number}")
        made.headers.lifetime_id = more.pop("lifetime_id", "lifetime-1")
        made.headers.graph_id = "graph"
        made.headers.node_id = more.pop("node_id", type)
        made.headers.node_kind = 1 if kind == "task" else 2
        made.headers.node_type = type
        made.headers.status = ExecutionStatus.EXECUTION_STATUS_PENDING
        made.headers.iteration = made.headers.attempt = 1
        made.headers.timeout.FromMilliseconds(more.pop("timeout_ms", 20_000))
        made.ticket = b"ticket"
        made.source.CopyFrom(more.pop("source", Source(partition=0, offset=number, index=0)))
        if "start" in more:
            made.start_input.CopyFrom(Payload(json=json.dumps(more.pop("start"))))
        if "params" in more:
            made.params_json = json.dumps(more.pop("params"))
        if "hold_tokens" in more:
            made.hold.tokens_used = more.pop("hold_tokens")
        if more.pop("leased", False):
            made.leased = True
            made.lease.FromMilliseconds(more.pop("lease_ms", 30_000))
            made.start_by.FromMilliseconds(more.pop("start_by_ms", int(time.time() * 1000) + 60_000))
        if "allowed" in more:
            made.allowed_next_ids.extend(more.pop("allowed"))
        assert not more, more

    def give(self, made: TaskInput | PlanInput, queue: str = "", partition: int = 0) -> str:
        """Dispatch as the gate does; return the execution id."""
        topic = (
            self.topics.task_inputs(queue) if isinstance(made, TaskInput) else self.topics.plan_inputs(queue)
        )
        value, headers = encode(made, made.tenant_id)
        self.give_raw(topic, partition, made.headers.execution_id.encode(), value, headers)
        return str(made.headers.execution_id)

    def give_raw(self, topic: str, partition: int, key: bytes, value: bytes, headers: Any) -> None:
        self.producer.append(topic, partition, key=key, value=value, headers=headers)
        self.producer.flush()

    def give_task(self, type: str, value: Any = None, **more: Any) -> str:
        return self.give(self.task_input(type, value, **more))

    def control(self, type: ControlType, **more: Any) -> None:
        """Say what the gate says; it is about what was made before."""
        more.setdefault("source", Source(partition=0, offset=next(self._numbers), index=0))
        event = ExecutionEvent(tenant_id=TENANT, type=type, **more)
        value, headers = encode(event, TENANT)
        partition = partition_for(TENANT, PARTITIONS)
        self.give_raw(self.topics.control_events, partition, TENANT.encode(), value, headers)

    def knows_halt(self, given: TaskInput | PlanInput) -> bool:
        """Whether the running worker has read a control event that concerns this input."""
        return self.running._control.brakes.on(given) is not None

    def abort(self, lifetime_id: str = "lifetime-1", **more: Any) -> None:
        self.control(ControlType.CONTROL_TYPE_ABORT_LIFETIME, lifetime_id=lifetime_id, **more)

    def pause(self, lifetime_id: str = "", **more: Any) -> None:
        self.control(ControlType.CONTROL_TYPE_PAUSE_LIFETIME, lifetime_id=lifetime_id, **more)

    def envelopes(self) -> list[ExecutionEnvelope]:
        return [envelope for _, envelope in self._read(self.topics.executions, ExecutionEnvelope)]

    def letters(self) -> list[DeadLetter]:
        return [letter for _, letter in self._read(self.topics.dead_letters, DeadLetter)]

    def _read(self, topic: str, kind: Any) -> list[tuple[Any, Any]]:
        reader = self.log.reader()
        try:
            ends = self.log.offsets([TopicPartition(topic, p) for p in range(PARTITIONS)])
            reader.assign(dict.fromkeys(ends, 0))
            count = sum(end for _, end in ends.values())
            records: list[Any] = []
            while len(records) < count:
                records += reader.poll(1.0)
            return [(record, decode(record, kind)) for record in records]
        finally:
            reader.close()

    def reports(self, execution_id: str = "") -> list[TaskExecution | PlanExecution]:
        """Return the results in the log, of one execution or of all."""
        found = []
        for envelope in self.envelopes():
            kind = envelope.WhichOneof("payload")
            if kind in ("task_execution", "plan_execution"):
                execution = getattr(envelope, kind)
                if execution_id in ("", execution.headers.execution_id):
                    found.append(execution)
        return found

    def report(self, execution_id: str) -> Any:
        """Wait for the result of an execution."""
        return eventually(lambda: self.reports(execution_id))[0]

    def value(self, execution_id: str) -> Any:
        """Wait for a completed result and return its value."""
        report = self.report(execution_id)
        assert report.headers.status == COMPLETED, report
        kind = report.result.WhichOneof("value")
        if kind == "json_result":
            return json.loads(report.result.json_result)
        return json.loads(self.manager.unpack(TENANT, Payload(blob=report.result.blob_reference)))

    def committed(self, kind: str = "task", partition: int = 0) -> Committed | None:
        topic = self.topics.task_inputs() if kind == "task" else self.topics.plan_inputs()
        place = TopicPartition(topic, partition)
        consumer = self.log.consumer(f"headgate.{kind}-workers")
        try:
            return consumer.committed([place])[place]
        finally:
            consumer.close()

    def committed_offset(self, kind: str = "task") -> int:
        found = self.committed(kind)
        return found.offset if found is not None else 0

    def close(self) -> None:
        self.producer.close()
        self.log.close()
