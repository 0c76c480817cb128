"""Where a result goes: over edges, into joins, to the next visit. Called when a result is accepted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from headgate_graphs.model import Plan, Task
from headgate_graphs.progress import JoinArrival, Lineage
from headgate_guardrails.fold import ending
from headgate_guardrails.fold.flow import Flow, payload_of
from headgate_guardrails.fold.holds import ORPHAN_GRACE_MS, abandon, close
from headgate_guardrails.fold.lifetime import Join, Work
from headgate_guardrails.fold.states import move
from headgate_guardrails.fold.terms import HUMAN
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, plan_pb2, task_pb2

JoinKey = tuple[str, str]
"""(plan, visit)."""


def begin(flow: Flow) -> None:
    """Begin a lifetime that has just been made: show it, arm its timers, dispatch the entry node."""
    enter(flow)
    set_out(flow)


def set_out(flow: Flow) -> None:
    """Dispatch what a lifetime that has just been entered begins with."""
    lifetime = flow.lifetime
    ending.settle_down(flow)
    if lifetime.is_live:  # now what was dispatched is due before that, and needs no second entry of the heap
        flow.arm(lifetime.deadline)


def enter(flow: Flow) -> None:
    """Do the same, and leave the entry node on the agenda."""
    lifetime, turn = flow.lifetime, flow.turn
    graph = lifetime.graphs.graph
    move(lifetime, pb.LIFETIME_STATUS_RUNNING)
    lifetime.started_at = turn.clock
    lifetime.deadline = turn.clock + graph.limits.deadline_ms
    watch_age(flow)
    flow.control.view(lifetime)
    is_task = isinstance(lifetime.graphs.nodes[graph.entry], Task)
    _visit(flow, graph.entry, (), (), lifetime.start_input if is_task else None, ())


def watch_age(flow: Flow) -> None:
    """Arm the next timer of the rules about wall time."""
    lifetime, evaluator = flow.lifetime, flow.evaluator
    ages = evaluator.wall_times if evaluator is not None else ()
    raised = [value for (_, _, metric), value in lifetime.budgets.items() if metric == "wall_time_ms"]
    dues = [lifetime.started_at + age + 1 for age in sorted({*ages, *raised})]
    lifetime.wall_due = next((due for due in dues if due > flow.turn.clock), 0)
    if lifetime.wall_due:
        flow.arm(lifetime.wall_due)


def task_done(flow: Flow, work: Work, done_id: str, execution: task_pb2.TaskExecution) -> None:
    """Send a task's accepted result on."""
    if flow.turn.witness is not None:
        flow.turn.witness.went_on(flow, work, done_id, execution)
    lifetime, terms = flow.lifetime, flow.lifetime.terms[work.node_id]
    if terms.only_way:
        _strip(execution)
        _visit(flow, terms.only_way, work.lineage, (done_id,), None, (execution,))
        return
    result = execution.result
    facts = _facts(flow, work, execution) if terms.needs_facts else None
    routes = lifetime.graphs.tasks.route(work.node_id, done_id, work.lineage, facts)
    if routes.fault:
        ending.end(flow, pb.LIFETIME_STATUS_FAILED, routes.fault)
    elif not result.success and (routes.final or routes.is_empty):
        ending.end(flow, pb.LIFETIME_STATUS_FAILED, f"task {work.node_id}: {_failure(result.error)}")
    elif routes.final:
        lifetime.outcome = payload_of(result)
        ending.end(flow, pb.LIFETIME_STATUS_COMPLETED, "")
    else:
        _strip(execution)
        lifetime.transit = work.lineage
        for target, lineage in routes.hops:
            _visit(flow, target, lineage, (done_id,), None, (execution,))
        for arrival in routes.arrivals:
            _arrive(flow, arrival, execution)
        lifetime.transit = ()


def _strip(execution: task_pb2.TaskExecution) -> None:
    """Take away what the next plan has no use for."""
    if execution.HasField("input_data"):
        execution.ClearField("input_data")
    if execution.ticket:
        execution.ClearField("ticket")


def plan_done(flow: Flow, work: Work, done_id: str, execution: plan_pb2.PlanExecution) -> str:
    """Send a plan's accepted decision on; return a fault when it names what it may not."""
    lifetime, result = flow.lifetime, execution.result
    named = result.next_task_ids
    if len(named) == 1 and named[0] in lifetime.terms[work.node_id].normal_ways:
        hops: tuple[tuple[str, Lineage], ...] = ((named[0], work.lineage),)
    else:
        routes = lifetime.graphs.plans.route(work.node_id, done_id, work.lineage, named)
        if routes.fault:
            return routes.fault
        if routes.final:
            _decided(flow, work, done_id, execution)
            lifetime.outcome = payload_of(result)
            ending.end(flow, pb.LIFETIME_STATUS_COMPLETED, "")
            return ""
        hops = routes.hops
    _decided(flow, work, done_id, execution)
    value, given = payload_of(result), result.next_inputs
    own = {one.task_id: one.input_data for one in given} if given else {}
    for target, lineage in hops:
        _visit(flow, target, lineage, (done_id,), own.get(target, value), ())
    return ""


