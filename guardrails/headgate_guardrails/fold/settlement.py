"""What workers report: settle it in the ledger, judge it, then let the flow go on.

A run is paid once, by its run id, whether or not its result is accepted; the first result of an
execution is accepted, and only while the gate waits for it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from headgate_graphs.errors import BadRecord
from headgate_graphs.ids import execution_id
from headgate_graphs.model import Plan
from headgate_guardrails.fold import ending, routing
from headgate_guardrails.fold.admission import reject
from headgate_guardrails.fold.authority import check_ticket
from headgate_guardrails.fold.evaluator import Candidate, Match, verdict_of
from headgate_guardrails.fold.flow import Flow
from headgate_guardrails.fold.holds import ORPHAN_GRACE_MS, abandon, close, pay, release, reserve
from headgate_guardrails.fold.ledger import NOTHING, Amount, charged, is_believable
from headgate_guardrails.fold.progressing import Step, fingerprint
from headgate_guardrails.fold.rules import ABORT, PAUSE, REJECT
from headgate_guardrails.fold.state import InFlight, Lifetime, Orphan, Run, Tenant, Work
from headgate_guardrails.fold.terms import HUMAN, LEASE_MS
from headgate_guardrails.fold.turn import Turn
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, execution_pb2, plan_pb2, task_pb2

Execution = task_pb2.TaskExecution | plan_pb2.PlanExecution

MAX_BACKOFF_DOUBLINGS = 20
"""2**20 times the first wait is above every cap; doubling stops there so that no number grows for ever."""
MAX_LOST = 5
"""Attempts of one visit that may be lost with their workers."""
MAX_GIVEN_BACK = 1_000
"""Attempts of one visit that workers may give back because of pauses; one pause causes one."""
GIVEN_BACK = "PAUSED"
"""Code of a run that a worker did not begin because a pause had come after its input."""
NOT_BEGUN = "NOT_BEGUN"
"""Code of a run that a worker did not begin because it is not wanted any more."""
WITHDRAWN = "WITHDRAWN"
"""Code of a run that was announced, but not begun by then: its input is still there for another worker."""


def on_result(turn: Turn, tenant: Tenant, lifetime: Lifetime, execution: Execution, record: bytes) -> None:
    """Take one result: accepted, late, duplicate or conflicting. Raises BadRecord before anything changes."""
    headers = execution.headers
    check_ticket(turn, tenant.tenant_id, lifetime, headers.execution_id, execution.ticket)
    flight = lifetime.inflight.get(headers.execution_id)
    _refuse_forged(tenant, lifetime, execution, flight)
    checksum = zlib.crc32(record)
    run_id = headers.run_id
    paid = lifetime.settled.get(run_id)
    if paid is not None:
        if paid != checksum:
            raise BadRecord("CONFLICT", f"run {run_id!a} was reported before with other content")
        return
    usage = execution.resource_usage if execution.HasField("resource_usage") else None
    doubtful = usage is not None and not is_believable(usage)
    hold = _close_hold(tenant, lifetime, flight, headers.execution_id, run_id)
    lifetime.settled[run_id] = checksum
    began = not _never_began(execution, usage)
    cost = charged(None if doubtful else usage, hold or lifetime.terms[headers.node_id].hold)
    if began:
        pay(tenant, lifetime, headers.node_id, cost, turn.clock, size_of(execution))
    flow = Flow(turn, tenant, lifetime)
    if not lifetime.is_live:
        if began:
            lifetime.stopped_at = turn.clock
        ending.republish(flow)
        return
    if not began:
        if flight is not None and not flight.runs:  # else another run of it goes on
            _take_back(flow, flight, execution, hold)
    elif flight is not None:
        _accept(flow, flight, execution, cost, doubtful)
    else:
        matches = _judge(flow, headers, cost, execution, None)
        obey_rules(flow, matches, headers.execution_id, headers.node_id)
    ending.settle_down(flow)


def _never_began(execution: Execution, usage: pb.ResourceUsage | None) -> bool:
    """Whether a worker says that it did not begin the run; then it was no execution and used nothing."""
    return (
        execution.headers.status == pb.EXECUTION_STATUS_ABORTED
        and execution.result.error.code in (GIVEN_BACK, NOT_BEGUN, WITHDRAWN)
        and usage is not None
        and not (usage.tokens_used or usage.cost_nano_usd or usage.latency_ms or usage.unpriced)
    )


def _refuse_forged(tenant: Tenant, lifetime: Lifetime, execution: Execution, flight: InFlight | None) -> None:
    headers = execution.headers
    if not headers.run_id or len(headers.run_id) > 64:
        raise BadRecord("DECODE", "a result needs a run_id of 1-64 characters")
    node = lifetime.graphs.nodes.get(headers.node_id)
    if node is None or isinstance(node, Plan) != isinstance(execution, plan_pb2.PlanExecution):
        raise BadRecord(
            "UNKNOWN_NODE", f"{headers.node_id[:64]!a} is not such a node of the lifetime's graph"
        )
    if flight is not None and flight.work.node_id != headers.node_id:
        raise BadRecord("UNKNOWN_NODE", f"execution {headers.execution_id} is not of node {headers.node_id}")
    if flight is None:
        tally = lifetime.nodes.get(headers.node_id)
        known = execution_id(
            tenant.tenant_id, lifetime.lifetime_id, headers.node_id, headers.iteration, headers.attempt
        )
        if tally is None or not 1 <= headers.iteration <= tally.iterations or known != headers.execution_id:
            raise BadRecord("UNKNOWN_NODE", f"execution {headers.execution_id[:64]!a} was never dispatched")


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


def size_of(execution: Execution) -> int:
    """Return the size of a result's value in bytes, wherever it is kept."""
    result = execution.result
    if result.WhichOneof("value") == "blob_reference":
        return max(0, min(result.blob_reference.size_bytes, 2**53))
    return len(result.json_result)


