"""The floors of the house hold, and each outside library has one door."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.house.tree import PACKAGES, ROOT, product_modules
from tests.support import needs_source

DOORS: dict[str, str | tuple[str, ...]] = {
    "confluent_kafka": ("streams/headgate_streams/kafka", "loadtest/headgate_loadtest/bare/"),
    "boto3": "streams/headgate_streams/s3",
    "botocore": "streams/headgate_streams/s3",
    "sqlite3": "streams/headgate_streams/local",
    "cel_expr_python": "graphs/headgate_graphs/conditions",
    "openai": "workers/headgate_workers/",
    "genai_prices": "workers/headgate_workers/",
    "typer": "headgate/command/",
}
"""Library -> beginning of the path of the modules that may import it."""


@cache
def imported(path: Path) -> frozenset[str]:
    """Return the top-level name of everything that a module imports, wherever in the module."""
    return frozenset(_imports(ast.parse(path.read_text())))


def _imports(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.partition(".")[0]


def test_import_contracts_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("library", DOORS)
def test_library_is_imported_behind_its_door_alone(library: str) -> None:
    outside = [
        path.relative_to(ROOT).as_posix()
        for path in product_modules()
        if library in imported(path) and not path.relative_to(ROOT).as_posix().startswith(DOORS[library])
    ]
    assert outside == []


def test_no_folder_at_the_root_is_a_package() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == {"headgate"}


def test_every_package_says_that_it_is_typed() -> None:
    assert [package for package in PACKAGES if not (package / "py.typed").exists()] == []


@needs_source
def test_any_module_of_the_fold_may_be_imported_first() -> None:
    """Its verbs know each other, so an import by name can come back to a module that has only begun."""
    program = """
import importlib, pkgutil, sys
import headgate_guardrails.fold as fold
for module in pkgutil.iter_modules(fold.__path__, f"{fold.__name__}."):
    for name in [one for one in sys.modules if one.startswith("headgate_guardrails")]:
        del sys.modules[name]
    importlib.import_module(module.name)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
