"""The front door of Headgate: everything that a user's code imports, loaded when it is first touched.

`from headgate import task, plan, Headgate` costs only what those names need, so that the command starts fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.client import Client
    from headgate.embedded import Headgate
    from headgate.following import Happening
    from headgate.outcome import Outcome
    from headgate_graphs.builder import GraphBuilder
    from headgate_graphs.errors import GraphInvalid, HeadgateError, NonRetryable, PolicyInvalid, UserError
    from headgate_graphs.ids import END
    from headgate_graphs.loading import load_graph
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
        NodeLimits,
        Plan,
        PlanConfiguration,
        RoutingRule,
        Task,
        TaskConfiguration,
    )
    from headgate_guardrails.policy import Policy, load_policy
    from headgate_workers import Decision, PlanContext, Result, TaskContext, plan, task

__version__ = "0.1.0"

_HOMES = {
    "headgate_graphs.builder": ("GraphBuilder",),
    "headgate_graphs.errors": ("GraphInvalid", "HeadgateError", "NonRetryable", "PolicyInvalid", "UserError"),
    "headgate_graphs.ids": ("END",),
    "headgate_graphs.loading": ("load_graph",),
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
        "NodeLimits",
        "Plan",
        "PlanConfiguration",
        "RoutingRule",
        "Task",
        "TaskConfiguration",
    ),
    "headgate_guardrails.policy": ("Policy", "load_policy"),
    "headgate_workers": ("Decision", "PlanContext", "Result", "TaskContext", "plan", "task"),
    "headgate.client": ("Client",),
    "headgate.embedded": ("Headgate",),
    "headgate.following": ("Happening",),
    "headgate.outcome": ("Outcome",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "END",
    "AgentGraph",
    "AgentLifetime",
    "Client",
    "Decision",
    "Edge",
    "EdgeConfiguration",
    "EdgeKind",
    "GraphBuilder",
    "GraphInvalid",
    "GraphLimits",
    "GraphMetadata",
    "GraphNode",
    "Happening",
    "Headgate",
    "HeadgateError",
    "JoinConfiguration",
    "NodeLimits",
    "NonRetryable",
    "Outcome",
    "Plan",
    "PlanConfiguration",
    "PlanContext",
    "Policy",
    "PolicyInvalid",
    "Result",
    "RoutingRule",
    "Task",
    "TaskConfiguration",
    "TaskContext",
    "UserError",
    "load_graph",
    "load_policy",
    "plan",
    "task",
]


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives, once."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'headgate' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Every public name, loaded or not."""
    return sorted({*globals(), *__all__})
