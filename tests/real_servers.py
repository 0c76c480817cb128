"""Where a test gets real servers: an endpoint from the environment, a process of its own, or Docker.

A test run starts each server once. Its controller process makes the run's folder; whichever test process
needs a server first starts it there under a lock, the others find it by its `server.json`, and the controller
stops everything at the end. A run that was killed is cleaned up by the next one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.servers import kafka, minio, postgres, secured
from deploy.servers.cache import ServerUnavailable, cache_dir, locked
from deploy.servers.processes import command_line, free_port, recorded, stop

KAFKA_IMAGE = "apache/kafka:4.3.0"
MINIO_IMAGE = "minio/minio:RELEASE.2025-09-07T16-13-09Z"
RUN_VARIABLE = "HEADGATE_TEST_RUN"


@dataclass(frozen=True)
class S3Server:
    """One S3-compatible store."""

    endpoint_url: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"

    def client(self) -> Any:
        """Return a boto3 client."""
        # Loaded here: it costs half a second, which the unit tests need not pay.
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=30),
        )

    def bucket(self) -> str:
        """Make a new, empty bucket and return its name."""
        name = f"test-{uuid.uuid4().hex[:16]}"
        client = self.client()
        client.create_bucket(Bucket=name)
        client.close()
        return name


@dataclass(frozen=True)
class PostgresServer:
    """One PostgreSQL server."""

    url: str
    """Of a database from which others are made."""

    def database(self) -> str:
        """Make a new, empty database and return its URL."""
        # Loaded here: most tests need no driver.
        import psycopg

        name = f"test_{uuid.uuid4().hex[:16]}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return f"{self.url.rpartition('/')[0]}/{name}"


def begin_run() -> None:
    """Make this run's folder and name it to the processes it starts; stop what killed runs left behind."""
    runs = cache_dir() / "runs"
    for left in runs.glob("*"):
        if not _is_a_run(left.name):
            _stop_all(left)
    folder = runs / str(os.getpid())
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[RUN_VARIABLE] = str(folder)


def end_run() -> None:
    """Stop this run's servers and remove their data."""
    _stop_all(Path(os.environ.pop(RUN_VARIABLE)))


def _is_a_run(name: str) -> bool:
    return name.isdecimal() and "py" in command_line(int(name))


def _stop_all(folder: Path) -> None:
    for home in folder.glob("*/server.json"):
        if (running := recorded(home.parent)) is not None:
            stop(running, grace_s=0)  # its data are thrown away: nothing to end well for
    for elsewhere in folder.glob("*/cluster"):
        shutil.rmtree(elsewhere.resolve(), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def prepare_kafka() -> None:
    """Copy Kafka's jars when a local broker will be needed; raises ServerUnavailable."""
    if not os.environ.get("HEADGATE_TEST_KAFKA"):
        kafka.prepare()


def prepare_minio() -> None:
    """Build MinIO when a local store will be needed; raises ServerUnavailable."""
    if not os.environ.get("HEADGATE_TEST_S3"):
        minio.prepare()


def prepare_postgres() -> None:
    """Find or install PostgreSQL when a local server will be needed; raises ServerUnavailable."""
    if not os.environ.get("HEADGATE_TEST_POSTGRES"):
        postgres.prepare()


PREPARE = {"kafka": prepare_kafka, "minio": prepare_minio, "postgres": prepare_postgres}
"""What makes the programs of the servers, by the mark of the tests that need them."""


def postgres_server() -> PostgresServer:
    """Return a server; raises ServerUnavailable."""
    if given := os.environ.get("HEADGATE_TEST_POSTGRES"):
        return PostgresServer(given)
    run = Path(os.environ[RUN_VARIABLE])
    with locked(run / "postgres.lock", "PostgreSQL", timeout_s=240):
        return PostgresServer(postgres.url(postgres.run(run / "postgres")))


@contextmanager
def kafka_address() -> Iterator[str]:
    """Yield host:port of a broker; raises ServerUnavailable."""
    if given := os.environ.get("HEADGATE_TEST_KAFKA"):
        yield given
        return
    run = Path(os.environ[RUN_VARIABLE])
    try:
        with locked(run / "kafka.lock", "Kafka", timeout_s=240):
            running = kafka.run(run / "kafka")
    except ServerUnavailable:
        if not docker_answers():
            raise
    else:
        yield running.address
        return
    with _kafka_container() as address:
        yield address


def secured_kafka() -> secured.Secured:
    """Return a broker with logins, TLS and ACLs, which only this machine can give; ServerUnavailable."""
    run = Path(os.environ[RUN_VARIABLE])
    with locked(run / "secured.lock", "Kafka", timeout_s=240):
        return secured.run(run / "secured")


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Yield a store; raises ServerUnavailable."""
    if given := os.environ.get("HEADGATE_TEST_S3"):
        access_key = os.environ.get("HEADGATE_TEST_S3_ACCESS_KEY_ID", "minioadmin")
        yield S3Server(given, access_key, os.environ.get("HEADGATE_TEST_S3_SECRET_ACCESS_KEY", "minioadmin"))
        return
    run = Path(os.environ[RUN_VARIABLE])
    try:
        with locked(run / "minio.lock", "MinIO", timeout_s=240):
            running = minio.run(run / "minio")
    except ServerUnavailable:
        if not docker_answers():
            raise
    else:
        yield S3Server(f"http://{running.address}", minio.ACCESS_KEY, minio.SECRET_KEY)
        return
    with _minio_container() as server:
        yield server


def docker_answers() -> bool:
    """Tell whether a Docker daemon is there; the client alone proves nothing."""
    if not shutil.which("docker"):
        return False
    try:
        return (
            subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False).returncode == 0
        )
    except subprocess.TimeoutExpired:
        return False


@contextmanager
def _kafka_container() -> Iterator[str]:
    from testcontainers.core.container import DockerContainer

    from tests.support import eventually

    port = free_port()
    settings = {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
    }
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(9092, port)
    for line in (kafka.FILES / "server.properties").read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and "${" not in line and not line.startswith("#"):
            settings.setdefault(name.upper().replace(".", "_"), value)
    del settings["CONTROLLER_QUORUM_BOOTSTRAP_SERVERS"]
    for name, value in settings.items():
        container = container.with_env(f"KAFKA_{name}", value)
    with container:
        eventually(lambda: kafka.answers(port), timeout_s=90, interval_s=0.2)
        yield f"127.0.0.1:{port}"


@contextmanager
def _minio_container() -> Iterator[S3Server]:
    from testcontainers.core.container import DockerContainer

    from tests.support import eventually

    address = f"127.0.0.1:{(port := free_port())}"
    container = DockerContainer(MINIO_IMAGE).with_bind_ports(9000, port).with_command("server /data")
    container = container.with_env("MINIO_ROOT_USER", minio.ACCESS_KEY)
    with container.with_env("MINIO_ROOT_PASSWORD", minio.SECRET_KEY):
        eventually(lambda: minio.answers(address), timeout_s=90, interval_s=0.2)
        yield S3Server(f"http://{address}", minio.ACCESS_KEY, minio.SECRET_KEY)
