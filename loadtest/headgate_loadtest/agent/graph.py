"""The graph of a load and the policy it runs under, made from the scenario."""

from __future__ import annotations

from typing import Any

from headgate_graphs.model import AgentGraph
from headgate_guardrails.policy import Policy
from headgate_loadtest.scenario import Scenario

LIMITS = {"tokens_used": 2000, "cost_usd": "0.01"}
"""What a leased task may use; it says that it used half of the tokens."""


def load_graph(scenario: Scenario, tenant: str) -> AgentGraph:
    """Return the graph that a scenario's runs go through, for one tenant."""
    work = scenario.work
    params = {
        "rounds": work.rounds,
        "seed": scenario.seed,
        "bytes": work.payload_bytes,
        "leased": work.leased,
        **work.step_time.model_dump(),
    }
    config: dict[str, Any] = {"timeout": "1h" if work.leased else "1m", "params": params}
    if work.leased:
        config["limits"] = LIMITS
    names = ["work"] if work.fan_out == 1 else [f"work-{n}" for n in range(1, work.fan_out + 1)]
    thinks = {"seed": scenario.seed, **work.plan_time.model_dump()}
    decide = {"params": {"rounds": work.rounds, "next": names, **thinks}}
    document: dict[str, Any] = {
        "metadata": {"id": f"load-{scenario.digest()}", "version": "1.0.0", "tags": ["load"]},
        "entry": "decide",
        "limits": {"max_iterations": work.rounds + 1, "deadline": "7d"},
        "tasks": [{"id": name, "type": "load_work", "config": config} for name in names],
        "plans": [{"id": "decide", "type": "load_decide", "config": decide}],
        "edges": [{"from": "decide", "to": "end", "type": "final"}],
    }
    if work.fan_out == 1:
        document["edges"] += [{"from": "decide", "to": "work"}, {"from": "work", "to": "decide"}]
    else:
        _fan(document, names)
    return AgentGraph.model_validate(document).for_tenant(tenant)


def _fan(document: dict[str, Any], names: list[str]) -> None:
    """Let the tasks of a round run at once; join them, and take one more task back to the begin."""
    document["tasks"].append({"id": "again", "type": "load_pass"})
    join = {"join": {"strategy": "all"}, "params": {"rounds": 10**9, "next": ["again"]}}
    document["plans"].append({"id": "gather", "type": "load_decide", "config": join})
    for name in names:
        document["edges"].append({"from": "decide", "to": name, "type": "parallel"})
        document["edges"].append({"from": name, "to": "gather", "type": "join"})
    document["edges"] += [{"from": "gather", "to": "again"}, {"from": "again", "to": "decide"}]


def _limit(name: str, scope: str, action: str, limit: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "scope": scope, "action": action, "limit": limit, **more}


def _when(name: str, scope: str, action: str, when: str) -> dict[str, Any]:
    return {"name": name, "scope": scope, "action": action, "when": when}


_SHELL = "node.type == 'shell' && !('trusted' in graph.tags)"
TEN_RULES: list[dict[str, Any]] = [
    _limit("run-tokens", "lifetime", "abort_lifetime", {"tokens_used": 10**12}),
    _limit("run-dollars", "lifetime", "pause_lifetime", {"cost_usd": 10**6}),
    _limit("tenant-tokens", "tenant", "pause_lifetime", {"tokens_used": 10**15}),
    _limit("day-dollars", "tenant", "pause_lifetime", {"cost_usd": 10**8}, window="1d"),
    _limit("minute-tokens", "tenant", "throttle", {"tokens_used": 10**15}, window="1m", sliding=True),
    _limit("one-call", "execution", "reject_execution", {"tokens_used": 4000, "latency_ms": 86_400_000}),
    _limit("big-answer", "execution", "reject_execution", {"payload_bytes": 100_000_000}),
    _when("no-shell", "execution", "reject_execution", _SHELL),
    _when("sum", "lifetime", "abort_lifetime", "sum(tokens_used) > 1000000000000"),
    _limit("loop", "lifetime", "abort_lifetime", {"iterations": 1_000_000}),
]
"""Every kind of rule, none of which is broken: that is the hot path."""


def ten_rules() -> Policy:
    """Return a policy of ten rules."""
    document = {"kind": "GuardrailPolicy", "metadata": {"name": "load", "version": 1}, "rules": TEN_RULES}
    return Policy.model_validate(document)
