"""How a lifetime moves: route a result, gather joins, admit, dispatch, hold back, go on, end.

The gate's one rule is here: `admit` is the only way to `_dispatch`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from headgate_graphs.ids import execution_id
from headgate_graphs.model import Plan, Task
from headgate_graphs.progress import JoinArrival, Lineage
from headgate_guardrails.fold.controller import ExecutionController, describe
from headgate_guardrails.fold.evaluator import ABORT, ALLOW, PAUSE, Candidate, Match, verdict_of
from headgate_guardrails.fold.ledger import Amount
from headgate_guardrails.fold.state import InFlight, Join, Lifetime, Orphan, Tenant, Work
from headgate_guardrails.fold.turn import PLAN_INPUTS, TASK_INPUTS, Turn, stamp
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, plan_pb2, task_pb2

START_WITHIN_MS = 3_600_000
"""How long an input may wait for a worker before it is dispatched anew."""
LEASE_MS = 10_000
"""How long an announced run may be silent; heartbeats come at a third of it."""
ORPHAN_GRACE_MS = 300_000
"""How long a run that nobody waits for may still report what it spent."""
LEASED_ABOVE_MS = 60_000
"""A node that may run longer than this is leased even without limits."""
TIMEOUT_MS = 60_000
"""How long a handler may run when its node does not say."""
HUMAN_TIMEOUT_MS = 86_400_000
"""How long a person may take when the node does not say."""
MAX_INPUT_BYTES = 900_000
"""A joined input above this would not fit into a record of the log."""
MAX_LOST = 5
"""Attempts of one visit that may be lost with their workers."""


def timeout_of(node: Task | Plan) -> int:
    """Return how long one run of the node may take, in milliseconds."""
    if node.config.timeout_ms is not None:
        return node.config.timeout_ms
    return HUMAN_TIMEOUT_MS if node.type == "human" else TIMEOUT_MS


def hold_of(node: Task | Plan) -> Amount:
    """Return what one execution of the node reserves."""
    limits = node.config.limits
    return Amount(limits.tokens_used or 0, limits.cost_nano_usd or 0)


def is_leased(node: Task | Plan) -> bool:
    """Whether runs of the node are announced and leased: they are paid for, or they are long."""
    if node.config.leased is not None:
        return node.config.leased
    return not hold_of(node).is_zero or timeout_of(node) > LEASED_ABOVE_MS


class Flow:
    """The movements of one lifetime in one turn."""

    __slots__ = ("control", "lifetime", "tenant", "turn")

    def __init__(self, turn: Turn, tenant: Tenant, lifetime: Lifetime) -> None:
        self.turn = turn
        self.tenant = tenant
        self.lifetime = lifetime
        self.control = ExecutionController(turn, tenant)

    # -- forward -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Dispatch the entry node with the start input."""
        entry = self.lifetime.graphs.graph.entry
        is_task = isinstance(self.lifetime.graphs.nodes[entry], Task)
        self._visit(entry, (), (), self.lifetime.start_input if is_task else None, ())

    def task_done(self, work: Work, execution: task_pb2.TaskExecution) -> None:
        """Send a task's accepted result on."""
        lifetime = self.lifetime
        done_id = execution.headers.execution_id
        graphs = lifetime.graphs
        facts = self._facts(work, execution) if graphs.needs_facts(work.node_id) else None
        routes = graphs.tasks.route(work.node_id, done_id, work.lineage, facts)
        result = execution.result
        if routes.fault:
            self.end(pb.LIFETIME_STATUS_FAILED, routes.fault)
        elif not result.success and (routes.final or routes.is_empty):
            self.end(pb.LIFETIME_STATUS_FAILED, f"task {work.node_id}: {_failure(result.error)}")
        elif routes.final:
            lifetime.outcome = payload_of(result)
            self.end(pb.LIFETIME_STATUS_COMPLETED, "")
        else:
            execution.ClearField("input_data")
            execution.ClearField("ticket")
            for hop in routes.hops:
                self._visit(hop.target, hop.lineage, (done_id,), None, (execution,))
            for arrival in routes.arrivals:
                self._arrive(arrival, execution)

    def plan_done(self, work: Work, execution: plan_pb2.PlanExecution) -> str:
        """Send a plan's accepted decision on; return a fault when it names what it may not."""
        lifetime = self.lifetime
        result = execution.result
        done_id = execution.headers.execution_id
        routes = lifetime.graphs.plans.route(work.node_id, done_id, work.lineage, result.next_task_ids)
        if routes.fault:
            return routes.fault
        value = payload_of(result)
        if routes.final:
            lifetime.outcome = value
            self.end(pb.LIFETIME_STATUS_COMPLETED, "")
            return ""
        own = {given.task_id: given.input_data for given in result.next_inputs}
        for hop in routes.hops:
            self._visit(hop.target, hop.lineage, (done_id,), own.get(hop.target, value), ())
        return ""

    def _arrive(self, arrival: JoinArrival, execution: task_pb2.TaskExecution) -> None:
        """Keep a result at its join; the last one expected sets the plan behind it going, once."""
        lifetime = self.lifetime
        if not lifetime.is_live:
            return
        key = (arrival.plan_id, arrival.visit)
        join = lifetime.joins.get(key)
        if join is None:
            join = lifetime.joins[key] = Join(arrival.expected, arrival.lineage)
        if join.fired or arrival.branch in join.arrived:
            return
        join.arrived[arrival.branch] = execution
        if len(join.arrived) < len(join.expected):
            return
        gathered = tuple(join.arrived[branch] for branch in join.expected)
        join.fired = True
        join.arrived = {}
        ids = tuple(one.headers.execution_id for one in gathered)
        self._visit(arrival.plan_id, arrival.lineage, ids, None, gathered)
        self._forget_joins(arrival.visit)

    def _forget_joins(self, just_fired: str) -> None:
        """Drop fired joins into whose visit no token can come any more."""
        lifetime = self.lifetime
        lineages = [flight.work.lineage for flight in lifetime.inflight.values()]
        lineages += [work.lineage for work in lifetime.parked]
        lineages += [work.lineage for _, work in lifetime.delayed.values()]
        lineages += [join.lineage for join in lifetime.joins.values() if not join.fired]
        alive = {frame.execution_id for lineage in lineages for frame in lineage}
        alive.add(just_fired)
        for key in [k for k, join in lifetime.joins.items() if join.fired and k[1] not in alive]:
            del lifetime.joins[key]

    def _visit(
        self,
        node_id: str,
        lineage: Lineage,
        upstream_ids: tuple[str, ...],
        input_data: pb.Payload | None,
        upstreams: tuple[task_pb2.TaskExecution, ...],
    ) -> None:
        """Begin one more visit to a node; one above the graph's own cap ends the lifetime."""
        lifetime = self.lifetime
        if not lifetime.is_live:
            return
        tally = lifetime.node(node_id)
        cap = lifetime.graphs.graph.limits.max_iterations
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
            self.end(pb.LIFETIME_STATUS_ABORTED, reason, violations=[violation], node_id=node_id)
            return
        tally.iterations += 1
        self.admit(Work(node_id, tally.iterations, 1, "", upstream_ids, lineage, input_data, upstreams, 0))

    # -- the gate ----------------------------------------------------------------------------------

    def admit(self, work: Work) -> None:
        """Dispatch the work if every policy allows it; else reject it, hold it back, or end the lifetime."""
        lifetime = self.lifetime
        if not lifetime.is_live:
            return
        if lifetime.status == pb.LIFETIME_STATUS_PAUSED:
            lifetime.parked.append(work)
            return
        node = lifetime.graphs.nodes[work.node_id]
        hold = hold_of(node)
        next_id = execution_id(
            self.tenant.tenant_id, lifetime.lifetime_id, work.node_id, work.iteration, work.attempt
        )
        if self.tenant.policies:
            candidate = Candidate(
                lifetime.graphs.graph, node, work.iteration, work.attempt, hold, None, True, 0
            )
            matches = self.turn.evaluator(self.tenant).judge(lifetime, candidate)
            if matches:
                self.control.shadows(lifetime, matches, next_id, work.node_id)
                verdict = verdict_of(matches)
                if verdict != ALLOW:
                    self._refuse(work, next_id, verdict, matches)
                    return
        self._dispatch(work, next_id, node, hold)

    def _refuse(self, work: Work, next_id: str, verdict: int, matches: Sequence[Match]) -> None:
        obeyed = [m for m in matches if not m.rule.shadow]
        if verdict == PAUSE:
            self.lifetime.parked.append(work)
            self.pause_for(obeyed, next_id, work.node_id)
        elif verdict == ABORT:
            self.abort_for(obeyed, next_id, work.node_id)
        else:
            self.reject(work, next_id, obeyed)

    def reject(self, work: Work, rejected_id: str, matches: Sequence[Match]) -> None:
        """Publish a rejection and deliver it to the next plan as a failed result; a plan's ends the run."""
        lifetime = self.lifetime
        violations = [m.violation for m in matches]
        reason = describe(violations[0])
        self.control.event(
            lifetime,
            control_pb2.CONTROL_TYPE_REJECT_EXECUTION,
            reason,
            violations=violations,
            execution_id=rejected_id,
            node_id=work.node_id,
        )
        node = lifetime.graphs.nodes[work.node_id]
        if isinstance(node, Plan):
            self.end(pb.LIFETIME_STATUS_FAILED, f"plan {work.node_id} was rejected: {reason}")
            return
        self.task_done(work, self.failed(work, rejected_id, "REJECTED", reason, pb.EXECUTION_STATUS_REJECTED))

    def failed(
        self, work: Work, failed_id: str, code: str, message: str, status: int = pb.EXECUTION_STATUS_FAILED
    ) -> task_pb2.TaskExecution:
        """Return the failed result of a task that no worker reported."""
        execution = task_pb2.TaskExecution(tenant_id=self.tenant.tenant_id)
        self._identify(execution.headers, work, failed_id)
        execution.headers.status = status  # type: ignore[assignment]
        execution.result.error.code = code
        execution.result.error.message = message
        return execution

    def _dispatch(self, work: Work, new_id: str, node: Task | Plan, hold: Amount) -> None:
        lifetime, turn = self.lifetime, self.turn
        timeout = timeout_of(node)
        is_human = node.type == "human"
        if sum(one.ByteSize() for one in work.upstreams) > MAX_INPUT_BYTES:
            self.end(pb.LIFETIME_STATUS_FAILED, f"INPUT_TOO_LARGE: what joins at {node.id} exceeds a record")
            return
        leased = not is_human and is_leased(node)
        due = turn.clock + (timeout if is_human else START_WITHIN_MS if leased else START_WITHIN_MS + timeout)
        lifetime.inflight[new_id] = InFlight(work, hold, due, leased)
        self.tenant.spend.hold(hold)
        lifetime.spend.hold(hold)
        turn.arm(self.tenant, lifetime, due)
        if is_human:
            self.control.view(lifetime)
            return
        message: Any
        if isinstance(node, Plan):
            message = plan_pb2.PlanInput(
                tenant_id=self.tenant.tenant_id,
                upstream_task_executions=work.upstreams,
                allowed_next_ids=[edge.target for edge in lifetime.graphs.graph.outgoing[node.id]],
            )
        else:
            message = task_pb2.TaskInput(tenant_id=self.tenant.tenant_id, input_data=work.input_data)
        self._identify(message.headers, work, new_id)
        message.headers.status = pb.EXECUTION_STATUS_PENDING
        stamp(message.headers.deadline, due)
        stamp(message.headers.timeout, timeout)
        message.start_input.CopyFrom(lifetime.start_input)
        message.params_json = _params_of(node)
        message.hold.tokens_used = hold.tokens
        message.hold.cost_nano_usd = hold.cost
        if leased:
            message.leased = True
            stamp(message.start_by, due)
            stamp(message.lease, LEASE_MS)
        topic = PLAN_INPUTS if isinstance(node, Plan) else TASK_INPUTS
        turn.emit(topic, new_id, self.tenant.tenant_id, message, node.config.queue or "")

    def _identify(self, headers: pb.ExecutionHeaders, work: Work, own_id: str) -> None:
        lifetime = self.lifetime
        node = lifetime.graphs.nodes[work.node_id]
        headers.execution_id = own_id
        headers.lifetime_id = lifetime.lifetime_id
        headers.graph_id, headers.graph_version = lifetime.graph_key
        headers.node_id = work.node_id
        headers.node_kind = pb.NODE_KIND_PLAN if isinstance(node, Plan) else pb.NODE_KIND_TASK
        headers.node_type = node.type
        headers.iteration = work.iteration
        headers.attempt = work.attempt
        headers.parent_execution_id = work.parent_execution_id
        headers.upstream_execution_ids.extend(work.upstream_ids)
        headers.queue = node.config.queue or ""

    # -- holding back, going on, ending --------------------------------------------------------------

    def pause_for(self, matches: Sequence[Match], cause_id: str, node_id: str) -> None:
        """Pause because rules were broken; the strongest one's ttl holds."""
        strongest = next(m for m in matches if m.rule.verdict == PAUSE)
        self.pause(
            describe(strongest.violation),
            strongest.rule.pause_ttl_ms,
            violations=[m.violation for m in matches],
            execution_id=cause_id,
            node_id=node_id,
        )

    def pause(self, reason: str, ttl_ms: int, **event: Any) -> None:
        """Stop dispatching; a lifetime that is paused already stays as it is."""
        lifetime = self.lifetime
        if lifetime.status != pb.LIFETIME_STATUS_RUNNING:
            return
        lifetime.status = pb.LIFETIME_STATUS_PAUSED
        lifetime.reason = reason
        lifetime.violations = list(event.get("violations", ()))
        lifetime.pause_generation += 1
        lifetime.pause_due = self.turn.clock + ttl_ms if ttl_ms else 0
        if ttl_ms:
            self.turn.arm(self.tenant, lifetime, lifetime.pause_due)
        self.control.event(lifetime, control_pb2.CONTROL_TYPE_PAUSE_LIFETIME, reason, **event)
        self.control.view(lifetime)

    def resume(self, command_id: str) -> None:
        """Admit what was held back, in order; a cap that still stands pauses again at once."""
        lifetime = self.lifetime
        lifetime.status = pb.LIFETIME_STATUS_RUNNING
        lifetime.reason = ""
        lifetime.violations = []
        lifetime.pause_due = 0
        self.control.event(
            lifetime,
            control_pb2.CONTROL_TYPE_RESUME_LIFETIME,
            "resumed by an operator",
            command_id=command_id,
        )
        self.control.view(lifetime)
        held_back, lifetime.parked = lifetime.parked, []
        for work in held_back:
            self.admit(work)

    def abort_for(self, matches: Sequence[Match], cause_id: str, node_id: str) -> None:
        """Abort because rules were broken."""
        violations = [m.violation for m in matches]
        self.lifetime.violations = violations
        self.end(
            pb.LIFETIME_STATUS_ABORTED,
            describe(violations[0]),
            violations=violations,
            execution_id=cause_id,
            node_id=node_id,
        )

    def end(self, status: int, reason: str, **event: Any) -> None:
        """End the lifetime: orphan what is in flight, tell the workers, publish the terminal view."""
        lifetime, turn = self.lifetime, self.turn
        if not lifetime.is_live:
            return
        lifetime.status = status
        lifetime.reason = reason
        lifetime.ended_at = turn.clock
        lifetime.pause_due = 0
        told = status == pb.LIFETIME_STATUS_ABORTED or bool(lifetime.inflight)
        for flight_id, flight in lifetime.inflight.items():
            orphan(lifetime, flight_id, flight, turn.clock)
        lifetime.inflight = {}
        lifetime.parked = []
        lifetime.delayed = {}
        lifetime.joins = {}
        lifetime.start_input = pb.Payload()
        lifetime.closing = turn.clock + ORPHAN_GRACE_MS
        turn.arm(self.tenant, lifetime, lifetime.closing)
        if told:
            ended = pb.LifetimeStatus.Name(status).removeprefix("LIFETIME_STATUS_").lower()
            self.control.event(
                lifetime, control_pb2.CONTROL_TYPE_ABORT_LIFETIME, reason or f"the lifetime {ended}", **event
            )
        self.control.view(lifetime)

    def end_if_dry(self) -> None:
        """End a lifetime in which nothing can happen any more."""
        lifetime = self.lifetime
        if not lifetime.is_live or lifetime.inflight or lifetime.parked or lifetime.delayed:
            return
        waiting = [plan_id for (plan_id, _), join in lifetime.joins.items() if not join.fired]
        if waiting:
            self.end(pb.LIFETIME_STATUS_FAILED, f"JOIN_STARVED: nothing is left that {waiting[0]} waits for")
        else:
            self.end(pb.LIFETIME_STATUS_COMPLETED, "")

    def _facts(self, work: Work, execution: task_pb2.TaskExecution) -> Mapping[str, Any]:
        """Return the values that edge conditions may look at."""
        lifetime, result = self.lifetime, execution.result
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


