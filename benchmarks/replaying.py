"""What it costs to read a log and fold it silently, as a gate does when it begins: part of `make bench`."""

from __future__ import annotations

import gc
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.rules import RULES, Log, policy, policy_record
from headgate_guardrails.checkpoints import CheckpointStore
from headgate_guardrails.folding import PartitionFold, surroundings
from headgate_streams.collector import spare_the_collector
from headgate_streams.opening import open_blob_store, open_log
from headgate_streams.port import LogRecord, TopicDescription, TopicPartition
from headgate_streams.ranges import read_range
from headgate_streams.settings import StreamSettings

LIFETIMES, ROUNDS = 100, 120
"""36,000 records: what opening a log and compiling its policies costs is spread over them."""
REPEATS = 5


def replay_per_s(progress: Callable[[str], None] = print) -> float:
    """Return how many records of an embedded log are read and folded in a second of CPU time."""
    records = [policy_record(policy(*RULES)), *Log(LIFETIMES, ROUNDS).records]
    with tempfile.TemporaryDirectory(prefix="headgate-replay-") as name:
        settings = StreamSettings(kafka=None, local=Path(name), partitions=1)
        write(settings, records)
        us = [_replayed_us(settings, len(records)) for _ in range(REPEATS)]
    progress(
        f"replay: {statistics.median(us):.1f} us a record (each: {', '.join(f'{one:.1f}' for one in us)})"
    )
    return 1e6 / statistics.median(us)


def write(settings: StreamSettings, records: list[LogRecord]) -> None:
    """Append the records, and give them the times they were made with, so that timers fire as they did."""
    log, topic = open_log(settings), settings.topics().executions
    log.create_topics([TopicDescription(topic, 1, {})])
    producer = log.producer()
    for record in records:
        producer.append(topic, 0, key=record.key, value=record.value, headers=record.headers)
    producer.close()
    log.close()
    with sqlite3.connect(settings.local / "log.sqlite3") as file:
        (first,) = file.execute("SELECT min(id) FROM records").fetchone()
        times = ((record.timestamp_ms, first + offset) for offset, record in enumerate(records))
        file.executemany("UPDATE records SET timestamp_ms = ? WHERE id = ?", times)
    file.close()


def _replayed_us(settings: StreamSettings, count: int) -> float:
    """Return the CPU time of one record in µs, all of it: opening, reading, decoding, folding."""
    log, topics = open_log(settings), settings.topics()
    store = CheckpointStore(log, open_blob_store(settings), topics)
    place = TopicPartition(topics.executions, 0)
    log.create_topics(topics.descriptions(1))
    gc.collect()
    begin = time.process_time_ns()
    fold = PartitionFold(log, store, place, 1, surroundings(log, topics.executions, settings))
    for record in read_range(log, place, 0, count):
        fold.apply(record)
    spent = time.process_time_ns() - begin
    log.close()
    if fold.state.next_offset != count:
        raise SystemExit(f"folded up to {fold.state.next_offset}, not {count}")
    return spent / count / 1000


if __name__ == "__main__":
    spare_the_collector()
    replay_per_s()
