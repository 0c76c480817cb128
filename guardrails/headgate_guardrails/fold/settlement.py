"""What workers report: settle it in the ledger, judge it, then let the flow go on.

A run is paid once, by its run id, whether or not its result is accepted; the first result of an
execution is accepted, and only while the gate waits for it.
"""

from __future__ import annotations

import zlib

from headgate_graphs.errors import BadRecord
from headgate_graphs.ids import execution_id
from headgate_guardrails.fold import admission, ending, judging, retries, routing
from headgate_guardrails.fold.authority import check_ticket
from headgate_guardrails.fold.flow import Flow
from headgate_guardrails.fold.holds import ORPHAN_GRACE_MS, close, pay, release
from headgate_guardrails.fold.ledger import Amount
from headgate_guardrails.fold.lifetime import InFlight, Lifetime, Work
from headgate_guardrails.fold.progressing import Step, fingerprint
from headgate_guardrails.fold.reports import Report
from headgate_guardrails.fold.rules import REJECT
from headgate_guardrails.fold.state import Tenant
from headgate_guardrails.fold.turn import Turn
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import plan_pb2, task_pb2


def on_result(turn: Turn, tenant: Tenant, lifetime: Lifetime, report: Report) -> None:
    """Take one result: accepted, late, duplicate or conflicting. Raises BadRecord before anything changes."""
    done_id, run_id = report.execution_id, report.run_id
    if lifetime.ticket_key:
        check_ticket(turn, tenant.tenant_id, lifetime, done_id, report.execution.ticket)
    flight = lifetime.inflight.get(done_id)
    _refuse_forged(tenant, lifetime, report, flight)
    checksum = zlib.crc32(turn.value)
    paid = lifetime.settled.get(run_id)
    if paid is not None:
        if paid != checksum:
            raise BadRecord("CONFLICT", f"run {run_id!a} was reported before with other content")
        return
    hold = _close_hold(tenant, lifetime, flight, done_id, run_id)
    lifetime.settled[run_id] = checksum
    report.price(hold if hold is not None else lifetime.terms[report.node_id].hold)
    if report.began:
        pay(tenant, lifetime, report.node_id, report.charge, turn.clock)
    flow = Flow(turn, tenant, lifetime)
    if lifetime.ended_at:
        if report.began:
            lifetime.stopped_at = turn.clock
        ending.republish(flow)
        return
    if not report.began:
        if flight is not None and not flight.runs:  # else another run of it goes on
            retries.take_back(flow, flight, done_id, report.result.error.code, hold)
    elif flight is not None:
        _accept(flow, flight, report)
    else:
        judging.obey_rules(flow, judging.judge(flow, report, None), done_id, report.node_id)
    ending.settle_down(flow)


def _refuse_forged(tenant: Tenant, lifetime: Lifetime, report: Report, flight: InFlight | None) -> None:
    if not report.run_id or len(report.run_id) > 64:
        raise BadRecord("DECODE", "a result needs a run_id of 1-64 characters")
    node_id = report.node_id
    terms = lifetime.terms.get(node_id)
    if terms is None or terms.is_plan != report.is_plan:
        raise BadRecord("UNKNOWN_NODE", f"{node_id[:64]!a} is not such a node of the lifetime's graph")
    if flight is None:
        _refuse_invented(tenant, lifetime, report)
    elif flight.work.node_id != node_id:
        raise BadRecord("UNKNOWN_NODE", f"execution {report.execution_id} is not of node {node_id}")


def _refuse_invented(tenant: Tenant, lifetime: Lifetime, report: Report) -> None:
    """Raise BadRecord for a result of what was never dispatched."""
    headers, tally = report.headers, lifetime.nodes.get(report.node_id)
    known = execution_id(
        tenant.tenant_id, lifetime.lifetime_id, report.node_id, headers.iteration, headers.attempt
    )
    if tally is None or not 1 <= headers.iteration <= tally.iterations or known != report.execution_id:
        raise BadRecord("UNKNOWN_NODE", f"execution {report.execution_id[:64]!a} was never dispatched")


def _close_hold(
    tenant: Tenant, lifetime: Lifetime, flight: InFlight | None, done_id: str, run_id: str
) -> Amount | None:
    """Release the hold of this run, wherever it is; None when another run has it."""
    hold: Amount | None = None
    if flight is not None:
        run = flight.runs.pop(run_id, None)
        if run is not None:
            hold = run.hold
        elif flight.hold is not None:
            hold, flight.hold = flight.hold, None
    if hold is None:
        left = lifetime.orphans.pop(run_id, None) or lifetime.orphans.pop(done_id, None)
        hold = left.hold if left is not None else None
    if hold is not None:
        release(tenant, lifetime, hold)
    return hold


def _accept(flow: Flow, flight: InFlight, report: Report) -> None:
    lifetime, work, done_id = flow.lifetime, flight.work, report.execution_id
    close(flow.tenant, lifetime, done_id, flow.turn.clock)
    if flight.runs:
        flow.arm(flow.turn.clock + ORPHAN_GRACE_MS)
    if report.is_doubtful:
        reason = f"USAGE_RANGE: node {work.node_id} reported a usage that cannot be; its hold was charged"
        ending.pause(flow, reason, 0)
    evaluator = flow.evaluator
    if evaluator is not None:
        step = tread(flow, work, report.result) if evaluator.trail_length else None
        matches = judging.judge(flow, report, step)
        if matches:
            verdict = judging.obey_rules(flow, matches, done_id, work.node_id)
            if not lifetime.is_live:
                return
            if verdict == REJECT:
                admission.reject(flow, work, done_id, [m for m in matches if not m.rule.shadow])
                return
    if report.status == pb.EXECUTION_STATUS_ABORTED:
        retries.retry_lost(flow, work, done_id, "its worker gave it up")
    elif not report.result.success:
        _failed(flow, work, report)
    else:
        _succeeded(flow, work, report)


def _failed(flow: Flow, work: Work, report: Report) -> None:
    done_id, execution, error = report.execution_id, report.execution, report.result.error
    if retries.retry(flow, work, done_id, error):
        return
    if isinstance(execution, plan_pb2.PlanExecution):
        routing.fail(flow, work, done_id, error.code or "FAILED", error.message)
    else:
        routing.task_done(flow, work, done_id, execution)


def _succeeded(flow: Flow, work: Work, report: Report) -> None:
    done_id, execution = report.execution_id, report.execution
    if not isinstance(execution, plan_pb2.PlanExecution):
        routing.task_done(flow, work, done_id, execution)
        return
    fault = routing.plan_done(flow, work, done_id, execution)
    if fault:
        code, _, message = fault.partition(": ")
        error = pb.ExecutionError(code=code, message=message, retryable=True)
        retries.retry_failed(flow, work, done_id, error)


def tread(flow: Flow, work: Work, result: task_pb2.TaskResult | plan_pb2.PlanResult) -> Step:
    """Add what this execution looked like to the lifetime's trail, which rules about progress look at."""
    given = [work.input_data.SerializeToString(deterministic=True)] if work.input_data is not None else []
    given += [one.result.SerializeToString(deterministic=True) for one in work.upstreams]
    made = result.SerializeToString(deterministic=True)
    step = Step(work.node_id, fingerprint(given), fingerprint([made]), result.success)
    trail, evaluator = flow.lifetime.trail, flow.evaluator
    trail.append(step)
    del trail[: -evaluator.trail_length if evaluator is not None else None]
    return step
