"""A partition under random traffic: clients, workers that die, repeat and report late, operators, rubbish.

Everything is drawn from one `random.Random`, so a world is the same again for the same draws.
"""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

from headgate_guardrails.policy import Policy
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, execution_pb2, plan_pb2, task_pb2
from tests.unit.guardrails.properties.oracle import Oracle
from tests.unit.guardrails.properties.partition import GRACE_MS, Job
from tests.unit.guardrails.properties.strategies import GraphSketcher, Sketch, random_policy
from tests.unit.guardrails.properties.workers import Temper, Workers

TENANTS = ("acme", "globex")
LONGEST_MS = 4 * 3_600_000
"""Longer than any deadline of a random graph."""


class Traffic(Workers):
    """Clients, operators and rubbish around one partition and its workers."""

    def __init__(self, rng: random.Random, temper: Temper) -> None:
        self.sketches: dict[tuple[str, str], Sketch] = {}
        for number in range(rng.randint(1, 3)):
            key = (f"g{number}", f"1.{number}.0")
            below = [f"g{other}" for other in range(number)] if temper.subgraphs else []
            sketcher = GraphSketcher(rng, humans=temper.humans, subgraphs=below)
            self.sketches[key] = sketcher.sketch(*key, wild=temper.wild)
        joins = {key: sketch.joins for key, sketch in self.sketches.items()}
        super().__init__(rng, Oracle(joins, capped=temper.capped), temper)
        self.policies: dict[tuple[str, str], Policy] = {}
        self.starts: list[int] = []
        """Offsets of starts."""
        self._found()

    def _found(self) -> None:
        for tenant in TENANTS:
            for sketch in self.sketches.values():
                self._register(tenant, sketch)
            if self.temper.capped or self.rng.random() < 0.7:
                self._set_policy(tenant, "caps")

    # -- one step ----------------------------------------------------------------------------------

    def step(self) -> None:
        """Do one thing at random."""
        roll = self.rng.random()
        if roll < 0.62 and self.jobs:
            self._work()
        elif roll < 0.70:
            self._start()
        elif roll < 0.74:
            self._repeat()
        elif roll < 0.77:
            if self.rng.random() < 0.9:
                self._report_late()
            else:
                self._contradict()
        elif roll < 0.81 and self.jobs:
            self._lose()
        elif roll < 0.86:
            self._beat()
        elif roll < 0.91:
            self._command()
        elif roll < 0.92:
            self._rubbish()
        elif roll < 0.925:
            self._change()
        elif roll < 0.93:
            self.restart()
        else:
            self._tick()

    def _tick(self) -> None:
        roll = self.rng.random()
        most = 1_500 if roll < 0.75 else 12_000 if roll < 0.95 else 400_000 if roll < 0.995 else 3_800_000
        self.tick(int(self.rng.randint(1, most) * self.temper.hurry))

    def _start(self, graph_id: str = "") -> None:
        rng = self.rng
        if len(self.live) >= self.temper.lifetimes:
            return
        tenant, (known_id, version) = rng.choice(TENANTS), rng.choice(list(self.sketches))
        start = execution_pb2.LifetimeStart(graph_id=graph_id or known_id)
        start.input.json = json.dumps({"n": self.serial})
        if rng.random() < 0.5 and not graph_id:
            start.graph_version = version
        if rng.random() < 0.02:
            start.graph_id = "nothing"
        start.priority = rng.randint(0, 2)
        start.issued_at.seconds = self.clock // 1000 + rng.randint(-1800, 1800)
        self.starts.append(len(self.records))
        lifetime = f"run-{rng.randint(0, len(self.records))}" if not graph_id else f"nothing-{self.serial}"
        self.append(tenant, lifetime, lifetime_start=start)

    def _repeat(self) -> None:
        rng = self.rng
        recent = rng.random() < 0.7
        first = max(0, len(self.records) - 30) if recent else 0
        old = self.records[rng.randint(first, len(self.records) - 1)]
        for _ in range(10 if rng.random() < 0.05 else 1):
            self.write(old.value, old.headers, old.key, bad=old.offset in self.bad)

    # -- operators ---------------------------------------------------------------------------------

    def _command(self) -> None:
        rng = self.rng
        roll = rng.random()
        if roll < 0.35 and any(self.people.values()):
            self._answer()
        elif not self.live:
            return
        elif roll < 0.55:
            pause = control_pb2.PauseLifetime(reason="wait")
            if rng.random() < 0.3:
                pause.ttl.seconds = rng.choice([1, 60])
            self.order(rng.choice(list(self.live)), pause=pause)
        elif roll < 0.85:
            key = rng.choice([k for k, generation in self.live.items() if generation] or list(self.live))
            generation = rng.choice([0, self.live[key], self.live[key], 99])
            self.order(key, resume=control_pb2.ResumeLifetime(pause_generation=generation))
        elif roll < 0.88:
            self._freeze()
        elif roll < 0.92:
            self.order(rng.choice(list(self.live)), abort=control_pb2.AbortLifetime())
        else:
            self._raise()

    def _freeze(self) -> None:
        tenant, graph_id = self.rng.choice(TENANTS), self.rng.choice(["", "g0"])
        if self.rng.random() < 0.3:
            self.order((tenant, ""), pause=control_pb2.PauseLifetime(graph_id=graph_id))
        else:
            self.order((tenant, ""), resume=control_pb2.ResumeLifetime(graph_id=graph_id))

    def order(self, key: tuple[str, str], **order: Any) -> None:
        self.serial += 1
        command = control_pb2.OperatorCommand(command_id=f"c{self.serial}", **order)
        self.append(key[0], key[1], command=command, still=True)

    def _answer(self) -> None:
        key = self.rng.choice([key for key, waiting in self.people.items() if waiting])
        complete = control_pb2.CompleteExecution(
            execution_id=self.rng.choice(self.people[key]),
            outcome=control_pb2.HUMAN_OUTCOME_APPROVED,
            json_answer='"yes"',
        )
        self.order(key, complete=complete)

    def _raise(self) -> None:
        tenant, lifetime = self.rng.choice(list(self.live))
        policy = self.policies.get((tenant, "caps"))
        rules = [rule for rule in policy.rules if rule.limit and rule.scope != "execution"] if policy else []
        if not policy or not rules:
            return
        rule = self.rng.choice(rules)
        assert rule.limit is not None
        metric, value = self.rng.choice(list(rule.limit.caps().items()))
        order = control_pb2.RaiseBudget(
            policy=policy.name, rule=rule.name, metric=metric, value=value * self.rng.randint(0, 4)
        )
        self.order((tenant, "" if rule.scope == "tenant" else lifetime), raise_budget=order)

    def _change(self) -> None:
        """A policy or a graph is set, again or anew."""
        tenant = self.rng.choice(TENANTS)
        if self.rng.random() < 0.5:
            self._register(tenant, self.rng.choice(list(self.sketches.values())))
        elif not self.temper.capped:
            self._set_policy(self.rng.choice([tenant, tenant, "*"]), self.rng.choice(["caps", "extra"]))

    def _register(self, tenant: str, sketch: Sketch) -> None:
        owned = sketch.graph.for_tenant(tenant)
        registered = execution_pb2.GraphRegistered(
            graph_id=owned.metadata.id, version=owned.metadata.version, definition_json=owned.canonical_json()
        )
        self.append(tenant, graph_registered=registered)

    def _set_policy(self, tenant: str, name: str) -> None:
        known = self.policies.get((tenant, name))
        version = known.version + 1 if known else 1
        policy = random_policy(self.rng, name, version, capped=self.temper.capped)
        self.policies[tenant, name] = policy
        text = policy.canonical_json()
        checksum = hashlib.sha256(text.encode()).hexdigest()
        given = execution_pb2.PolicySet(name=name, version=version, document_json=text, sha256=checksum)
        self.append(tenant, policy_set=given)

    # -- rubbish -----------------------------------------------------------------------------------

    def _rubbish(self) -> None:
        rng, tenant = self.rng, self.rng.choice(TENANTS)
        old = rng.choice(self.records)
        roll = rng.randrange(8)
        if roll == 0:
            self.write(bytes(rng.randrange(256) for _ in range(40)), old.headers, old.key, bad=True)
        elif roll == 1:
            self.write(rng.choice([None, b""]), old.headers, old.key, bad=True)
        elif roll == 2:
            self.write(old.value, (), old.key, bad=True)
        elif roll == 3:
            self.write(old.value, old.headers, b"initech", bad=True)
        elif roll == 4:
            self.append(tenant, "never", bad=True, task_execution=task_pb2.TaskExecution(tenant_id=tenant))
        elif roll == 5:
            self.append(tenant, bad=True)
        elif roll == 6:
            bad = execution_pb2.PolicySet(name="caps", version=9_999, document_json="{}")
            self.append(tenant, bad=True, policy_set=bad)
        elif self.jobs:
            self._forge(rng.choice(self.jobs))

    def _forge(self, job: Job) -> None:
        """A result on what was never dispatched, or from nobody."""
        headers = job.message.headers
        if (job.message.tenant_id, headers.lifetime_id) not in self.live:
            return
        is_plan = isinstance(job.message, plan_pb2.PlanInput)
        kind = plan_pb2.PlanExecution if is_plan else task_pb2.TaskExecution
        execution: Any = kind(tenant_id=job.message.tenant_id)
        execution.headers.CopyFrom(headers)
        execution.headers.status = pb.EXECUTION_STATUS_COMPLETED
        execution.headers.run_id = self._new_run()
        fault = self.rng.randrange(4)
        if fault == 0:
            execution.headers.execution_id = "f" * 32
        elif fault == 1:
            execution.headers.node_id = "nowhere"
        elif fault == 2:
            execution.headers.run_id = ""
        else:
            execution.headers.lifetime_id = "another"
        payload = {"plan_execution" if is_plan else "task_execution": execution}
        self.append(job.message.tenant_id, headers.lifetime_id, bad=True, still=True, **payload)

    # -- the end -----------------------------------------------------------------------------------

    def drain(self) -> None:
        """Answer everybody, resume everything, then let time run out; afterwards all must be at rest."""
        for tenant, graph_id in sorted(self.oracle.frozen):
            self.order((tenant, ""), resume=control_pb2.ResumeLifetime(graph_id=graph_id))
        patience = 40 * len(self.live) + 200
        for _ in range(patience):
            if not self._settle_something():
                break
        self.tick(1)
        if not self.jobs and not any(self.people.values()):
            self.oracle.check_moving()
        self.tick(LONGEST_MS)
        self.restart()
        self.tick(GRACE_MS)
        self.tick(GRACE_MS)
        self.restart()
        self.oracle.check_rest()
        if self.rng.random() < 0.3:
            self._come_back_after_all()

    def _come_back_after_all(self) -> None:
        """A day later every start is repeated; nothing may run again."""
        for pause_ms in (12 * 3_600_000, 13 * 3_600_000, 2 * 3_600_000):
            self.tick(pause_ms)
            self._start(graph_id="nothing")  # a tombstone more, so that old ones are looked at
            for record in [self.records[offset] for offset in self.starts]:
                self.write(record.value, record.headers, record.key)
        self.oracle.check_rest()

    def _settle_something(self) -> bool:
        """Do one helpful thing; False when there is none left."""
        waiting = [key for key, executions in self.people.items() if executions]
        if self.jobs:
            job = self.jobs.pop(0)
            if (job.message.tenant_id, job.message.headers.lifetime_id) not in self.live:
                return True
            if job.message.leased and not job.runs:
                if not self._may_begin(job):
                    return True
                self._begin(job)
            self._report(job, self._next_run(job), good=True)
            return True
        if waiting:
            self._answer()
            return True
        paused = [key for key, generation in self.live.items() if generation]
        if paused:
            self.order(paused[0], resume=control_pb2.ResumeLifetime())
            if self.live.get(paused[0]):
                self.order(paused[0], abort=control_pb2.AbortLifetime())
            return True
        if self.live:
            before = self.clock
            self.tick(5_000)
            return bool(self.jobs) or before - self.clock == 0
        return False


def run_world(rng: random.Random, temper: Temper, steps: int) -> Traffic:
    """Let a world live for about `steps` records, bring it to rest and fold it again."""
    traffic = Traffic(rng, temper)
    while len(traffic.records) < steps:
        traffic.step()
    traffic.drain()
    traffic.refold()
    return traffic
