"""Exports: all of a log, then what is new; taken up after a crash; refused when the log is another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headgate_graphs.errors import ArchiveBroken, UserError
from headgate_streams.archive import export as exporting
from headgate_streams.archive import format as file_format
from headgate_streams.archive import manifest as manifests
from headgate_streams.archive.export import Export
from headgate_streams.archive.manifest import Manifest
from headgate_streams.archive.objects import MANIFEST, PLAN, Archive
from headgate_streams.archive_log import ArchiveLog
from headgate_streams.blobs import MemoryBlobStore
from headgate_streams.pace import Pace
from headgate_streams.port import TopicDescription, TopicPartition
from headgate_streams.signing import SigningKey
from headgate_streams.topics import Topics
from tests.unit.streams.archive.conftest import Yard, everything


def objects(yard: Yard) -> dict[str, bytes]:
    return dict(yard.blobs._blobs)


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make files of four records, pages of three files, and a note in the plan after each second file."""
    monkeypatch.setattr(file_format, "FILE_RECORDS", 4)
    monkeypatch.setattr(exporting, "PAGE_FILES", 3)
    monkeypatch.setattr(exporting, "PLAN_FILES", 2)


def test_an_archive_has_exactly_the_records_of_the_log(yard: Yard, small_files: None) -> None:
    yard.fill(50)
    yard.fill(7, yard.topics.task_inputs("gpu_a"))
    done = yard.export()
    assert everything(yard.read()) == everything(yard.log)
    assert (done.records, len(done.manifest.pages) > 1, done.is_new) == (57, True, True)


def test_a_second_export_goes_on_where_the_first_ended(yard: Yard, small_files: None) -> None:
    yard.fill(20)
    first = objects(yard) if yard.export() else {}
    yard.fill(20)
    assert yard.export().records == 20
    assert everything(yard.read()) == everything(yard.log)
    files = {key: content for key, content in first.items() if key.endswith(".avro")}
    assert files.items() <= objects(yard).items()


def test_an_export_with_nothing_new_writes_nothing(yard: Yard) -> None:
    yard.fill(5)
    yard.export()
    before = objects(yard)
    done = yard.export()
    assert (done.is_new, done.records, done.manifest.export) == (False, 0, 1)
    assert objects(yard) == before


def test_every_manifest_is_kept_and_names_the_one_before(yard: Yard) -> None:
    for _ in range(3):
        yard.fill(1)
        yard.export()
    kept = [yard.blobs.get(f"manifests/{number:06d}.json", 10**6) for number in (1, 2, 3)]
    read = [manifests.unseal(raw, Manifest, "it") for raw in kept]
    assert [one.previous for one in read] == ["", *map(manifests.sha256_of, kept[:2])]
    assert kept[2] == yard.blobs.get(MANIFEST, 10**6)


class Killed(Exception):
    """What a crash point raises here, in place of ending the process."""


def killed_at(monkeypatch: pytest.MonkeyPatch, point: str, times: int) -> None:
    left = [times]

    def crash(name: str) -> None:
        if name == point:
            left[0] -= 1
            if left[0] == 0:
                raise Killed

    monkeypatch.setattr(exporting, "crash_point", crash)


@pytest.mark.parametrize(
    ("point", "times"),
    [
        *(("export-after-file", number) for number in (1, 2, 3, 6, 9)),
        *(("export-after-plan", number) for number in (1, 2, 4)),
        ("export-before-manifest", 1),
    ],
)
def test_an_export_that_was_killed_is_taken_up_and_comes_to_the_same_bytes(
    yard: Yard, small_files: None, monkeypatch: pytest.MonkeyPatch, point: str, times: int
) -> None:
    monkeypatch.setattr("headgate_streams.archive.planning.time.time_ns", lambda: 1_700_000_000_000_000_000)
    yard.fill(40)
    undisturbed = Archive(MemoryBlobStore(), "undisturbed")
    Export(yard.log, yard.topics, undisturbed).run()
    killed_at(monkeypatch, point, times)
    with pytest.raises(Killed):
        yard.export()
    assert yard.archive.manifest() is None
    yard.fill(5)
    done = yard.export()
    assert done.was_taken_up
    assert objects(yard) == dict(undisturbed.blobs._blobs)  # type: ignore[attr-defined]
    assert yard.export().records == 5
    assert everything(yard.read()) == everything(yard.log)


