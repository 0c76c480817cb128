"""Random valid graphs and policies, cheap enough for hundreds of thousands of steps.

A `Sketch` knows by construction which fork each join belongs to, so that the oracle need not find it out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from headgate_graphs.checks import faults
from headgate_graphs.model import AgentGraph
from headgate_guardrails.policy import Policy
from tests.unit.guardrails.properties.routes import JoinShape

FREE_CONDITIONS = ("success", "!success", "iteration < 3")
"""Hold for any result, a person's answer too."""
VALUE_CONDITIONS = ("result.n % 2 == 0", "result.stop", "metadata.kind == 'a'")
"""Look at what a worker gives; on a failed result they cannot be evaluated."""


class Sketch(NamedTuple):
    """A graph and what is known of its joins; `joins` is None when edges were thrown in at random."""

    graph: AgentGraph
    joins: dict[str, JoinShape] | None


class GraphSketcher:
    """Grows one graph: a chain of steps, forks with joins (nested), choices and loops."""

    def __init__(self, rng: random.Random, *, humans: bool, subgraphs: Sequence[str] = ()) -> None:
        self.rng = rng
        self.subgraphs = subgraphs
        self.humans = humans
        self.tasks: dict[str, dict[str, Any]] = {}
        self.plans: dict[str, dict[str, Any]] = {}
        self.edges: dict[tuple[str, str], dict[str, Any]] = {}
        self.joins: dict[str, JoinShape] = {}

    def sketch(self, graph_id: str, version: str, *, wild: bool) -> Sketch:
        while True:
            self.tasks, self.plans, self.edges, self.joins = {}, {}, {}, {}
            entry = self._grow()
            if wild:
                self._throw_edges()
            graph = self._graph(graph_id, version, entry)
            if not faults(graph):
                return Sketch(graph, None if wild else dict(self.joins))

    def _graph(self, graph_id: str, version: str, entry: str) -> AgentGraph:
        rng = self.rng
        return AgentGraph.model_validate(
            {
                "metadata": {"id": graph_id, "version": version, "tags": ["trusted"] * rng.randint(0, 1)},
                "entry": entry,
                "limits": self._limits(),
                "tasks": [{"id": k, **v} for k, v in self.tasks.items()],
                "plans": [{"id": k, **v} for k, v in self.plans.items()],
                "edges": [
                    {"from": s, "to": t, "type": e["type"], "config": e["config"]}
                    for (s, t), e in self.edges.items()
                ],
            }
        )

    def _limits(self) -> dict[str, Any]:
        rng = self.rng
        limits: dict[str, Any] = {
            "max_iterations": rng.choice([2, 3, 5, 8, 20]),
            "max_fan_out": rng.choice([2, 3, 64]),
            "deadline": rng.choice(["1m", "10m", "1h", "3h"]),
        }
        if rng.random() < 0.15:
            limits["max_in_flight"] = rng.choice([1, 3])
        if rng.random() < 0.1:
            limits["max_in_flight_by_type"] = {"work": rng.choice([1, 2])}
        return limits

    def _grow(self) -> str:
        rng = self.rng
        entry = last = self._plan()
        if rng.random() < 0.4:
            entry = self._task()
            self._edge(entry, last)
        last = self._chain(last, rng.randint(1, 3), 0)
        self._edge(last, "end", "final")
        return entry

    def _chain(self, plan: str, length: int, depth: int) -> str:
        """Grow a chain behind `plan` and return the plan at its end; it may loop back within itself."""
        rng = self.rng
        heads: list[str] = []
        for _ in range(length):
            kind = rng.random()
            if kind < 0.35 or depth >= 2:
                plan = self._step(plan, heads)
            elif kind < 0.75:
                plan = self._fork(plan, depth)
            elif kind < 0.9:
                plan = self._task_fork(plan, heads, depth)
            else:
                plan = self._choice(plan, heads)
            if heads and rng.random() < 0.35:
                self._edge(plan, rng.choice(heads))
        return plan

    def _step(self, plan: str, heads: list[str]) -> str:
        task, after = self._task(free=True), self._plan()
        heads.append(task)
        self._edge(plan, task)
        self._edge(task, after)
        if self.rng.random() < 0.1 and self._is_served(task):
            self._edge(task, "end", "final", when="result.stop", priority=1)
        return after

    def _fork(self, plan: str, depth: int) -> str:
        rng = self.rng
        join, feeders = self._plan(), []
        self.plans[join]["config"]["join"] = self._join_terms()
        for number in range(rng.randint(2, 4)):
            head = tail = self._task(free=True)
            self._edge(plan, head, "parallel")
            if rng.random() < 0.3:
                inner = self._plan()
                self._edge(head, inner)
                tail = self._task(free=True)
                self._edge(self._chain(inner, rng.randint(0, 1), depth + 1), tail)
            if number == 0 or rng.random() < 0.85:
                self._deliver(tail, join)
                feeders.append(head)
        self.joins[join] = JoinShape(plan, frozenset(feeders))
        return join

    def _task_fork(self, plan: str, heads: list[str], depth: int) -> str:
        rng = self.rng
        fork, join, feeders = self._task(), self._plan(), []
        self.plans[join]["config"]["join"] = self._join_terms()
        heads.append(fork)
        self._edge(plan, fork)
        for _ in range(rng.randint(2, 3)):
            head, tail = self._plan(), self._task()
            when = rng.choice(FREE_CONDITIONS) if rng.random() < 0.15 else None
            self._edge(fork, head, "parallel", when=when)
            self._edge(self._chain(head, rng.randint(0, 1), depth + 1), tail)
            self._deliver(tail, join)
            feeders.append(head)
        self.joins[join] = JoinShape(fork, frozenset(feeders))
        return join

    def _deliver(self, task: str, join: str) -> None:
        """Lead a branch's last task to its join; now and then it goes on elsewhere as well."""
        rng = self.rng
        conditions = FREE_CONDITIONS + VALUE_CONDITIONS if self._is_served(task) else FREE_CONDITIONS
        when = rng.choice(conditions)
        self._edge(task, join, "join", when=when if rng.random() < 0.1 else None)
        if rng.random() < 0.15:
            aside, end = self._plan(), self._task()
            self._edge(task, aside)
            self._edge(aside, end)

    def _choice(self, plan: str, heads: list[str]) -> str:
        rng = self.rng
        task, after = self._task(), self._plan()
        heads.append(task)
        self._edge(plan, task)
        for number in range(2):
            way, back = self._plan(), self._task()
            when = rng.choice(FREE_CONDITIONS + VALUE_CONDITIONS) if number else None
            self._edge(task, way, when=when, priority=number)
            self._edge(way, back)
            self._edge(back, after)
        return after

    def _throw_edges(self) -> None:
        rng = self.rng
        for _ in range(rng.randint(1, 4)):
            plan, task = rng.choice(list(self.plans)), rng.choice(list(self.tasks))
            if rng.random() < 0.6:
                self._edge(plan, task, rng.choice(["normal", "parallel"]))
            else:
                self._edge(task, plan, rng.choice(["normal", "join", "parallel"]))

    def _edge(
        self, source: str, target: str, type_: str = "normal", *, when: str | None = None, priority: int = 0
    ) -> None:
        config: dict[str, Any] = {"when": when} if when else {}
        if priority:
            config["priority"] = priority
        self.edges.setdefault((source, target), {"type": type_, "config": config})

    def _is_served(self, task: str) -> bool:
        """Whether a worker serves the task, so that its value is one that conditions can look into."""
        return self.tasks[task]["type"] not in ("human", "graph")

    def _join_terms(self) -> dict[str, Any]:
        rng = self.rng
        if rng.random() < 0.55:
            return {}
        terms: dict[str, Any] = {"strategy": rng.choice(["all", "any", "majority", "quorum"])}
        if terms["strategy"] == "quorum":
            terms["min_inputs"] = rng.randint(1, 2)
            if rng.random() < 0.5:
                terms["max_inputs"] = rng.randint(2, 3)
        if rng.random() < 0.4:
            terms["timeout"] = rng.choice(["2s", "1m"])
        if rng.random() < 0.4:
            terms["on_timeout"] = "proceed"
        if rng.random() < 0.3:
            terms["late"] = "record"
        if rng.random() < 0.3:
            terms["cancel_losers"] = True
        return terms

    def _task(self, *, free: bool = False) -> str:
        """Add a task; a `free` one may be served by a person or a sub-graph."""
        name = f"t{len(self.tasks)}"
        roll = self.rng.random() if free else 1.0
        if self.humans and roll < 0.1:
            config = {"timeout": self.rng.choice(["1m", "20m"])}
            if self.rng.random() < 0.3:
                config["reminder"] = "20s"
            self.tasks[name] = {"type": "human", "config": config}
        elif self.subgraphs and 0.1 <= roll < 0.25:
            graph_id = self.rng.choice(list(self.subgraphs))
            self.tasks[name] = {"type": "graph", "config": {"params": {"graph": graph_id}}}
        else:
            type_ = "shell" if self.rng.random() < 0.1 else "work"
            self.tasks[name] = {"type": type_, "config": self._config()}
        return name

    def _plan(self) -> str:
        name = f"p{len(self.plans)}"
        self.plans[name] = {"type": "decide", "config": self._config()}
        return name

    def _config(self) -> dict[str, Any]:
        rng = self.rng
        config: dict[str, Any] = {
            "max_retries": rng.choice([0, 1, 2]),
            "backoff": rng.choice(["0ms", "100ms", "1s"]),
            "max_backoff": "2s",
            "timeout": rng.choice(["5s", "30s", "50s", "2m"]),
        }
        if rng.random() < 0.35:
            config["limits"] = {"tokens_used": rng.choice([10, 50, 100]), "cost_usd": rng.choice([0, "0.05"])}
        if rng.random() < 0.2:
            config["leased"] = rng.random() < 0.7
        if rng.random() < 0.05:
            config["queue"] = "gpu"
        return config


