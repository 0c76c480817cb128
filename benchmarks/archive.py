"""`make bench-audit`: what an export costs, and that its memory does not grow with the log.

For N and for 4N records an embedded log is filled, exported to files and read back.
"""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.steps import FILL, run
from headgate_streams.archive.export import Export
from headgate_streams.archive.importing import Import
from headgate_streams.archive_log import ArchiveLog
from headgate_streams.local_log import LocalLog
from headgate_streams.opening import open_archive, open_log
from headgate_streams.port import TopicPartition
from headgate_streams.ranges import read_range
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import Topics

VALUE_BYTES = 500
"""About the size of a result; drawn digits, which deflate halves."""
HEADERS = (("hg-type", b"ExecutionEnvelope"), ("hg-tenant", b"default"), ("hg-version", b"1"))


def fill(folder: Path, records: int) -> None:
    """Make a log with one partition of so many records."""
    log, topics = LocalLog(folder / "log" / "log.sqlite3"), Topics()
    log.create_topics(topics.descriptions(1))
    producer, draw = log.producer(), random.Random(1)  # noqa: S311
    for _ in range(records):
        value = draw.randbytes(VALUE_BYTES // 2).hex().encode()
        producer.append(topics.executions, 0, key=b"default", value=value, headers=HEADERS)
    producer.close()
    log.close()


def export(folder: Path, _: int) -> None:
    """Export it all."""
    settings = _settings(folder)
    log = open_log(settings)
    Export(log, settings.topics(), open_archive(settings, _url(folder))).run()
    log.close()


def read(folder: Path, records: int) -> None:
    """Read the archive, checking every link."""
    settings = _settings(folder)
    archive = ArchiveLog(open_archive(settings, _url(folder)))
    place = TopicPartition(settings.topics().executions, 0)
    assert sum(1 for _ in read_range(archive, place, 0, records)) == records  # noqa: S101


def bring_back(folder: Path, _: int) -> None:
    """Import it into another embedded log."""
    settings = _settings(folder)
    log = LocalLog(folder / "restored" / "log.sqlite3")
    Import(ArchiveLog(open_archive(settings, _url(folder))), log, settings.topics()).run()
    log.close()


def _settings(folder: Path) -> StreamSettings:
    return StreamSettings(local=folder / "log", partitions=1)


def _url(folder: Path) -> str:
    return (folder / "archive").as_uri()


STEPS = {FILL: fill, "export": export, "read": read, "import": bring_back}

if __name__ == "__main__":
    run("benchmarks.archive", __doc__, STEPS, 25_000)