def _accept(
    flow: Flow, flight: InFlight, execution: Execution, cost: pb.ResourceUsage, doubtful: bool
) -> None:
    lifetime, work, headers = flow.lifetime, flight.work, execution.headers
    done_id = headers.execution_id
    close(flow.tenant, lifetime, done_id, flow.turn.clock)
    if flight.runs:
        flow.arm(flow.turn.clock + ORPHAN_GRACE_MS)
    if doubtful:
        reason = f"USAGE_RANGE: node {work.node_id} reported a usage that cannot be; its hold was charged"
        ending.pause(flow, reason, 0)
    verdict = 0
    if flow.tenant.evaluator is not None:
        matches = _judge(flow, headers, cost, execution, _step(flow, work, execution))
        verdict = obey_rules(flow, matches, done_id, work.node_id)
        if not lifetime.is_live:
            return
        if verdict == REJECT:
            reject(flow, work, done_id, [m for m in matches if not m.rule.shadow])
            return
    if headers.status == pb.EXECUTION_STATUS_ABORTED:
        retry_lost(flow, work, done_id, "its worker gave it up")
    elif not execution.result.success:
        error = execution.result.error
        if not _retry(flow, work, done_id, error):
            if isinstance(execution, plan_pb2.PlanExecution):
                routing.fail(flow, work, done_id, error.code or "FAILED", error.message)
            else:
                routing.task_done(flow, work, execution)
    elif isinstance(execution, plan_pb2.PlanExecution):
        fault = routing.plan_done(flow, work, execution)
        if fault:
            code, _, message = fault.partition(": ")
            error = pb.ExecutionError(code=code, message=message, retryable=True)
            retry_failed(flow, work, done_id, error)
    else:
        routing.task_done(flow, work, execution)


def _step(flow: Flow, work: Work, execution: Execution) -> Step | None:
    """Add what this execution looked like to the lifetime's trail, when a rule about progress is in force."""
    evaluator = flow.tenant.evaluator
    if evaluator is None or not evaluator.trail_length:
        return None
    given = [work.input_data.SerializeToString(deterministic=True)] if work.input_data is not None else []
    given += [one.result.SerializeToString(deterministic=True) for one in work.upstreams]
    made = execution.result.SerializeToString(deterministic=True)
    step = Step(work.node_id, fingerprint(given), fingerprint([made]), execution.result.success)
    trail = flow.lifetime.trail
    trail.append(step)
    del trail[: -evaluator.trail_length]
    return step


def _judge(
    flow: Flow, headers: pb.ExecutionHeaders, cost: pb.ResourceUsage, execution: Execution, step: Step | None
) -> list[Match]:
    evaluator = flow.tenant.evaluator
    if evaluator is None:
        return []
    graphs = flow.lifetime.graphs
    result = execution.result
    candidate = Candidate(
        graphs.graph,
        graphs.nodes[headers.node_id],
        headers.iteration,
        headers.attempt,
        NOTHING,
        cost,
        result.success,
        size_of(execution),
        len(result.next_task_ids) if isinstance(result, plan_pb2.PlanResult) else 0,
    )
    return evaluator.at_settlement(flow.tenant, flow.lifetime, flow.turn.clock, candidate, step)


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


# -- trying again ----------------------------------------------------------------------------------