_CONDITIONS = (
    ("lifetime", "sum(tokens_used) > 400"),
    ("lifetime", "count() >= 25"),
    ("lifetime", "!success && attempt > 2"),
    ("execution", "iteration > 6"),
    ("execution", "tokens_used > 90"),
    ("execution", "node.type == 'shell' && !('trusted' in graph.tags)"),
    ("tenant", "sum(cost_usd) > 3.0"),
)
_OTHER_RULES: tuple[dict[str, Any], ...] = (
    {"scope": "lifetime", "no_progress": {"repeats": 2, "of": ["node", "output"], "failures": 3}},
    {"scope": "execution", "deny": {"task_types": ["shell"]}},
    {"scope": "execution", "allow": {"queues": [""]}},
    {"scope": "execution", "deny": {"models": ["m1"]}},
)


def random_policy(rng: random.Random, name: str, version: int, *, capped: bool) -> Policy:
    """Return a policy; a `capped` one has limits only, on what a node can declare."""
    rules = [_rule(rng, f"r{number}", capped=capped) for number in range(rng.randint(1, 4))]
    shadow = not capped and rng.random() < 0.15
    return Policy.model_validate(
        {
            "kind": "GuardrailPolicy",
            "metadata": {"name": name, "version": version},
            "mode": "shadow" if shadow else "enforce",
            "rules": rules,
        }
    )


