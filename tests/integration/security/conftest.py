"""A broker that asks who one is, and tenants that have topics of their own on it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from deploy.servers.cache import ServerUnavailable
from deploy.servers.secured import ADMIN, ADMIN_PASSWORD, Secured
from headgate.tenancy import issue, look, make
from headgate_streams.kafka_log import KafkaLog
from headgate_streams.opening import open_accounts, open_log
from headgate_streams.port import Log
from headgate_streams.roles import Role
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import Topics
from tests import real_servers

PARTITIONS = 2


@pytest.fixture(scope="session")
def secured_kafka() -> Secured:
    """A broker with SCRAM, TLS and the authorizer, one for the whole run."""
    try:
        return real_servers.secured_kafka()
    except ServerUnavailable as error:
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(f"no secured Kafka: {error} (in CI this is a failure)", pytrace=False)
        pytest.skip(f"no secured Kafka: {error}")


@dataclass(frozen=True)
class Tenant:
    """One tenant with topics and users of its own."""

    server: Secured
    prefix: str
    name: str
    passwords: dict[str, str]

    @property
    def topics(self) -> Topics:
        return Topics(self.prefix, self.name)

    def variables(self, role: Role | None) -> dict[str, str]:
        """Return the environment of a process in a role; None is the cluster's administrator."""
        user = f"{self.topics.prefix}.{role.value}" if role else ADMIN
        return {
            "HEADGATE_KAFKA": self.server.sasl,
            "HEADGATE_TOPIC_PREFIX": self.prefix,
            "HEADGATE_PLACEMENT": self.name,
            "HEADGATE_PARTITIONS": str(PARTITIONS),
            "HEADGATE_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "HEADGATE_KAFKA_USERNAME": user,
            "HEADGATE_KAFKA_PASSWORD": self.passwords[user] if role else ADMIN_PASSWORD,
        }

    def settings(self, role: Role | None) -> StreamSettings:
        """Return the settings of a process in a role."""
        given = {name.removeprefix("HEADGATE_").lower(): v for name, v in self.variables(role).items()}
        return StreamSettings.model_validate(given)

    def log(self, role: Role | None) -> Log:
        """Return the log as a role sees it."""
        return open_log(self.settings(role))


def settle(server: Secured, prefix: str, name: str) -> Tenant:
    """Make a tenant's topics, users, ACLs and quotas."""
    passwords: dict[str, str] = {}
    tenant = Tenant(server, prefix, name, passwords)
    settings = tenant.settings(None)
    accounts, log = open_accounts(settings), open_log(settings)
    seen = look(log, accounts, settings)
    make(log, accounts, settings, seen, {})
    for one in issue(accounts, settings, [account.user for account in seen.accounts]):
        passwords[one.user] = one.password or ""
    log.close()
    return tenant


@pytest.fixture(scope="session")
def tenants(secured_kafka: Secured) -> tuple[Tenant, Tenant]:
    """Two tenants whose names begin alike, of one installation."""
    prefix = f"hg-{uuid.uuid4().hex[:8]}"
    return settle(secured_kafka, prefix, "acme"), settle(secured_kafka, prefix, "acme-2")


@pytest.fixture
def admin_settings(secured_kafka: Secured, topic_prefix: str) -> StreamSettings:
    """Settings of the cluster's administrator, with a prefix that nobody else has."""
    return StreamSettings(
        kafka=secured_kafka.sasl,
        topic_prefix=topic_prefix,
        partitions=PARTITIONS,
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_username=ADMIN,
        kafka_password=SecretStr(ADMIN_PASSWORD),
    )


@pytest.fixture
def admin_log(secured_kafka: Secured) -> Iterator[KafkaLog]:
    """The log as the administrator sees it."""
    options = secured_kafka.admin_options()
    log = KafkaLog(options.pop("bootstrap.servers"), options)
    yield log
    log.close()


@pytest.fixture
def tls_folder(tmp_path: Path, secured_kafka: Secured) -> Path:
    """A folder with a copy of the authority's certificate as `ca.crt`."""
    (tmp_path / "ca.crt").write_bytes(secured_kafka.ca_file.read_bytes())
    return tmp_path