def _retry(flow: Flow, work: Work, failed_id: str, error: pb.ExecutionError) -> bool:
    """Schedule the next attempt if one is left; return whether there is one."""
    config = flow.lifetime.graphs.nodes[work.node_id].config
    tries = work.attempt - work.lost - work.given_back
    if not error.retryable or tries > config.max_retries:
        return False
    wait = min(config.backoff_ms << min(tries - 1, MAX_BACKOFF_DOUBLINGS), config.max_backoff_ms)
    # Jitter of up to a quarter, taken from the execution id: the same in every fold of the log.
    wait += wait * (int(failed_id[:4], 16) & 0xFF) // 1024
    _again(flow, work, failed_id, wait)
    return True


def retry_failed(flow: Flow, work: Work, failed_id: str, error: pb.ExecutionError) -> None:
    """Schedule the next attempt, or deliver the failure when none is left."""
    if not _retry(flow, work, failed_id, error):
        routing.fail(flow, work, failed_id, error.code, error.message)


def retry_lost(flow: Flow, work: Work, lost_id: str, why: str) -> None:
    """Dispatch anew what was lost with its worker; that is no try of the handler's."""
    if work.lost >= MAX_LOST and not flow.lifetime.is_paused:
        message = f"given up after {work.lost + 1} lost attempts: {why}"
        routing.fail(flow, work, lost_id, "LOST", message)
    else:
        _again(flow, work._replace(lost=work.lost + 1), lost_id, 0)


def _take_back(flow: Flow, flight: InFlight, execution: Execution, hold: Amount | None) -> None:
    """Admit anew what a worker did not begin: a pause that still holds parks it. That is no try either."""
    done_id, code, work = execution.headers.execution_id, execution.result.error.code, flight.work
    if code == WITHDRAWN:
        if hold is not None:
            flight.hold = hold
            reserve(flow.tenant, flow.lifetime, hold)
        flow.arm(flight.due)
        return
    close(flow.tenant, flow.lifetime, done_id, flow.turn.clock)
    if code == GIVEN_BACK and work.given_back < MAX_GIVEN_BACK:
        _again(flow, work._replace(given_back=work.given_back + 1), done_id, 0)
    else:
        retry_lost(flow, work, done_id, "its worker did not begin it")


def _again(flow: Flow, work: Work, previous_id: str, wait_ms: int) -> None:
    again = work._replace(attempt=work.attempt + 1, parent_execution_id=previous_id)
    if not wait_ms:
        flow.lifetime.agenda.append(again)
        return
    due = flow.turn.clock + wait_ms
    flow.lifetime.delayed[flow.id_of(again)] = (due, again)
    flow.arm(due)


# -- runs ------------------------------------------------------------------------------------------


def on_started(
    turn: Turn, tenant: Tenant, lifetime: Lifetime, started: execution_pb2.ExecutionStarted
) -> None:
    """Give a run its lease and its hold. A run that nobody waits for is held to account all the same."""
    run_id = started.run_id
    if not run_id or len(run_id) > 64:
        raise BadRecord("DECODE", "a started run needs a run_id of 1-64 characters")
    check_ticket(turn, tenant.tenant_id, lifetime, started.execution_id, started.ticket)
    flight = lifetime.inflight.get(started.execution_id)
    if run_id in lifetime.settled or run_id in lifetime.orphans or (flight and run_id in flight.runs):
        return
    if flight is None:
        _late_start(turn, tenant, lifetime, started)
        return
    terms = lifetime.terms[flight.work.node_id]
    hold, flight.hold = flight.hold, None
    if hold is None:
        hold = terms.hold
        reserve(tenant, lifetime, hold)
    lease_until = turn.clock + LEASE_MS
    flight.runs[run_id] = Run(run_id, hold, lease_until, turn.clock + terms.timeout_ms + 2 * LEASE_MS)
    turn.arm(tenant, lifetime, lease_until)


def _late_start(
    turn: Turn, tenant: Tenant, lifetime: Lifetime, started: execution_pb2.ExecutionStarted
) -> None:
    """A run began although its execution is over: it may spend, so it is held until it reports."""
    left = lifetime.orphans.pop(started.execution_id, None)
    due = turn.clock + ORPHAN_GRACE_MS
    if left is not None:
        lifetime.orphans[started.run_id] = left._replace(due=due, began=True)
    else:
        terms = lifetime.terms.get(started.node_id)
        known = execution_id(
            tenant.tenant_id, lifetime.lifetime_id, started.node_id, started.iteration, started.attempt
        )
        if terms is None or started.node_id not in lifetime.nodes or known != started.execution_id:
            raise BadRecord(
                "UNKNOWN_NODE", f"run of {started.execution_id[:64]!a}, which was never dispatched"
            )
        hold = terms.hold
        reserve(tenant, lifetime, hold)
        lifetime.orphans[started.run_id] = Orphan(started.execution_id, started.node_id, hold, due, True)
    owner: Lifetime | None = lifetime
    while owner is not None:  # what holds their spend is remembered for as long as it can change
        if owner.closing:
            owner.closing = max(owner.closing, due)
        owner = owner.parent
    turn.arm(tenant, lifetime, due)


