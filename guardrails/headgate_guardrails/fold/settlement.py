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
from headgate_guardrails.fold.evaluator import ABORT, PAUSE, REJECT, Candidate, Match, verdict_of
from headgate_guardrails.fold.flow import (
    LEASE_MS,
    MAX_LOST,
    ORPHAN_GRACE_MS,
    Flow,
    hold_of,
    orphan,
    timeout_of,
)
from headgate_guardrails.fold.ledger import NOTHING, Amount, charged, is_believable
from headgate_guardrails.fold.state import InFlight, Lifetime, Orphan, Run, Tenant, Work
from headgate_guardrails.fold.turn import Turn
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, execution_pb2, plan_pb2, task_pb2

Execution = task_pb2.TaskExecution | plan_pb2.PlanExecution

MAX_BACKOFF_DOUBLINGS = 20
"""2**20 times the first wait is above every cap; doubling stops there so that no number grows for ever."""


def on_result(turn: Turn, tenant: Tenant, lifetime: Lifetime, execution: Execution, record: bytes) -> None:
    """Take one result: accepted, late, duplicate or conflicting. Raises BadRecord before anything changes."""
    headers = execution.headers
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
    cost = charged(None if doubtful else usage, hold or NOTHING)
    _pay(turn, tenant, lifetime, headers.node_id, cost)
    flow = Flow(turn, tenant, lifetime)
    if not lifetime.is_live:
        if hold is not None and lifetime.spend.open_holds == 0:
            flow.control.view(lifetime)
        return
    if flight is not None:
        _accept(flow, flight, execution, cost, doubtful)
    else:
        matches = _judge(flow, headers.node_id, headers.iteration, headers.attempt, cost, execution)
        _obey(flow, matches, headers.execution_id, headers.node_id)
    flow.end_if_dry()


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
        left = lifetime.orphans.pop(run_id, None)
        if left is None and done_id in lifetime.orphans:
            left = lifetime.orphans.pop(done_id)
        hold = left.hold if left is not None else None
    if hold is not None:
        release(tenant, lifetime, hold)
    return hold


def release(tenant: Tenant, lifetime: Lifetime, hold: Amount) -> None:
    """Close one hold in every scope."""
    tenant.spend.release(hold)
    lifetime.spend.release(hold)


def _pay(turn: Turn, tenant: Tenant, lifetime: Lifetime, node_id: str, usage: pb.ResourceUsage) -> None:
    """Add what a run used to every scope."""
    tenant.spend.settle(usage)
    lifetime.spend.settle(usage)
    lifetime.node(node_id).spend.settle(usage)
    if tenant.policies:
        turn.evaluator(tenant).settle(usage)


def _accept(
    flow: Flow, flight: InFlight, execution: Execution, cost: pb.ResourceUsage, doubtful: bool
) -> None:
    lifetime, work = flow.lifetime, flight.work
    headers = execution.headers
    close(flow, headers.execution_id, flight)
    if doubtful:
        flow.pause(
            f"USAGE_RANGE: task {work.node_id} reported a usage that cannot be; its hold was charged", 0
        )
    matches = _judge(flow, work.node_id, work.iteration, work.attempt, cost, execution)
    verdict = _obey(flow, matches, headers.execution_id, work.node_id)
    if not lifetime.is_live:
        return
    if verdict == REJECT:
        flow.reject(work, headers.execution_id, [m for m in matches if not m.rule.shadow])
    elif headers.status == pb.EXECUTION_STATUS_ABORTED:
        retry_lost(flow, work, headers.execution_id, "its worker gave it up")
    elif not execution.result.success:
        _failed(flow, work, execution)
    elif isinstance(execution, plan_pb2.PlanExecution):
        fault = flow.plan_done(work, execution)
        if fault:
            error = pb.ExecutionError(code=fault.split(":", 1)[0], message=fault, retryable=True)
            retry_failed(flow, work, headers.execution_id, error)
    else:
        flow.task_done(work, execution)


def close(flow: Flow, done_id: str, flight: InFlight) -> None:
    """Stop waiting for an execution; other runs of it are orphaned, a hold that no run took is released."""
    lifetime = flow.lifetime
    del lifetime.inflight[done_id]
    if flight.runs:
        if flight.hold is not None:
            release(flow.tenant, lifetime, flight.hold)
            flight.hold = None
        orphan(lifetime, done_id, flight, flow.turn.clock)
        flow.turn.arm(flow.tenant, lifetime, flow.turn.clock + ORPHAN_GRACE_MS)
    elif flight.hold is not None:
        release(flow.tenant, lifetime, flight.hold)
        flight.hold = None


