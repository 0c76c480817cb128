"""I6: a join goes on once for each visit of its fork, with what its strategy asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from headgate_resilience.check.facts import Dispatch
from headgate_resilience.check.model.life import Life, Lineage, Visit, outside
from headgate_resilience.check.model.shape import Fork

_STARVED: Final = re.compile(r"JOIN_STARVED: .* to ([A-Za-z0-9._-]+): ")


def is_join(life: Life, dispatch: Dispatch) -> bool:
    """Whether the plan was led to over JOIN edges."""
    if life.shape is None or not dispatch.upstream or dispatch.node not in life.shape.joining:
        return False
    first = life.by_id.get(dispatch.upstream[0])
    return first is not None and life.shape.edges.get((first.node, dispatch.node)) == "join"


def go_on(life: Life, dispatch: Dispatch) -> tuple[Lineage, str]:
    """Take note that a join goes on; return what it carries on, and what is wrong, empty when nothing is."""
    assert life.shape is not None  # noqa: S101 - `is_join` has looked
    fork = life.shape.fork_of(dispatch.node)
    visits = [visit for one in dispatch.upstream if (visit := life.by_id.get(one)) is not None]
    traced = [_trace(one, visit, fork) for one, visit in zip(dispatch.upstream, visits, strict=False)]
    lineage = outside(visits[0].lineage, fork.node) if fork is not None else visits[0].lineage
    forks = {execution_id for execution_id, _ in traced}
    if len(forks) != 1:
        return lineage, f"it gathers inputs of {len(forks)} visits"
    execution_id = forks.pop()
    life.loose = life.loose or life.shape.terms[dispatch.node].cancels
    if (dispatch.node, execution_id) in life.fired:
        return lineage, "it has gone on before in this visit"
    life.fired.add((dispatch.node, execution_id))
    return lineage, _fault(life, dispatch, fork, execution_id, [branch for _, branch in traced])


def _trace(execution_id: str, visit: Visit, fork: Fork | None) -> tuple[str, str]:
    """Return the fork's execution that a result belongs to, and its branch; itself when it is alone."""
    if fork is not None:
        for frame in reversed(visit.lineage):
            if frame.node == fork.node and frame.branch in fork.feeders:
                return frame.execution_id, frame.branch
    return execution_id, visit.node


def _fault(
    life: Life, dispatch: Dispatch, fork: Fork | None, execution_id: str, branches: Sequence[str]
) -> str:
    if len(set(branches)) < len(branches):
        return f"it gathers two results of one branch: {', '.join(branches)}"
    expected = _expected(life, fork, execution_id, branches)
    if expected is None:
        return ""
    strangers = sorted(set(branches) - set(expected))
    if strangers:
        return f"it gathers {', '.join(strangers)}, which was not sent out"
    assert life.shape is not None  # noqa: S101 - `is_join` has looked
    good = sum(one.success for one in dispatch.given)
    return life.shape.terms[dispatch.node].fault(len(expected), len(branches), good)


def _expected(
    life: Life, fork: Fork | None, execution_id: str, branches: Sequence[str]
) -> Sequence[str] | None:
    """Return the branches that were sent out in a visit; None when conditions decided and nobody can tell."""
    sent = life.by_id.get(execution_id)
    if fork is None or sent is None or sent.node != fork.node:
        return branches
    if execution_id in life.decisions:
        return [one for one in life.decisions[execution_id] if one in fork.feeders]
    assert life.shape is not None  # noqa: S101 - `is_join` has looked
    ways = [(source, to) for (source, to), kind in life.shape.edges.items() if kind == "parallel"]
    ways = [way for way in ways if way[0] == fork.node and way[1] in fork.feeders]
    if any(way in life.shape.conditional for way in ways):
        return None
    return [target for _, target in ways]


def starved_too_early(life: Life, reason: str) -> str:
    """Return what is wrong with an end because nothing more can come to a join, empty when nothing is."""
    said = _STARVED.match(reason)
    fork = life.shape.fork_of(said[1]) if said and life.shape is not None else None
    if said is None or fork is None:
        return ""
    waiting: dict[str, list[str]] = {}
    for execution_id, visit in life.by_id.items():
        for frame in visit.lineage:
            if frame.node == fork.node and frame.branch in fork.feeders:
                work = life.account.works.get(execution_id)
                open_ = waiting.setdefault(frame.execution_id, [])
                open_ += [visit.node] if work is not None and work.is_open else []
    # What nobody serves, a person or a sub-graph, is not known to be under way: then nothing is said.
    left = {key: nodes for key, nodes in waiting.items() if (said[1], key) not in life.fired}
    if not left or not all(left.values()):
        return ""
    under_way = sorted({node for nodes in left.values() for node in nodes})
    return f"join {said[1]} is given up, but {', '.join(under_way)} is still under way"