def test_until_an_export_is_finished_the_archive_is_as_it_was(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.fill(10)
    yard.export()
    before = everything(yard.read())
    yard.fill(10)
    killed_at(monkeypatch, "export-before-manifest", 1)
    with pytest.raises(Killed):
        yard.export()
    assert everything(yard.read()) == before


def test_a_plan_of_an_older_manifest_is_not_taken_up(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.fill(10)
    killed_at(monkeypatch, "export-before-manifest", 1)
    with pytest.raises(Killed):
        yard.export()
    stale = yard.blobs.get(PLAN, 10**6)
    yard.export()
    yard.fill(3)
    yard.blobs.put(PLAN, stale)
    assert not yard.export().was_taken_up
    assert everything(yard.read()) == everything(yard.log)


def test_what_a_group_has_committed_is_archived(yard: Yard) -> None:
    yard.fill(10)
    yard.commit(yard.topics.gate_group, yard.topics.executions, 3)
    yard.export()
    place = TopicPartition(yard.topics.executions, 0)
    committed = yard.read().consumer(yard.topics.gate_group).committed([place])[place]
    assert committed is not None
    assert (committed.offset, committed.metadata) == (3, "so far")


def test_a_new_commit_alone_is_worth_a_manifest(yard: Yard) -> None:
    yard.fill(10)
    yard.export()
    yard.commit(yard.topics.gate_group, yard.topics.executions, 3)
    assert yard.export().is_new


def test_topics_of_other_placements_stay_out(yard: Yard) -> None:
    other = Topics("yard_1", "acme")
    yard.log.create_topics(other.descriptions(2))
    yard.log.create_topics([TopicDescription("yard_1.somebody-elses", 1, {})])
    yard.export()
    assert {one.name for one in yard.export().manifest.topics} == {
        one.name for one in yard.topics.descriptions(1, ["gpu_a"])
    }


def test_a_log_that_has_lost_what_was_not_archived_is_refused(yard: Yard) -> None:
    yard.fill(30)
    yard.export()
    yard.fill(30)
    yard.log.delete_before({TopicPartition(yard.topics.executions, 1): 12})
    before = objects(yard)
    with pytest.raises(UserError, match=r"executions\[1\] has lost the records 10 to 11"):
        yard.export()
    assert objects(yard) == before


def test_a_log_may_lose_what_is_archived(yard: Yard) -> None:
    yard.fill(30)
    yard.export()
    whole = everything(yard.log)
    yard.log.delete_before({TopicPartition(yard.topics.executions, 1): 10})
    yard.export()
    assert everything(yard.read()) == whole


def test_an_archive_begins_where_the_log_does(yard: Yard) -> None:
    place = TopicPartition(yard.topics.executions, 1)
    yard.fill(30)
    yard.log.delete_before({place: 4})
    yard.export()
    assert yard.read().offsets([place]) == {place: (4, 10)}
    assert everything(yard.read()) == everything(yard.log)


def another(yard: Yard, count: int) -> Callable[[], Any]:
    """Return an export from a log that was made anew, of `count` records, to the same archive."""
    fresh = Yard()
    fresh.archive = yard.archive
    producer = fresh.log.producer()
    for number in range(count):
        producer.append(fresh.topics.executions, number % 3, key=None, value=b"new %d" % number)
    producer.close()
    return fresh.export


@pytest.mark.parametrize(
    ("count", "why"), [(3, "ends at 1, and is archived up to 10"), (90, "another record")]
)
def test_another_log_is_refused(yard: Yard, count: int, why: str) -> None:
    yard.fill(30)
    yard.export()
    with pytest.raises(UserError, match=f"{why}.*begin a new archive"):
        another(yard, count)()


def test_a_topic_that_was_made_again_is_refused(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.fill(3)
    monkeypatch.setattr(yard.log, "topic_id", lambda name: "first")
    yard.export()
    assert yard.read().topic_id(yard.topics.executions) == "first"
    monkeypatch.setattr(yard.log, "topic_id", lambda name: "second")
    with pytest.raises(UserError, match="was deleted and made again"):
        yard.export()


def test_an_archive_of_other_topics_is_refused(yard: Yard) -> None:
    yard.export()
    other = Topics("other")
    yard.log.create_topics(other.descriptions(1))
    with pytest.raises(UserError, match="the archive is of yard_1, not of other"):
        Export(yard.log, other, yard.archive).run()
    with pytest.raises(UserError, match=r"no topic nothing.executions: nothing to export"):
        Export(yard.log, Topics("nothing"), yard.archive).run()


def test_an_export_keeps_to_its_rate() -> None:
    now = [100.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(200, lambda: now[0], sleep)
    for _ in range(1_000):
        pace.take()
    assert now[0] == pytest.approx(105.0, abs=0.02)
    free = Pace(0, lambda: now[0], sleep)
    slept.clear()
    free.take()
    assert slept == []


# Signatures --------------------------------------------------------------------------------------------


def trusting(yard: Yard, key: SigningKey | None) -> Archive:
    return Archive(yard.blobs, "memory", key.public if key is not None else None)


def test_a_signed_archive_is_read_with_its_key_and_no_other(yard: Yard) -> None:
    key = SigningKey.new()
    yard.fill(5)
    yard.archive = trusting(yard, key)
    yard.export(key)
    assert everything(yard.read()) == everything(yard.log)
    with pytest.raises(ArchiveBroken, match="is not one by key"):
        ArchiveLog(trusting(yard, SigningKey.new()))


def test_an_archive_without_a_signature_is_not_read_where_one_must_be(yard: Yard) -> None:
    yard.export()
    with pytest.raises(ArchiveBroken, match="it is not signed, and must be by key"):
        ArchiveLog(trusting(yard, SigningKey.new()))


def test_a_changed_manifest_is_not_what_was_signed(yard: Yard) -> None:
    key = SigningKey.new()
    yard.fill(5)
    yard.archive = trusting(yard, key)
    yard.export(key)
    raw = yard.blobs.get(MANIFEST, 10**6)
    yard.blobs.put(MANIFEST, raw.replace(b'"records":2', b'"records":1'))
    with pytest.raises(ArchiveBroken, match=r"memory: manifest.json: its signature"):
        yard.read()


def test_a_signed_archive_stays_signed(yard: Yard) -> None:
    key = SigningKey.new()
    yard.fill(5)
    Export(yard.log, yard.topics, trusting(yard, key), key=key).run()
    yard.fill(5)
    with pytest.raises(UserError, match=f"is signed by key {key.key_id}: name it"):
        yard.export()
    with pytest.raises(UserError, match="is signed: set HEADGATE_SIGNING_KEY"):
        Export(yard.log, yard.topics, trusting(yard, key)).run()
    newer = SigningKey.new()
    Export(yard.log, yard.topics, trusting(yard, key), key=newer).run()
    assert everything(ArchiveLog(trusting(yard, newer))) == everything(yard.log)


def test_what_nobody_has_signed_is_not_signed_later(yard: Yard) -> None:
    key = SigningKey.new()
    yard.fill(5)
    yard.export()
    with pytest.raises(ArchiveBroken, match="it is not signed"):
        Export(yard.log, yard.topics, trusting(yard, key), key=key).run()


def test_a_plan_of_somebody_else_is_not_signed_over(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    key = SigningKey.new()
    yard.fill(5)
    killed_at(monkeypatch, "export-before-manifest", 1)
    with pytest.raises(Killed):
        yard.export()
    done = Export(yard.log, yard.topics, trusting(yard, key), key=key).run()
    assert not done.was_taken_up
    assert everything(ArchiveLog(trusting(yard, key))) == everything(yard.log)