def on_heartbeat(turn: Turn, tenant: Tenant, heartbeat: execution_pb2.WorkerHeartbeat) -> None:
    """Renew leases; a run that has used more than its hold holds more, and is judged by it."""
    for beat in heartbeat.runs:
        lifetime = tenant.lifetimes.get(beat.lifetime_id)
        flight = lifetime.inflight.get(beat.execution_id) if lifetime else None
        run = flight.runs.get(beat.run_id) if flight else None
        if lifetime is None or flight is None or run is None:
            continue
        run.lease_until = turn.clock + LEASE_MS
        used = beat.partial_usage
        if is_believable(used) and (used.tokens_used > run.hold.tokens or used.cost_nano_usd > run.hold.cost):
            release(tenant, lifetime, run.hold)
            run.hold = Amount(max(run.hold.tokens, used.tokens_used), max(run.hold.cost, used.cost_nano_usd))
            reserve(tenant, lifetime, run.hold)
            _judge_running(Flow(turn, tenant, lifetime), beat.execution_id, flight.work)


def _judge_running(flow: Flow, running_id: str, work: Work) -> None:
    """Obey the rules that what runs has already broken by what it holds."""
    evaluator = flow.tenant.evaluator
    if evaluator is None:
        return
    graphs = flow.lifetime.graphs
    node = graphs.nodes[work.node_id]
    usage = pb.ResourceUsage()
    candidate = Candidate(graphs.graph, node, work.iteration, work.attempt, NOTHING, usage)
    matches = evaluator.at_settlement(flow.tenant, flow.lifetime, flow.turn.clock, candidate, None)
    obey_rules(flow, [m for m in matches if m.violation.metric], running_id, work.node_id)


def close_orphan(turn: Turn, tenant: Tenant, lifetime: Lifetime, orphan_key: str) -> None:
    """The grace is over: a run that began is charged its hold, one that never did is let go."""
    left = lifetime.orphans.pop(orphan_key)
    release(tenant, lifetime, left.hold)
    if left.began:
        lifetime.settled[orphan_key] = 0
        pay(tenant, lifetime, left.node_id, charged(None, left.hold), turn.clock)
    lifetime.stopped_at = 0  # one that never reported: nobody knows when it stopped
    ending.republish(Flow(turn, tenant, lifetime))


def expire_run(flow: Flow, flight_id: str, flight: InFlight, run: Run) -> None:
    """A lease has run out or a run was too long: its hold is orphaned, and the execution is tried anew."""
    lifetime, clock = flow.lifetime, flow.turn.clock
    del flight.runs[run.run_id]
    due = clock + ORPHAN_GRACE_MS
    lifetime.orphans[run.run_id] = Orphan(flight_id, flight.work.node_id, run.hold, due, True)
    flow.arm(due)
    if flight.runs:
        return
    close(flow.tenant, lifetime, flight_id, clock)
    if run.stop_at > clock:
        retry_lost(flow, flight.work, flight_id, "its lease ran out")
        return
    flow.control.event(
        lifetime,
        control_pb2.CONTROL_TYPE_REJECT_EXECUTION,
        f"TIMEOUT: node {flight.work.node_id} ran too long",
        execution_id=flight_id,
        node_id=flight.work.node_id,
    )
    error = pb.ExecutionError(code="TIMEOUT", message="the run outlived its timeout", retryable=True)
    retry_failed(flow, flight.work, flight_id, error)


def expire_wait(flow: Flow, flight_id: str, flight: InFlight) -> None:
    """Nobody began, answered or reported in time."""
    node = flow.lifetime.graphs.nodes[flight.work.node_id]
    abandon(flow.tenant, flow.lifetime, flight_id, flow.turn.clock)
    flow.arm(flow.turn.clock + ORPHAN_GRACE_MS)
    if node.type == HUMAN:
        routing.fail(flow, flight.work, flight_id, "TIMEOUT", "no person answered in time")
        if flow.lifetime.is_live:
            flow.control.view(flow.lifetime)
    else:
        retry_lost(flow, flight.work, flight_id, "no worker reported in time")
