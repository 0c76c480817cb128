"""The archive as a log: it reads as the log did, cannot be written, and notices what was changed in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headgate_graphs.errors import ArchiveBroken, LogTruncated, UserError
from headgate_streams.archive import format as file_format
from headgate_streams.archive.manifest import Manifest, seal, unseal
from headgate_streams.archive.objects import MANIFEST
from headgate_streams.archive_log import ArchiveLog
from headgate_streams.opening import open_archive, open_log
from headgate_streams.port import TopicPartition
from headgate_streams.settings import StreamSettings
from tests.unit.streams.archive.conftest import PARTITIONS, Yard, everything


@pytest.fixture
def archived(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """Thirty records in each of two exports, in files of four."""
    monkeypatch.setattr(file_format, "FILE_RECORDS", 4)
    for _ in range(2):
        yard.fill(30)
        yard.export()
    return yard


def test_it_describes_itself_as_the_log_does(archived: Yard) -> None:
    log, archive = archived.log, archived.read()
    names = log.topics("yard_1.")
    assert archive.topics("yard_1.") == names
    assert archive.topics("yard_1.exec") == ["yard_1.executions"]
    assert archive.describe([*names, "absent"]) == log.describe(names)
    places = [TopicPartition(archived.topics.executions, number) for number in range(PARTITIONS)]
    assert archive.offsets(places) == log.offsets(places)
    assert archive.members(archived.topics.gate_group) is None


def test_time_is_found_as_in_the_log(archived: Yard) -> None:
    place = TopicPartition(archived.topics.executions, 1)
    stamps = {record.timestamp_ms for record in everything(archived.log)[place]}
    archive = archived.read()
    for stamp in {0, *stamps, *(one + 1 for one in stamps), 2**45}:
        assert archive.offset_at(place, stamp) == archived.log.offset_at(place, stamp)


@pytest.mark.parametrize("first", range(21))
def test_reading_begins_at_any_offset(archived: Yard, first: int) -> None:
    place = TopicPartition(archived.topics.executions, 0)
    reader = archived.read().reader()
    reader.assign({place: first})
    read = [record for _ in range(8) for record in reader.poll(0, 3)]
    assert read == everything(archived.log)[place][first:]
    reader.close()
    assert reader.poll(0) == []


@pytest.mark.parametrize("offset", [-1, 21, 1000])
def test_an_offset_that_is_not_archived_is_refused(archived: Yard, offset: int) -> None:
    reader = archived.read().reader()
    with pytest.raises(LogTruncated, match=r"executions\[0\] is archived from 0 to 20"):
        reader.assign({TopicPartition(archived.topics.executions, 0): offset})


@pytest.mark.parametrize(
    "write",
    [
        lambda log: log.producer(),
        lambda log: log.create_topics([]),
        lambda log: log.delete_before({}),
        lambda log: log.consumer("group").subscribe(["topic"]),
        lambda log: log.consumer("group").commit({}),
    ],
)
def test_whatever_would_write_is_refused(archived: Yard, write: Callable[[ArchiveLog], Any]) -> None:
    with pytest.raises(UserError, match="an archive is read-only"):
        write(archived.read())


def test_a_group_says_what_it_had_committed_and_reads_nothing(archived: Yard) -> None:
    group = archived.read().consumer(archived.topics.gate_group)
    place = TopicPartition(archived.topics.executions, 0)
    assert group.committed([place]) == {place: None}
    assert group.poll(0) == []
    assert group.assignment() == frozenset()
    group.close()


def test_what_is_not_there_is_said(yard: Yard) -> None:
    with pytest.raises(UserError, match="there is no archive at memory"):
        yard.read()
    yard.export()
    with pytest.raises(UserError, match=r"no partition yard_1.executions\[7\] in the archive"):
        yard.read().offsets([TopicPartition(yard.topics.executions, 7)])
    with pytest.raises(UserError, match="no topic absent in the archive"):
        yard.read().topic_id("absent")


# Tampering ---------------------------------------------------------------------------------------------


def changed(yard: Yard, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what an unsigned manifest says."""
    content = unseal(yard.blobs.get(MANIFEST, 10**6), Manifest, "it").model_dump()
    change(content)
    yard.blobs.put(MANIFEST, seal(Manifest.model_validate(content)))


