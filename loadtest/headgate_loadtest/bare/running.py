"""Starts the hand-written loop, and measures it from outside, as the product is measured."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence

from confluent_kafka import Producer

from headgate_loadtest.bare.loop import Loop, command, message, writing
from headgate_loadtest.pace import Pace, Pacer
from headgate_streams.port import Log, TopicDescription

_STOP_S = 20.0


def measure_loop(log: Log, loop: Loop, in_flight: int, seconds: float, *, synced: bool = False) -> Pace:
    """Return the pace of the hand-written loop with so many lifetimes under way; makes its topics."""
    extra = {"flush.messages": "1"} if synced else {}
    log.create_topics(
        [TopicDescription(name, loop.partitions, extra) for name in (loop.inputs, loop.results)]
    )
    with _running(loop) as processes:
        _begin(loop, in_flight)
        return Pacer(log, loop.results, loop.partitions).measure(
            in_flight, seconds, lambda: _check(processes)
        )


@contextlib.contextmanager
def _running(loop: Loop) -> Iterator[Sequence[subprocess.Popen[bytes]]]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    processes = [
        subprocess.Popen(
            command(loop, role), env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for role in ("planner", "worker")
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)


def _begin(loop: Loop, in_flight: int) -> None:
    producer = Producer(writing(loop))
    for lifetime in range(in_flight):
        producer.produce(loop.inputs, message(loop, lifetime, 0), str(lifetime), lifetime % loop.partitions)
    if producer.flush(30):
        raise SystemExit("the hand-written loop's first inputs were not delivered")


def _check(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is not None:
            raise SystemExit(f"a process of the hand-written loop ended with exit code {process.returncode}")


def raw_client(loop: Loop, records: int = 200_000) -> dict[str, float]:
    """Return records a second that the client alone writes, and reads, one process, batches as they come."""
    from confluent_kafka import Consumer, TopicPartition

    value, producer = (
        message(loop, 0, 0),
        Producer({**writing(loop), "queue.buffering.max.messages": 500_000}),
    )
    begin = time.perf_counter()
    for number in range(records):
        producer.produce(loop.inputs, value, None, number % loop.partitions)
        if number % 1_000 == 0:
            producer.poll(0)
    producer.flush(60)
    wrote_s = time.perf_counter() - begin
    consumer = Consumer({"bootstrap.servers": loop.bootstrap, "group.id": f"{loop.name}.raw", **loop.options})
    consumer.assign([TopicPartition(loop.inputs, number, 0) for number in range(loop.partitions)])
    count, begin = 0, time.perf_counter()
    while count < records and time.perf_counter() - begin < 60:
        count += len(consumer.consume(2_000, 0.5))
    read_s = time.perf_counter() - begin
    consumer.close()
    return {"written_per_s": round(records / wrote_s), "read_per_s": round(count / read_s)}
