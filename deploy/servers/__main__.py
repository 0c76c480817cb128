"""`python -m deploy.servers prepare | kafka-up | kafka-down | s3-up | s3-down`, called by the Makefile."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from deploy.servers import kafka, minio, postgres
from deploy.servers.cache import ServerUnavailable, locked, say
from deploy.servers.processes import recorded, stop

HOME = Path(__file__).parents[2] / ".build"
"""Data of the servers that `make` starts; `make clean` removes them."""


def prepare() -> None:
    """Make what can be made here and is not given by an endpoint; one line for each thing that cannot."""
    servers: dict[str, Callable[[], object]] = {
        "HEADGATE_TEST_KAFKA": kafka.prepare,
        "HEADGATE_TEST_S3": minio.prepare,
        "HEADGATE_TEST_POSTGRES": postgres.prepare,
    }
    for endpoint, make in servers.items():
        try:
            if not os.environ.get(endpoint):
                make()
        except ServerUnavailable as error:
            say(str(error))


def kafka_up(port: int) -> None:
    """Start Kafka and print what to export."""
    with locked(HOME / "kafka.lock", "Kafka"):
        running = kafka.run(HOME / "kafka", port)
    print(f"Kafka runs on {running.address} (process {running.pid}, log {running.home}/server.log)")
    print(f"export HEADGATE_KAFKA={running.address}")


def s3_up(port: int) -> None:
    """Start MinIO and print what to export."""
    with locked(HOME / "minio.lock", "MinIO"):
        running = minio.run(HOME / "minio", port)
    print(f"MinIO runs on {running.address} (process {running.pid}, log {running.home}/server.log)")
    print(f"export HEADGATE_S3_ENDPOINT_URL=http://{running.address}")
    print(f"export HEADGATE_S3_ACCESS_KEY_ID={minio.ACCESS_KEY}")
    print(f"export HEADGATE_S3_SECRET_ACCESS_KEY={minio.SECRET_KEY}")


def down(name: str) -> None:
    """Stop one server; its data are kept."""
    running = recorded(HOME / name)
    if running is None:
        print(f"{name} does not run")
        return
    stop(running)
    print(f"{name} stopped (process {running.pid}); its data stay in {running.home}")


def main() -> int:
    """Run one command; 1 with one line on stderr when a server cannot be had."""
    parser = argparse.ArgumentParser(prog="deploy.servers", description=__doc__)
    parser.add_argument("command", choices=["prepare", "kafka-up", "kafka-down", "s3-up", "s3-down"])
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    chosen = parser.parse_args()
    commands: dict[str, Callable[[], None]] = {
        "prepare": prepare,
        "kafka-up": lambda: kafka_up(chosen.port),
        "kafka-down": lambda: down("kafka"),
        "s3-up": lambda: s3_up(chosen.port),
        "s3-down": lambda: down("minio"),
    }
    try:
        commands[chosen.command]()
    except ServerUnavailable as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
