"""A gate that dies at any step goes on where it was: checked against a fold of the raw log, on both logs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headgate_graphs.errors import LogTruncated
from headgate_guardrails import Gate, GateSettings, gate
from headgate_guardrails.fold.engine import GuardrailEngine
from headgate_guardrails.fold.snapshot import Capture, digest
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.shard import Shard
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import execution_pb2, plan_pb2, task_pb2
from headgate_protos.v1.state_pb2 import CheckpointPointer
from headgate_streams.codec import decode, encode
from headgate_streams.opening import open_blob_store, open_log
from headgate_streams.port import Log, LogRecord, TopicPartition
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import Topics, partition_for
from tests.support import eventually
from tests.unit.guardrails.graphs_for_tests import LOOP

CRASH_POINTS = (
    "after-fold",
    "after-produce",
    "after-flush",
    "after-commit",
    "during-checkpoint",
    "during-restore",
)
TENANT = "acme"
PARTITIONS = 2


@dataclass
class Bench:
    """A log with a graph and lifetimes on it, and a look at everything that gates have written."""

    settings: StreamSettings
    log: Log

    @property
    def topics(self) -> Topics:
        return Topics(self.settings.topic_prefix)

    def append(self, *envelopes: execution_pb2.ExecutionEnvelope) -> None:
        producer = self.log.producer()
        for envelope in envelopes:
            value, headers = encode(envelope, envelope.tenant_id)
            place = partition_for(envelope.tenant_id, PARTITIONS)
            producer.append(
                self.topics.executions, place, key=envelope.tenant_id.encode(), value=value, headers=headers
            )
        producer.close()

    def starts(self, names: list[str]) -> None:
        self.append(*(_start(name) for name in names))

    def records(self, topic: str) -> list[LogRecord]:
        described = self.log.describe([topic])[topic]
        places = [TopicPartition(topic, p) for p in range(described.partitions)]
        ends = {place: end for place, (_, end) in self.log.offsets(places).items()}
        reader = self.log.reader()
        reader.assign(dict.fromkeys(places, 0))
        found: list[LogRecord] = []
        seen = dict.fromkeys(places, 0)
        try:
            while any(seen[place] < ends[place] for place in places):
                for record in reader.poll(5.0):
                    found.append(record)
                    seen[TopicPartition(record.topic, record.partition)] = record.offset + 1
        finally:
            reader.close()
        return found

    def inputs(self) -> list[plan_pb2.PlanInput]:
        """Every plan input, repeats dropped by their source as a worker drops them."""
        first: dict[tuple[int, int, int], plan_pb2.PlanInput] = {}
        for record in self.records(self.topics.plan_inputs()):
            message = decode(record, plan_pb2.PlanInput)
            source = message.source
            key = (source.partition, source.offset, source.index)
            assert first.setdefault(key, message) == message, "a repeat says what was said before"
        return list(first.values())

    def pointers(self) -> list[CheckpointPointer]:
        return [decode(record, CheckpointPointer) for record in self.records(self.topics.checkpoints)]

    def assert_written_is_what_the_log_says(self) -> None:
        """Fold the log from its beginning: what was written is that, no more and no less, byte for byte."""
        engines = {p: GuardrailEngine(PartitionState(p, PARTITIONS)) for p in range(PARTITIONS)}
        said = [o for r in self.records(self.topics.executions) for o in engines[r.partition].apply(r)]
        expected: dict[str, set[bytes]] = {}
        for output in said:
            expected.setdefault(output.topic, set()).add(output.message.SerializeToString(deterministic=True))
        for kind, topic, message in (
            ("plan-inputs", self.topics.plan_inputs(), plan_pb2.PlanInput),
            ("task-inputs", self.topics.task_inputs(), task_pb2.TaskInput),
            ("lifetimes", self.topics.lifetimes, execution_pb2.LifetimeView),
        ):
            written = {decode(r, message).SerializeToString(deterministic=True) for r in self.records(topic)}
            assert written == expected.get(kind, set()), kind


def _start(name: str) -> execution_pb2.ExecutionEnvelope:
    start = execution_pb2.LifetimeStart(graph_id="g", input=pb.Payload(json="1"))
    start.issued_at.GetCurrentTime()
    return execution_pb2.ExecutionEnvelope(tenant_id=TENANT, lifetime_id=name, lifetime_start=start)


def _registered() -> execution_pb2.ExecutionEnvelope:
    owned = LOOP.for_tenant(TENANT)
    return execution_pb2.ExecutionEnvelope(
        tenant_id=TENANT,
        graph_registered=execution_pb2.GraphRegistered(
            graph_id="g", version="1.0.0", definition_json=owned.canonical_json()
        ),
    )


@pytest.fixture(params=["local", "kafka"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, topic_prefix: str) -> Iterator[Bench]:
    where: dict[str, Any] = {"local": tmp_path / "log"}
    if request.param == "kafka":
        where["kafka"] = request.getfixturevalue("kafka_bootstrap")
    settings = StreamSettings(
        topic_prefix=topic_prefix, partitions=PARTITIONS, blob_url=f"file://{tmp_path}/blobs", **where
    )
    log = open_log(settings)
    log.create_topics(Topics(topic_prefix).descriptions(PARTITIONS))
    try:
        yield Bench(settings, log)
    finally:
        log.close()


@pytest.fixture
def running(bench: Bench) -> Iterator[Callable[..., threading.Event]]:
    """Run a gate in a thread; calling the returned event's `set` and the next one stops it."""
    running: list[tuple[threading.Event, threading.Thread, list[BaseException]]] = []

    def run(**settings: Any) -> threading.Event:
        stop = threading.Event()
        errors: list[BaseException] = []
        gate = Gate(bench.log, open_blob_store(bench.settings), bench.settings, GateSettings(**settings))

        def work() -> None:
            try:
                gate.run(stop)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        running.append((stop, thread, errors))
        return stop

    yield run
    for stop, thread, errors in running:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
        assert not errors, errors


