"""The product in the shape of the hand-written loop: a fixed number of lifetimes that go round for ever."""

from __future__ import annotations

import secrets

from headgate_loadtest.installation import FLUSH_S, Installation, start_of, tenant_names
from headgate_loadtest.pace import Pace, Pacer
from headgate_loadtest.processes import Serving
from headgate_loadtest.scenario import Scenario, altered
from headgate_protos.v1.control_pb2 import AbortLifetime, OperatorCommand
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope

FOR_EVER = 100_000
"""Rounds of a lifetime that is ended by an order."""


def measure_steady(
    installation: Installation, serving: Serving, scenario: Scenario, in_flight: int, seconds: float
) -> Pace:
    """Return the pace with `in_flight` lifetimes under way, which are aborted afterwards.

    A step is a result in the log; with leased tasks, their announcements are in the log too and are not
    steps: two of three records are.
    """
    endless = altered(scenario, work={"rounds": FOR_EVER})
    tenants = tenant_names(endless)
    graph_id = installation.prepare(endless, tenants)
    pacer = Pacer(installation.log, installation.topics.executions, installation.settings.partitions)
    names = [(tenants[n % len(tenants)], f"steady-{secrets.token_hex(6)}") for n in range(in_flight)]
    publisher = installation.publisher()
    for tenant, name in names:
        publisher.publish(start_of(tenant, name, graph_id))
    installation.producer().flush(FLUSH_S)
    pace = pacer.measure(in_flight, seconds, serving.check)
    for tenant, name in names:
        publisher.publish(_abort(tenant, name))
    installation.producer().flush(FLUSH_S)
    share = 2 / 3 if scenario.work.leased else 1.0
    return Pace(pace.in_flight, round(pace.steps_per_s * share, 1), pace.p50_ms)


def _abort(tenant: str, lifetime_id: str) -> ExecutionEnvelope:
    order = OperatorCommand(
        command_id=secrets.token_hex(12), issued_by="load", abort=AbortLifetime(reason="measured")
    )
    return ExecutionEnvelope(tenant_id=tenant, lifetime_id=lifetime_id, command=order)
