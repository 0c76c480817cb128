"""What the log says of a load: the planner's loop without the plan's own time."""

from __future__ import annotations

from headgate_loadtest.audit import _Tally
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_protos.v1.plan_pb2 import PlanExecution
from headgate_protos.v1.task_pb2 import TaskExecution


def result(kind: str, node: str, number: int, began_ms: int, ended_ms: int) -> bytes:
    execution = {"task": TaskExecution, "plan": PlanExecution}[kind](tenant_id="acme")
    headers = execution.headers
    headers.execution_id, headers.lifetime_id, headers.node_id = f"{kind}-{number}", "run", node
    headers.started_at.FromMilliseconds(began_ms)
    headers.ended_at.FromMilliseconds(ended_ms)
    envelope = ExecutionEnvelope(tenant_id="acme", lifetime_id="run")
    getattr(envelope, f"{kind}_execution").CopyFrom(execution)
    return envelope.SerializeToString()


def test_what_a_plan_takes_itself_is_no_part_of_the_loop() -> None:
    tally = _Tally()
    for number, (kind, node, began, ended) in enumerate(
        [
            ("plan", "decide", 0, 5_000),
            ("task", "work", 5_010, 10_010),
            ("plan", "decide", 10_020, 15_020),
            ("task", "work", 15_040, 20_040),
        ]
    ):
        tally.take(result(kind, node, number, began, ended), ended)
    found = tally.audit()
    assert found.results == 4
    assert list(found.loop_ns) == [30_000_000]