def gate_process(bench: Bench, crash_at: str = "", **settings: Any) -> subprocess.Popen[bytes]:
    """Start a gate as a process of its own, which dies at the named point."""
    program = (
        "import sys, threading\n"
        "from headgate_guardrails import Gate, GateSettings\n"
        "from headgate_streams.opening import open_blob_store, open_log\n"
        "from headgate_streams.settings import StreamSettings\n"
        "settings = StreamSettings.model_validate_json(sys.argv[1])\n"
        "gate = Gate(open_log(settings), open_blob_store(settings), settings,\n"
        "            GateSettings.model_validate_json(sys.argv[2]))\n"
        "gate.run(threading.Event())\n"
    )
    env = {**os.environ, "HEADGATE_CRASH_AT": crash_at}
    arguments = [bench.settings.model_dump_json(), GateSettings(**settings).model_dump_json()]
    return subprocess.Popen([sys.executable, "-c", program, *arguments], env=env)


@pytest.mark.parametrize("crash_at", CRASH_POINTS)
def test_a_gate_that_dies_at_any_step_is_gone_on_with(
    bench: Bench, running: Callable[..., threading.Event], crash_at: str
) -> None:
    bench.append(_registered())
    bench.starts([f"before-{i}" for i in range(20)])
    often = {"checkpoint_records": 1, "batch_records": 5}
    if crash_at == "during-restore":
        # There has to be something to restore: a gate that works and is killed when it is done.
        first = gate_process(bench, **often)
        eventually(lambda: len(bench.inputs()) == 20, timeout_s=30)
        first.kill()
        first.wait(10)
    dying = gate_process(bench, crash_at, **often)
    assert dying.wait(60) == 137, "the gate dies where it was told to"
    bench.starts([f"after-{i}" for i in range(20)])
    running(**often)
    eventually(lambda: len(bench.inputs()) == 40, timeout_s=60)
    assert {m.headers.lifetime_id for m in bench.inputs()} == {
        f"{when}-{i}" for when in ("before", "after") for i in range(20)
    }
    bench.assert_written_is_what_the_log_says()


def test_a_gate_that_stops_leaves_a_checkpoint_and_repeats_nothing(
    bench: Bench, running: Callable[..., threading.Event]
) -> None:
    bench.append(_registered())
    bench.starts(["one"])
    stop = running()
    eventually(lambda: len(bench.inputs()) == 1, timeout_s=30)
    stop.set()
    eventually(lambda: bench.records(bench.topics.checkpoints), timeout_s=30)
    bench.starts(["two"])
    running()
    eventually(lambda: len(bench.inputs()) == 2, timeout_s=30)
    assert len(bench.records(bench.topics.plan_inputs())) == 2, "no record was written twice"
    bench.assert_written_is_what_the_log_says()


