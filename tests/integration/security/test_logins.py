"""Who is not let in is told why: one line, at once, with exit code 2."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from deploy.servers.certificates import Authority
from deploy.servers.secured import Secured
from headgate_streams.roles import Role
from tests.e2e.command_line import headgate
from tests.integration.security.conftest import Tenant

COMMANDS = [("gate",), ("worker", "task"), ("list",), ("topics", "create"), ("tenant", "show", "acme")]


def refused(
    folder: Path, arguments: tuple[str, ...], variables: dict[str, str], within_s: float = 20.0
) -> str:
    """Run a command that must fail quickly; return its one line."""
    began = time.monotonic()
    done = headgate(*arguments, cwd=folder, **variables)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert time.monotonic() - began < within_s
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("headgate: ")
    return done.stderr


@pytest.mark.parametrize("arguments", COMMANDS)
def test_wrong_password_is_one_line(
    tenants: tuple[Tenant, Tenant], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    secret = "not-the-password-4711"
    variables = tenants[0].variables(Role.CLIENT) | {"HEADGATE_KAFKA_PASSWORD": secret}
    said = refused(tmp_path, arguments, variables)
    assert "refuses user" in said
    assert f"{tenants[0].topics.prefix}.client" in said
    assert "kafka_username" in said
    assert secret not in said


@pytest.mark.parametrize("arguments", COMMANDS)
def test_broker_of_another_authority_is_one_line(
    tenants: tuple[Tenant, Tenant], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    Authority("somebody else").write(tmp_path)
    said = refused(tmp_path, arguments, over_tls(tenants[0], tmp_path))
    assert "certificate verify failed" in said
    assert "kafka_ca_file" in said


def over_tls(tenant: Tenant, folder: Path) -> dict[str, str]:
    return tenant.variables(Role.CLIENT) | {
        "HEADGATE_KAFKA": tenant.server.sasl_tls,
        "HEADGATE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "HEADGATE_KAFKA_CA_FILE": str(folder / "ca.crt"),
    }


def test_right_authority_lets_in(tenants: tuple[Tenant, Tenant], tls_folder: Path) -> None:
    done = headgate("list", cwd=tls_folder, **over_tls(tenants[0], tls_folder))
    assert (done.returncode, done.stderr) == (0, "")


def test_client_with_a_certificate_of_its_own_needs_no_password(
    secured_kafka: Secured, tmp_path: Path
) -> None:
    home = Path(secured_kafka.home)
    variables = {
        "HEADGATE_KAFKA": secured_kafka.mutual_tls,
        "HEADGATE_KAFKA_SECURITY_PROTOCOL": "SSL",
        "HEADGATE_KAFKA_CA_FILE": str(home / "ca.crt"),
        "HEADGATE_KAFKA_CERT_FILE": str(home / "admin.crt"),
        "HEADGATE_KAFKA_KEY_FILE": str(home / "admin.key"),
    }
    done = headgate("tenant", "show", "nobody", cwd=tmp_path, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    del variables["HEADGATE_KAFKA_CERT_FILE"], variables["HEADGATE_KAFKA_KEY_FILE"]
    said = refused(tmp_path, ("tenant", "show", "nobody"), variables, within_s=25.0)
    assert "certificate" in said


def test_missing_file_is_named(tenants: tuple[Tenant, Tenant], tmp_path: Path) -> None:
    said = refused(tmp_path, ("list",), over_tls(tenants[0], tmp_path / "nowhere"))
    assert f"{tmp_path}/nowhere/ca.crt: No such file" in said