def _judge(
    flow: Flow, node_id: str, iteration: int, attempt: int, cost: pb.ResourceUsage, execution: Execution
) -> list[Match]:
    if not flow.tenant.policies:
        return []
    graphs = flow.lifetime.graphs
    result = execution.result
    in_store = result.WhichOneof("value") == "blob_reference"
    size = result.blob_reference.size_bytes if in_store else len(result.json_result)
    node = graphs.nodes[node_id]
    candidate = Candidate(graphs.graph, node, iteration, attempt, NOTHING, cost, result.success, size)
    return flow.turn.evaluator(flow.tenant).judge(flow.lifetime, candidate)


def _obey(flow: Flow, matches: Sequence[Match], cause_id: str, node_id: str) -> int:
    """Pause or abort as the rules ask; return the verdict."""
    if not matches:
        return 0
    flow.control.shadows(flow.lifetime, matches, cause_id, node_id)
    verdict = verdict_of(matches)
    obeyed = [m for m in matches if not m.rule.shadow]
    if verdict == ABORT:
        flow.abort_for(obeyed, cause_id, node_id)
    elif verdict == PAUSE:
        flow.pause_for(obeyed, cause_id, node_id)
    return verdict


def _failed(flow: Flow, work: Work, execution: Execution) -> None:
    headers, error = execution.headers, execution.result.error
    if retry_failed(flow, work, headers.execution_id, error, final=False):
        return
    if isinstance(execution, plan_pb2.PlanExecution):
        flow.end(pb.LIFETIME_STATUS_FAILED, f"plan {work.node_id}: {error.code}: {error.message}")
    else:
        flow.task_done(work, execution)


def retry_failed(
    flow: Flow, work: Work, failed_id: str, error: pb.ExecutionError, *, final: bool = True
) -> bool:
    """Schedule the next attempt and return True; when none is left, deliver the failure if `final`."""
    config = flow.lifetime.graphs.nodes[work.node_id].config
    tries = work.attempt - work.lost
    if error.retryable and tries <= config.max_retries:
        wait = min(config.backoff_ms << min(tries - 1, MAX_BACKOFF_DOUBLINGS), config.max_backoff_ms)
        # Jitter of up to a quarter, taken from the execution id: the same in every fold of the log.
        wait += wait * (int(failed_id[:4], 16) & 0xFF) // 1024
        _delay(flow, work, failed_id, wait, work.lost)
        return True
    if final:
        deliver_failure(flow, work, failed_id, error.code, error.message)
    return False


def retry_lost(flow: Flow, work: Work, lost_id: str, why: str) -> None:
    """Dispatch anew what was lost with its worker; that is no try of the handler's."""
    if work.lost >= MAX_LOST:
        deliver_failure(flow, work, lost_id, "LOST", f"given up after {work.lost + 1} lost attempts: {why}")
    else:
        _delay(flow, work, lost_id, 0, work.lost + 1)


def deliver_failure(flow: Flow, work: Work, failed_id: str, code: str, message: str) -> None:
    """Deliver a failure that no worker reported: a task's to the next plan, a plan's to the lifetime."""
    if isinstance(flow.lifetime.graphs.nodes[work.node_id], Plan):
        flow.end(pb.LIFETIME_STATUS_FAILED, f"plan {work.node_id}: {code}: {message}")
    else:
        flow.task_done(work, flow.failed(work, failed_id, code, message))


def _delay(flow: Flow, work: Work, previous_id: str, wait_ms: int, lost: int) -> None:
    lifetime = flow.lifetime
    again = work._replace(attempt=work.attempt + 1, parent_execution_id=previous_id, lost=lost)
    if not wait_ms:
        flow.admit(again)
        return
    due = flow.turn.clock + wait_ms
    next_id = execution_id(
        flow.tenant.tenant_id, lifetime.lifetime_id, again.node_id, again.iteration, again.attempt
    )
    lifetime.delayed[next_id] = (due, again)
    flow.turn.arm(flow.tenant, lifetime, due)


