"""A world in memory around the fold: a log, workers that answer as told, and a look at everything said."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from headgate_graphs.model import AgentGraph
from headgate_guardrails.fold.engine import GuardrailEngine
from headgate_guardrails.fold.lifetime import Lifetime
from headgate_guardrails.fold.snapshot import digest
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.fold.turn import CONTROL_EVENTS, DEAD_LETTERS, LIFETIMES, Output
from headgate_guardrails.policy import Policy
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, execution_pb2, plan_pb2, task_pb2
from headgate_streams.codec import encode
from headgate_streams.port import LogRecord
from tests.unit.guardrails.keeping import Keeper

TENANT = "acme"
START_MS = 1_700_000_000_000


def usage(tokens: int = 0, cost: int = 0, **more: Any) -> pb.ResourceUsage:
    return pb.ResourceUsage(tokens_used=tokens, cost_nano_usd=cost, **more)


class World:
    """One partition; `restoring` takes the state through a checkpoint before each record."""

    def __init__(self, graph: AgentGraph, *policies: Policy, restoring: bool = False) -> None:
        self.engine = GuardrailEngine(PartitionState(0, 1))
        self.restoring = restoring
        self.kept = Keeper()
        self.clock = START_MS
        self.records: list[LogRecord] = []
        self.outputs: list[Output] = []
        self.inputs: list[Any] = []
        """Inputs that nobody has answered, oldest first."""
        self._runs = 0
        self.register(graph)
        for policy in policies:
            self.apply_policy(policy)

    # -- what the log is told ----------------------------------------------------------------------

    def append(self, envelope: execution_pb2.ExecutionEnvelope) -> list[Output]:
        value, headers = encode(envelope, envelope.tenant_id)
        return self.append_raw(value, headers, envelope.tenant_id.encode())

    def append_raw(self, value: bytes | None, headers: Any, key: bytes | None) -> list[Output]:
        record = LogRecord("headgate.executions", 0, len(self.records), self.clock, key, value, headers)
        self.records.append(record)
        if self.restoring:
            self.kept.keep(self.engine.state)
            self.engine = GuardrailEngine(self.kept.again())
        made = self.engine.apply(record)
        self.outputs += made
        self.inputs += [o.message for o in made if o.topic.endswith("inputs")]
        return made

    def envelope(self, lifetime: str = "", tenant: str = TENANT, **payload: Any) -> list[Output]:
        return self.append(
            execution_pb2.ExecutionEnvelope(
                envelope_id=str(len(self.records)), tenant_id=tenant, lifetime_id=lifetime, **payload
            )
        )

    def register(self, graph: AgentGraph, tenant: str = TENANT) -> list[Output]:
        owned = graph.for_tenant(tenant)
        return self.envelope(
            tenant=tenant,
            graph_registered=execution_pb2.GraphRegistered(
                graph_id=owned.metadata.id,
                version=owned.metadata.version,
                definition_json=owned.canonical_json(),
            ),
        )

    def apply_policy(self, policy: Policy, tenant: str = TENANT) -> list[Output]:
        import hashlib

        text = policy.canonical_json()
        return self.envelope(
            tenant=tenant,
            policy_set=execution_pb2.PolicySet(
                name=policy.name,
                version=policy.version,
                document_json=text,
                sha256=hashlib.sha256(text.encode()).hexdigest(),
            ),
        )

    def start(
        self, graph_id: str, lifetime: str = "run-1", data: Any = None, tenant: str = TENANT
    ) -> list[Output]:
        start = execution_pb2.LifetimeStart(graph_id=graph_id, input=pb.Payload(json=json.dumps(data)))
        start.issued_at.FromMilliseconds(self.clock)
        return self.envelope(lifetime, tenant, lifetime_start=start)

    def command(self, lifetime: str = "run-1", command_id: str = "", **order: Any) -> list[Output]:
        command = control_pb2.OperatorCommand(command_id=command_id or f"c{len(self.records)}", **order)
        return self.envelope(lifetime, command=command)

    def tick(self, ms: int = 0) -> list[Output]:
        self.clock += ms
        return self.envelope(tenant="*", tick=execution_pb2.Tick())

    # -- what workers do -----------------------------------------------------------------------------

    def take(self, node: str = "") -> Any:
        """Take the oldest unanswered input, of `node` when it is named."""
        for position, message in enumerate(self.inputs):
            if not node or message.headers.node_id == node:
                return self.inputs.pop(position)
        waiting = [m.headers.node_id for m in self.inputs]
        raise AssertionError(f"no input for {node or 'any node'}; waiting: {waiting}")

    def begin(self, message: Any, run_id: str = "") -> str:
        """Announce a leased run."""
        run_id = run_id or self.new_run()
        headers = message.headers
        self.envelope(
            headers.lifetime_id,
            message.tenant_id,
            execution_started=execution_pb2.ExecutionStarted(
                execution_id=headers.execution_id,
                run_id=run_id,
                worker="w",
                node_id=headers.node_id,
                iteration=headers.iteration,
                attempt=headers.attempt,
            ),
        )
        return run_id

    def new_run(self) -> str:
        self._runs += 1
        return f"r{self._runs:031d}"

    def report(
        self,
        message: Any,
        value: Any = None,
        *,
        next: list[str] | None = None,
        error: str = "",
        retryable: bool = False,
        used: pb.ResourceUsage | None = None,
        run_id: str = "",
        status: int = 0,
        metadata: Any = None,
        inputs: dict[str, Any] | None = None,
    ) -> list[Output]:
        """Report the result of an input the way a worker does."""
        is_plan = isinstance(message, plan_pb2.PlanInput)
        kind = plan_pb2.PlanExecution if is_plan else task_pb2.TaskExecution
        execution: Any = kind(tenant_id=message.tenant_id, resource_usage=used or usage())
        execution.headers.CopyFrom(message.headers)
        execution.headers.run_id = run_id or self.new_run()
        good = pb.EXECUTION_STATUS_FAILED if error else pb.EXECUTION_STATUS_COMPLETED
        execution.headers.status = status or good
        result = execution.result
        if error:
            result.error.code, result.error.message, result.error.retryable = error, error, retryable
        else:
            result.success = True
            result.json_result = json.dumps(value)
        if metadata is not None:
            result.metadata_json = json.dumps(metadata)
        if is_plan:
            result.next_task_ids.extend(next or [])
            for task_id, data in (inputs or {}).items():
                result.next_inputs.add(task_id=task_id, input_data=pb.Payload(json=json.dumps(data)))
        payload = {"plan_execution" if is_plan else "task_execution": execution}
        return self.envelope(message.headers.lifetime_id, message.tenant_id, **payload)

    def answer(self, node: str, value: Any = None, **how: Any) -> list[Output]:
        """Take the oldest input of a node and report its result, announced first when it is leased."""
        message = self.take(node)
        if message.leased and "run_id" not in how:
            how["run_id"] = self.begin(message)
        return self.report(message, value, **how)

    # -- what can be seen ----------------------------------------------------------------------------

    def lifetime(self, lifetime: str = "run-1", tenant: str = TENANT) -> Lifetime:
        return self.engine.state.tenants[tenant].lifetimes[lifetime]

    def status(self, lifetime: str = "run-1", tenant: str = TENANT) -> str:
        view = self.view(lifetime, tenant)
        return pb.LifetimeStatus.Name(view.status).removeprefix("LIFETIME_STATUS_")

    def view(self, lifetime: str = "run-1", tenant: str = TENANT) -> execution_pb2.LifetimeView:
        views = [
            o.message
            for o in self.outputs
            if o.topic == LIFETIMES and (o.message.lifetime_id, o.tenant_id) == (lifetime, tenant)
        ]
        return views[-1]

    def said(self, topic: str) -> list[Any]:
        return [o.message for o in self.outputs if o.topic == topic]

    def events(self) -> list[control_pb2.ExecutionEvent]:
        return self.said(CONTROL_EVENTS)

    def letters(self) -> list[str]:
        return [letter.reason for letter in self.said(DEAD_LETTERS)]

    def waiting(self) -> list[str]:
        return [m.headers.node_id for m in self.inputs]

    def refold(self) -> GuardrailEngine:
        """Fold the whole log anew and check that it says the same, byte for byte."""
        engine = GuardrailEngine(PartitionState(0, 1))
        again = [output for record in self.records for output in engine.apply(record)]
        assert [(o.topic, o.key, o.message.SerializeToString(deterministic=True)) for o in again] == [
            (o.topic, o.key, o.message.SerializeToString(deterministic=True)) for o in self.outputs
        ]
        assert digest(engine.state) == digest(self.engine.state)
        return engine


def fold_all(engine: GuardrailEngine, records: list[LogRecord]) -> list[Output]:
    """Return what the records cause, in order."""
    return [output for record in records for output in engine.apply(record)]


Answer = Callable[[Any], dict[str, Any]]
