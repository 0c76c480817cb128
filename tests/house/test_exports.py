"""Everything that is promised to be importable is there."""

from __future__ import annotations

import importlib

import pytest

from tests.house.tree import module_name, product_modules

PUBLIC = [
    "END",
    "GraphBuilder",
    "AgentGraph",
    "Task",
    "Plan",
    "Edge",
    "load_graph",
    "load_policy",
    "task",
    "plan",
    "TaskContext",
    "PlanContext",
    "Decision",
    "Result",
    "NonRetryable",
    "Client",
    "Headgate",
    "HeadgateError",
    "UserError",
]


@pytest.mark.parametrize("name", PUBLIC)
def test_front_door_offers(name: str) -> None:
    headgate = importlib.import_module("headgate")
    assert hasattr(headgate, name)
    assert name in headgate.__all__


def test_every_module_has_what_it_exports() -> None:
    missing = []
    for path in product_modules():
        if path.stem == "__main__":
            continue
        name = module_name(path)
        module = importlib.import_module(name)
        public = getattr(module, "__all__", ())
        missing += [f"{name}.{one}" for one in public if not hasattr(module, one)]
    assert missing == []
