"""Small graphs that the fold is tried on."""

from __future__ import annotations

from typing import Any

from headgate_graphs.model import AgentGraph
from headgate_guardrails.policy import Policy


def graph(
    edges: list[tuple[str, ...]],
    *,
    entry: str,
    limits: dict[str, Any] | None = None,
    **configs: dict[str, Any],
) -> AgentGraph:
    """Nodes are named t… (tasks) and p… (plans); an edge is (from, to, type="normal", when="")."""
    names = list(dict.fromkeys([entry, *(name for edge in edges for name in edge[:2] if name != "end")]))

    def node(name: str) -> dict[str, Any]:
        config = dict(configs.get(name, {}))
        return {"id": name, "type": config.pop("type", "work"), "config": config}

    return AgentGraph.model_validate(
        {
            "metadata": {"id": "g", "version": "1.0.0"},
            "entry": entry,
            "limits": limits or {},
            "tasks": [node(n) for n in names if n.startswith("t")],
            "plans": [node(n) for n in names if n.startswith("p")],
            "edges": [
                {
                    "from": edge[0],
                    "to": edge[1],
                    "type": edge[2] if len(edge) > 2 else "normal",
                    "config": {"when": edge[3]} if len(edge) > 3 else {},
                }
                for edge in edges
            ],
        }
    )


LINE = graph([("p1", "t1"), ("t1", "p2"), ("p2", "end", "final")], entry="p1")
LOOP = graph([("p1", "t1"), ("t1", "p1"), ("p1", "end", "final")], entry="p1", limits={"max_iterations": 5})
FORK = graph(
    [
        ("p1", "ta", "parallel"),
        ("p1", "tb", "parallel"),
        ("p1", "tc", "parallel"),
        ("ta", "p2", "join"),
        ("tb", "p2", "join"),
        ("tc", "p2", "join"),
        ("p2", "tz"),
        ("tz", "p1"),
        ("p2", "end", "final"),
    ],
    entry="p1",
)
PAID = graph(
    [("p1", "t1"), ("t1", "p1"), ("p1", "end", "final")],
    entry="p1",
    t1={"limits": {"tokens_used": 100, "cost_usd": "0.10"}, "max_retries": 0},
)


def policy(*rules: dict[str, Any], name: str = "caps", version: int = 1, mode: str = "enforce") -> Policy:
    return Policy.model_validate(
        {
            "kind": "GuardrailPolicy",
            "metadata": {"name": name, "version": version},
            "mode": mode,
            "rules": list(rules),
        }
    )


def rule(
    name: str = "r", scope: str = "lifetime", action: str = "abort_lifetime", **more: Any
) -> dict[str, Any]:
    return {"name": name, "scope": scope, "action": action, **more}
