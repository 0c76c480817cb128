"""A graph as its JSON says it: caps, edges, joins and their forks. Shares nothing with the fold."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Any, Final, NamedTuple

Hold = tuple[int, int]
"""Tokens and nano-USD."""
NOBODY: Final = ("human", "graph")
"""Types of tasks that are dispatched to no worker."""
_UNITS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


class Fork(NamedTuple):
    """The node whose parallel branches a join gathers, and those of its branches that feed it."""

    node: str
    feeders: frozenset[str]


class Terms(NamedTuple):
    """When a join goes on."""

    strategy: str
    least: int
    most: int
    proceeds: bool
    """Whether it goes on with too few when nothing more comes in time."""
    cancels: bool

    def fault(self, branches: int, inputs: int, good: int) -> str:
        """Return why it may not go on with so many inputs, so many of them good; empty when it may."""
        if inputs == branches or (self.proceeds and inputs):
            return ""
        wanted = {
            "any": 1,
            "majority": branches // 2 + 1,
            "quorum": min(self.least, branches),
        }.get(self.strategy, branches + 1)
        if good >= wanted:
            return ""
        return f"{inputs} inputs of {branches} branches, {good} of them good, for strategy {self.strategy}"


class Shape:
    """One graph version."""

    def __init__(self, definition_json: str) -> None:
        document = json.loads(definition_json)
        limits = document.get("limits", {})
        tasks, plans = document.get("tasks", ()), document.get("plans", ())
        self.entry: str = document["entry"]
        self.max_iterations: int = limits.get("max_iterations", 100)
        self.max_fan_out: int = limits.get("max_fan_out", 64)
        self.has_room_caps = "max_in_flight" in limits or bool(limits.get("max_in_flight_by_type"))
        self.plans = frozenset(node["id"] for node in plans)
        self.types: dict[str, str] = {node["id"]: node["type"] for node in (*tasks, *plans)}
        configs: dict[str, dict[str, Any]] = {n["id"]: n.get("config", {}) for n in (*tasks, *plans)}
        self.holds = {name: _hold(config) for name, config in configs.items()}
        self.max_retries = {name: config.get("max_retries", 2) for name, config in configs.items()}
        self.terms = {name: _terms(configs[name].get("join", {})) for name in self.plans}
        self.edges: dict[tuple[str, str], str] = {}
        """(from, to) -> normal, parallel, join or final."""
        self.conditional: set[tuple[str, str]] = set()
        self.out: dict[str, list[str]] = {name: [] for name in self.types}
        for edge in document.get("edges", ()):
            way = (edge["from"], edge["to"])
            self.edges[way] = edge.get("type", "normal")
            self.out.setdefault(edge["from"], []).append(edge["to"])
            if edge.get("config", {}).get("when") is not None:
                self.conditional.add(way)
        self._forks: dict[str, Fork | None] = {}

    @cached_property
    def joining(self) -> frozenset[str]:
        """Plans that JOIN edges lead to."""
        return frozenset(target for (_, target), kind in self.edges.items() if kind == "join")

    def is_served(self, node: str) -> bool:
        """Whether workers serve the node."""
        return node in self.plans or self.types.get(node) not in NOBODY

    def chosen(self, node: str, named: Collection[str]) -> list[str] | None:
        """Return the tasks that a plan's decision leads to; None for the end or for what is no decision."""
        targets = list(dict.fromkeys(named))
        kinds = [self.edges.get((node, target)) for target in targets]
        if "final" in kinds or (not targets and (node, "end") in self.edges):
            return None
        if len(named) > self.max_fan_out or None in kinds:
            return None
        several = len(targets) > 1 and any(kind != "parallel" for kind in kinds)
        return None if several else targets

    def fork_of(self, plan: str) -> Fork | None:
        """Return the innermost node whose parallel branches, together, feed every JOIN edge into a plan."""
        if plan not in self._forks:
            self._forks[plan] = self._find_fork(plan)
        return self._forks[plan]

    def _find_fork(self, plan: str) -> Fork | None:
        sources = {s for (s, target), kind in self.edges.items() if kind == "join" and target == plan}
        into: dict[str, set[str]] = {}
        for source, target in self.edges:
            into.setdefault(target, set()).add(source)
        branches: dict[str, list[str]] = {}
        for (source, target), kind in self.edges.items():
            if kind == "parallel":
                branches.setdefault(source, []).append(target)
        seen, level = {*sources, plan}, set(sources)
        while level:
            level = {before for node in level for before in into.get(node, ())} - seen
            for node in sorted(level & branches.keys()):
                fed = {b: self._reaches(b, sources, (node, plan)) for b in branches[node]}
                if set().union(*fed.values()) == sources:
                    return Fork(node, frozenset(b for b, found in fed.items() if found))
            seen |= level
        return None

    def _reaches(self, branch: str, wanted: set[str], without: tuple[str, str]) -> set[str]:
        """Return which of the wanted nodes a branch leads to, not coming through two others on the way."""
        found = {branch} & wanted
        seen, todo = {branch}, [branch]
        while todo:
            for target in self.out.get(todo.pop(), ()):
                if target not in seen and target not in without:
                    seen.add(target)
                    todo.append(target)
        return found | (seen & wanted)


@lru_cache(maxsize=4096)
def shape_of(definition_json: str) -> Shape | None:
    """Return the graph; None when the text is none. Cached: tenants share what is equal."""
    try:
        return Shape(definition_json)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None


def nano_usd(text: Any) -> int:
    """Return an amount in USD in nano-USD."""
    return int(Decimal(str(text)) * 1_000_000_000)


def duration_ms(text: str | float) -> int:
    """Return a duration such as 1h30m, or a number of seconds, in milliseconds."""
    if not isinstance(text, str):
        return round(text * 1000)
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)(ms|d|h|m|s)", text))


def _hold(config: Mapping[str, Any]) -> Hold:
    limits = config.get("limits", {})
    return limits.get("tokens_used") or 0, nano_usd(limits.get("cost_usd") or 0)


def _terms(join: Mapping[str, Any]) -> Terms:
    least = join.get("min_inputs") or 1
    return Terms(
        join.get("strategy", "all"),
        least,
        join.get("max_inputs") or least,
        join.get("on_timeout") == "proceed",
        bool(join.get("cancel_losers")),
    )
