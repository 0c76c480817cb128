"""Real Kafka is archived on real MinIO: by a process that is killed, gone on with, brought back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headgate_graphs.errors import ArchiveBroken, UserError
from headgate_streams.archive.importing import Import
from headgate_streams.archive_log import ArchiveLog
from headgate_streams.crash import EXIT_CODE
from headgate_streams.kafka_log import KafkaLog
from headgate_streams.opening import open_archive
from headgate_streams.port import Committed, Log, LogRecord, TopicPartition
from headgate_streams.ranges import read_ranges
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import Topics
from tests.real_servers import S3Server

pytestmark = [pytest.mark.kafka, pytest.mark.minio]
PARTITIONS = 2
RECORDS = 21_000
"""More than one file holds, in one partition."""


@pytest.fixture
def kafka(kafka_bootstrap: str) -> Iterator[KafkaLog]:
    log = KafkaLog(kafka_bootstrap)
    yield log
    log.close()


@pytest.fixture
def settings(kafka_bootstrap: str, topic_prefix: str, minio: S3Server, tmp_path: Path) -> StreamSettings:
    return StreamSettings.read(
        kafka=kafka_bootstrap,
        topic_prefix=topic_prefix,
        local=tmp_path,
        archive=f"s3://{minio.bucket()}/kept",
        s3_endpoint_url=minio.endpoint_url,
        s3_access_key_id=minio.access_key,
        s3_secret_access_key=minio.secret_key,
    )


def append(log: Log, topic: str, first: int, count: int) -> None:
    """Append records to partition 1, one in ten large."""
    producer = log.producer(gather_ms=50)
    for number in range(first, first + count):
        value = b"%d" % number * (40 if number % 10 == 0 else 1)
        headers = (("hg-type", b"X"),) if number % 2 else ()
        producer.append(topic, 1, key=b"key-%d" % (number % 7), value=value, headers=headers)
    producer.close()


def export(settings: StreamSettings, **variables: str) -> Any:
    """Run the command in a process of its own; return what it says, or how it ended."""
    assert settings.s3_secret_access_key is not None
    environment = os.environ | {
        "HEADGATE_TOPIC_PREFIX": settings.topic_prefix,
        "HEADGATE_S3_ENDPOINT_URL": str(settings.s3_endpoint_url),
        "HEADGATE_S3_ACCESS_KEY_ID": str(settings.s3_access_key_id),
        "HEADGATE_S3_SECRET_ACCESS_KEY": settings.s3_secret_access_key.get_secret_value(),
        **variables,
    }
    command = [sys.executable, "-m", "headgate", "audit", "export", str(settings.archive), "--json"]
    where = ["--kafka", str(settings.kafka)]
    done = subprocess.run(
        [*command, *where], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode == EXIT_CODE:
        return EXIT_CODE
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def opened(settings: StreamSettings) -> ArchiveLog:
    return ArchiveLog(open_archive(settings, settings.archive or ""))


def everything(log: Log, topics: Topics) -> dict[TopicPartition, list[LogRecord]]:
    found = log.describe(log.topics(f"{topics.prefix}.")).values()
    places = [TopicPartition(one.name, number) for one in found for number in range(one.partitions)]
    read: dict[TopicPartition, list[LogRecord]] = {place: [] for place in places}
    for record in read_ranges(log, log.offsets(places)):
        read[TopicPartition(record.topic, record.partition)].append(record)
    return read


def without_times(read: dict[TopicPartition, list[LogRecord]]) -> dict[TopicPartition, list[LogRecord]]:
    return {place: [replace(one, timestamp_ms=0) for one in records] for place, records in read.items()}


def commit(log: Log, topics: Topics) -> TopicPartition:
    """Let a member of the gates' group commit, and leave."""
    place = TopicPartition(topics.executions, 1)
    consumer = log.consumer(topics.gate_group)
    consumer.subscribe([topics.executions])
    while place not in consumer.assignment():
        consumer.poll(0.1)
    consumer.commit({place: Committed(17, "seen")})
    consumer.close()
    return place


