"""Checkpoints: what is written, what is kept, what is believed when something is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from headgate_graphs.errors import LogTruncated
from headgate_guardrails.checkpoints import SLOTS, CheckpointStore
from headgate_guardrails.fold.engine import GuardrailEngine
from headgate_guardrails.fold.snapshot import Known, capture, digest
from headgate_guardrails.fold.state import PartitionState
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import execution_pb2
from headgate_streams.blobs import FileBlobStore
from headgate_streams.codec import encode
from headgate_streams.local_log import LocalLog
from headgate_streams.port import LogRecord, TopicPartition
from headgate_streams.ranges import read_range
from headgate_streams.topics import Topics
from tests.unit.guardrails.graphs_for_tests import LOOP

TOPICS = Topics("headgate")
PLACE = TopicPartition(TOPICS.executions, 0)


class Place:
    """A log of one partition that is folded and checkpointed by hand."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = LocalLog(":memory:")
        self.log.create_topics(TOPICS.descriptions(1))
        self.producer = self.log.producer()
        self.blobs = FileBlobStore(root)
        self.store = CheckpointStore(self.log, self.blobs, TOPICS)
        self.engine = GuardrailEngine(PartitionState(0, 1))
        self.known: Known = {}
        self.last: LogRecord | None = None
        for tenant in ("acme", "other"):
            owned = LOOP.for_tenant(tenant)
            given = execution_pb2.GraphRegistered(
                graph_id="g", version="1.0.0", definition_json=owned.canonical_json()
            )
            self.tell(execution_pb2.ExecutionEnvelope(tenant_id=tenant, graph_registered=given))

    def tell(self, envelope: execution_pb2.ExecutionEnvelope) -> None:
        value, headers = encode(envelope, envelope.tenant_id)
        key = envelope.tenant_id.encode()
        self.producer.append(PLACE.topic, 0, key=key, value=value, headers=headers)
        self.producer.flush()
        end = self.log.offsets([PLACE])[PLACE][1]
        for record in read_range(self.log, PLACE, self.engine.state.next_offset, end):
            self.engine.apply(record)
            self.last = record

    def start(self, lifetime: str, tenant: str = "acme") -> None:
        start = execution_pb2.LifetimeStart(graph_id="g", input=pb.Payload(json="1"))
        start.issued_at.GetCurrentTime()
        self.tell(
            execution_pb2.ExecutionEnvelope(tenant_id=tenant, lifetime_id=lifetime, lifetime_start=start)
        )

    def save(self) -> str:
        made, self.known = self.store.store(capture(self.engine.state, self.known), self.last)
        self.store.publish(self.producer, made)
        return made.pointer.digest

    def files(self) -> set[str]:
        return {path.name for path in self.root.rglob("*") if path.is_file()}

    def path_of(self, sha: str) -> Path:
        return next(path for path in self.root.rglob(sha) if path.is_file())

    def again(self) -> PartitionState | None:
        found = CheckpointStore(self.log, self.blobs, TOPICS).newest(0)
        return found.state if found is not None else None


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "blobs")
    yield made
    made.log.close()


def test_a_checkpoint_is_read_back_as_the_state_it_was_made_of(place: Place) -> None:
    place.start("run-1")
    place.start("run-1", "other")
    saved = place.save()
    again = place.again()
    assert again is not None
    assert digest(again) == digest(place.engine.state) == saved


def test_only_tenants_that_have_changed_are_written_again(place: Place) -> None:
    place.save()
    before = place.files()
    place.start("run-1")
    saved = place.save()
    new = place.files() - before
    assert len(new) == 2  # the manifest and one tenant
    assert saved in new


def test_what_no_slot_names_any_more_is_deleted(place: Place) -> None:
    for number in range(4 * SLOTS):
        place.start(f"run-{number}")
        place.save()
    # Each slot: its manifest and its version of the tenant that changes; one blob of the one that does not.
    assert len(place.files()) == 2 * SLOTS + 1
    assert place.again() is not None


@pytest.mark.parametrize("part", ["manifest", "tenant"])
@pytest.mark.parametrize("damage", ["deleted", "truncated", "flipped"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(place: Place, part: str, damage: str) -> None:
    place.start("run-1")
    older = place.save()
    before = place.files()
    place.start("run-2")
    newest = place.save()
    (tenant,) = place.files() - before - {newest}
    path = place.path_of(newest if part == "manifest" else tenant)
    content = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "truncated" else bytes([content[0] ^ 1]) + content[1:])
    again = place.again()
    assert again is not None
    assert digest(again) == older


def test_with_every_checkpoint_damaged_the_log_is_what_is_left(place: Place) -> None:
    place.save()
    for path in [path for path in place.root.rglob("*") if path.is_file()]:
        path.write_bytes(b"")
    assert place.again() is None


def test_a_checkpoint_made_after_another_record_than_the_logs_is_not_believed(place: Place) -> None:
    assert place.last is not None
    place.last = replace(place.last, value=b"what a lost leader had")
    place.save()
    assert place.again() is None


def test_a_checkpoint_from_before_the_topic_was_made_anew_stops_the_gate(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalLog, "topic_id", lambda *_: "first")
    place.save()
    monkeypatch.setattr(LocalLog, "topic_id", lambda *_: "second")
    with pytest.raises(LogTruncated, match="was deleted and made again after the checkpoint"):
        place.again()
