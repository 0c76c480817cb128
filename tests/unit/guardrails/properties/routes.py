"""Where results must go, worked out anew from a graph's definition text. Shares nothing with the fold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Facts = Mapping[str, Any]

CONDITIONS: dict[str | None, Callable[[Facts], bool]] = {
    None: lambda facts: True,
    "success": lambda facts: facts["success"],
    "!success": lambda facts: not facts["success"],
    "iteration < 3": lambda facts: facts["iteration"] < 3,
    "result.n % 2 == 0": lambda facts: facts["result"]["n"] % 2 == 0,
    "result.stop": lambda facts: facts["result"]["stop"],
    "metadata.kind == 'a'": lambda facts: facts["metadata"]["kind"] == "a",
}
"""Every condition of random graphs and what it means; a missing key is an error in evaluation."""


class Way(NamedTuple):
    """One edge."""

    target: str
    type: str
    when: str | None
    priority: int


class Next(NamedTuple):
    """Where a result goes: to targets at once, to joins, or to the end; nowhere after a fault."""

    targets: tuple[str, ...] = ()
    joins: tuple[str, ...] = ()
    final: bool = False
    fault: bool = False


class JoinShape(NamedTuple):
    """The fork that a join belongs to, and the branches of it that can deliver."""

    fork: str
    feeders: frozenset[str]


class JoinTerms:
    """When a join goes on, as its plan says."""

    def __init__(self, plan: dict[str, Any]) -> None:
        terms = plan.get("config", {}).get("join", {})
        self.strategy: str = terms.get("strategy", "all")
        self.least: int = terms.get("min_inputs", 1)
        self.most: int = terms.get("max_inputs", self.least)
        self.cancels: bool = terms.get("cancel_losers", False)
        self.proceeds = terms.get("on_timeout") == "proceed"

    def at_once(self, branches: int) -> int:
        """Return the successes at which it goes on without waiting."""
        if self.strategy == "majority":
            return branches // 2 + 1
        return {"all": branches, "any": 1}.get(self.strategy, min(self.most, branches))

    def fault(self, branches: int, inputs: int, good: int) -> str:
        """Return why it may not go on with so many inputs, so many of them good; empty when it may."""
        least = min(self.least, branches) if self.strategy == "quorum" else self.at_once(branches)
        if inputs == branches or self.proceeds or (self.strategy != "all" and good >= least):
            return ""
        return f"{inputs} inputs of {branches} branches, {good} good, for {self.strategy}"


class Definition:
    """A graph as its text says it."""

    def __init__(self, text: str) -> None:
        document = json.loads(text)
        limits = document.get("limits", {})
        self.entry: str = document["entry"]
        self.max_iterations: int = limits.get("max_iterations", 100)
        self.max_fan_out: int = limits.get("max_fan_out", 64)
        self.has_room_caps = "max_in_flight" in limits or "max_in_flight_by_type" in limits
        self.deadline_ms = milliseconds(limits.get("deadline", "1d"))
        self.plans = {node["id"] for node in document.get("plans", ())}
        nodes: list[dict[str, Any]] = [*document.get("tasks", ()), *document.get("plans", ())]
        self.subgraphs = {n["id"]: n["config"]["params"]["graph"] for n in nodes if n["type"] == "graph"}
        self.join_terms = {node["id"]: JoinTerms(node) for node in document.get("plans", ())}
        self.max_retries = {node["id"]: node.get("config", {}).get("max_retries", 2) for node in nodes}
        self.holds = {node["id"]: _hold(node) for node in nodes}
        self.out: dict[str, list[Way]] = {node["id"]: [] for node in nodes}
        for edge in document["edges"]:
            config = edge.get("config", {})
            way = Way(edge["to"], edge.get("type", "normal"), config.get("when"), config.get("priority", 0))
            self.out[edge["from"]].append(way)
        for ways in self.out.values():
            ways.sort(key=lambda way: -way.priority)
        self.types = {(source, way.target): way.type for source, ways in self.out.items() for way in ways}

    def after_plan(self, node: str, named: list[str]) -> Next:
        types = {way.target: way.type for way in self.out[node]}
        chosen = list(dict.fromkeys(named))
        if "end" in types and (not chosen or "end" in chosen):
            return Next(final=True)
        several = len(chosen) > 1 and any(types.get(one) != "parallel" for one in chosen)
        if len(named) > self.max_fan_out or several or any(one not in types for one in chosen):
            return Next(fault=True)
        return Next(tuple(chosen))

    def after_task(self, node: str, facts: Facts) -> Next:
        one: Way | None = None
        targets, joins = [], []
        for way in self.out[node]:
            if one is not None and way.type in ("normal", "final"):
                continue
            try:
                if not CONDITIONS[way.when](facts):
                    continue
            except (KeyError, TypeError):
                if facts["success"]:
                    return Next(fault=True)
                continue
            if way.type == "join":
                joins.append(way.target)
            elif way.type == "parallel":
                targets.append(way.target)
            else:
                one = way
        if one is not None and one.type == "final":
            return Next(final=True)
        return Next((*targets, one.target) if one else tuple(targets), tuple(joins))


def _hold(node: dict[str, Any]) -> tuple[int, int]:
    limits = node.get("config", {}).get("limits", {})
    return limits.get("tokens_used", 0), nano_usd(limits.get("cost_usd", 0))


def nano_usd(text: str | float) -> int:
    """Return an amount of a definition in nano-USD."""
    whole, _, part = str(text).partition(".")
    return int(whole) * 10**9 + int(part.ljust(9, "0") or 0)


def milliseconds(text: str | float) -> int:
    """Return a duration of a definition; random ones have one unit."""
    if not isinstance(text, str):
        return int(text * 1000)
    units = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
    total, number = 0, ""
    rest = text
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        number, rest = rest[:digits], rest[digits:]
        letters = len(rest) - len(rest.lstrip("dhms"))
        total += int(number) * units[rest[:letters]]
        rest = rest[letters:]
    return total