def orphan(lifetime: Lifetime, flight_id: str, flight: InFlight, clock: int) -> None:
    """Keep the holds of an execution that nobody waits for until its runs report or the grace is over."""
    due = clock + ORPHAN_GRACE_MS
    node_id = flight.work.node_id
    for run in flight.runs.values():
        lifetime.orphans[run.run_id] = Orphan(flight_id, node_id, run.hold, due, True)
    if flight.hold is not None:
        # A plain run announces nothing, so one that may have begun cannot be told from one that never did.
        lifetime.orphans[flight_id] = Orphan(flight_id, node_id, flight.hold, due, False)


def payload_of(result: task_pb2.TaskResult | plan_pb2.PlanResult) -> pb.Payload:
    """Return a result's value as a payload; null when it has none."""
    kind = result.WhichOneof("value")
    if kind == "blob_reference":
        return pb.Payload(blob=result.blob_reference)
    return pb.Payload(json=result.json_result if kind else "null")


def _failure(error: pb.ExecutionError) -> str:
    return f"{error.code or 'FAILED'}: {error.message}" if error.message else error.code or "FAILED"


def _params_of(node: Task | Plan) -> str:
    """Return the node's parameters as JSON; a rules plan carries its rules."""
    config = node.config
    params = dict(config.params)
    if isinstance(node, Plan) and node.type == "rules":
        rules = sorted(node.config.rules, key=lambda rule: -rule.priority)
        params["rules"] = [{"when": rule.when, "next": list(rule.next)} for rule in rules]
        params["default"] = list(node.config.default_next)
    return json.dumps(params, sort_keys=True, separators=(",", ":")) if params else ""


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
