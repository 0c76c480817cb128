from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from headgate_graphs.model import NodeKind
from headgate_protos.v1.common_pb2 import ExecutionError
from headgate_protos.v1.task_pb2 import TaskExecution
from headgate_streams.payloads import set_value
from headgate_workers import Decision, PlanContext, plan
from tests.unit.workers.bench import COMPLETED, FAILED, TENANT, Bench, registry


class Report(BaseModel):
    passed: bool


def upstream(bench: Bench, node_id: str, value: Any, *, metadata: str = "", error: str = "") -> TaskExecution:
    made = TaskExecution(tenant_id=TENANT)
    made.headers.node_id = node_id
    made.headers.execution_id = f"{node_id}-1"
    made.headers.iteration = 1
    made.result.success = not error
    made.result.metadata_json = metadata
    if error:
        made.result.error.CopyFrom(ExecutionError(code=error, message="no"))
    else:
        set_value(made.result, bench.manager.pack(TENANT, json.dumps(value)))
    return made


def test_a_plan_sees_its_upstream_and_decides(bench: Bench) -> None:
    @plan
    async def decide(ctx: PlanContext) -> Decision:
        one = ctx.upstream_one
        assert one.value_as(Report).passed
        assert one.metadata == {"n": 1}
        assert ctx.allowed_next == ["a", "b", "end"]
        return Decision(["a", "b"], output=one.value, inputs={"a": {"x": 1}}, metadata={"why": "passed"})

    with bench.worker(registry(decide), NodeKind.PLAN):
        came = upstream(bench, "run", {"passed": True}, metadata='{"n": 1}')
        given = bench.give(bench.plan_input("decide", [came], allowed=["a", "b", "end"]))
        report = bench.report(given)
    assert report.headers.status == COMPLETED
    assert list(report.result.next_task_ids) == ["a", "b"]
    assert json.loads(report.result.json_result) == {"passed": True}
    assert json.loads(report.result.decision_metadata_json) == {"why": "passed"}
    assert [(n.task_id, n.input_data.json) for n in report.result.next_inputs] == [("a", '{"x":1}')]
    assert report.upstream_task_execution.headers.execution_id == "run-1"
    assert not report.upstream_task_execution.HasField("result")


def test_large_upstream_values_are_fetched_and_passed_on_as_references(bench: Bench) -> None:
    @plan
    async def reads(ctx: PlanContext) -> Decision:
        return Decision(["a"], output=len(ctx.upstream_one.value))

    @plan
    def passes(ctx: PlanContext) -> Decision:
        return Decision(["a"], output=ctx.upstream_one, inputs={"a": ctx.upstream_one})

    came = upstream(bench, "run", "x" * 5_000)
    with bench.worker(registry(reads, passes), NodeKind.PLAN):
        assert bench.value(bench.give(bench.plan_input("reads", [came]))) == 5_000
        report = bench.report(bench.give(bench.plan_input("passes", [came])))
    assert report.result.blob_reference == came.result.blob_reference
    assert report.result.next_inputs[0].input_data.blob == came.result.blob_reference


def test_many_next_inputs_still_fit_a_record(bench: Bench) -> None:
    @plan
    async def fans_out(ctx: PlanContext) -> Decision:
        return Decision([f"t{n}" for n in range(900)], inputs={f"t{n}": "x" * 1000 for n in range(900)})

    @plan
    async def floods(ctx: PlanContext) -> Decision:
        return Decision([f"t{n}" for n in range(1_000_000)])

    with bench.worker(registry(fans_out, floods), NodeKind.PLAN):
        fanned = bench.report(bench.give(bench.plan_input("fans_out", [])))
        flood = bench.report(bench.give(bench.plan_input("floods", [])))
    assert fanned.headers.status == COMPLETED
    assert len(fanned.result.next_inputs) == 900
    assert flood.headers.status == FAILED
    assert flood.result.error.code == "FANOUT"


@pytest.mark.parametrize("returned", [None, "a", Decision("end"), Decision(["a"], inputs={"a": object()})])
def test_what_is_not_a_decision_is_a_failure_that_stays(bench: Bench, returned: Any) -> None:
    @plan
    async def odd(ctx: PlanContext) -> Any:
        return returned

    with bench.worker(registry(odd), NodeKind.PLAN):
        report = bench.report(bench.give(bench.plan_input("odd", [])))
    assert report.headers.status == FAILED
    assert not report.result.error.retryable


RULES = {
    "rules": [
        {"when": "success && result.passed", "next": ["end"]},
        {"when": "iteration > 5", "next": ["give_up"], "priority": 9},
        {"when": "error.code == 'TIMEOUT'", "next": ["again"]},
    ],
    "default": ["fix"],
}


def test_rules_route_by_the_upstream_result_and_pass_it_on(bench: Bench) -> None:
    with bench.worker(registry(), NodeKind.PLAN):

        def routed(came: list[TaskExecution]) -> Any:
            return bench.report(bench.give(bench.plan_input("rules", came, params=RULES))).result

        passed = routed([upstream(bench, "run", {"passed": True})])
        failed = routed([upstream(bench, "run", {"passed": False})])
        late = routed([upstream(bench, "run", None, error="TIMEOUT")])
    assert list(passed.next_task_ids) == ["end"]
    assert json.loads(passed.json_result) == {"passed": True}
    assert list(failed.next_task_ids) == ["fix"]
    assert list(late.next_task_ids) == ["again"]
    assert json.loads(late.json_result)["error"]["code"] == "TIMEOUT"


def test_rules_see_size_and_metadata_of_a_large_result_and_join_by_node(bench: Bench) -> None:
    large = {"rules": [{"when": "result.size_bytes > 4000 && metadata.ok", "next": ["a"]}]}
    joined = {"rules": [{"when": "result.x == 1 && upstream[1].result == 2", "next": ["b"]}]}
    with bench.worker(registry(), NodeKind.PLAN):
        came = [upstream(bench, "run", "x" * 5_000, metadata='{"ok": true}')]
        one = bench.report(bench.give(bench.plan_input("rules", came, params=large))).result
        came = [upstream(bench, "x", 1), upstream(bench, "y", 2)]
        two = bench.report(bench.give(bench.plan_input("rules", came, params=joined))).result
    assert list(one.next_task_ids) == ["a"]
    assert one.WhichOneof("value") == "blob_reference"
    assert list(two.next_task_ids) == ["b"]
    assert json.loads(two.json_result) == {"x": 1, "y": 2}


def test_a_rule_that_cannot_be_evaluated_fails_the_plan_with_its_text(bench: Bench) -> None:
    params = {"rules": [{"when": "result.absent > 1", "next": ["a"]}], "default": ["b"]}
    with bench.worker(registry(), NodeKind.PLAN):
        given = bench.plan_input("rules", [upstream(bench, "run", {})], params=params)
        error = bench.report(bench.give(given)).result.error
    assert (error.code, error.retryable) == ("CONDITION", False)
    assert "result.absent" in error.message