def _decided(flow: Flow, work: Work, done_id: str, execution: plan_pb2.PlanExecution) -> None:
    if flow.turn.witness is not None:
        flow.turn.witness.went_on(flow, work, done_id, execution)


def deliver_failure(flow: Flow, failed_id: str, code: str, message: str) -> None:
    """Close an execution that no worker will report, and deliver its failure."""
    work = close(flow.tenant, flow.lifetime, failed_id, flow.turn.clock).work
    fail(flow, work, failed_id, code, message)


def fail(flow: Flow, work: Work, failed_id: str, code: str, message: str) -> None:
    """Deliver a failure that no worker reported: a task's to the next plan, a plan's to the lifetime."""
    if isinstance(flow.lifetime.graphs.nodes[work.node_id], Plan):
        ending.end(flow, pb.LIFETIME_STATUS_FAILED, f"plan {work.node_id}: {code}: {message}")
    else:
        failure = flow.unreported(work, failed_id, pb.EXECUTION_STATUS_FAILED, code, message)
        task_done(flow, work, failed_id, failure)


def _visit(
    flow: Flow,
    node_id: str,
    lineage: Lineage,
    upstream_ids: tuple[str, ...],
    input_data: pb.Payload | None,
    upstreams: tuple[task_pb2.TaskExecution, ...],
) -> None:
    """Put one more visit to a node on the agenda; one above the graph's own cap ends the lifetime."""
    lifetime = flow.lifetime
    if lifetime.ended_at:
        return
    tally = lifetime.nodes.get(node_id) or lifetime.node(node_id)
    cap = lifetime.terms[node_id].max_visits
    if tally.iterations >= cap:
        violation = control_pb2.GuardrailViolation(
            policy="graph",
            rule="max_iterations",
            scope=control_pb2.POLICY_SCOPE_LIFETIME,
            metric="iterations",
            measured=tally.iterations + 1,
            limit=cap,
            action="abort_lifetime",
        )
        lifetime.violations = [violation]
        reason = f"graph limit max_iterations: node {node_id} {tally.iterations + 1} > {cap}"
        ending.end(flow, pb.LIFETIME_STATUS_ABORTED, reason, violations=[violation], node_id=node_id)
        return
    tally.iterations += 1
    work = Work(node_id, tally.iterations, 1, "", upstream_ids, lineage, input_data, upstreams, 0)
    lifetime.agenda.append(work)


# -- joins -----------------------------------------------------------------------------------------


def _arrive(flow: Flow, arrival: JoinArrival, execution: task_pb2.TaskExecution) -> None:
    """Keep a result at its join, which goes on once for each visit."""
    lifetime = flow.lifetime
    if not lifetime.is_live:
        return
    key = (arrival.plan_id, arrival.visit)
    join = lifetime.joins.get(key)
    config = _join_config(flow, arrival.plan_id)
    if join is None:
        join = lifetime.joins[key] = Join(arrival.expected, arrival.lineage)
        if config.timeout_ms is not None:
            join.due = flow.turn.clock + config.timeout_ms
            flow.arm(join.due)
    if join.fired or arrival.branch in join.arrived:
        if config.late == "record":
            flow.control.event(
                lifetime,
                control_pb2.CONTROL_TYPE_WARN,
                f"LATE_ARRIVAL: branch {arrival.branch} came to {arrival.plan_id} after it had gone on",
                execution_id=execution.headers.execution_id,
                node_id=execution.headers.node_id,
            )
        return
    join.arrived[arrival.branch] = execution
    _, at_once = config.needs(len(join.expected))
    enough = config.strategy != "all" and _successes(join) >= at_once
    if enough or len(join.arrived) == len(join.expected):
        _fire(flow, key, join)


def _successes(join: Join) -> int:
    return sum(execution.result.success for execution in join.arrived.values())


def _join_config(flow: Flow, plan_id: str) -> Any:
    node = flow.lifetime.graphs.nodes[plan_id]
    assert isinstance(node, Plan)  # noqa: S101 - the graph's checks allow JOIN edges into plans alone
    return node.config.join


def _fire(flow: Flow, key: JoinKey, join: Join) -> None:
    """Go on with what has arrived, in branch order."""
    lifetime = flow.lifetime
    gathered = tuple(join.arrived[branch] for branch in join.expected if branch in join.arrived)
    losers = [branch for branch in join.expected if branch not in join.arrived]
    join.fired = True
    join.due = 0
    join.arrived = {}
    if losers and _join_config(flow, key[0]).cancel_losers:
        _cancel(flow, key[1], losers)
    ids = tuple(one.headers.execution_id for one in gathered)
    _visit(flow, key[0], join.lineage, ids, None, gathered)
    if lifetime.is_live:
        _forget_joins(flow, key[1])