def test_a_checkpoint_that_takes_many_batches_is_the_state_at_the_offset_at_which_it_began(
    bench: Bench, running: Callable[..., threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[int] = []
    go_on = Shard.go_on

    def watched(shard: Shard, until: float) -> tuple[Capture, LogRecord | None] | None:
        made = go_on(shard, until)
        if made is not None and shard.state.next_offset > made[0].manifest.next_offset:
            late.append(made[0].manifest.next_offset)
        return made

    monkeypatch.setattr(Shard, "go_on", watched)
    monkeypatch.setattr(gate, "SLICE_S", 0.0)  # one lifetime at a time
    bench.append(_registered())
    bench.starts([f"run-{number}" for number in range(60)])
    stop = running(checkpoint_records=20, batch_records=5, commit_s=0)
    eventually(lambda: len(bench.inputs()) == 60, timeout_s=30)
    for number in range(60, 90):
        bench.starts([f"run-{number}"])
    eventually(lambda: {one.next_offset for one in bench.pointers()} & set(late), timeout_s=30)
    stop.set()
    records = bench.records(bench.topics.executions)
    for pointer in bench.pointers():
        engine = GuardrailEngine(PartitionState(pointer.partition, PARTITIONS))
        for record in records:
            if record.partition == pointer.partition and record.offset < pointer.next_offset:
                engine.apply(record)
        assert digest(engine.state) == pointer.digest, f"at {pointer.next_offset}"


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone"])
def test_a_damaged_checkpoint_falls_back_to_the_log(
    bench: Bench, running: Callable[..., threading.Event], tmp_path: Path, damage: str
) -> None:
    bench.append(_registered())
    bench.starts(["one"])
    stop = running()
    eventually(lambda: len(bench.inputs()) == 1, timeout_s=30)
    stop.set()
    eventually(lambda: len(bench.records(bench.topics.checkpoints)) == PARTITIONS, timeout_s=30)
    kept = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        content = path.read_bytes()
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(content[:-3] if damage == "truncated" else content[:-1] + b"\x00")
    bench.starts(["two"])
    running()
    eventually(lambda: len(bench.inputs()) == 2, timeout_s=30)
    bench.assert_written_is_what_the_log_says()


def test_two_gates_share_the_partitions_and_one_takes_over_when_the_other_is_killed(
    bench: Bench, running: Callable[..., threading.Event]
) -> None:
    bench.append(_registered())
    first, second = gate_process(bench), gate_process(bench)
    try:
        bench.starts([f"early-{i}" for i in range(5)])
        eventually(lambda: len(bench.inputs()) == 5, timeout_s=30)
        first.kill()
        first.wait(10)
        bench.starts([f"late-{i}" for i in range(5)])
        eventually(lambda: len(bench.inputs()) == 10, timeout_s=30)
        bench.assert_written_is_what_the_log_says()
    finally:
        for process in (first, second):
            process.kill()
            process.wait(10)


def test_a_timer_fires_on_an_idle_partition_by_a_tick(
    bench: Bench, running: Callable[..., threading.Event]
) -> None:
    brief = LOOP.model_copy(update={"limits": LOOP.limits.model_copy(update={"deadline_ms": 500})})
    owned = brief.for_tenant(TENANT)
    bench.append(
        execution_pb2.ExecutionEnvelope(
            tenant_id=TENANT,
            graph_registered=execution_pb2.GraphRegistered(
                graph_id="g", version="1.0.0", definition_json=owned.canonical_json()
            ),
        )
    )
    running()
    bench.starts(["short"])

    def aborted() -> bool:
        views = [decode(r, execution_pb2.LifetimeView) for r in bench.records(bench.topics.lifetimes)]
        return any(v.status == pb.LIFETIME_STATUS_ABORTED and "DEADLINE" in v.reason for v in views)

    eventually(aborted, timeout_s=20)
    ticks = [
        record
        for record in bench.records(bench.topics.executions)
        if decode(record, execution_pb2.ExecutionEnvelope).HasField("tick")
    ]
    assert 1 <= len(ticks) <= 10


def test_a_log_that_has_lost_what_is_needed_is_refused(tmp_path: Path) -> None:
    class Truncated:
        """A log whose first records are gone."""

        def __init__(self, log: Log) -> None:
            self._log = log

        def __getattr__(self, name: str) -> Any:
            return getattr(self._log, name)

        def offsets(self, places: Any) -> Any:
            return {
                place: (7, end) if place.topic.endswith("executions") else (first, end)
                for place, (first, end) in self._log.offsets(places).items()
            }

    settings = StreamSettings(local=tmp_path / "log", partitions=1, topic_prefix="truncated")
    log = open_log(settings)
    gate = Gate(Truncated(log), open_blob_store(settings), settings)  # type: ignore[arg-type]
    stop = threading.Event()
    watchdog = threading.Timer(20.0, stop.set)
    watchdog.start()
    with pytest.raises(LogTruncated, match="begins at 7"):
        gate.run(stop)
    watchdog.cancel()
    log.close()
