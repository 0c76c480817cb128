"""What groups do when members are processes that die or are stopped for longer than their session."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate_streams.kafka_log import KafkaLog
from headgate_streams.local_log import LocalLog
from headgate_streams.port import Committed, Log, TopicDescription, TopicPartition
from tests.support import eventually

ROOT = Path(__file__).parents[2]


class Group:
    """A log that processes share, and the child member on it."""

    def __init__(self, log: Log, kind: str, address: str, prefix: str) -> None:
        self.log = log
        self.topic = f"{prefix}.things"
        self.group = f"{prefix}.group"
        self.partitions = [TopicPartition(self.topic, number) for number in range(4)]
        log.create_topics([TopicDescription(self.topic, 4, {})])
        producer = log.producer()
        for partition in self.partitions * 10:
            producer.append(*partition, key=None, value=b"v")
        producer.close()
        command = [sys.executable, "-m", "tests.contract.member", kind, address, self.topic, self.group]
        self.child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.lines.append(line.strip())

    def close(self) -> None:
        self.child.kill()
        self.child.wait(10)
        self._reader.join(10)
        assert self.child.stdout is not None
        self.child.stdout.close()


@pytest.fixture(params=["file", pytest.param("kafka", marks=pytest.mark.kafka)])
def group(request: pytest.FixtureRequest, tmp_path: Path, topic_prefix: str) -> Iterator[Group]:
    kind: str = request.param
    address = request.getfixturevalue("kafka_bootstrap") if kind == "kafka" else str(tmp_path / "log.sqlite3")
    log: Log = KafkaLog(address) if kind == "kafka" else LocalLog(Path(address))
    group = Group(log, kind, address, topic_prefix)
    eventually(lambda: "assigned 4" in group.lines and "committed" in group.lines, timeout_s=20)
    yield group
    group.close()
    log.close()


def test_killed_members_partitions_move(group: Group) -> None:
    group.child.kill()
    group.child.wait(10)
    began = time.monotonic()
    heir = group.log.consumer(group.group)
    heir.subscribe([group.topic])
    eventually(lambda: heir.poll(0.05) or len(heir.assignment()) == 4, timeout_s=20)
    assert time.monotonic() - began < 12.0
    assert set(heir.committed(group.partitions).values()) == {Committed(1, "child")}
    heir.close()


def test_stopped_member_loses_its_partitions_and_changes_nothing_when_it_goes_on(group: Group) -> None:
    os.kill(group.child.pid, signal.SIGSTOP)
    heir = group.log.consumer(group.group)
    heir.subscribe([group.topic])
    eventually(lambda: heir.poll(0.05) or len(heir.assignment()) == 4, timeout_s=20)
    heir.commit(dict.fromkeys(group.partitions, Committed(7, "heir")))
    seen = len(group.lines)
    os.kill(group.child.pid, signal.SIGCONT)

    def child_noticed() -> bool:
        heir.poll(0.05)
        return len(group.lines) > seen

    eventually(child_noticed, timeout_s=20)
    assert group.lines[seen] in {"refused", "revoked 4"}
    kept = heir.assignment()
    assert {heir.committed(kept)[partition] for partition in kept} == {Committed(7, "heir")}

    def child_is_back() -> bool:
        heir.poll(0.05)
        return "assigned 2" in group.lines[seen:] and group.lines[-1] == "committed"

    eventually(child_is_back, timeout_s=20)
    assert len(heir.assignment()) == 2
    heir.close()


def test_records_of_another_process_arrive(group: Group) -> None:
    """The child owns all partitions; what this process appends moves nothing but its own reader."""
    reader = group.log.reader()
    reader.assign(dict.fromkeys(group.partitions, 10))
    producer = group.log.producer()
    producer.append(group.topic, 1, key=None, value=b"v")
    producer.flush()
    assert [r.value for r in eventually(lambda: reader.poll(0.2))] == [b"v"]
    producer.close()
    reader.close()
