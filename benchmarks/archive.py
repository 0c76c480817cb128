"""`make bench-audit`: what an export costs, and that its memory does not grow with the log.

For N and for 4N records an embedded log is filled, exported to files and read back, each in a process of its
own, so that its peak memory is its own. Times are CPU time. Nothing is judged here.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


STEPS = {"fill": fill, "export": export, "read": read, "import": bring_back}


def measured(step: str, folder: Path, records: int) -> None:
    """Do one step in this process and print what it took."""
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began_s = time.process_time()
    STEPS[step](folder, records)
    seconds = time.process_time() - began_s
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(json.dumps({"seconds": seconds, "before_kib": before_kib, "peak_kib": peak_kib}))


def in_a_process(step: str, folder: Path, records: int) -> dict[str, float]:
    """Do one step in a process of its own; return what it took."""
    command = [sys.executable, "-m", "benchmarks.archive", "--records", str(records)]
    done = subprocess.run(
        [*command, "--step", step, "--folder", str(folder)], check=True, capture_output=True, timeout=600
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print a line for each step and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=25_000, help="N (default 25,000)")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        measured(given.step, given.folder, given.records)
        return
    print(f"{'step':8} {'records':>9} {'records/s of CPU':>17} {'peak RSS':>10} {'of it begun with':>17}")
    for records in (given.records, 4 * given.records):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            in_a_process("fill", folder, records)
            for step in ("export", "read", "import"):
                one = in_a_process(step, folder, records)
                memory = f"{one['peak_kib'] / 1024:6.1f} MiB {one['before_kib'] / 1024:13.1f} MiB"
                print(f"{step:8} {records:9,} {records / one['seconds']:17,.0f} {memory}", flush=True)


if __name__ == "__main__":
    main()
