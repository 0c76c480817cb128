"""Records as a gate and workers write them, for tests that have neither."""

from __future__ import annotations

from typing import Any

from headgate.client import Client
from headgate_protos.v1.common_pb2 import ExecutionError, ExecutionHeaders, ResourceUsage, Source
from headgate_protos.v1.control_pb2 import ExecutionEvent, GuardrailViolation
from headgate_protos.v1.execution_pb2 import DeadLetter, ExecutionEnvelope, LifetimeView
from headgate_protos.v1.plan_pb2 import PlanExecution, PlanResult
from headgate_protos.v1.task_pb2 import TaskExecution, TaskInput, TaskResult
from headgate_streams.codec import encode
from headgate_streams.topics import partition_for

TENANT = "default"
COMPLETED, FAILED, RUNNING, PAUSED = 3, 4, 1, 2


def headers(
    node: str = "write", iteration: int = 1, run_id: str = "", status: int = COMPLETED
) -> ExecutionHeaders:
    return ExecutionHeaders(
        execution_id=f"{node}-{iteration}",
        lifetime_id="life",
        graph_id="demo",
        graph_version="1.0.0",
        node_id=node,
        node_kind="NODE_KIND_TASK",
        node_type=node,
        status=status,  # type: ignore[arg-type]
        iteration=iteration,
        attempt=1,
        run_id=run_id or f"run-{node}-{iteration}",
    )


def task_done(
    node: str = "write", iteration: int = 1, *, run_id: str = "", tokens: int = 10, error: str = ""
) -> TaskExecution:
    return TaskExecution(
        tenant_id=TENANT,
        headers=headers(node, iteration, run_id, 4 if error else 3),
        resource_usage=ResourceUsage(tokens_used=tokens, cost_nano_usd=tokens * 1_000_000, latency_ms=50),
        result=TaskResult(
            success=not error, error=ExecutionError(code=error, message="no") if error else None
        ),
    )


def plan_done(
    node: str = "review", iteration: int = 1, next_ids: tuple[str, ...] = ("write",)
) -> PlanExecution:
    return PlanExecution(
        tenant_id=TENANT,
        headers=headers(node, iteration),
        result=PlanResult(success=True, next_task_ids=next_ids),
    )


def task_input(node: str = "write", iteration: int = 1, offset: int = 0) -> TaskInput:
    given = headers(node, iteration, status=1)
    return TaskInput(tenant_id=TENANT, headers=given, source=Source(offset=offset))


def violation() -> GuardrailViolation:
    return GuardrailViolation(
        policy="tight", version=2, rule="run-dollars", scope="POLICY_SCOPE_LIFETIME",
        metric="cost_nano_usd",
        measured=600_000_000, limit=500_000_000, committed=400_000_000, held=0, requested=200_000_000,
        action="pause_lifetime",
    )  # fmt: skip


def view(status: int = RUNNING, offset: int = 0, index: int = 0, **more: Any) -> LifetimeView:
    given: dict[str, Any] = {
        "tenant_id": TENANT,
        "lifetime_id": "life",
        "graph_id": "demo",
        "graph_version": "1.0.0",
    }
    made = LifetimeView(**(given | more), source=Source(offset=offset, index=index))
    made.status = status  # type: ignore[assignment]
    return made


def event(kind: str = "CONTROL_TYPE_PAUSE_LIFETIME", offset: int = 0) -> ExecutionEvent:
    return ExecutionEvent(
        event_id=f"event-{kind}-{offset}", tenant_id=TENANT, lifetime_id="life", type=kind,
        violations=[violation()], source=Source(offset=offset, index=1), reason="too much",
    )  # fmt: skip


def report(client: Client, done: TaskExecution | PlanExecution) -> int:
    field = "task_execution" if isinstance(done, TaskExecution) else "plan_execution"
    envelope = ExecutionEnvelope(tenant_id=TENANT, lifetime_id="life", **{field: done})  # type: ignore[arg-type]
    return client.submit(envelope).offset


def publish(
    client: Client,
    message: ExecutionEvent | LifetimeView | TaskInput | DeadLetter,
    topic: str,
    key: str = TENANT,
) -> None:
    value, headers_ = encode(message, TENANT)
    producer = client.log.producer()
    partition = partition_for(TENANT, client.observer.partitions())
    producer.append(topic, partition, key=key.encode(), value=value, headers=headers_)
    producer.close()


def publish_view(client: Client, message: LifetimeView) -> None:
    publish(client, message, client.topics.lifetimes, f"{TENANT}/{message.lifetime_id}")