def on_started(
    turn: Turn,
    tenant: Tenant,
    lifetime: Lifetime,
    started: execution_pb2.ExecutionStarted,
) -> None:
    """Give a run its lease and its hold. A run that nobody waits for is held to account all the same."""
    run_id = started.run_id
    if not run_id or len(run_id) > 64:
        raise BadRecord("DECODE", "a started run needs a run_id of 1-64 characters")
    flight = lifetime.inflight.get(started.execution_id)
    if run_id in lifetime.settled or run_id in lifetime.orphans or (flight and run_id in flight.runs):
        return
    if flight is None:
        _late_start(turn, tenant, lifetime, started)
        return
    node = lifetime.graphs.nodes[flight.work.node_id]
    hold, flight.hold = flight.hold, None
    if hold is None:
        hold = hold_of(node)
        tenant.spend.hold(hold)
        lifetime.spend.hold(hold)
    lease_until = turn.clock + LEASE_MS
    flight.runs[run_id] = Run(run_id, hold, lease_until, turn.clock + timeout_of(node) + 2 * LEASE_MS)
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
        node = lifetime.graphs.nodes.get(started.node_id)
        if node is None or started.node_id not in lifetime.nodes:
            raise BadRecord(
                "UNKNOWN_NODE", f"run of {started.execution_id[:64]!a}, which was never dispatched"
            )
        hold = hold_of(node)
        tenant.spend.hold(hold)
        lifetime.spend.hold(hold)
        lifetime.orphans[started.run_id] = Orphan(started.execution_id, started.node_id, hold, due, True)
    if lifetime.closing:
        lifetime.closing = max(lifetime.closing, due)
    turn.arm(tenant, lifetime, due)


def on_heartbeat(turn: Turn, tenant: Tenant, heartbeat: execution_pb2.WorkerHeartbeat) -> None:
    """Renew leases; a run that has used more than its hold holds more."""
    for beat in heartbeat.runs:
        lifetime = tenant.lifetimes.get(beat.lifetime_id)
        flight = lifetime.inflight.get(beat.execution_id) if lifetime else None
        run = flight.runs.get(beat.run_id) if flight else None
        if lifetime is None or run is None:
            continue
        run.lease_until = turn.clock + LEASE_MS
        used = beat.partial_usage
        if is_believable(used) and (used.tokens_used > run.hold.tokens or used.cost_nano_usd > run.hold.cost):
            release(tenant, lifetime, run.hold)
            run.hold = Amount(max(run.hold.tokens, used.tokens_used), max(run.hold.cost, used.cost_nano_usd))
            tenant.spend.hold(run.hold)
            lifetime.spend.hold(run.hold)


def close_orphan(turn: Turn, tenant: Tenant, lifetime: Lifetime, orphan_key: str) -> None:
    """The grace is over: a run that began is charged its hold, one that never did is let go."""
    left = lifetime.orphans.pop(orphan_key)
    release(tenant, lifetime, left.hold)
    if left.began:
        lifetime.settled[orphan_key] = 0
        _pay(turn, tenant, lifetime, left.node_id, charged(None, left.hold))
    flow = Flow(turn, tenant, lifetime)
    if not lifetime.is_live and lifetime.spend.open_holds == 0:
        flow.control.view(lifetime)


def expire_run(flow: Flow, flight_id: str, flight: InFlight, run: Run) -> None:
    """A lease has run out or a run was too long: its hold is orphaned, and the execution is tried anew."""
    lifetime, turn = flow.lifetime, flow.turn
    del flight.runs[run.run_id]
    lifetime.orphans[run.run_id] = Orphan(
        flight_id, flight.work.node_id, run.hold, turn.clock + ORPHAN_GRACE_MS, True
    )
    turn.arm(flow.tenant, lifetime, turn.clock + ORPHAN_GRACE_MS)
    if flight.runs:
        return
    close(flow, flight_id, flight)
    if run.stop_at > turn.clock:
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
    close(flow, flight_id, flight)
    if node.type == "human":
        deliver_failure(flow, flight.work, flight_id, "TIMEOUT", "no person answered in time")
        if flow.lifetime.is_live:
            flow.control.view(flow.lifetime)
    else:
        retry_lost(flow, flight.work, flight_id, "no worker reported in time")
