from __future__ import annotations

from pathlib import Path

import pytest

from headgate.handlers import beside, check_handlers, queues_of, registry_of
from headgate_graphs.errors import UserError
from headgate_graphs.model import NodeKind, Task, TaskConfiguration
from tests.unit.headgate.test_client import graph

HANDLERS = """from headgate import Decision, plan, task

@task
def write(ctx): return 1

@plan
def review(ctx): return Decision(next=["end"])
"""


def test_handlers_are_found_beside_a_graph_and_in_its_module(tmp_path: Path) -> None:
    (tmp_path / "graph.yaml").touch()
    assert beside(tmp_path) == beside(tmp_path / "graph.yaml") == [tmp_path]
    (tmp_path / "graph.py").write_text(HANDLERS)
    assert beside(tmp_path) == beside(tmp_path / "graph.py") == [tmp_path, tmp_path / "graph.py"]
    assert registry_of(beside(tmp_path)).get(NodeKind.TASK, "write") is not None


def test_every_node_without_a_handler_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        check_handlers(graph(), registry_of([]), "demo")
    assert "task write is of type write; plan review is of type review" in str(refused.value)
    (tmp_path / "handlers.py").write_text(HANDLERS)
    check_handlers(graph(), registry_of([tmp_path]), "demo")


def test_queues_of_a_graph_are_those_its_nodes_name() -> None:
    queued = Task(id="write", type="write", config=TaskConfiguration(queue="gpu"))
    assert queues_of(graph().model_copy(update={"tasks": (queued,)})) == ("gpu",)
    assert queues_of(graph()) == ()
