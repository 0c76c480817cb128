"""What a graph means: definitions, their loading and checks, conditions, and the pure verbs of progress.

Names are imported when they are first touched: a reader of `errors` pays for no YAML, pydantic or CEL.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate_graphs.builder import GraphBuilder
    from headgate_graphs.checks import Fault, faults
    from headgate_graphs.conditions import Condition, ConditionFailed, ConditionInvalid, Environment
    from headgate_graphs.diff import Change, diff
    from headgate_graphs.dot.writing import to_dot
    from headgate_graphs.errors import GraphInvalid, HeadgateError, PolicyInvalid, UserError
    from headgate_graphs.export import to_mermaid
    from headgate_graphs.ids import END
    from headgate_graphs.loading import checked, dump_yaml, graph_from_json, load_graph
    from headgate_graphs.model import (
        AgentGraph,
        AgentLifetime,
        Edge,
        EdgeConfiguration,
        EdgeKind,
        GraphLimits,
        GraphMetadata,
        GraphNode,
        JoinConfiguration,
        NodeConfiguration,
        NodeKind,
        NodeLimits,
        Plan,
        PlanConfiguration,
        RoutingRule,
        Task,
        TaskConfiguration,
    )
    from headgate_graphs.schema import graph_json_schema

_HOMES = {
    "headgate_graphs.builder": ("GraphBuilder",),
    "headgate_graphs.checks": (
        "Fault",
        "faults",
    ),
    "headgate_graphs.conditions": (
        "Condition",
        "ConditionFailed",
        "ConditionInvalid",
        "Environment",
    ),
    "headgate_graphs.diff": (
        "Change",
        "diff",
    ),
    "headgate_graphs.dot.writing": ("to_dot",),
    "headgate_graphs.errors": (
        "GraphInvalid",
        "HeadgateError",
        "PolicyInvalid",
        "UserError",
    ),
    "headgate_graphs.export": ("to_mermaid",),
    "headgate_graphs.ids": ("END",),
    "headgate_graphs.loading": (
        "checked",
        "dump_yaml",
        "graph_from_json",
        "load_graph",
    ),
    "headgate_graphs.model": (
        "AgentGraph",
        "AgentLifetime",
        "Edge",
        "EdgeConfiguration",
        "EdgeKind",
        "GraphLimits",
        "GraphMetadata",
        "GraphNode",
        "JoinConfiguration",
        "NodeConfiguration",
        "NodeKind",
        "NodeLimits",
        "Plan",
        "PlanConfiguration",
        "RoutingRule",
        "Task",
        "TaskConfiguration",
    ),
    "headgate_graphs.schema": ("graph_json_schema",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "END",
    "AgentGraph",
    "AgentLifetime",
    "Change",
    "Condition",
    "ConditionFailed",
    "ConditionInvalid",
    "Edge",
    "EdgeConfiguration",
    "EdgeKind",
    "Environment",
    "Fault",
    "GraphBuilder",
    "GraphInvalid",
    "GraphLimits",
    "GraphMetadata",
    "GraphNode",
    "HeadgateError",
    "JoinConfiguration",
    "NodeConfiguration",
    "NodeKind",
    "NodeLimits",
    "Plan",
    "PlanConfiguration",
    "PolicyInvalid",
    "RoutingRule",
    "Task",
    "TaskConfiguration",
    "UserError",
    "checked",
    "diff",
    "dump_yaml",
    "faults",
    "graph_from_json",
    "graph_json_schema",
    "load_graph",
    "to_dot",
    "to_mermaid",
]


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives, once."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'headgate_graphs' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Every public name, loaded or not."""
    return sorted({*globals(), *__all__})
