"""A plain handler that ends its worker's process is given up, and everything else gets done; on Kafka."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headgate_graphs.model import NodeKind
from headgate_guardrails import Gate, GateSettings
from headgate_guardrails.fold import retries
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1.execution_pb2 import (
    ExecutionEnvelope,
    ExecutionStarted,
    GraphRegistered,
    LifetimeStart,
    LifetimeView,
)
from headgate_resilience.check import check_log
from headgate_streams.codec import decode, encode
from headgate_streams.opening import open_blob_store, open_log
from headgate_streams.port import Log, TopicPartition
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import Topics, partition_for
from headgate_workers import Decision, PlanContext, plan
from headgate_workers.handlers import HandlerRegistry
from headgate_workers.share import MANY_DEATHS
from headgate_workers.worker import Worker
from tests.support import eventually
from tests.unit.guardrails.graphs_for_tests import LINE

TENANT = "acme"
PARTITIONS = 2
INNOCENTS = 10

WORKER = """
import os, sys, threading, time
from headgate_graphs.model import NodeKind
from headgate_streams.opening import open_blob_store, open_log
from headgate_streams.settings import StreamSettings
from headgate_workers import task
from headgate_workers.handlers import HandlerRegistry
from headgate_workers.worker import Worker

@task
def work(ctx, data: str) -> str:
    if data == "kill":
        os._exit(9)
    time.sleep(0.2)  # long enough to die together with the other one
    return "done"

registry = HandlerRegistry()
registry.add(work)
settings = StreamSettings.model_validate_json(sys.argv[1])
worker = Worker(open_log(settings), open_blob_store(settings), NodeKind.TASK, registry, None, settings)
worker.run(threading.Event())
"""


@plan("work")
async def decide(ctx: PlanContext) -> Decision:
    if "t1" in ctx.allowed_next:
        return Decision(["t1"], output=ctx.start_input)
    error = ctx.upstream_one.error
    return Decision(output=error.code if error else ctx.upstream_one.value)


@contextmanager
def in_a_thread(run: Callable[[threading.Event], None]) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


@contextmanager
def kept_worker(settings: StreamSettings) -> Iterator[list[int]]:
    """Run one worker process, started anew whenever it ends; yields the exit codes so far."""
    codes: list[int] = []

    def keep(stop: threading.Event) -> None:
        argv = [sys.executable, "-c", WORKER, settings.model_dump_json()]
        while not stop.is_set():
            with subprocess.Popen(argv, env=dict(os.environ)) as process:
                while process.poll() is None and not stop.wait(0.05):
                    pass
                process.kill()
            if not stop.is_set():
                codes.append(process.returncode)

    with in_a_thread(keep):
        yield codes


def append(settings: StreamSettings, log: Log, *envelopes: ExecutionEnvelope) -> None:
    producer, topics = log.producer(), Topics(settings.topic_prefix)
    for envelope in envelopes:
        value, headers = encode(envelope, TENANT)
        place = partition_for(TENANT, PARTITIONS)
        producer.append(topics.executions, place, key=TENANT.encode(), value=value, headers=headers)
    producer.close()


def started(name: str, value: str) -> ExecutionEnvelope:
    start = LifetimeStart(graph_id="g", input=pb.Payload(json=json.dumps(value)))
    start.issued_at.GetCurrentTime()
    return ExecutionEnvelope(tenant_id=TENANT, lifetime_id=name, lifetime_start=start)


def read(log: Log, topic: str, kind: type[LifetimeView] | type[ExecutionEnvelope]) -> list[object]:
    ends = log.offsets([TopicPartition(topic, n) for n in range(PARTITIONS)])
    left = sum(end for _, end in ends.values())
    reader, found = log.reader(), []
    reader.assign(dict.fromkeys(ends, 0))
    try:
        while len(found) < left:
            found += reader.poll(5.0)
    finally:
        reader.close()
    return [decode(record, kind) for record in found]


def outcomes(log: Log, topic: str) -> dict[str, object]:
    """Return what each ended lifetime came to."""
    views = read(log, topic, LifetimeView)
    return {v.lifetime_id: json.loads(v.outcome.json) for v in views if v.HasField("ended_at")}  # type: ignore[attr-defined]


def announced(log: Log, topic: str) -> list[ExecutionStarted]:
    every = read(log, topic, ExecutionEnvelope)
    return [e.execution_started for e in every if e.HasField("execution_started")]  # type: ignore[attr-defined]


@pytest.fixture
def settings(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> StreamSettings:
    blobs = f"file://{tmp_path}/blobs"
    return StreamSettings(
        kafka=kafka_bootstrap, topic_prefix=topic_prefix, partitions=PARTITIONS, blob_url=blobs
    )


def test_a_plain_handler_that_ends_its_process_fails_alone_and_the_rest_gets_done(
    settings: StreamSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "MAX_LOST", 0)  # each further attempt takes as many deaths once more
    log, blobs, topics = open_log(settings), open_blob_store(settings), Topics(settings.topic_prefix)
    log.create_topics(topics.descriptions(PARTITIONS))
    registered = ExecutionEnvelope(
        tenant_id=TENANT,
        graph_registered=GraphRegistered(
            graph_id="g", version="1.0.0", definition_json=LINE.for_tenant(TENANT).canonical_json()
        ),
    )
    plans = HandlerRegistry()
    plans.add(decide)
    planner = Worker(log, blobs, NodeKind.PLAN, plans, None, settings)
    names = [f"sound-{n}" for n in range(INNOCENTS)]
    append(settings, log, registered, started("killing", "kill"), *(started(n, "work") for n in names))
    gate = Gate(log, blobs, settings, GateSettings())
    with in_a_thread(gate.run), in_a_thread(planner.run), kept_worker(settings) as codes:
        expected = dict.fromkeys(names, "done")
        eventually(
            lambda: expected.items() <= outcomes(log, topics.lifetimes).items(), timeout_s=90, interval_s=0.5
        )
        eventually(
            lambda: outcomes(log, topics.lifetimes).get("killing") == "LOST", timeout_s=60, interval_s=0.5
        )
        append(settings, log, started("later", "work"))
        eventually(lambda: outcomes(log, topics.lifetimes).get("later") == "done", timeout_s=20)
        eventually(lambda: not check_log(log, blobs, settings, settled=True).violated, timeout_s=20)
    assert codes == [9] * (MANY_DEATHS + 1)
    told = announced(log, topics.executions)
    assert len({one.execution_id for one in told}) == len(told), "what was not to blame was announced once"
    log.close()
