"""Property: forked at any event without changes, and answered as before, a run decides as before."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate_graphs.model import AgentGraph
from headgate_protos.v1 import common_pb2 as pb
from tests.unit.guardrails.graphs_for_tests import FORK, LOOP
from tests.unit.guardrails.test_forks_in_fold import fork, history, world
from tests.unit.guardrails.world import World

pytestmark = pytest.mark.property
MOST_STEPS = 60


def number(seed: int, *about: object) -> int:
    """Return a number that is the same whenever the same is asked."""
    return int.from_bytes(hashlib.blake2b(repr((seed, *about)).encode(), digest_size=4).digest(), "big")


def answer_of(seed: int, node: str, iteration: int) -> dict[str, Any]:
    """Return how a visit is answered, whichever run asks."""
    drawn = number(seed, node, iteration)
    if node.startswith("t"):
        error = {"error": "ODD", "retryable": bool(drawn % 2)} if drawn % 5 == 0 else {}
        return {"value": drawn % 100, **error}
    if node == "p2":
        return {"next": ["end"] if drawn % 3 == 0 or iteration > 2 else ["tz"]}
    if seed % 2:
        return {"next": ["end"] if drawn % 4 == 0 else ["t1"]}
    branches = ["ta", "tb", "tc"][: 1 + drawn % 3]
    return {"next": branches}


def drive(run: World, seed: int, order: int) -> None:
    """Answer what is asked, in an order of its own, until nothing is."""
    for step in range(MOST_STEPS):
        if not run.inputs:
            run.tick(120_000)  # what waits to be tried again
        if not run.inputs:
            return
        message = run.inputs.pop(number(order, step) % len(run.inputs))
        answer = answer_of(seed, message.headers.node_id, message.headers.iteration)
        run.report(message, **answer)


def taken(run: World, lifetime: str) -> dict[tuple[str, int], tuple[int, bytes]]:
    """Return what became of each visit."""
    return {
        (one.visit.node_id, one.visit.iteration): (
            one.status or pb.EXECUTION_STATUS_COMPLETED,
            (one.plan_result if one.HasField("plan_result") else one.task_result).SerializeToString(),
        )
        for _, _, one in history(run, lifetime).visits
    }


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**20), order=st.integers(0, 2**20), at=st.integers(0, 2**20))
def test_a_fork_at_any_event_comes_to_what_its_origin_came_to(seed: int, order: int, at: int) -> None:
    graph: AgentGraph = LOOP if seed % 2 else FORK
    run = world(graph)
    run.start("g")
    drive(run, seed, order)
    known = history(run)
    offsets = [0, *(offset for offset, _, _ in known.visits)]
    offset = offsets[at % len(offsets)]
    repeated = fork(run, str(offset), graph)
    asked = {(m.headers.node_id, m.headers.iteration) for m in run.inputs}
    assert not asked & {(one.visit.node_id, one.visit.iteration) for one in repeated.prefix}
    drive(run, seed, order + 1)
    assert taken(run, "run-2") == taken(run, "run-1")
    assert (run.status("run-2"), run.view("run-2").outcome) == (run.status(), run.view().outcome)
    assert run.letters() == []
    run.refold()
