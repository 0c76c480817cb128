"""How fast the catalog projects: records per second of wall and of CPU time, on SQLite and PostgreSQL.

A log is made by a fold whose dispatches are answered at once, and kept in an embedded log; then it is
projected into each database, anew each time: `make bench-catalog`. PostgreSQL's own CPU time is that of its
server processes.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.rules import TENANT, Log
from deploy.servers import postgres
from deploy.servers.cache import ServerUnavailable
from deploy.servers.processes import stop
from headgate_catalog.database import Database
from headgate_catalog.projector import Projector
from headgate_guardrails.fold.turn import CONTROL_EVENTS, LIFETIMES, TASK_INPUTS, Output
from headgate_streams.codec import headers_of
from headgate_streams.local_log import LocalLog
from headgate_streams.port import LogProducer
from headgate_streams.topics import Topics

TOPICS = Topics("bench")


class Kept(Log):
    """A fold whose records and outputs are kept in a log of one partition."""

    def __init__(self, producer: LogProducer, lifetimes: int, rounds: int) -> None:
        self._producer = producer
        self.appended = 0
        super().__init__(lifetimes, rounds)

    def _fold(self, lifetime_id: str, **payload: Any) -> list[Output]:
        outputs = super()._fold(lifetime_id, **payload)
        record = self.records[-1]
        self._write(TOPICS.executions, record.key, record.value, record.headers)
        for output in outputs:
            headers = headers_of(output.kind.__name__, TENANT)
            self._write(_topic(output), output.key.encode(), output.value, headers)
        return outputs

    def _write(self, topic: str, key: bytes | None, value: bytes | None, headers: Any) -> None:
        self._producer.append(topic, 0, key=key, value=value, headers=headers)
        self.appended += 1
        if self.appended % 1_000 == 0:
            self._producer.flush()


def _topic(output: Output) -> str:
    names = {CONTROL_EVENTS: TOPICS.control_events, LIFETIMES: TOPICS.lifetimes}
    inputs = TOPICS.task_inputs() if output.topic == TASK_INPUTS else TOPICS.plan_inputs()
    return names.get(output.topic, inputs)


def make_log(path: Path, lifetimes: int, rounds: int) -> LocalLog:
    """Return a log of so many lifetimes; a round is five records."""
    log = LocalLog(path)
    log.create_topics(TOPICS.descriptions(1))
    producer = log.producer()
    kept = Kept(producer, lifetimes, rounds)
    producer.close()
    print(f"a log of {kept.appended:,} records", flush=True)
    return log


def project(log: LocalLog, url: str, server: psutil.Process | None = None) -> None:
    """Project a log into a database that is made for it, and print the figures."""
    database = Database(url)
    projector = Projector(log, TOPICS, database)
    projector.prepare(anew=True)
    before, began, cpu = _server_cpu_s(server), time.monotonic(), time.process_time()
    projector.catch_up(lambda *_: None)
    wall_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
    database.close()
    records = projector.records
    more = f", its server {records / max(_server_cpu_s(server) - before, 1e-9):,.0f}" if server else ""
    print(
        f"{url.partition(':')[0]}: {records / wall_s:,.0f} records/s of wall time, "
        f"{records / cpu_s:,.0f} of CPU time{more}",
        flush=True,
    )


def _server_cpu_s(server: psutil.Process | None) -> float:
    """Return the CPU time of a server and of those of its processes that are alive or were waited for."""
    if server is None:
        return 0.0
    times = [one.cpu_times() for one in (server, *server.children())]
    waited = server.cpu_times()
    return sum(one.user + one.system for one in times) + waited.children_user + waited.children_system


def measure(lifetimes: int, rounds: int) -> None:
    """Make a log, and project it into each database that can be had."""
    with tempfile.TemporaryDirectory(prefix="headgate-catalog-") as scratch:
        log = make_log(Path(scratch) / "log.sqlite3", lifetimes, rounds)
        project(log, f"sqlite:///{scratch}/catalog.sqlite3")
        try:
            running = postgres.run(Path(scratch) / "postgres")
        except ServerUnavailable as error:
            print(f"postgresql: {error}")
        else:
            try:
                project(log, postgres.url(running), psutil.Process(running.pid))
            finally:
                stop(running)
                shutil.rmtree((Path(scratch) / "postgres/cluster").resolve(), ignore_errors=True)
        log.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks.catalog", description=__doc__)
    parser.add_argument("--lifetimes", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=50, help="plan, task and back; five records each")
    chosen = parser.parse_args()
    measure(chosen.lifetimes, chosen.rounds)
