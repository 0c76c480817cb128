"""Contexts for the examples' handlers, and their modules."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.coding_agent import (  # noqa: F401
    handlers,
    issue_read,
    module,
    no_endpoint,
    plan_context,
    recorded,
    repo,
    run,
    shared,
    task_context,
    workspace,
)

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """Return a function that imports a module of an example, under a name that no other example has."""

    def load(name: str, file: str = "handlers") -> ModuleType:
        monkeypatch.syspath_prepend(EXAMPLES / name)
        path = EXAMPLES / name / f"{file}.py"
        spec = importlib.util.spec_from_file_location(f"examples_{name}_{file}", path)
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, loaded)
        spec.loader.exec_module(loaded)
        return loaded

    return load
