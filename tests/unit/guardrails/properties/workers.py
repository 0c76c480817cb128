"""Workers of one partition: they begin, report, fail, repeat themselves, come late and die, all at random."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import execution_pb2, plan_pb2, task_pb2
from tests.unit.guardrails.properties.oracle import Oracle
from tests.unit.guardrails.properties.partition import GRACE_MS, Job, Partition


@dataclass(frozen=True, slots=True)
class Temper:
    """What kind of world it is."""

    capped: bool = False
    """Workers respect limits and deadlines, policies are caps and stay: then no cap may ever be passed."""
    wild: bool = False
    """Graphs have edges thrown in at random."""
    humans: bool = True
    subgraphs: bool = True
    lifetimes: int = 12
    """At once, at most."""
    hurry: float = 1.0
    """How much time passes, times the usual."""


class Workers(Partition):
    """All workers of a partition."""

    def __init__(self, rng: random.Random, oracle: Oracle, temper: Temper) -> None:
        super().__init__(rng, oracle)
        self.temper = temper
        self.late: list[Job] = []
        """Inputs whose workers were given up, and may yet report."""
        self.reported: list[tuple[Job, str]] = []
        """The last runs that have reported."""

    def _work(self) -> None:
        rng = self.rng
        position = 0 if rng.random() < 0.3 else rng.randrange(len(self.jobs))
        job = self.jobs[position]
        if (job.message.tenant_id, job.message.headers.lifetime_id) not in self.live and rng.random() < 0.6:
            del self.jobs[position]
            self.late.append(job)
            return
        if job.message.leased and not job.runs:
            if self._may_begin(job):
                self._begin(job)
            else:
                del self.jobs[position]
            return
        if rng.random() < 0.03:
            if job.message.leased and self._may_begin(job):
                self._begin(job)
            elif not job.message.leased:
                self._report(job, self._new_run())  # two real runs of one execution
            return
        del self.jobs[position]
        self.late.append(job)
        self._report(job, self._next_run(job))

    def _may_begin(self, job: Job) -> bool:
        return self.clock <= job.due

    def _new_run(self) -> str:
        self.serial += 1
        return f"r{self.serial:08d}"

    def _begin(self, job: Job) -> None:
        run_id, headers = self._new_run(), job.message.headers
        job.runs.append(run_id)
        started = execution_pb2.ExecutionStarted(
            execution_id=headers.execution_id,
            run_id=run_id,
            worker="w",
            node_id=headers.node_id,
            iteration=headers.iteration,
            attempt=headers.attempt,
        )
        self.append(job.message.tenant_id, headers.lifetime_id, execution_started=started, still=True)

    def _next_run(self, job: Job) -> str:
        if not job.runs:
            return self._new_run()
        return job.runs.pop(self.rng.randrange(len(job.runs)))

    def _lose(self) -> None:
        """A worker dies: its job is forgotten, but a result may still come one day."""
        job = self.jobs.pop(self.rng.randrange(len(self.jobs)))
        if self.rng.random() < 0.6:
            self.late.append(job)

    def _report_late(self) -> None:
        while self.late and self.rng.random() < 0.8:
            job = self.late.pop(self.rng.randrange(len(self.late)))
            if self._is_too_late(job) or (job.message.leased and not job.runs):
                continue
            self._report(job, self._next_run(job))
            return

    def _contradict(self) -> None:
        """A run that has reported reports something else."""
        if self.reported:
            job, run_id = self.rng.choice(self.reported)
            self._report(job, run_id)

    def _is_too_late(self, job: Job) -> bool:
        """Where caps must hold, no plain run goes on for longer than a hold is kept for it."""
        return self.temper.capped and self.clock >= job.due + GRACE_MS // 2

    def _beat(self) -> None:
        """Most runs are heard of; where caps must hold, none has used more than its limit."""
        beats: dict[str, execution_pb2.WorkerHeartbeat] = {}
        for job in self.jobs:
            headers = job.message.headers
            for run_id in job.runs:
                if self.rng.random() < 0.9:
                    beat = beats.setdefault(job.message.tenant_id, execution_pb2.WorkerHeartbeat(worker="w"))
                    usage = self._usage(job.message)
                    beat.runs.add(
                        lifetime_id=headers.lifetime_id,
                        execution_id=headers.execution_id,
                        run_id=run_id,
                        partial_usage=usage,
                    )
        for tenant, heartbeat in beats.items():
            self.append(tenant, heartbeat=heartbeat, still=True)

    def _usage(self, message: Any) -> pb.ResourceUsage:
        rng, hold = self.rng, message.hold
        usage = pb.ResourceUsage(latency_ms=rng.randint(0, 5_000))
        if self.temper.capped or rng.random() < 0.7:
            usage.tokens_used = rng.randint(0, hold.tokens_used)
            usage.cost_nano_usd = rng.randint(0, hold.cost_nano_usd)
        else:
            usage.tokens_used = rng.randint(0, 150)
            usage.cost_nano_usd = rng.randint(0, 10**8)
            usage.input_tokens = rng.randint(0, 100)
            usage.model = rng.choice(["", "m1", "m2"])
            usage.unpriced = rng.random() < 0.1
            if rng.random() < 0.02:
                usage.cost_nano_usd = rng.choice([-1, 2**60])
        return usage

    def _report(self, job: Job, run_id: str, *, good: bool = False) -> None:
        rng, message = self.rng, job.message
        is_plan = isinstance(message, plan_pb2.PlanInput)
        kind = plan_pb2.PlanExecution if is_plan else task_pb2.TaskExecution
        execution: Any = kind(tenant_id=message.tenant_id)
        execution.headers.CopyFrom(message.headers)
        execution.headers.run_id = run_id
        execution.headers.status = pb.EXECUTION_STATUS_COMPLETED
        if good or self.temper.capped or rng.random() < 0.96:
            execution.resource_usage.CopyFrom(self._usage(message))
        roll = 1.0 if good else rng.random()
        if roll < 0.015:
            execution.headers.status = pb.EXECUTION_STATUS_ABORTED
        elif roll < 0.03:
            execution.headers.status = pb.EXECUTION_STATUS_ABORTED
            execution.result.error.code = rng.choice(["PAUSED", "NOT_BEGUN", "WITHDRAWN"])
            if execution.result.error.code == "WITHDRAWN":
                self.jobs.append(job)
            execution.resource_usage.CopyFrom(pb.ResourceUsage())
        elif roll < 0.09:
            execution.headers.status = pb.EXECUTION_STATUS_FAILED
            execution.result.error.code = "HANDLER_ERROR"
            execution.result.error.retryable = rng.random() < 0.7
        else:
            execution.result.success = True
            self.serial += 1
            value = {"n": self.serial, "stop": not good and rng.random() < 0.3}
            execution.result.json_result = json.dumps(value)
            if is_plan:
                self._decide(message, execution.result, good=good)
            else:
                execution.result.metadata_json = json.dumps({"kind": rng.choice("ab")})
        self.reported = [*self.reported[-20:], (job, run_id)]
        payload = {"plan_execution" if is_plan else "task_execution": execution}
        self.append(message.tenant_id, message.headers.lifetime_id, **payload)

    def _decide(self, message: Any, result: plan_pb2.PlanResult, *, good: bool) -> None:
        rng, headers = self.rng, message.headers
        allowed = list(message.allowed_next_ids)
        if not good and rng.random() < 0.02:
            result.next_task_ids.extend(rng.choice([["nowhere"], allowed * 70, [headers.node_id], allowed]))
            return
        if "end" in allowed and rng.random() < (0.7 if good else 0.1 + 0.05 * headers.iteration):
            result.next_task_ids.extend(["end"] if rng.random() < 0.8 else [])
            return
        definition = self.oracle.graphs[message.tenant_id, headers.graph_id, headers.graph_version]
        way = rng.choice(definition.out[headers.node_id])
        chosen = [way.target]
        if way.type == "parallel":
            others = [w.target for w in definition.out[headers.node_id] if w.type == "parallel"]
            most = min(len(others), definition.max_fan_out)
            chosen = rng.sample(others, most if rng.random() < 0.6 else rng.randint(1, most))
        result.next_task_ids.extend(chosen)
        if rng.random() < 0.2:
            result.next_inputs.add(task_id=chosen[0], input_data=pb.Payload(json=f'{{"own":{self.serial}}}'))