def _rule(rng: random.Random, name: str, *, capped: bool) -> dict[str, Any]:
    actions = ["reject_execution", "pause_lifetime", "abort_lifetime", "throttle", "warn"]
    action = rng.choice(actions[:3] if capped else actions)
    rule: dict[str, Any] = {"name": name, "action": action}
    roll = 1.0 if capped else rng.random()
    if roll < 0.3:
        rule["scope"], rule["when"] = rng.choice(_CONDITIONS)
    elif roll < 0.45:
        rule |= rng.choice(_OTHER_RULES)
        if "no_progress" in rule and action == "throttle":
            rule["action"] = "warn"
    else:
        scope = rng.choice(["lifetime", "tenant"] if capped else ["execution", "lifetime", "tenant"])
        rule["scope"] = scope
        rule["limit"] = _limit(rng, scope, capped=capped)
        if scope == "tenant" and rng.random() < 0.5:
            rule["window"] = rng.choice(["10s", "1m", "1h"])
            rule["sliding"] = rng.random() < 0.4
    if action == "pause_lifetime" and rng.random() < 0.4:
        rule["pause"] = {"ttl": rng.choice(["1s", "1m"])}
    return rule


def _limit(rng: random.Random, scope: str, *, capped: bool) -> dict[str, Any]:
    if scope == "execution":
        return rng.choice(
            [
                {"tokens_used": 60},
                {"latency_ms": 4_000},
                {"cost_usd": "0.04"},
                {"fan_out": 2},
                {"payload_bytes": 30},
            ]
        )
    wide = 8 if scope == "tenant" else 1
    limits: list[dict[str, Any]] = [
        {"tokens_used": rng.choice([150, 400, 900]) * wide},
        {"cost_usd": str(rng.choice([1, 3]) * wide / 4)},
        {"executions": rng.choice([12, 40]) * wide},
    ]
    if not capped:
        limits += [{"latency_ms": 100_000 * wide}, {"payload_bytes": 900 * wide}]
        if scope == "lifetime":
            limits += [{"iterations": rng.choice([2, 4])}, {"wall_time": "40s"}, {"depth": 0}]
    chosen = rng.sample(limits, rng.randint(1, 2))
    return {metric: cap for limit in chosen for metric, cap in limit.items()}