def test_one_flipped_byte_names_its_file(archived: Yard) -> None:
    key = f"{archived.topics.executions}/1/4-8.avro"
    content = bytearray(archived.blobs.get(key, 10**6))
    content[len(content) // 2] ^= 1
    archived.blobs.put(key, bytes(content))
    with pytest.raises(ArchiveBroken, match=key):
        everything(archived.read())


def test_a_missing_file_is_named(archived: Yard) -> None:
    archived.blobs.delete(f"{archived.topics.executions}/1/4-8.avro")
    with pytest.raises(ArchiveBroken, match=r"memory: there is no blob yard_1.executions/1/4-8.avro"):
        everything(archived.read())


def test_swapped_files_are_named(archived: Yard) -> None:
    keys = [f"{archived.topics.executions}/{number}/4-8.avro" for number in (0, 1)]
    first, second = (archived.blobs.get(key, 10**6) for key in keys)
    archived.blobs.put(keys[0], second)
    archived.blobs.put(keys[1], first)
    with pytest.raises(ArchiveBroken, match=r"4-8\.avro"):
        everything(archived.read())


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["files"].pop(1),
        lambda content: content["files"].pop(),
        lambda content: content["files"].reverse(),
        lambda content: content["files"].append(content["files"][0]),
        lambda content: content["files"][1].update(chain_before="00" * 32),
        lambda content: content["files"][1].update(partition=77),
        lambda content: content["partitions"][-1].update(end=1),
        lambda content: [one.update(records=one["records"] + 1) for one in content["partitions"]],
    ],
)
def test_a_manifest_whose_files_do_not_fit_together_is_refused(
    archived: Yard, change: Callable[[dict[str, Any]], Any]
) -> None:
    changed(archived, change)
    with pytest.raises(ArchiveBroken, match=r"go on where|end otherwise|names no such"):
        archived.read()


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no document"),
        (b"{}", "no document"),
        (b'{"content":{}}', "Field required"),
        (b'{"content":{"kind":"plan"}}', "kind: "),
        (b'{"content":{"format":2}}', "newer headgate"),
        (b'{"content":{},"more":1}', "no document"),
    ],
)
def test_a_manifest_that_is_none_is_refused(yard: Yard, raw: bytes, why: str) -> None:
    yard.blobs.put(MANIFEST, raw)
    with pytest.raises(ArchiveBroken, match=why):
        yard.read()


def test_a_path_out_of_the_archive_is_refused(archived: Yard) -> None:
    def outside(content: dict[str, Any]) -> None:
        for part in (*content["files"], *content["partitions"], *content["topics"]):
            part["name" if "name" in part else "topic"] = f"../{part.get('topic', part.get('name'))}"

    changed(archived, outside)
    with pytest.raises(ArchiveBroken, match="is not a blob key"):
        everything(archived.read())


# Opening -----------------------------------------------------------------------------------------------


def test_settings_that_name_an_archive_open_it(yard: Yard, tmp_path: Any) -> None:
    url = (tmp_path / "a b").as_uri()
    settings = StreamSettings.read(archive=url, topic_prefix="yard_1")
    yard.archive = open_archive(settings, url)
    yard.fill(5)
    yard.export()
    assert everything(open_log(settings)) == everything(yard.log)
    with pytest.raises(UserError, match="the archive is of yard_1, not of headgate"):
        open_log(StreamSettings.read(archive=url))


@pytest.mark.parametrize("url", ["/a/path", "http://host/x", "s3:///x", ""])
def test_an_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(UserError, match=r"archive: .*is neither file:///dir nor s3://bucket/prefix"):
        open_archive(StreamSettings.read(), url)
