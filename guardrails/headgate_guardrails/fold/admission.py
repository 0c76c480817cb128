"""The gate's one rule: `admit` is the only way to `_dispatch`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from math import inf

from headgate_graphs.ids import execution_id, is_name
from headgate_graphs.model import Plan, Task
from headgate_guardrails.fold import ending, forking, routing
from headgate_guardrails.fold.controller import describe
from headgate_guardrails.fold.evaluator import Candidate, Match, PolicyEvaluator, verdict_of
from headgate_guardrails.fold.flow import Flow
from headgate_guardrails.fold.holds import leave, reserve
from headgate_guardrails.fold.inputs import MAX_INPUT_BYTES
from headgate_guardrails.fold.lifetime import InFlight, Lifetime, Work
from headgate_guardrails.fold.rules import ABORT, PAUSE, REJECT, THROTTLE
from headgate_guardrails.fold.state import Tenant
from headgate_guardrails.fold.terms import HUMAN, SUBGRAPH, Terms
from headgate_guardrails.fold.turn import PLAN_INPUTS, TASK_INPUTS, Output, Turn
from headgate_guardrails.fold.wire import varint
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2
from headgate_streams.signing import ticket

MAX_LOOKED_AT = 64
"""Waiting lifetimes that are looked at for one whose work fits, so that a long line costs no more."""


def admit(flow: Flow, work: Work, *, from_queue: bool = False) -> None:
    """Dispatch the work if every policy allows it and there is room; else reject it, or keep it for later."""
    lifetime, tenant = flow.lifetime, flow.tenant
    if lifetime.ended_at:
        return
    is_held = lifetime.status == pb.LIFETIME_STATUS_PAUSED or (lifetime.parent and lifetime.parent.is_paused)
    if is_held or (tenant.frozen and _is_frozen(tenant, lifetime)):
        lifetime.parked.append(work)
        return
    terms = lifetime.terms[work.node_id]
    node = terms.node
    may_wait = (terms.is_counted or tenant.waiting.graphs) and not from_queue
    if may_wait and not (_has_room(tenant, lifetime, node) and _is_first(tenant, lifetime, node)):
        # Judged when its turn comes: what is held now will have been settled by then.
        lifetime.queued.append(work)
        tenant.waiting.join(lifetime.lifetime_id, lifetime.priority, lifetime.graph_key[0])
        tenant.waiting.may_move |= _has_room(tenant, lifetime, node)
        return
    next_id = execution_id(tenant.tenant_id, lifetime.lifetime_id, work.node_id, work.iteration, work.attempt)
    evaluator = flow.evaluator
    if evaluator is not None and not evaluator.surely_admits(
        tenant, lifetime, flow.turn.clock, work.node_id, work.iteration, terms.hold
    ):
        matches = _asked(flow, work, terms, evaluator)
        if matches:
            flow.control.mention(lifetime, matches, next_id, work.node_id)
            verdict = verdict_of(matches)
            if verdict >= THROTTLE:
                _refuse(flow, work, next_id, verdict, [m for m in matches if not m.rule.shadow])
                return
    _dispatch(flow, work, next_id, terms)


def _asked(flow: Flow, work: Work, terms: Terms, evaluator: PolicyEvaluator) -> list[Match]:
    lifetime = flow.lifetime
    candidate = Candidate(lifetime.graphs.graph, terms.node, work.iteration, work.attempt, terms.hold, None)
    return evaluator.at_admission(flow.tenant, lifetime, flow.turn.clock, candidate)


def _refuse(flow: Flow, work: Work, next_id: str, verdict: int, obeyed: Sequence[Match]) -> None:
    if verdict == THROTTLE:
        due = max(_room_at(flow, m) for m in obeyed if m.rule.verdict == THROTTLE)
        flow.lifetime.delayed[next_id] = (due, work)
        flow.arm(due)
    elif verdict == PAUSE:
        flow.lifetime.parked.append(work)
        ending.pause_for(flow, obeyed, next_id, work.node_id)
    elif verdict == ABORT:
        ending.abort_for(flow, obeyed, next_id, work.node_id)
    else:
        reject(flow, work, next_id, obeyed)


def _room_at(flow: Flow, match: Match) -> int:
    rule = match.rule
    if rule.window_ms:
        return flow.tenant.windows[rule.key].until
    return flow.turn.clock + rule.delay_ms


def reject(flow: Flow, work: Work, rejected_id: str, matches: Sequence[Match]) -> None:
    """Publish a rejection and deliver it to the next plan as a failed result; a plan's ends the run."""
    lifetime = flow.lifetime
    violations = [m.violation for m in matches if m.rule.verdict >= REJECT]
    reason = describe(violations[0])
    flow.control.event(
        lifetime,
        control_pb2.CONTROL_TYPE_REJECT_EXECUTION,
        reason,
        violations=violations,
        execution_id=rejected_id,
        node_id=work.node_id,
    )
    if isinstance(lifetime.graphs.nodes[work.node_id], Plan):
        ending.end(flow, pb.LIFETIME_STATUS_FAILED, f"plan {work.node_id} was rejected: {reason}")
        return
    refused = flow.unreported(work, rejected_id, pb.EXECUTION_STATUS_REJECTED, "REJECTED", reason)
    routing.task_done(flow, work, rejected_id, refused)


