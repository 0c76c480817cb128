"""Fixtures of the coding agent: its modules as its workers import them, contexts for its handlers."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headgate_protos.v1.common_pb2 import ExecutionHeaders, Payload
from headgate_protos.v1.plan_pb2 import PlanInput
from headgate_protos.v1.task_pb2 import TaskExecution, TaskInput, TaskResult
from headgate_workers.context import PlanContext, TaskContext
from headgate_workers.metering import UsageMeter
from headgate_workers.shared import SharedClients

EXAMPLE = Path(__file__).parents[1] / "examples" / "coding_agent"


@pytest.fixture
def no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "HEADGATE_EXAMPLE_MODEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, no_endpoint: None) -> Callable[[str], ModuleType]:
    """Return a function that imports one of the example's modules; no endpoint is named."""
    monkeypatch.syspath_prepend(EXAMPLE)
    return importlib.import_module


@pytest.fixture
def recorded(module: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A recorded model that the handlers use."""
    server = module("recorded_model").RecordedModel().start()
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def task_context(tmp_path: Path, shared: SharedClients) -> Callable[..., TaskContext]:
    """Return a function that makes the context of a task of run `r1`, tenant `acme`."""

    def make(iteration: int = 1, **start: Any) -> TaskContext:
        start_input = json.dumps({"workdir": str(tmp_path), **start})
        received = TaskInput(
            tenant_id="acme",
            headers=ExecutionHeaders(lifetime_id="r1", node_id="node", iteration=iteration),
            start_input=Payload(json=start_input),
        )
        return TaskContext(received, "run", UsageMeter(), _inline, shared, 60.0)

    return make


@pytest.fixture
def plan_context(tmp_path: Path, shared: SharedClients) -> Callable[..., PlanContext]:
    """Return a function that makes the context of a plan behind the given results, by task id."""

    def make(
        results: dict[str, Any], iteration: int = 1, allowed: Sequence[str] = (), **start: Any
    ) -> PlanContext:
        received = PlanInput(
            tenant_id="acme",
            headers=ExecutionHeaders(lifetime_id="r1", node_id="plan", iteration=iteration),
            allowed_next_ids=allowed,
            start_input=Payload(json=json.dumps({"workdir": str(tmp_path), **start})),
        )
        for node_id, value in results.items():
            execution = TaskExecution(headers=ExecutionHeaders(node_id=node_id))
            execution.result.CopyFrom(_result(value))
            received.upstream_task_executions.append(execution)
        return PlanContext(received, "run", UsageMeter(), _inline, shared, 60.0)

    return make


def _result(value: Any) -> TaskResult:
    if isinstance(value, Exception):
        failed = TaskResult(success=False)
        failed.error.message = str(value)
        return failed
    return TaskResult(success=True, json_result=json.dumps(value))


def _inline(payload: Payload) -> str:
    return payload.json or "null"


@pytest.fixture
def shared() -> SharedClients:
    """Clients that the contexts of one test share; `run` closes them."""
    return SharedClients()


@pytest.fixture
def run(shared: SharedClients) -> Callable[..., Any]:
    """Return what runs an async handler to its end."""

    async def and_close(handler: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await handler
        finally:
            await shared.close()

    return lambda handler: asyncio.run(and_close(handler))


@pytest.fixture
def handlers(module: Callable[[str], ModuleType]) -> ModuleType:
    """The example's handlers."""
    return module("handlers")


@pytest.fixture
def workspace(module: Callable[[str], ModuleType]) -> ModuleType:
    """The example's copies and tests."""
    return module("workspace")


@pytest.fixture
def issue_read(handlers: ModuleType, task_context: Callable[..., TaskContext]) -> Any:
    """What `read_issue` says of the shipped issue, whose repository it has copied."""
    return handlers.read_issue(task_context(), handlers.Request())


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A small repository with a failing test."""
    repo = tmp_path / "repo"
    (repo / "tests").mkdir(parents=True)
    (repo / "lib.py").write_text("def add(a, b):\n    return a - b\n")
    (repo / "tests/test_lib.py").write_text(
        "from lib import add\n\ndef test_add():\n    assert add(2, 3) == 5"
    )
    return repo
