"""`python -m tests.resilience.long`: the full mix over three brokers, for as long as is wanted.

`make chaos-long` calls it. The report is written whatever happens.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from pathlib import Path

from deploy.servers import minio
from deploy.servers.cache import ServerUnavailable
from deploy.servers.processes import stop
from headgate_resilience.chaos.faults.catalogue import named
from headgate_resilience.chaos.plot import drawing
from headgate_resilience.chaos.report import ChaosReport, quantile_s
from headgate_resilience.chaos.run import Wanted, run_chaos
from headgate_resilience.chaos.settings import ChaosSettings
from headgate_streams.settings import StreamSettings
from tests.real_servers import S3Server
from tests.resilience.brokers import ThreeBrokers

HOME = Path(__file__).parents[2] / ".build" / "chaos-long"
RESULTS = Path(__file__).parents[2] / "docs" / "results"


def main() -> int:
    """Run; 1 when a promise was broken or the run failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--kills", type=int, default=200, help="go on until so many processes were killed")
    parser.add_argument("--seed", type=int, default=4711)
    parser.add_argument("--rate", type=float, default=8.0, help="lifetimes a second")
    parser.add_argument("--at-once", type=int, default=2, help="faults at the same time")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what it started is stopped, too
    shutil.rmtree(HOME, ignore_errors=True)
    try:
        report = _run(chosen)
    except ServerUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    _keep(report)
    return int(report.violated)


def _run(chosen: argparse.Namespace) -> ChaosReport:
    brokers, store = ThreeBrokers(HOME / "kafka"), minio.run(HOME / "minio")
    began = time.monotonic()
    try:
        server = S3Server(f"http://{store.address}", minio.ACCESS_KEY, minio.SECRET_KEY)
        streams = StreamSettings(
            kafka=brokers.address,
            partitions=8,
            blob_url=f"s3://{server.bucket()}/chaos",
            s3_endpoint_url=server.endpoint_url,
            s3_access_key_id=server.access_key,
            s3_secret_access_key=server.secret_key,  # type: ignore[arg-type]
        )
        settings = ChaosSettings(
            seed=chosen.seed,
            rate=chosen.rate,
            duration_s=chosen.minutes * 60,
            kills=chosen.kills,
            at_once=chosen.at_once,
            calm_s=20.0,
            quiet_s=600.0,
            out=HOME / "report",
        )
        command = f"make chaos-long MINUTES={chosen.minutes:g} KILLS={chosen.kills} SEED={chosen.seed}"
        wanted = Wanted(settings, streams, named(["mix"]), None, brokers, command)
        return run_chaos(wanted, lambda line: print(f"{time.monotonic() - began:7.1f} s  {line}", flush=True))
    finally:
        brokers.close()
        stop(store, grace_s=0)


def _keep(report: ChaosReport) -> None:
    """Put the report where results are kept: the page, the figures, and a text that reads on its own."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    name = f"chaos-{report.began_at[:10]}-seed-{report.seed}"
    (RESULTS / f"{name}.svg").write_text(drawing(report) + "\n")
    for ending in ("html", "json"):
        shutil.copy(HOME / "report" / f"report.{ending}", RESULTS / f"{name}.{ending}")
    (RESULTS / f"{name}.md").write_text(text(name, report))
    print("\n".join(report.lines()))
    print(f"kept: {RESULTS / name}.md, .svg, .html, .json")


def text(name: str, report: ChaosReport) -> str:
    """Return the report as a page of Markdown."""
    facts = {
        "command": f"`{report.command}`",
        "seed": report.seed,
        "began": report.began_at,
        "took": f"{report.took_s / 60:.1f} minutes",
        "machine": ", ".join(f"{name} {value}" for name, value in report.machine.items()),
        "versions": ", ".join(f"{name} {value}" for name, value in report.versions.items()),
        "verdict": "a promise was broken" if report.violated else "every invariant held",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    injected = "\n".join(_row(fault, times, report) for fault, times in report.injected().items())
    killed = "\n".join(f"| {what} | {number} |" for what, number in sorted(report.killed.items()))
    lines = "\n".join(report.lines())
    return (
        f"# Chaos, seed {report.seed}\n\n| | |\n|---|---|\n{table}\n\n"
        f"![steps a second and their p50 and p99, the faults marked]({name}.svg)\n\n"
        f"Every fault with its recovery is in [{name}.html]({name}.html), all figures in"
        f" [{name}.json]({name}.json).\n\n"
        f"```\n{lines}\n```\n\n| killed | times |\n|---|---|\n{killed}\n\n"
        f"| fault | injected | recovery, median | longest |\n|---|---|---|---|\n{injected}\n"
    )


def _row(fault: str, times: int, report: ChaosReport) -> str:
    stalls = sorted(m.recovery_s for m in report.marks if m.fault == fault and m.recovery_s is not None)
    found = f"{quantile_s(stalls, 0.5):.1f} s | {stalls[-1]:.1f} s" if stalls else "|"
    return f"| {fault} | {times} | {found} |"


if __name__ == "__main__":
    sys.exit(main())
