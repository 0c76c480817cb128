"""A lifetime that repeats another one's history: what of it counts as accepted, and leads on."""

from __future__ import annotations

from typing import Any

from headgate_resilience.check.facts import Dispatch, Given, digest
from headgate_resilience.check.model import joins
from headgate_resilience.check.model.life import Life, Lineage, Visit, id_of


def repeat_history(life: Life, fork: Any) -> None:
    """Take the history that a start carries, as far as something leads to each visit.

    What the gate then hands on must be exactly what the record says.
    """
    for one in fork.prefix:
        if one.WhichOneof("outcome") != "join_timeout":
            _repeat(life, one)
    for one in fork.stubs:
        own = id_of(life.key, one.visit.node_id, one.visit.iteration, 1)
        life.accepted[own] = digest(one.task_result.SerializeToString())


def _repeat(life: Life, one: Any) -> None:
    node, iteration = one.visit.node_id, one.visit.iteration
    own = id_of(life.key, node, iteration, 1)
    visit = life.visits.get((node, iteration)) or _led_to(life, one, own)
    if visit is None:
        return
    life.by_id[own] = visit
    if one.HasField("task_result"):
        life.accepted[own] = digest(one.task_result.SerializeToString())
    elif life.shape is None or life.shape.chosen(node, one.plan_result.next_task_ids) is not None:
        life.accepted[own] = digest(one.plan_result.SerializeToString())
        life.decide(visit, own, one.plan_result)


def _led_to(life: Life, one: Any, own: str) -> Visit | None:
    """Return a plan's visit, when all that it says had led to it has been taken; a join goes on by it."""
    upstream = tuple(id_of(life.key, up.node_id, up.iteration, 1) for up in one.upstream)
    if not upstream or not all(up in life.accepted for up in upstream) or life.shape is None:
        return None
    node, iteration = one.visit.node_id, one.visit.iteration
    given = tuple(Given(up, True, "", life.accepted[up]) for up in upstream)
    led = Dispatch(
        *life.key, own, life.graph, node, True, iteration, 1, "", upstream, given, b"", False, 0, 0, (0, 0)
    )
    lineage: Lineage
    if joins.is_join(life, led):
        lineage, _ = joins.go_on(life, led)
    else:
        lineage = life.lineage_beyond(life.by_id[upstream[0]], upstream[0], node)
    life.counts[node] = max(life.counts.get(node, 0), iteration)
    visit = life.visits[node, iteration] = Visit(node, iteration, upstream, lineage)
    return visit
