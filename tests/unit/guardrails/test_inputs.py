"""Inputs that are joined from parts have the bytes that protobuf writes for the same message."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from headgate_graphs.ids import execution_id
from headgate_graphs.model import AgentGraph, Plan, Task
from headgate_graphs.progress import GraphOrchestrator
from headgate_guardrails.fold.inputs import InputForm, params_of
from headgate_guardrails.fold.ledger import NOTHING, Amount
from headgate_guardrails.fold.lifetime import Lifetime, Work
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.fold.turn import Turn, stamp
from headgate_guardrails.fold.wire import moment, nested, text, varint
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import plan_pb2, task_pb2

GRAPH = AgentGraph.model_validate(
    {
        "metadata": {"id": "g", "version": "1.0.0"},
        "entry": "p1",
        "tasks": [{"id": "t1", "type": "work", "config": {"queue": "slow", "params": {"größe": 1.5}}}],
        "plans": [
            {"id": "p1", "type": "rules", "config": {"rules": [{"when": "success", "next": ["t1"]}]}},
            {"id": "p2", "type": "decide"},
        ],
        "edges": [
            {"from": "p1", "to": "t1"},
            {"from": "t1", "to": "p2"},
            {"from": "p2", "to": "t1"},
            {"from": "p2", "to": "end", "type": "final"},
        ],
    }
)
OWN_ID = execution_id("acme", "run-1", "t1", 1, 1)
LONG = "ü" * 9_000
TIMES_MS = (0, 1, 999, 1_000, 1_700_000_000_123, 9_999_999_999_999)


def expected(
    node: Task | Plan, lifetime: Lifetime, work: Work, hold: Amount, lease_ms: int, due: int, ticket: bytes
) -> Any:
    """Return the same input, set field by field."""
    is_plan = isinstance(node, Plan)
    message: Any = (plan_pb2.PlanInput if is_plan else task_pb2.TaskInput)(tenant_id="acme", ticket=ticket)
    if is_plan:
        message.upstream_task_executions.extend(work.upstreams)
        message.allowed_next_ids.extend(edge.target for edge in GRAPH.outgoing[node.id])
    elif work.input_data is not None:
        message.input_data.CopyFrom(work.input_data)
    message.headers.CopyFrom(
        pb.ExecutionHeaders(
            execution_id=OWN_ID,
            lifetime_id=lifetime.lifetime_id,
            graph_id="g",
            graph_version="1.0.0",
            node_id=node.id,
            node_kind=pb.NODE_KIND_PLAN if is_plan else pb.NODE_KIND_TASK,
            node_type=node.type,
            status=pb.EXECUTION_STATUS_PENDING,
            iteration=work.iteration,
            attempt=work.attempt,
            parent_execution_id=work.parent_execution_id,
            upstream_execution_ids=work.upstream_ids,
            queue=node.config.queue or "",
        )
    )
    stamp(message.headers.deadline, due)
    stamp(message.headers.timeout, 61_500)
    message.start_input.CopyFrom(lifetime.start_input)
    message.params_json = params_of(node)
    message.source.CopyFrom(pb.Source(partition=3, offset=70_000, index=0))
    if lease_ms:
        message.leased = True
        stamp(message.start_by, due)
        stamp(message.lease, lease_ms)
    if not hold.is_zero:
        message.hold.tokens_used, message.hold.cost_nano_usd = hold
    return message


RESULT = task_pb2.TaskExecution(tenant_id="acme", result=task_pb2.TaskResult(success=True, json_result=LONG))
WORKS = (
    Work("t1", 1, 1, "", (), (), None, (), 0),
    Work("t1", 130, 2, OWN_ID, (OWN_ID,), (), pb.Payload(json=LONG), (RESULT,), 0),
    Work("t1", 1_000_000, 300, OWN_ID, (OWN_ID, OWN_ID), (), pb.Payload(), (RESULT, RESULT), 0),
)


@pytest.mark.parametrize("node_id", ["t1", "p1", "p2"])
@pytest.mark.parametrize("work", WORKS, ids=["first", "again", "many"])
def test_an_input_has_the_bytes_that_protobuf_writes(node_id: str, work: Work) -> None:
    lifetime = Lifetime("run-1", ("g", "1.0.0"), GraphOrchestrator(GRAPH))
    turn = Turn(PartitionState(3, 4), 70_000)
    starts = (pb.Payload(), pb.Payload(json='{"n": 1}'), pb.Payload(json=LONG))
    holds = (NOTHING, Amount(0, 5), Amount(2_000, 10**15))
    node = GRAPH.nodes[node_id]
    cases = itertools.product(starts, holds, (0, 10_000), (b"", b"t" * 16))
    for (start, hold, lease_ms, ticket), due in zip(cases, itertools.cycle(TIMES_MS), strict=False):
        lifetime.start_input, lifetime.start_bytes = start, b""
        form = InputForm(GRAPH, node, hold, 61_500, lease_ms)
        for _ in range(2):  # the second time with what is kept from the first
            before, after = form.write("acme", lifetime, work, OWN_ID, due, ticket)
            made = before + nested(form.source_tag, turn.source()) + after
            same = expected(node, lifetime, work, hold, lease_ms, due, ticket)
            assert made == same.SerializeToString(deterministic=True)


def test_an_input_that_is_surely_small_is_small() -> None:
    lifetime = Lifetime("run-1", ("g", "1.0.0"), GraphOrchestrator(GRAPH))
    form = InputForm(GRAPH, GRAPH.nodes["t1"], NOTHING, 60_000, 0)
    for size in range(990_000, 1_000_400, 100):
        work = WORKS[0]._replace(input_data=pb.Payload(json="x" * size))
        written = sum(map(len, form.write("acme", lifetime, work, OWN_ID, 1, b"")))
        assert written <= 1_000_000 or not form.is_surely_small(lifetime, work)
    assert form.is_surely_small(lifetime, WORKS[0])


@pytest.mark.parametrize(
    "number", [0, 1, 127, 128, 2_047, 2_048, 16_383, 16_384, 2_097_151, 2_097_152, 2**31, 2**62]
)
def test_a_number_is_written_as_protobuf_does(number: int) -> None:
    written = pb.ResourceUsage(tokens_used=number).SerializeToString()
    assert varint(number) == (written[1:] or b"\x00")


def test_texts_and_times_are_written_as_protobuf_does() -> None:
    for value in ("", "a", "ü" * 63, "ü" * 64, LONG):
        assert text(b"\x0a", value) == task_pb2.TaskInput(tenant_id=value).SerializeToString()
    for ms in TIMES_MS:
        into = Timestamp()
        stamp(into, ms)
        assert moment(ms) == nested(b"", into.SerializeToString())
    assert Duration.FromString(moment(61_500)[1:]).ToMilliseconds() == 61_500
