"""A small log in which much happens, and what a gate says of it: tests take it and change one thing."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from headgate_graphs.model import AgentGraph
from headgate_guardrails.fold.engine import GuardrailEngine, Surroundings
from headgate_guardrails.fold.quarantine import Hold
from headgate_guardrails.fold.snapshot import digest
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.policy import Policy
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, execution_pb2, plan_pb2, state_pb2, task_pb2
from headgate_streams.codec import encode
from headgate_streams.port import Headers, LogRecord
from tests.unit.resilience.check.topics_in_memory import MemoryTopics

BEGIN_MS = 1_700_000_000_000
GRACE_MS = 300_000
LIMITS = {"tokens_used": 100, "cost_usd": "0.10"}

Input = task_pb2.TaskInput | plan_pb2.PlanInput


def graph_of(*edges: tuple[str, str, str], **configs: dict[str, Any]) -> AgentGraph:
    """Return a graph of (from, to, type); nodes named t… are tasks."""
    names = dict.fromkeys(name for source, target, _ in edges for name in (source, target) if name != "end")
    nodes = [{"id": name, "type": configs.get(name, {}).pop("type", "work")} for name in names]
    for node in nodes:
        node["config"] = configs.get(node["id"], {})
    return AgentGraph.model_validate(
        {
            "metadata": {"id": "g", "version": "1.0.0", "tenant_id": "acme"},
            "entry": edges[0][0],
            "limits": {"max_iterations": 5, "max_fan_out": 4},
            "tasks": [node for node in nodes if node["id"].startswith("t")],
            "plans": [node for node in nodes if not node["id"].startswith("t")],
            "edges": [{"from": source, "to": target, "type": kind} for source, target, kind in edges],
        }
    )


LOOP = graph_of(
    ("p", "t", "normal"), ("t", "p", "normal"), ("p", "end", "final"), t={"limits": LIMITS, "leased": False}
)
"""A plan and a task, round and round."""
FORK = graph_of(
    ("p", "ta", "parallel"),
    ("p", "tb", "parallel"),
    ("ta", "j", "join"),
    ("tb", "j", "join"),
    ("j", "end", "final"),
)
"""Two branches that join."""


class Story:
    """A log of one partition that is written and folded as it grows."""

    def __init__(self, *holds: Hold) -> None:
        """Begin; `holds` says at which records tenants are quarantined."""
        self.topics = MemoryTopics(1)
        means = Surroundings(missed=lambda _, first, end: self.log[first:end])
        self.engine = GuardrailEngine(PartitionState(0, 1), means, holds, range(0))
        self.clock = BEGIN_MS
        self.waiting: deque[Input] = deque()
        self.serial = 0

    @property
    def log(self) -> list[LogRecord]:
        return self.topics.records[self.topics.topics.executions][0]

    def append(self, tenant: str, lifetime: str = "", **payload: Any) -> LogRecord:
        self.serial += 1
        envelope = execution_pb2.ExecutionEnvelope(
            envelope_id=str(self.serial), tenant_id=tenant, lifetime_id=lifetime, **payload
        )
        value, headers = encode(envelope, tenant)
        return self.write(tenant.encode(), value, headers)

    def write(self, key: bytes | None, value: bytes | None, headers: Headers) -> LogRecord:
        self.clock += 1
        topic = self.topics.topics.executions
        record = self.topics.append(topic, key, value, headers, timestamp_ms=self.clock)
        for output in self.engine.apply(record):
            self.topics.say(output)
            if output.topic.endswith("inputs"):
                self.waiting.append(output.message)
        return record

    def register(self, graph: AgentGraph, tenant: str = "acme") -> None:
        owned = graph.for_tenant(tenant)
        metadata = owned.metadata
        given = execution_pb2.GraphRegistered(
            graph_id=metadata.id, version=metadata.version, definition_json=owned.canonical_json()
        )
        self.append(tenant, graph_registered=given)

    def set_policy(self, *rules: dict[str, Any], tenant: str = "acme") -> None:
        import hashlib

        document = {"kind": "GuardrailPolicy", "metadata": {"name": "caps", "version": 1}, "rules": rules}
        text = Policy.model_validate(document).canonical_json()
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        given = execution_pb2.PolicySet(name="caps", version=1, document_json=text, sha256=sha256)
        self.append(tenant, policy_set=given)

    def start(self, lifetime: str = "run", tenant: str = "acme", value: Any = "x") -> None:
        start = execution_pb2.LifetimeStart(graph_id="g")
        start.input.json = json.dumps(value)
        start.issued_at.FromMilliseconds(self.clock)
        self.append(tenant, lifetime, lifetime_start=start)

    def order(self, lifetime: str = "run", tenant: str = "acme", **order: Any) -> None:
        command = control_pb2.OperatorCommand(command_id=f"c{self.serial}", **order)
        self.append(tenant, lifetime, command=command)

    def report(self, given: Input, *next_ids: str, run: str = "", **more: Any) -> LogRecord:
        """Append the result of an input."""
        is_plan = isinstance(given, plan_pb2.PlanInput)
        execution: Any = (plan_pb2.PlanExecution if is_plan else task_pb2.TaskExecution)(
            tenant_id=given.tenant_id
        )
        execution.headers.CopyFrom(given.headers)
        execution.headers.status = pb.EXECUTION_STATUS_COMPLETED
        execution.headers.run_id = run or f"run-of-{given.headers.execution_id[:16]}"
        execution.resource_usage.tokens_used = more.get("tokens", 50)
        execution.resource_usage.cost_nano_usd = 1_000
        execution.resource_usage.latency_ms = 3
        execution.result.success = more.get("success", True)
        if "blob" in more:
            execution.result.blob_reference.CopyFrom(more["blob"])
        else:
            execution.result.json_result = more.get("value", '"done"')
        if is_plan:
            execution.result.next_task_ids.extend(next_ids)
        payload = {"plan_execution" if is_plan else "task_execution": execution}
        return self.append(given.tenant_id, given.headers.lifetime_id, **payload)

    def work(self, decide: Callable[[Input], Sequence[str]]) -> None:
        """Report on everything that is dispatched, until nothing is."""
        while self.waiting:
            given = self.waiting.popleft()
            self.report(given, *(decide(given) if isinstance(given, plan_pb2.PlanInput) else ()))

    def wait(self, ms: int = 2 * GRACE_MS) -> None:
        """Let time pass."""
        self.clock += ms
        self.append("*", tick=execution_pb2.Tick())

    def checkpoint(self, wrong: bool = False) -> None:
        """Say that there is a checkpoint of now."""
        pointer = state_pb2.CheckpointPointer(
            topic=self.topics.topics.executions,
            partition=0,
            next_offset=len(self.log),
            digest="0" * 64 if wrong else digest(self.engine.state),
        )
        value, headers = encode(pointer, "*")
        self.topics.append(self.topics.topics.checkpoints, b"*/x", value, headers)


def rounds(count: int) -> Callable[[Input], Sequence[str]]:
    """Return a plan that asks for `t` so many times."""
    return lambda given: ["t"] if given.headers.iteration <= count else ["end"]


def loop_story(count: int = 2, tenant: str = "acme") -> Story:
    """Return a loop that has come to its end."""
    story = Story()
    story.register(LOOP, tenant)
    story.start(tenant=tenant)
    story.work(rounds(count))
    return story


def fork_story(**config: Any) -> Story:
    """Return a fork whose inputs wait for their workers: the first plan has been decided."""
    story = Story()
    edges = [(edge.source, edge.target, edge.type.value) for edge in FORK.edges]
    story.register(graph_of(*edges, j={"join": config}) if config else FORK)
    story.start()
    story.report(story.waiting.popleft(), "ta", "tb")
    return story
