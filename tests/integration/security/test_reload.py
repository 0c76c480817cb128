"""Passwords and TLS files are changed under running clients, and the broker's certificate with them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.servers import secured
from deploy.servers.cache import ServerUnavailable
from deploy.servers.certificates import Authority
from deploy.servers.processes import stop
from deploy.servers.secured import Secured
from headgate.tenancy import issue
from headgate_graphs.errors import LogUnavailable
from headgate_streams.kafka_log import KafkaLog
from headgate_streams.opening import open_accounts
from headgate_streams.port import Committed, LogRecord, TopicPartition
from headgate_streams.roles import Role
from headgate_streams.security import KafkaSecurity
from tests.integration.security.conftest import Tenant, settle
from tests.real_servers import RUN_VARIABLE
from tests.support import eventually

RELOAD_S = 0.2
MATERIAL = "headgate_streams.kafka.material"


@pytest.fixture(scope="module")
def own_kafka(secured_kafka: Secured) -> Iterator[Secured]:
    """A broker that is restarted with another certificate, which nobody else need know of."""
    try:
        server = secured.run(Path(os.environ[RUN_VARIABLE]) / "secured-anew")
    except ServerUnavailable as error:
        pytest.fail(f"one secured Kafka starts and another does not: {error}")
    yield server
    if (running := server.running) is not None:
        stop(running, grace_s=0)


@pytest.fixture(scope="module")
def tenant(own_kafka: Secured) -> Tenant:
    return settle(own_kafka, "anew", "acme")


class Clients:
    """A producer, a member of a group and a reader of one partition, as one gate has them."""

    def __init__(self, tenant: Tenant, log: KafkaLog) -> None:
        self.where = TopicPartition(tenant.topics.executions, 0)
        self.log = log
        self.producer, self.reader = log.producer(), log.reader()
        self.consumer = log.consumer(tenant.topics.gate_group)
        self.consumer.subscribe([self.where.topic])
        self.reader.assign({self.where: log.offsets([self.where])[self.where][1]})
        self.sent: list[bytes] = []
        self.consumed: list[bytes] = []
        self.read: list[bytes] = []

    def turn(self) -> bool:
        """Append a record when all that was sent has come; return whether it has."""
        if len(self.sent) == len(self.consumed) == len(self.read):
            self.sent.append(b"%d" % len(self.sent))
            self.producer.append(*self.where, key=b"acme", value=self.sent[-1])
            self.producer.flush()
        self.producer.poll(0.0)
        self.read += [record.value or b"" for record in self.reader.poll(0.05)]
        taken = self.consumer.poll(0.05)
        self._commit(taken)
        return len(self.sent) == len(self.consumed) == len(self.read)

    def _commit(self, records: list[LogRecord]) -> None:
        for record in records:
            self.consumer.commit({self.where: Committed(record.offset + 1, "")})
            self.consumed.append(record.value or b"")

    def close(self) -> None:
        self.producer.close()
        self.consumer.close()
        self.reader.close()
        self.log.close()


def kept(tenant: Tenant, folder: Path) -> KafkaSecurity:
    """Return what the gate of the tenant shows the broker, from files in `folder`."""
    user = f"{tenant.topics.prefix}.{Role.GATE.value}"
    (folder / f"{user}.password").write_text(tenant.passwords[user])
    (folder / "ca.crt").write_bytes(tenant.server.ca_file.read_bytes())
    return KafkaSecurity(
        protocol="SASL_SSL",
        username=user,
        password_file=folder / f"{user}.password",
        ca_file=folder / "ca.crt",
        reload_s=RELOAD_S,
    )


def test_clients_outlive_a_new_password_and_a_new_authority(
    tenant: Tenant, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server, authority = tenant.server, Authority("the next one")
    (tmp_path / "forgotten").mkdir()
    security, old = kept(tenant, tmp_path), kept(tenant, tmp_path / "forgotten")
    clients = Clients(tenant, KafkaLog(server.sasl_tls, {}, security))
    forgotten = KafkaLog(server.sasl_tls, {}, old)
    where = [TopicPartition(tenant.topics.executions, 0)]
    assert forgotten.offsets(where)
    eventually(clients.turn, timeout_s=30)

    with caplog.at_level(logging.INFO, logger=MATERIAL):
        list(
            issue(
                open_accounts(tenant.settings(None)),
                tenant.settings(None),
                [str(security.username)],
                tmp_path,
            )
        )
        (tmp_path / "ca.crt").write_bytes(server.ca_file.read_bytes() + authority.certificate)
        eventually(lambda: clients.turn() and caplog.text.count("are in use") >= 3, timeout_s=30)
    assert caplog.text.count("the next login uses the new one") >= 3

    secured.start_again(server, authority.sign("broker"))
    eventually(clients.turn, timeout_s=60)
    for _ in range(3):
        eventually(clients.turn, timeout_s=30)
    assert clients.log.offsets(where)
    with pytest.raises(LogUnavailable):
        forgotten.describe([where[0].topic])
    assert clients.consumed == clients.read == clients.sent
    clients.close()
    forgotten.close()
    (Path(server.home) / "ca.crt").write_bytes(authority.certificate)
    tenant.passwords[str(security.username)] = security.current_password()


def test_files_that_are_of_no_use_leave_the_connection_as_it_was(
    tenant: Tenant, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    security = kept(tenant, tmp_path)
    clients = Clients(tenant, KafkaLog(tenant.server.sasl_tls, {}, security))
    eventually(clients.turn, timeout_s=30)
    for content in (b"", b"no certificate", Authority("somebody else").certificate):
        caplog.clear()
        (tmp_path / "ca.crt").write_bytes(content)
        eventually(lambda: clients.turn() and "the old connection is kept" in caplog.text, timeout_s=30)
    (tmp_path / "ca.crt").unlink()
    assert eventually(clients.turn, timeout_s=30)
    assert clients.consumed == clients.read == clients.sent
    clients.close()
