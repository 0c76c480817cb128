"""What the parts of a graph are called in lines for people. Called by `builder` and `diff`. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from headgate_graphs.documents import Path, show_path
from headgate_graphs.model import AgentGraph, Edge, Plan, Task


def name_of(part: Task | Plan | Edge) -> str:
    """Return "task search", "plan decide" or "edge search -> decide"."""
    if isinstance(part, Edge):
        return f"edge {part.source} -> {part.target}"
    return f"{part.kind.value} {part.id}"


def named(graph: AgentGraph, path: Path) -> str:
    """Return `path` with the part's own name for its number, such as "task search: config.timeout"."""
    lists: dict[str | int, Sequence[Task | Plan | Edge]]
    lists = {"tasks": graph.tasks, "plans": graph.plans, "edges": graph.edges}
    match path:
        case (str(key), int(number), *within) if key in lists:
            name = name_of(lists[key][number])
            return f"{name}: {show_path(within)}" if within else name
    return show_path(path) or "graph"
