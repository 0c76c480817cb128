"""The backends that one behaviour suite runs against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headgate_streams.blobs import BlobStore, FileBlobStore, MemoryBlobStore
from headgate_streams.kafka_log import KafkaLog
from headgate_streams.local_log import LocalLog
from headgate_streams.port import Log, LogConsumer, LogProducer, LogReader, TopicDescription
from headgate_streams.s3_blobs import S3BlobStore
from tests.real_servers import S3Server


class Bench:
    """A log with one topic of four partitions; closes all that a test opened on it."""

    def __init__(self, log: Log, prefix: str) -> None:
        self.log = log
        self.topic = f"{prefix}.things"
        self.group = f"{prefix}.group"
        self._open: list[LogConsumer | LogReader | LogProducer] = []
        log.create_topics([TopicDescription(self.topic, 4, {"message.timestamp.type": "LogAppendTime"})])

    def producer(self) -> LogProducer:
        self._open.append(producer := self.log.producer())
        return producer

    def consumer(self) -> LogConsumer:
        self._open.append(consumer := self.log.consumer(self.group))
        return consumer

    def reader(self) -> LogReader:
        self._open.append(reader := self.log.reader())
        return reader

    def close(self) -> None:
        for opened in reversed(self._open):
            opened.close()


@pytest.fixture(params=["memory", "file", pytest.param("kafka", marks=pytest.mark.kafka)])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    log: Log
    if request.param == "kafka":
        log = KafkaLog(request.getfixturevalue("kafka_bootstrap"))
    else:
        log = LocalLog(":memory:" if request.param == "memory" else tmp_path / "log.sqlite3")
    yield log
    log.close()


@pytest.fixture
def bench(log: Log, topic_prefix: str) -> Iterator[Bench]:
    bench = Bench(log, topic_prefix)
    yield bench
    bench.close()


@pytest.fixture(params=["memory", "files", "moto", pytest.param("minio", marks=pytest.mark.minio)])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlobStore]:
    if request.param == "memory":
        yield MemoryBlobStore()
    elif request.param == "files":
        yield FileBlobStore(tmp_path / "blobs")
    else:
        name = "minio" if request.param == "minio" else "moto_server"
        server: S3Server = request.getfixturevalue(name)
        store = s3_store(server, server.bucket())
        yield store
        store.close()


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield S3Server(f"http://{host}:{port}", "test", "test-secret")
    server.stop()


def s3_store(server: S3Server, bucket: str) -> S3BlobStore:
    return S3BlobStore(
        bucket,
        "below/here",
        endpoint_url=server.endpoint_url,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        region=server.region,
    )


@pytest.fixture
def make_s3() -> Callable[[S3Server, str], S3BlobStore]:
    return s3_store
