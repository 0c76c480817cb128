"""What the verbs of one lifetime share in one turn: who it is about, and how executions are named."""

from __future__ import annotations

from headgate_graphs.ids import execution_id
from headgate_graphs.model import Plan
from headgate_guardrails.fold.controller import ExecutionController
from headgate_guardrails.fold.evaluator import PolicyEvaluator
from headgate_guardrails.fold.lifetime import Lifetime, Work
from headgate_guardrails.fold.own_policy import evaluator_of
from headgate_guardrails.fold.state import Tenant
from headgate_guardrails.fold.turn import Turn
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import plan_pb2, task_pb2


class Flow:
    """One lifetime in one turn."""

    __slots__ = ("lifetime", "tenant", "turn")

    def __init__(self, turn: Turn, tenant: Tenant, lifetime: Lifetime) -> None:
        self.turn = turn
        self.tenant = tenant
        self.lifetime = lifetime

    @property
    def evaluator(self) -> PolicyEvaluator | None:
        """What judges the lifetime; None where no policy is in force."""
        return (
            self.tenant.evaluator if self.lifetime.fork is None else evaluator_of(self.tenant, self.lifetime)
        )

    @property
    def control(self) -> ExecutionController:
        """What publishes; most turns have nothing for it."""
        return ExecutionController(self.turn, self.tenant)

    def arm(self, due: int) -> None:
        """See to it that the lifetime is looked at when the clock reaches `due`."""
        self.turn.arm(self.tenant, self.lifetime, due)

    def of(self, lifetime: Lifetime) -> Flow:
        """Return the flow of another lifetime of the tenant in this turn."""
        return Flow(self.turn, self.tenant, lifetime)

    def id_of(self, work: Work) -> str:
        """Return the execution id that the work has or will have."""
        return execution_id(
            self.tenant.tenant_id, self.lifetime.lifetime_id, work.node_id, work.iteration, work.attempt
        )

    def identify(self, headers: pb.ExecutionHeaders, work: Work, own_id: str) -> None:
        """Fill what identifies an execution."""
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

    def unreported(
        self, work: Work, own_id: str, status: pb.ExecutionStatus, code: str = "", message: str = ""
    ) -> task_pb2.TaskExecution:
        """Return the result of a task that no worker reported: a failure when it has a code."""
        execution = task_pb2.TaskExecution(tenant_id=self.tenant.tenant_id)
        self.identify(execution.headers, work, own_id)
        execution.headers.status = status
        if code:
            execution.result.error.code = code
            execution.result.error.message = message
        else:
            execution.result.success = True
        return execution


def payload_of(result: task_pb2.TaskResult | plan_pb2.PlanResult) -> pb.Payload:
    """Return a result's value as a payload; null when it has none."""
    inline = result.json_result
    if inline:
        payload = pb.Payload()  # a keyword would take twice as long
        payload.json = inline
        return payload
    kind = result.WhichOneof("value")
    if kind == "blob_reference":
        return pb.Payload(blob=result.blob_reference)
    return pb.Payload(json="" if kind else "null")


def value_from(payload: pb.Payload, result: task_pb2.TaskResult) -> None:
    """Give a task's result the value of a payload."""
    if payload.WhichOneof("content") == "blob":
        result.blob_reference.CopyFrom(payload.blob)
    else:
        result.json_result = payload.json or "null"
