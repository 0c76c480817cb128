"""A lifetime that begins with what another one did: its history is taken, not run, and effects are spared.

The start carries the history: for each visit what went on from it, in the order in which the gate had taken
it. All of it is taken within the fold of that one record, by the verbs that take any result. Nothing of it is
dispatched, asked of a rule, or paid. See docs/adr/0013.
"""

from __future__ import annotations

from headgate_graphs.errors import BadRecord
from headgate_graphs.ids import execution_id
from headgate_graphs.model import Plan
from headgate_guardrails.fold import orders, routing, settlement
from headgate_guardrails.fold.flow import Flow
from headgate_guardrails.fold.lifetime import Guard, Lifetime, Work
from headgate_guardrails.fold.own_policy import fault_in
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, execution_pb2, plan_pb2

MAX_VISITS = 2_000
"""Visits of a history, and stubs beside it, that one start may carry: all are taken within one record."""

Visit = tuple[str, int]
"""(node, iteration)."""


def take_up(flow: Flow, fork: execution_pb2.LifetimeFork) -> str:
    """Give a lifetime that is being made its caps and its guard; return why it cannot be, "" when it can.

    Raises BadRecord for what no client writes.
    """
    if flow.turn.state.logic_version < 2:
        raise BadRecord("BAD_COMMAND", "a fork needs logic version 2")
    if max(len(fork.prefix), len(fork.stubs)) > MAX_VISITS:
        raise BadRecord("COUNT", f"a fork repeats more than {MAX_VISITS} visits")
    for one in (*fork.prefix, *fork.stubs):
        if one.WhichOneof("outcome") is None or not 0 <= one.status <= 6:
            raise BadRecord("BAD_COMMAND", "a recorded visit has no outcome, or a status that is unknown")
    if fork.policy_json and (fault := fault_in(fork.policy_json)):
        return f"BAD_POLICY: {fault}"
    for order in fork.budgets:
        try:
            key, rule = orders.find_cap(flow.turn, flow.tenant, order)
        except BadRecord as error:
            return f"BAD_BUDGET: {error.detail}"
        if rule.scope == "tenant":
            return f"BAD_BUDGET: rule {rule.name} caps the tenant: raise it without a lifetime"
        flow.lifetime.budgets[key] = order.value
    kept = execution_pb2.LifetimeFork(
        origin=fork.origin,
        stubs=fork.stubs,
        effects_allowed=fork.effects_allowed,
        policy_json=fork.policy_json,
    )
    flow.lifetime.fork = Guard(kept)
    return ""


def below(parent: Lifetime) -> Guard | None:
    """Return what guards a sub-graph: what its parent allows, and no record, for its visits are its own."""
    if parent.fork is None:
        return None
    message = parent.fork.message
    return Guard(
        execution_pb2.LifetimeFork(effects_allowed=message.effects_allowed, policy_json=message.policy_json)
    )


def begin(flow: Flow, fork: execution_pb2.LifetimeFork) -> None:
    """Begin the lifetime, take its history, and dispatch what comes after."""
    routing.enter(flow)
    _take_history(flow, fork)
    routing.set_out(flow)


def _take_history(flow: Flow, fork: execution_pb2.LifetimeFork) -> None:
    """Take what was recorded, in its order, as far as something asks for it.

    What is not recorded stays on the agenda meanwhile: a branch that was under way is alive for every join.
    Without changes each next record is asked for when its turn comes; with them, the first one that is.
    """
    lifetime = flow.lifetime
    places = {
        (one.visit.node_id, one.visit.iteration): place
        for place, one in enumerate(fork.prefix)
        if not one.HasField("join_timeout")
    }
    timeouts = {
        place: _join_of(flow, one.join_timeout)
        for place, one in enumerate(fork.prefix)
        if one.HasField("join_timeout")
    }
    while lifetime.is_live:
        found = _next_asked(lifetime, places)
        due = next((place for place, key in timeouts.items() if key in lifetime.joins), None)
        if due is not None and (found is None or due < found[0]):
            key = timeouts.pop(due)
            if not lifetime.joins[key].fired:
                routing.give_up(flow, key, "JOIN_TIMEOUT: nothing more is waited for")
        elif found is not None:
            place, index = found
            work = lifetime.agenda.pop(index)
            del places[work.node_id, work.iteration]
            if not _took(flow, work, fork.prefix[place]):
                lifetime.agenda.insert(index, work)
        else:
            return
        while lifetime.is_live and lifetime.joins and routing.starve_a_join(flow):
            pass


def _next_asked(lifetime: Lifetime, places: dict[Visit, int]) -> tuple[int, int] | None:
    """Return (place in the history, index on the agenda) of the first record that something asks for."""
    asked = (
        (places[work.node_id, work.iteration], index)
        for index, work in enumerate(lifetime.agenda)
        if (work.node_id, work.iteration) in places
    )
    return min(asked, default=None)


def _join_of(flow: Flow, timeout: execution_pb2.JoinTimeout) -> routing.JoinKey:
    """Return the join whose time was over, by the ids that this lifetime's executions have."""
    sender, own = timeout.fork, flow.lifetime.lifetime_id
    visit = execution_id(flow.tenant.tenant_id, own, sender.node_id, sender.iteration, 1)
    return timeout.plan_id, visit


def _took(flow: Flow, work: Work, one: execution_pb2.RecordedVisit) -> bool:
    """Send a recorded result on; False when the node is another one now, or may not decide so any more."""
    node = flow.lifetime.graphs.nodes[work.node_id]
    is_plan = isinstance(node, Plan)
    if is_plan != one.HasField("plan_result"):
        return False
    own_id = flow.id_of(work)
    evaluator = flow.evaluator
    is_watched = evaluator is not None and bool(evaluator.trail_length)
    if is_plan:
        fault = routing.plan_done(flow, work, own_id, plan_pb2.PlanExecution(result=one.plan_result))
        if is_watched and not fault and flow.lifetime.is_live:
            settlement.tread(flow, work, one.plan_result)
        return not fault
    if is_watched:
        settlement.tread(flow, work, one.task_result)
    _send_on(flow, work, own_id, one)
    return True


def _send_on(flow: Flow, work: Work, own_id: str, one: execution_pb2.RecordedVisit) -> None:
    status = one.status or pb.EXECUTION_STATUS_COMPLETED
    execution = flow.unreported(work, own_id, status)
    execution.result.CopyFrom(one.task_result)
    routing.task_done(flow, work, own_id, execution)


def spare(flow: Flow, work: Work, own_id: str) -> bool:
    """Take the record of a task with external effects in place of running it; False when it may run.

    Without a record it is refused, and the next plan is told.
    """
    fork = flow.lifetime.fork
    if fork is None or fork.allows(work.node_id):
        return False
    known = fork.stubs.get((work.node_id, work.iteration))
    if known is not None and known.HasField("task_result"):
        _send_on(flow, work, own_id, known)
        return True
    reason = f"task {work.node_id} has external effects, and this visit to it is not in the record"
    flow.control.event(
        flow.lifetime,
        control_pb2.CONTROL_TYPE_REJECT_EXECUTION,
        f"EFFECTS_NOT_ALLOWED: {reason}",
        execution_id=own_id,
        node_id=work.node_id,
    )
    refused = flow.unreported(work, own_id, pb.EXECUTION_STATUS_REJECTED, "EFFECTS_NOT_ALLOWED", reason)
    routing.task_done(flow, work, own_id, refused)
    return True
