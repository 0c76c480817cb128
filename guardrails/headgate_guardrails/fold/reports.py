"""A worker's result as the fold reads it: each field once. A protobuf field costs ten times a Python one."""

from __future__ import annotations

from headgate_guardrails.fold.ledger import Amount, Charge, priced, reading, unreported
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import plan_pb2, task_pb2

Execution = task_pb2.TaskExecution | plan_pb2.PlanExecution

GIVEN_BACK = "PAUSED"
"""Code of a run that a worker did not begin because a pause had come after its input."""
NOT_BEGUN = "NOT_BEGUN"
"""Code of a run that a worker did not begin because it is not wanted any more."""
WITHDRAWN = "WITHDRAWN"
"""Code of a run that was announced, but not begun by then: its input is still there for another worker."""


class Report:
    """What one run says of itself."""

    __slots__ = (
        "began",
        "charge",
        "execution",
        "execution_id",
        "headers",
        "is_doubtful",
        "is_plan",
        "node_id",
        "result",
        "run_id",
        "status",
    )

    def __init__(self, execution: Execution) -> None:
        headers = execution.headers
        self.execution = execution
        self.headers = headers
        self.result = execution.result
        self.is_plan = isinstance(execution, plan_pb2.PlanExecution)
        self.execution_id = headers.execution_id
        self.run_id = headers.run_id
        self.node_id = headers.node_id
        self.status = headers.status
        self.began = self.status != pb.EXECUTION_STATUS_ABORTED or self._has_begun()
        """Whether the handler began; a worker that says it did not has made no execution and used nothing."""
        self.charge: Charge
        """Set by `price`, once it is known what was held."""
        self.is_doubtful = False
        """Whether it reports a usage that cannot be; then it is charged its hold."""

    def price(self, hold: Amount) -> None:
        """Work out what the run is charged: its usage, and the hold for whatever is missing or unpriced."""
        execution, size = self.execution, size_of(self.result)
        if not execution.HasField("resource_usage"):
            self.charge = unreported(hold, size)
            return
        usage = execution.resource_usage
        charge = reading(usage, size)
        if charge is None:
            self.is_doubtful = True
            self.charge = unreported(hold, size)
            return
        self.charge = priced(charge, hold) if usage.unpriced else charge

    def _has_begun(self) -> bool:
        execution = self.execution
        usage = execution.resource_usage
        return (
            self.result.error.code not in (GIVEN_BACK, NOT_BEGUN, WITHDRAWN)
            or not execution.HasField("resource_usage")
            or bool(usage.tokens_used or usage.cost_nano_usd or usage.latency_ms or usage.unpriced)
        )

    @property
    def model(self) -> str:
        """Model that it names, "" when its usage is not believed."""
        return "" if self.is_doubtful else self.execution.resource_usage.model

    @property
    def fan_out(self) -> int:
        """How many tasks a plan named."""
        execution = self.execution
        return len(execution.result.next_task_ids) if isinstance(execution, plan_pb2.PlanExecution) else 0


def size_of(result: task_pb2.TaskResult | plan_pb2.PlanResult) -> int:
    """Return the size of a result's value in bytes, wherever it is kept."""
    inline = len(result.json_result)
    if not inline and result.HasField("blob_reference"):
        return max(0, min(result.blob_reference.size_bytes, 2**53))
    return inline
