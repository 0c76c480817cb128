"""A group member in a process of its own, to be stopped and killed; says what happens to it, a line each."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from headgate_graphs.errors import PartitionLost
from headgate_streams.kafka_log import KafkaLog
from headgate_streams.local_log import LocalLog
from headgate_streams.port import Committed, Log


def main(kind: str, address: str, topic: str, group: str) -> None:
    log: Log = KafkaLog(address) if kind == "kafka" else LocalLog(Path(address))
    consumer = log.consumer(group)
    consumer.subscribe(
        [topic],
        on_assign=lambda added: say("assigned", len(added)) or {},
        on_revoke=lambda gone: say("revoked", len(gone)),
    )
    deadline = time.monotonic() + 60.0
    said = ""
    while time.monotonic() < deadline:
        if consumer.assignment():
            try:
                consumer.commit({tp: Committed(1, "child") for tp in consumer.assignment()})
                outcome = "committed"
            except PartitionLost:
                outcome = "refused"
            if outcome != said:
                say(outcome)
                said = outcome
        else:
            said = ""
        consumer.poll(0.05)


def say(*words: object) -> None:
    print(*words, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