def _cancel(flow: Flow, visit: str, losers: Sequence[str]) -> None:
    """Cancel everything that is under way in the losing branches of a visit."""
    lifetime = flow.lifetime

    def lost(lineage: Lineage) -> bool:
        return any(f.execution_id == visit and f.branch in losers for f in lineage)

    people = False
    for flight_id in [k for k, flight in lifetime.inflight.items() if lost(flight.work.lineage)]:
        child = flow.tenant.lifetimes.get(f"sub-{flight_id}")
        node_id = lifetime.inflight[flight_id].work.node_id
        people |= lifetime.graphs.nodes[node_id].type == HUMAN
        abandon(flow.tenant, lifetime, flight_id, flow.turn.clock)
        flow.arm(flow.turn.clock + ORPHAN_GRACE_MS)
        if child is not None and child.is_live:
            ending.end(flow.of(child), pb.LIFETIME_STATUS_ABORTED, "its branch lost")
        flow.control.event(
            lifetime,
            control_pb2.CONTROL_TYPE_REJECT_EXECUTION,
            "CANCELLED: the join went on without this branch",
            execution_id=flight_id,
            node_id=node_id,
        )
    lifetime.agenda = [work for work in lifetime.agenda if not lost(work.lineage)]
    lifetime.parked = [work for work in lifetime.parked if not lost(work.lineage)]
    lifetime.queued = [work for work in lifetime.queued if not lost(work.lineage)]
    if not lifetime.queued:
        flow.tenant.waiting.leave(lifetime.lifetime_id, lifetime.priority)
    lifetime.delayed = {k: v for k, v in lifetime.delayed.items() if not lost(v[1].lineage)}
    lifetime.joins = {k: join for k, join in lifetime.joins.items() if not lost(join.lineage)}
    if people:
        flow.control.view(lifetime)  # nobody is asked any more


def _alive(flow: Flow) -> set[str]:
    """Return the visits of forks in which something may still happen."""
    lifetime = flow.lifetime
    lineages = [flight.work.lineage for flight in lifetime.inflight.values()]
    lineages += [work.lineage for work in (*lifetime.parked, *lifetime.queued, *lifetime.agenda)]
    lineages.append(lifetime.transit)
    lineages += [work.lineage for _, work in lifetime.delayed.values()]
    lineages += [join.lineage for join in lifetime.joins.values() if not join.fired]
    return {frame.execution_id for lineage in lineages for frame in lineage}


def _forget_joins(flow: Flow, just_fired: str) -> None:
    """Drop fired joins into whose visit nothing can come any more."""
    lifetime = flow.lifetime
    alive = _alive(flow)
    alive.add(just_fired)
    for key in [k for k, join in lifetime.joins.items() if join.fired and k[1] not in alive]:
        del lifetime.joins[key]


def starve_a_join(flow: Flow) -> bool:
    """Decide a join whose last missing branch has ended elsewhere; return whether there was one."""
    lifetime = flow.lifetime
    alive = _alive(flow)
    for key, join in lifetime.joins.items():
        if not join.fired and key[1] not in alive:
            give_up(flow, key, "JOIN_STARVED: nothing more can come")
            return True
    return False


def give_up(flow: Flow, key: JoinKey, why: str) -> None:
    """Nothing more is waited for: go on with enough, or as the join says with too few."""
    join = flow.lifetime.joins[key]
    config = _join_config(flow, key[0])
    least, _ = config.needs(len(join.expected))
    enough = config.strategy != "all" and _successes(join) >= least
    if enough or (config.on_timeout == "proceed" and join.arrived):
        _fire(flow, key, join)
        return
    reason = f"{why} to {key[0]}: {len(join.arrived)} of {len(join.expected)} branches arrived"
    ending.end(flow, pb.LIFETIME_STATUS_FAILED, reason)


# -- what conditions see ---------------------------------------------------------------------------


def _facts(flow: Flow, work: Work, execution: task_pb2.TaskExecution) -> Mapping[str, Any]:
    """Return the values that edge conditions may look at."""
    lifetime, result = flow.lifetime, execution.result
    node = lifetime.graphs.nodes[work.node_id]
    return {
        "result": _visible(result),
        "success": result.success,
        "metadata": _parsed(result.metadata_json) or {},
        "error": {"code": result.error.code, "message": result.error.message},
        "upstream": list(work.upstream_ids),
        "lifetime": {"id": lifetime.lifetime_id, "executions": lifetime.spend.executions},
        "node": {"id": node.id, "type": node.type},
        "iteration": work.iteration,
    }


def _visible(result: task_pb2.TaskResult) -> Any:
    """Return what a condition sees of a value: the value when it is inline, size and type when it is not."""
    if result.WhichOneof("value") == "blob_reference":
        blob = result.blob_reference
        return {"size_bytes": blob.size_bytes, "content_type": blob.content_type}
    return _parsed(result.json_result)


def _parsed(text: str) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _failure(error: pb.ExecutionError) -> str:
    return f"{error.code or 'FAILED'}: {error.message}" if error.message else error.code or "FAILED"