@pytest.mark.timeout(240)
def test_kafka_is_archived_on_minio_and_brought_back(
    kafka: KafkaLog, settings: StreamSettings, topic_prefix: str, tmp_path: Path
) -> None:
    topics = settings.topics()
    kafka.create_topics(topics.descriptions(PARTITIONS))
    append(kafka, topics.executions, 0, RECORDS)
    place = commit(kafka, topics)

    # A process that dies behind its first file is no export; the next one takes its plan up.
    assert export(settings, HEADGATE_CRASH_AT="export-after-file") == EXIT_CODE
    with pytest.raises(UserError, match="there is no archive"):
        opened(settings)
    append(kafka, topics.executions, RECORDS, 10)
    first = export(settings)
    assert (first["taken_up"], first["export"], first["records"]) == (True, 1, RECORDS)

    # What is new is all that the next one copies; after that nothing is.
    append(kafka, topics.control_events, 0, 5)
    assert export(settings, HEADGATE_CRASH_AT="export-before-manifest") == EXIT_CODE
    second = export(settings)
    assert (second["taken_up"], second["export"], second["records"]) == (True, 2, 15)
    assert export(settings)["new"] is False

    archive = opened(settings)
    source = everything(kafka, topics)
    assert everything(archive, topics) == source
    assert archive.topic_id(topics.executions) == kafka.topic_id(topics.executions)
    assert archive.consumer(topics.gate_group).committed([place]) == {place: Committed(17, "seen")}
    middle = source[place][RECORDS // 2].timestamp_ms
    assert archive.offset_at(place, middle) == kafka.offset_at(place, middle)

    brought_back(archive, topics, source, place, tmp_path)
    refused_once_tampered_with(settings, topics)


def brought_back(
    archive: ArchiveLog,
    topics: Topics,
    source: dict[TopicPartition, list[LogRecord]],
    place: TopicPartition,
    folder: Path,
) -> None:
    from headgate_streams.local_log import LocalLog

    local = LocalLog(folder / "restored.sqlite3")
    assert Import(archive, local, topics).run().keeps_times
    assert everything(local, topics) == source
    assert local.consumer(topics.gate_group).committed([place]) == {place: Committed(17, "seen")}
    local.close()


def refused_once_tampered_with(settings: StreamSettings, topics: Topics) -> None:
    blobs = open_archive(settings, settings.archive or "").blobs
    key = f"{topics.executions}/1/0-20000.avro"
    content = bytearray(blobs.get(key, 10**8))
    content[len(content) // 2] ^= 1
    blobs.put(key, bytes(content))
    with pytest.raises(ArchiveBroken, match=key):
        everything(opened(settings), topics)


def test_an_archive_is_brought_back_to_kafka(
    kafka: KafkaLog, settings: StreamSettings, tmp_path: Path
) -> None:
    from headgate_streams.archive.export import Export
    from headgate_streams.local_log import LocalLog

    topics = settings.topics()
    local = LocalLog(":memory:")
    local.create_topics(topics.descriptions(PARTITIONS))
    append(local, topics.executions, 0, 2_000)
    lifetimes = TopicPartition(topics.lifetimes, 0)
    gap = [LogRecord(*lifetimes, number, 1_000, b"k", b"v", ()) for number in (1, 5)]
    local.restore(lifetimes, gap, 6)
    place = commit(local, topics)
    Export(local, topics, open_archive(settings, settings.archive or "")).run()

    done = Import(opened(settings), kafka, topics).run()
    assert (done.keeps_times, done.renumbered, done.left_out) == (
        False,
        [topics.lifetimes],
        [topics.checkpoints],
    )
    source, found = without_times(everything(local, topics)), without_times(everything(kafka, topics))
    assert found[place] == source[place]
    assert [one.value for one in found[lifetimes]] == [b"v", b"v"]
    assert kafka.consumer(topics.gate_group).committed([place]) == {place: Committed(17, "seen")}
    with pytest.raises(UserError, match="import into an empty log"):
        Import(opened(settings), kafka, topics).run()
    local.close()