# -- freezing and room -----------------------------------------------------------------------------


def _is_frozen(tenant: Tenant, lifetime: Lifetime) -> bool:
    return "" in tenant.frozen or lifetime.graph_key[0] in tenant.frozen


def thaw(turn: Turn, tenant: Tenant) -> None:
    """Admit what a freeze held back, lifetime by lifetime."""
    for lifetime in tenant.lifetimes.held():
        if lifetime.is_live and lifetime.parked and not _is_frozen(tenant, lifetime):
            flow = Flow(turn, tenant, lifetime)
            lifetime.agenda += lifetime.parked
            lifetime.parked = []
            ending.settle_down(flow)


def _has_room(tenant: Tenant, lifetime: Lifetime, node: Task | Plan) -> bool:
    """Whether the caps of the graph leave room for one more execution of the node."""
    limits = lifetime.graphs.graph.limits
    if limits.max_in_flight is None and not limits.max_in_flight_by_type:
        return True
    if node.type in (HUMAN, SUBGRAPH):
        return True
    graph_id = lifetime.graph_key[0]
    if limits.max_in_flight is not None and tenant.busy.get((graph_id, ""), 0) >= limits.max_in_flight:
        return False
    cap = limits.max_in_flight_by_type.get(node.type)
    return cap is None or tenant.busy.get((graph_id, node.type), 0) < cap


def _is_first(tenant: Tenant, lifetime: Lifetime, node: Task | Plan) -> bool:
    """Whether nobody waits for room in the same graph: who comes later goes to the end of the line."""
    return node.type in (HUMAN, SUBGRAPH) or lifetime.graph_key[0] not in tenant.waiting.graphs


def serve_waiting(turn: Turn, tenant: Tenant) -> None:
    """Give free room to who waits: the highest priority first, and among equals turn by turn."""
    line = tenant.waiting
    while (chosen := _next_waiting(tenant)) is not None:
        lifetime, place = chosen
        work = lifetime.queued.pop(place)
        line.leave(lifetime.lifetime_id, lifetime.priority)
        if lifetime.queued:
            line.join(lifetime.lifetime_id, lifetime.priority, lifetime.graph_key[0])
        flow = Flow(turn, tenant, lifetime)
        admit(flow, work, from_queue=True)
        ending.settle_down(flow)
    line.may_move = False


def _next_waiting(tenant: Tenant) -> tuple[Lifetime, int] | None:
    """Return the first in line whose work fits, and its place among the lifetime's queued work."""
    full: set[str] = set()
    for lifetime_id in islice(tenant.waiting, MAX_LOOKED_AT):
        lifetime = tenant.lifetimes[lifetime_id]
        graph_id = lifetime.graph_key[0]
        if tenant.busy.get((graph_id, ""), 0) >= (lifetime.graphs.graph.limits.max_in_flight or inf):
            full.add(graph_id)
        if len(full) == len(tenant.waiting.graphs):
            return None
        for place, work in enumerate(lifetime.queued):
            if _has_room(tenant, lifetime, lifetime.graphs.nodes[work.node_id]):
                return lifetime, place
    return None


