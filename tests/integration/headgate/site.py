"""An installation in small: a log, workers in this process that count their calls, gates as processes."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

from headgate.client import Client
from headgate.command.main import main
from headgate.embedding import Service, stop_all, worker_service
from headgate.reading import partitions_of, read_to_now
from headgate.settings import open_settings
from headgate_graphs.loading import load_graph
from headgate_graphs.model import NodeKind
from headgate_guardrails.fold.engine import GuardrailEngine
from headgate_guardrails.fold.quarantine import Hold, HoldNeeded
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.folding import surroundings
from headgate_protos.v1.control_pb2 import ExecutionEvent
from headgate_protos.v1.execution_pb2 import DeadLetter, LifetimeView
from headgate_protos.v1.plan_pb2 import PlanInput
from headgate_protos.v1.task_pb2 import TaskInput
from headgate_streams.codec import decode
from headgate_streams.port import LogRecord
from headgate_streams.topics import partition_for
from headgate_workers.context import TaskContext
from headgate_workers.handlers import Handler, HandlerRegistry
from tests.e2e.command_line import Process, running
from tests.support import eventually

PARTITIONS = 2
GRAPH = """apiVersion: headgate/v1
kind: AgentGraph
metadata: {id: errand, version: 1.0.0}
entry: go
tasks:
  - {id: go, type: count}
  - {id: return, type: count}
plans:
  - {id: turn, type: rules, config: {default: [return]}}
  - {id: arrive, type: rules, config: {default: [end]}}
edges:
  - {from: go, to: turn}
  - {from: turn, to: return}
  - {from: return, to: arrive}
  - {from: arrive, to: end, type: final}
"""
"""Two tasks, one after the other."""
ONE, OTHER = [name for name in (f"tenant-{n}" for n in range(20)) if partition_for(name, PARTITIONS) == 0][:2]
"""Two tenants who share a partition."""
LONG_S = 30.0
"""For what a gate does after another was killed: on Kafka its partitions move six seconds later."""


class Site:
    """One log with a graph of two tenants; everything a test does to it and sees of it."""

    def __init__(self, home: Path, variables: dict[str, str]) -> None:
        self.home = home
        self.variables = {"HEADGATE_PARTITIONS": str(PARTITIONS), "HEADGATE_LOCAL": str(home / "log")}
        self.variables |= {"HEADGATE_BLOB_URL": f"file://{home}/blobs", **variables}
        with mock.patch.dict(os.environ, self.variables):
            self.settings = open_settings({})
        self.client = Client.open(self.settings)
        self.client.create_topics()
        self.calls: Counter[tuple[str, str, str]] = Counter()
        """Times each (tenant, lifetime, node) was run by a handler."""
        self._services: list[Service] = []
        (home / "graph.yaml").write_text(GRAPH)

    def close(self) -> None:
        stop_all(self._services, 20.0)
        self.client.close()

    # -- processes and commands ------------------------------------------------------------------------

    @contextmanager
    def gate(self, **variables: str) -> Iterator[Process]:
        arguments = ("gate", "--checkpoint-every", "0.5")
        with running(*arguments, cwd=self.home, **self.variables, **variables) as process:
            yield process

    def workers(self) -> None:
        registry = HandlerRegistry([Handler(NodeKind.TASK, "count", self._count)])
        for kind in (NodeKind.TASK, NodeKind.PLAN):
            service = worker_service(self.client, self.settings, kind, registry)
            service.start()
            self._services.append(service)

    async def _count(self, ctx: TaskContext) -> str:
        headers = ctx._received.headers
        self.calls[ctx._received.tenant_id, headers.lifetime_id, headers.node_id] += 1
        return headers.node_id

    def command(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """Run the command in this process; return (exit code, stdout, stderr)."""
        out, err = io.StringIO(), io.StringIO()
        given = self.variables | variables
        with mock.patch.dict(os.environ, given), redirect_stdout(out), redirect_stderr(err):
            code = main([*arguments])
        return code, out.getvalue(), err.getvalue()

    # -- runs ------------------------------------------------------------------------------------------

    def register(self, *tenants: str) -> None:
        for tenant in tenants:
            self.client.register_graph(load_graph(self.home).for_tenant(tenant))

    def start(self, tenant: str, *lifetimes: str) -> None:
        for lifetime in lifetimes:
            self.client.start("errand", {"to": "the shop"}, tenant=tenant, lifetime_id=lifetime)

    def complete(self, tenant: str, *lifetimes: str) -> None:
        """Wait until these runs have completed, each task run once."""
        for lifetime in lifetimes:
            outcome = self.client.wait(tenant, lifetime, LONG_S)
            assert outcome.status == "completed", (lifetime, outcome)
            ran = {node: self.calls[tenant, lifetime, node] for node in ("go", "return")}
            assert ran == {"go": 1, "return": 1}, lifetime

    # -- what is on the log ----------------------------------------------------------------------------

    def records(self, topic: str) -> list[LogRecord]:
        return list(read_to_now(self.client.log, partitions_of(self.client.log, [topic])))

    def messages(self, topic: str, kind: Any) -> list[Any]:
        return [decode(record, kind) for record in self.records(topic)]

    def letters(self) -> list[str]:
        return [one.reason for one in self.messages(self.client.topics.dead_letters, DeadLetter)]

    def letter(self, reason: str) -> None:
        """Wait for a dead letter."""
        eventually(lambda: reason in self.letters(), LONG_S, 0.1)

    def append(self, record: LogRecord) -> None:
        """Write a record's bytes to the log again."""
        producer = self.client.log.producer()
        where = (self.client.topics.executions, record.partition)
        producer.append(*where, key=record.key, value=record.value, headers=record.headers)
        producer.close()

    def check_said(self) -> None:
        """Fold the whole log anew: the gates have said that, byte for byte, no more and no less."""
        topics = self.client.topics
        said = self._fold()
        for kind, topic, message in (
            ("task-inputs", topics.task_inputs(), TaskInput),
            ("plan-inputs", topics.plan_inputs(), PlanInput),
            ("lifetimes", topics.lifetimes, LifetimeView),
            ("control-events", topics.control_events, ExecutionEvent),
            ("dead-letters", topics.dead_letters, DeadLetter),
        ):
            written = {_bytes(one) for one in self.messages(topic, message)}
            assert written == said.get(kind, set()), kind

    def _fold(self) -> dict[str, set[bytes]]:
        holds: list[Hold] = []
        for _ in range(10):  # each round holds one tenant more, as the log says
            try:
                return self._fold_with(holds)
            except HoldNeeded as needed:
                holds.append(needed.hold)
        raise AssertionError(f"held again and again: {holds}")

    def _fold_with(self, holds: list[Hold]) -> dict[str, set[bytes]]:
        topic = self.client.topics.executions
        means = surroundings(self.client.log, topic, self.settings)
        states = [PartitionState(number, PARTITIONS) for number in range(PARTITIONS)]
        engines = [GuardrailEngine(state, means, holds if not state.partition else ()) for state in states]
        said: dict[str, set[bytes]] = {}
        for record in self.records(topic):
            for output in engines[record.partition].apply(record):
                said.setdefault(output.topic, set()).add(_bytes(output.message))
        return said


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))
