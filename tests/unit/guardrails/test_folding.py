"""Folding a partition again with a tenant held: what a gate and an audit do about a fold that raises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from headgate_graphs.errors import LogTruncated
from headgate_guardrails.checkpoints import CheckpointStore
from headgate_guardrails.fold import engine as engine_module
from headgate_guardrails.folding import FoldFailed, PartitionFold, surroundings
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import execution_pb2
from headgate_streams.blobs import MemoryBlobStore
from headgate_streams.codec import encode
from headgate_streams.local_log import LocalLog
from headgate_streams.port import TopicPartition
from headgate_streams.ranges import read_range
from headgate_streams.settings import MEMORY, StreamSettings
from headgate_streams.topics import Topics
from tests.support import needs_source
from tests.unit.guardrails.graphs_for_tests import LOOP

TOPICS = Topics("headgate")
PLACE = TopicPartition(TOPICS.executions, 0)
FAILING = "run-bad"


class Partition:
    """A log of one partition, and folds over it."""

    def __init__(self, *, logic: int = 2) -> None:
        self.settings = StreamSettings(local=MEMORY, partitions=1)
        self.log = LocalLog(":memory:")
        self.log.create_topics(TOPICS.descriptions(1))
        if logic > 1:
            version = execution_pb2.LogicVersionActivated(version=logic)
            self.append("*", logic_version=version)
        for tenant in ("acme", "other"):
            text = LOOP.for_tenant(tenant).canonical_json()
            given = execution_pb2.GraphRegistered(graph_id="g", version="1.0.0", definition_json=text)
            self.append(tenant, graph_registered=given)

    def append(self, tenant: str, lifetime: str = "", **payload: Any) -> int:
        envelope = execution_pb2.ExecutionEnvelope(tenant_id=tenant, lifetime_id=lifetime, **payload)
        value, headers = encode(envelope, tenant)
        offset = self.end
        producer = self.log.producer()
        producer.append(PLACE.topic, 0, key=tenant.encode(), value=value, headers=headers)
        producer.close()
        return offset

    def start(self, lifetime: str, tenant: str = "acme") -> int:
        start = execution_pb2.LifetimeStart(graph_id="g", input=pb.Payload(json="1"))
        start.issued_at.GetCurrentTime()
        return self.append(tenant, lifetime, lifetime_start=start)

    def note(self, offset: int) -> None:
        self.append("acme", tenant_quarantined=execution_pb2.TenantQuarantined(from_offset=offset, error="e"))

    @property
    def end(self) -> int:
        return self.log.offsets([PLACE])[PLACE][1]

    def fold(self, committed: int | None = None) -> PartitionFold:
        means = surroundings(self.log, TOPICS.executions, self.settings)
        checkpoints = CheckpointStore(self.log, MemoryBlobStore(), TOPICS)
        return PartitionFold(self.log, checkpoints, PLACE, 1, means, committed)

    def run(self, fold: PartitionFold) -> dict[str, set[str]]:
        """Fold to the end; return which lifetimes of which tenant were given something to do aloud."""
        said: dict[str, set[str]] = {"acme": set(), "other": set()}
        for record in read_range(self.log, PLACE, fold.state.next_offset, self.end):
            for output in fold.apply(record):
                if output.topic.endswith("inputs") and record.offset >= fold.loud_from:
                    said[output.tenant_id].add(output.message.headers.lifetime_id)
        return said


@pytest.fixture
def bug(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The start of one lifetime raises."""
    before = engine_module._TAKERS["lifetime_start"]

    def broken(turn: Any, tenant: Any, envelope: Any, record: Any) -> None:
        before(turn, tenant, envelope, record)
        if envelope.lifetime_id == FAILING:
            raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setitem(engine_module._TAKERS, "lifetime_start", broken)
        yield patch


def test_what_was_said_before_the_fault_is_not_said_again_and_the_rest_goes_on(
    bug: pytest.MonkeyPatch,
) -> None:
    log = Partition()
    log.start("run-1")
    at = log.start(FAILING)
    log.start("run-2")
    log.start("run-3", "other")
    fold = log.fold(committed=0)
    assert log.run(fold) == {"acme": {"run-1"}, "other": {"run-3"}}
    assert [(hold.tenant_id, hold.offset) for hold in fold.found] == [("acme", at)]
    assert fold.state.quarantined["acme"].waiting == [at, at + 1]


def test_a_binary_that_fails_where_its_predecessor_did_not_is_stopped(bug: pytest.MonkeyPatch) -> None:
    log = Partition()
    log.start(FAILING)
    log.start("run-2")
    with pytest.raises(FoldFailed, match="go back to its version"):
        log.run(log.fold(committed=log.end))


def test_a_fault_of_the_past_is_taken_as_the_log_says(bug: pytest.MonkeyPatch) -> None:
    log = Partition()
    at = log.start(FAILING)
    log.start("run-1", "other")
    log.note(at)
    fold = log.fold(committed=log.end)
    log.start("run-2", "other")
    assert log.run(fold) == {"acme": set(), "other": {"run-2"}}
    assert fold.found == []
    assert fold.state.quarantined["acme"].from_offset == at


@pytest.mark.parametrize("committed", [None, 0, 6], ids=["audit", "all aloud", "all silent"])
def test_a_binary_without_the_bug_holds_the_tenant_where_the_log_says(committed: int | None) -> None:
    log = Partition()
    at = log.start(FAILING)
    log.start("run-1", "other")
    log.note(at)
    fold = log.fold(committed)
    fold.heed_notes()
    assert log.run(fold)["acme"] == set()
    assert fold.state.quarantined["acme"].from_offset == at


def test_a_log_that_ends_before_what_was_folded_is_refused() -> None:
    log = Partition()
    with pytest.raises(LogTruncated, match=r"ends at 3, but it was folded up to 100"):
        log.fold(committed=100)


def test_a_zombies_note_about_what_this_gate_has_said_changes_nothing() -> None:
    log = Partition()
    at = log.start("run-1")
    fold = log.fold(committed=0)
    fold.heed_notes()
    assert log.run(fold)["acme"] == {"run-1"}
    log.note(at)
    log.start("run-2")
    assert log.run(fold)["acme"] == {"run-2"}
    assert fold.state.quarantined == {}


def test_before_logic_2_a_fault_stops_the_gate(bug: pytest.MonkeyPatch) -> None:
    log = Partition(logic=1)
    log.start(FAILING)
    with pytest.raises(FoldFailed, match="logic version 2 would hold that tenant alone"):
        log.run(log.fold(committed=0))


@needs_source
def test_a_fault_that_is_no_tenants_stops_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Partition()
    log.append("*", tick=execution_pb2.Tick())

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(engine_module.GuardrailEngine, "_partition_record", broken)
    with pytest.raises(FoldFailed, match=r"headgate.executions\[0\]@0: ZeroDivisionError"):
        log.run(log.fold(committed=0))