# -- dispatch --------------------------------------------------------------------------------------


def _dispatch(flow: Flow, work: Work, new_id: str, terms: Terms) -> None:
    if terms.has_effects and flow.lifetime.fork is not None and forking.spare(flow, work, new_id):
        return
    lifetime, node = flow.lifetime, terms.node
    due = flow.turn.clock + terms.wait_ms
    parts = _written(flow, work, new_id, due, terms) if terms.is_served else None
    if parts is not None and len(parts[0]) + len(parts[1]) > MAX_INPUT_BYTES:
        reason = f"INPUT_TOO_LARGE: what node {node.id} would be given exceeds a record"
        ending.end(flow, pb.LIFETIME_STATUS_FAILED, reason)
        return
    flight = lifetime.inflight[new_id] = InFlight(work, terms.reserved, due, terms.is_leased)
    if terms.is_counted:
        leave(flow.tenant, lifetime, flight, 1)
    reserve(flow.tenant, lifetime, terms.reserved)
    flow.turn.arm(flow.tenant, lifetime, due)
    if parts is not None:
        _send(flow, new_id, terms, parts)
    elif isinstance(node, Task) and node.type == HUMAN:
        _ask(flow, flight, node)
    elif isinstance(node, Task) and node.type == SUBGRAPH:
        _descend(flow, new_id, work, node)


def _written(flow: Flow, work: Work, new_id: str, due: int, terms: Terms) -> tuple[bytes, bytes] | None:
    """Return the input around its source; None when nobody wants it and it is not too large for a record."""
    lifetime, tenant_id = flow.lifetime, flow.tenant.tenant_id
    if flow.turn.is_silent and terms.form.is_surely_small(lifetime, work):
        return None
    key = lifetime.ticket_key
    proof = ticket(flow.turn.secrets[key], tenant_id, new_id) if key else b""
    return terms.form.write(tenant_id, lifetime, work, new_id, due, proof)


def _send(flow: Flow, new_id: str, terms: Terms, parts: tuple[bytes, bytes]) -> None:
    turn, form = flow.turn, terms.form
    if turn.is_silent:
        return
    source = turn.source()
    value = b"".join((parts[0], form.source_tag, varint(len(source)), source, parts[1]))
    topic = PLAN_INPUTS if terms.is_plan else TASK_INPUTS
    made = Output(topic, new_id, flow.tenant.tenant_id, form.kind, None, value, terms.queue)
    turn.outputs.append(made)


def _ask(flow: Flow, flight: InFlight, node: Task) -> None:
    """Show that a person is asked."""
    if node.config.reminder_ms:
        flight.remind_at = flow.turn.clock + node.config.reminder_ms
        flow.arm(flight.remind_at)
    flow.control.view(flow.lifetime)


def _descend(flow: Flow, new_id: str, work: Work, node: Task) -> None:
    """Start the sub-graph of a task of type `graph`, a lifetime whose spend counts in this one's."""
    tenant, parent = flow.tenant, flow.lifetime
    graph_id, version = str(node.config.params.get("graph", "")), str(node.config.params.get("version", ""))
    child_id = f"sub-{new_id}"
    key = tenant.newest(graph_id, version) if is_name(graph_id) else None
    if key is None:
        named = f"{graph_id[:64]!a} {version[:32]}".rstrip()
        message = f"{named} is not registered for this tenant"
        routing.deliver_failure(flow, new_id, "UNKNOWN_GRAPH", message)
        return
    if parent.depth + 1 > parent.graphs.graph.limits.max_depth:
        message = f"level {parent.depth + 1} is below max_depth {parent.graphs.graph.limits.max_depth}"

        routing.deliver_failure(flow, new_id, "DEPTH", message)
        return
    child = Lifetime(child_id, key, tenant.graphs[key].orchestrator)
    child.parent, child.parent_id, child.parent_execution_id = parent, parent.lifetime_id, new_id
    child.ticket_key = flow.turn.state.ticket_key
    child.fork = forking.below(parent)
    child.depth, child.priority = parent.depth + 1, parent.priority
    child.start_input = work.input_data or pb.Payload(json="null")
    tenant.lifetimes.add(child)
    routing.begin(flow.of(child))
