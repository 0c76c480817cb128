"""Finds the handlers of a graph, and says which are missing before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from headgate_graphs.errors import UserError
from headgate_graphs.model import AgentGraph, NodeKind
from headgate_workers.handlers import NEVER_DISPATCHED, Handler, HandlerRegistry, handlers_in
from headgate_workers.loading import load_handlers


def registry_of(given: Iterable[Any]) -> HandlerRegistry:
    """Return the handlers of `given` (paths, modules, decorated functions) beside the ready ones.

    Raises UserError for a path without handlers and for two handlers of one type.
    """
    registry = HandlerRegistry()
    add_handlers(registry, given)
    return registry


def add_handlers(registry: HandlerRegistry, given: Iterable[Any]) -> None:
    """Add to a registry what `registry_of` takes."""
    for one in given:
        if isinstance(one, str | Path):
            for handler in _own(load_handlers(Path(one))):
                registry.add(handler)
        elif isinstance(one, ModuleType):
            for handler in handlers_in(one):
                registry.add(handler)
        else:
            registry.add(one)


def _own(registry: HandlerRegistry) -> Iterator[Handler]:
    """Yield the handlers of a registry that are not the ready ones."""
    ready = HandlerRegistry()
    for kind in NodeKind:
        for name in registry.types(kind):
            handler = registry.get(kind, name)
            if handler is not None and handler is not ready.get(kind, name):
                yield handler


def beside(graph: Path) -> list[Path]:
    """Return where the handlers of a graph are: its directory, and the module that holds the graph."""
    directory = graph.parent if graph.is_file() else graph
    module = graph if graph.is_file() else graph / "graph.py"
    return [directory, module] if _has_handlers(module) else [directory]


def _has_handlers(module: Path) -> bool:
    if module.suffix != ".py" or not module.is_file() or module.name == "handlers.py":
        return False
    text = module.read_text(encoding="utf-8", errors="replace")
    return "@task" in text or "@plan" in text


def handler_types(registry: HandlerRegistry, kind: NodeKind) -> list[str]:
    """Return the types that are served, sorted."""
    return registry.types(kind)


def check_handlers(graph: AgentGraph, registry: HandlerRegistry, where: str) -> None:
    """Raise UserError naming every node whose type has no handler."""
    missing = [
        f"{node.kind.value} {node.id} is of type {node.type}"
        for node in graph.nodes.values()
        if node.type not in NEVER_DISPATCHED and registry.get(node.kind, node.type) is None
    ]
    if missing:
        kinds = " and ".join(f"{kind.value}s: {', '.join(registry.types(kind))}" for kind in NodeKind)
        raise UserError(f"{where}: no handler for {'; '.join(missing)} (there are {kinds})")


def queues_of(graph: AgentGraph) -> tuple[str, ...]:
    """Return the named queues that a graph's nodes use, sorted."""
    return tuple(sorted({node.config.queue for node in graph.nodes.values() if node.config.queue}))
