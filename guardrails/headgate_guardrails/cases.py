"""Cases written beside a policy: what was spent, what is asked or settled, what must be said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from headgate_graphs.documents import read_file, read_yaml, validate
from headgate_graphs.errors import PolicyInvalid
from headgate_graphs.model import AgentGraph, Definition, DurationMs, Name, NanoUsd
from headgate_graphs.progress import GraphOrchestrator
from headgate_guardrails.fold.controller import describe
from headgate_guardrails.fold.evaluator import Candidate, Match, verdict_of
from headgate_guardrails.fold.ledger import NOTHING, Amount, Charge, Spend, settle
from headgate_guardrails.fold.lifetime import Lifetime
from headgate_guardrails.fold.rules import VERDICTS, compile_policy
from headgate_guardrails.fold.state import PolicyBook, Tenant
from headgate_guardrails.policy import Count, Policy, load_policy

CLOCK_MS = 1_700_000_000_000
"""The moment at which cases are judged; windows hold all that a case says was spent."""
WORDS = {0: "allow", **{verdict: word for word, verdict in VERDICTS.items()}}


class Spent(Definition):
    """Sums of one scope."""

    tokens_used: Count = 0
    cost_nano_usd: NanoUsd = Field(default=0, alias="cost_usd")
    latency_ms: Count = 0
    executions: Count = 0
    payload_bytes: Count = 0
    held_tokens: Count = 0
    """Reserved by work in flight."""
    held_nano_usd: NanoUsd = Field(default=0, alias="held_usd")
    """Reserved by work in flight, written in USD."""


class Asked(Definition):
    """One execution: what would be dispatched, or what was settled."""

    node: Name = "node"
    type: Name = "work"
    kind: Literal["task", "plan"] = "task"
    queue: Name | None = None
    tags: tuple[str, ...] = ()
    """Tags of its graph."""
    params: dict[str, Any] = Field(default_factory=dict)
    iteration: Annotated[int, Field(ge=1)] = 1
    tokens_used: Count = 0
    """What it would reserve, or what it used."""
    cost_nano_usd: NanoUsd = Field(default=0, alias="cost_usd")
    """What it would reserve, or what it used, written in USD."""
    latency_ms: Count = 0
    payload_bytes: Count = 0
    fan_out: Count = 0
    model: str = ""
    success: bool = True


class Case(Definition):
    """One question to the policy and the answer it must give."""

    name: str
    lifetime: Spent = Spent()
    """What the lifetime has spent before."""
    tenant: Spent | None = None
    """What the tenant has spent before, in every window; as the lifetime when it is left out."""
    age_ms: DurationMs = Field(default=0, alias="age")
    """Log time since the lifetime began."""
    dispatch: Asked | None = None
    """What would be dispatched. A case has one of `dispatch` and `settled`."""
    settled: Asked | None = None
    """What has just been settled, on top of what was spent before."""
    expect: Literal["allow", "warn", "throttle", "reject_execution", "pause_lifetime", "abort_lifetime"]
    by: Name | None = None
    """Name of the rule that must be the strongest one broken."""

    @model_validator(mode="after")
    def _one_question(self) -> Case:
        if (self.dispatch is None) == (self.settled is None):
            raise ValueError("a case has one of `dispatch` and `settled`")
        return self


class PolicyCases(Definition):
    """A file of cases."""

    api_version: Literal["headgate/v1"] = Field(default="headgate/v1", alias="apiVersion")
    kind: Literal["PolicyCases"]
    policy: str
    """Path of the policy, relative to this file."""
    cases: Annotated[tuple[Case, ...], Field(min_length=1, max_length=10_000)]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What the policy said."""

    case: str
    passed: bool
    expected: str
    said: str
    """The verdict as a word, with the rule behind it."""
    reason: str
    """The numbers behind it, empty for allow."""


def run_cases(path: Path) -> list[CaseResult]:
    """Judge every case of a file by the fold's own evaluator; raises PolicyInvalid with file:line:column."""
    text = read_file(path, str(path), PolicyInvalid)
    document = validate(read_yaml(text, str(path), PolicyInvalid), PolicyCases, PolicyInvalid)
    policy = load_policy(path.parent / document.policy)
    return [judge_case(policy, case) for case in document.cases]


def judge_case(policy: Policy, case: Case) -> CaseResult:
    """Return what the policy says of one case. Pure."""
    matches = [m for m in _matches(policy, case) if not m.rule.shadow or policy.mode == "shadow"]
    verdict = (
        max((m.rule.verdict for m in matches), default=0) if policy.mode == "shadow" else verdict_of(matches)
    )
    said = WORDS[verdict]
    strongest = matches[0] if matches else None
    by = strongest.rule.name if strongest is not None else ""
    passed = said == case.expect and case.by in (None, by)
    return CaseResult(
        case.name,
        passed,
        case.expect + (f" by {case.by}" if case.by else ""),
        said + (f" by {by}" if by else ""),
        describe(strongest.violation) if strongest is not None else "",
    )


def _matches(policy: Policy, case: Case) -> list[Match]:
    asked = case.dispatch or case.settled
    if asked is None:
        return []
    graph = _graph_of(asked)
    tenant = Tenant("case")
    tenant.policies.in_force[policy.name] = compile_policy(policy)
    tenant.judge_by(PolicyBook())
    lifetime = Lifetime("case", ("case", "1.0.0"), GraphOrchestrator(graph))
    lifetime.started_at = CLOCK_MS - case.age_ms
    _fill(lifetime.spend, case.lifetime)
    for spend in (tenant.spend, *(window.at(CLOCK_MS) for window in tenant.windows.each)):
        _fill(spend, case.tenant or case.lifetime)
    node = graph.nodes[asked.node]
    evaluator = tenant.evaluator
    if evaluator is None:
        return []
    if case.settled is None:
        hold = Amount(asked.tokens_used, asked.cost_nano_usd)
        return evaluator.at_admission(
            tenant, lifetime, CLOCK_MS, Candidate(graph, node, asked.iteration, 1, hold, None)
        )
    charge = Charge(asked.tokens_used, asked.cost_nano_usd, asked.latency_ms, 0, 0, 0, asked.payload_bytes)
    settle(tenant.spend, [lifetime.spend, tenant.windows.fresh], charge)
    it = Candidate(
        graph, node, asked.iteration, 1, NOTHING, charge, asked.model, asked.success, asked.fan_out
    )
    return evaluator.at_settlement(tenant, lifetime, CLOCK_MS, it, None)


def _fill(spend: Spend, spent: Spent) -> None:
    spend.tokens, spend.cost = spent.tokens_used, spent.cost_nano_usd
    spend.latency_ms, spend.executions = spent.latency_ms, spent.executions
    spend.payload_bytes = spent.payload_bytes
    spend.held_tokens, spend.held_cost = spent.held_tokens, spent.held_nano_usd


def _graph_of(asked: Asked) -> AgentGraph:
    node = {
        "id": asked.node,
        "type": asked.type,
        "config": {"params": asked.params, **({"queue": asked.queue} if asked.queue else {})},
    }
    return AgentGraph.model_validate(
        {
            "metadata": {"id": "case", "version": "1.0.0", "tags": asked.tags},
            "entry": asked.node,
            "tasks": [node] if asked.kind == "task" else [],
            "plans": [node] if asked.kind == "plan" else [],
        }
    )
