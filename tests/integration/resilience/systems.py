"""Whole systems for the check to look at: gate and workers on a log, stopped, and read again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from headgate.client import Client
from headgate.embedding import gate_service, stop_all, worker_service
from headgate_graphs.model import AgentGraph, NodeKind
from headgate_guardrails.policy import Policy
from headgate_guardrails.settings import GateSettings
from headgate_resilience.check import Report, check_log
from headgate_streams.archive.export import Export
from headgate_streams.opening import open_archive, open_log
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import partition_for
from tests.e2e.semantics import Run
from tests.e2e.stage import TASK_TYPES, Handlers, Stage, staged
from tests.support import eventually

QUIET_S = 20.0


@contextmanager
def running(settings: StreamSettings) -> Iterator[Stage]:
    """Run gate and workers; at the end wait until every group has read all there is."""
    with staged(settings) as stage:
        yield stage
        eventually(lambda: _is_quiet(stage.client, settings), QUIET_S)


@contextmanager
def serving(settings: StreamSettings) -> Iterator[Client]:
    """Run gate and workers, with nobody who would mind rubbish in the log, until it is quiet."""
    with Client.open(settings) as client:
        tasks = Handlers().registry(*TASK_TYPES)
        services = [
            gate_service(client, settings, GateSettings(poll_ms=10)),
            worker_service(client, settings, NodeKind.TASK, tasks),
        ]
        for service in services:
            service.start()
        try:
            yield client
            eventually(lambda: _is_quiet(client, settings), QUIET_S)
        finally:
            stop_all(services, 15)


def _is_quiet(client: Client, settings: StreamSettings) -> bool:
    report = check_log(client.log, client.blobs, settings, settled=False)
    return not any(report.figures["lag"].values())


def tenant_of(stage: Stage, tenant: str, *documents: AgentGraph | Policy) -> Run:
    """Return what one tenant does, its graphs and policies registered."""
    run = Run(stage, tenant)
    run.use(*documents)
    return run


def checked(settings: StreamSettings, *, settled: bool = True, **more: Any) -> Report:
    """Check the log of a system that has stopped."""
    with Client.open(settings) as client:
        return check_log(client.log, client.blobs, settings, settled=settled, **more)


def archived(settings: StreamSettings, archive: StreamSettings) -> None:
    """Export the log of `settings` to the archive that `archive` reads."""
    log = open_log(settings)
    try:
        Export(log, settings.topics(), open_archive(archive, archive.archive or "")).run()
    finally:
        log.close()


def append_again(run: Run, node: str, lifetime: str = "run", *, change: bool = False) -> None:
    """Append a result of a node once more, as it is or with another content, as its worker would."""
    topic = run.client.topics.executions
    home = partition_for(run.tenant, run.client.settings.partitions)
    done = run.results(node, lifetime)[0]
    record = next(
        one for one in run.stage.watch.records if (one.partition, one.offset) == (home, done.order[0])
    )
    value = record.value or b""
    if change:
        value = value.replace(b"echoed", b"forged")
        assert value != record.value
    producer = run.client.log.producer()
    producer.append(topic, home, key=record.key, value=value, headers=record.headers)
    producer.close()


def wait_until_committed(run: Run, node: str, group: str) -> None:
    """Return when a group has committed beyond the input of a node."""
    said = run.dispatched(node)[0]
    consumer = run.client.log.consumer(f"{run.client.topics.prefix}.{group}")
    place = next(place for place in run.stage.watch.ends() if place[:2] == (said.topic, said.partition))
    try:
        eventually(lambda: (at := consumer.committed([place])[place]) and at.offset > 0, QUIET_S)
    finally:
        consumer.close()
