"""Asking the rules about what was settled or still runs, and obeying them. Called when a result is taken."""

from __future__ import annotations

from collections.abc import Sequence

from headgate_guardrails.fold import ending
from headgate_guardrails.fold.evaluator import Candidate, Match, verdict_of
from headgate_guardrails.fold.flow import Flow
from headgate_guardrails.fold.ledger import NOTHING, unreported
from headgate_guardrails.fold.lifetime import Work
from headgate_guardrails.fold.progressing import Step
from headgate_guardrails.fold.reports import Report
from headgate_guardrails.fold.rules import ABORT, PAUSE


def judge(flow: Flow, report: Report, step: Step | None) -> list[Match]:
    """Return the rules that a settled execution breaks, strongest first."""
    evaluator, lifetime, clock = flow.evaluator, flow.lifetime, flow.turn.clock
    if evaluator is None:
        return []
    headers, charge = report.headers, report.charge
    fan_out = report.fan_out if evaluator.looks_at_fan_out else 0
    iteration = headers.iteration
    if evaluator.surely_settles(flow.tenant, lifetime, clock, iteration, charge, fan_out):
        return []
    candidate = Candidate(
        lifetime.graphs.graph,
        lifetime.terms[report.node_id].node,
        iteration,
        headers.attempt,
        NOTHING,
        charge,
        report.model,
        report.result.success,
        fan_out,
    )
    return evaluator.at_settlement(flow.tenant, lifetime, clock, candidate, step)


def judge_running(flow: Flow, running_id: str, work: Work) -> None:
    """Obey the rules that what runs has already broken by what it holds."""
    evaluator = flow.evaluator
    if evaluator is None:
        return
    node = flow.lifetime.terms[work.node_id].node
    nothing_yet = unreported(NOTHING, 0)
    graph = flow.lifetime.graphs.graph
    candidate = Candidate(graph, node, work.iteration, work.attempt, NOTHING, nothing_yet)
    matches = evaluator.at_settlement(flow.tenant, flow.lifetime, flow.turn.clock, candidate, None)
    obey_rules(flow, [m for m in matches if m.violation.metric], running_id, work.node_id)


def obey_rules(flow: Flow, matches: Sequence[Match], cause_id: str, node_id: str) -> int:
    """Pause or abort as the rules ask; return the verdict."""
    if not matches:
        return 0
    flow.control.mention(flow.lifetime, matches, cause_id, node_id)
    verdict = verdict_of(matches)
    obeyed = [m for m in matches if not m.rule.shadow]
    if verdict == ABORT:
        ending.abort_for(flow, obeyed, cause_id, node_id)
    elif verdict == PAUSE:
        ending.pause_for(flow, obeyed, cause_id, node_id)
    return verdict
