"""Trying again: what failed, what was lost with its worker, what a worker gave back. Called by settlement."""

from __future__ import annotations

from headgate_guardrails.fold import routing
from headgate_guardrails.fold.flow import Flow
from headgate_guardrails.fold.holds import close, reserve
from headgate_guardrails.fold.ledger import Amount
from headgate_guardrails.fold.lifetime import InFlight, Work
from headgate_guardrails.fold.reports import GIVEN_BACK, WITHDRAWN
from headgate_protos.v1 import common_pb2 as pb

MAX_BACKOFF_DOUBLINGS = 20
"""2**20 times the first wait is above every cap; doubling stops there so that no number grows for ever."""
MAX_LOST = 5
"""Attempts of one visit that may be lost with their workers."""
MAX_GIVEN_BACK = 1_000
"""Attempts of one visit that workers may give back because of pauses; one pause causes one."""


def retry(flow: Flow, work: Work, failed_id: str, error: pb.ExecutionError) -> bool:
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
    if not retry(flow, work, failed_id, error):
        routing.fail(flow, work, failed_id, error.code, error.message)


def retry_lost(flow: Flow, work: Work, lost_id: str, why: str) -> None:
    """Dispatch anew what was lost with its worker; that is no try of the handler's."""
    if work.lost >= MAX_LOST and not flow.lifetime.is_paused:
        message = f"given up after {work.lost + 1} lost attempts: {why}"
        routing.fail(flow, work, lost_id, "LOST", message)
    else:
        _again(flow, work._replace(lost=work.lost + 1), lost_id, 0)


def take_back(flow: Flow, flight: InFlight, done_id: str, code: str, hold: Amount | None) -> None:
    """Admit anew what a worker did not begin: a pause that still holds parks it. That is no try either."""
    work = flight.work
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
