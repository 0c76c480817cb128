"""`headgate tenant` makes what is missing, changes nothing the second time, and says what would be made."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.servers.secured import Secured
from headgate_streams.opening import open_accounts, open_log
from headgate_streams.roles import Grant, Role
from headgate_streams.settings import StreamSettings
from tests.e2e.command_line import answer, headgate
from tests.integration.security.conftest import PARTITIONS, Tenant

Admin = dict[str, str]


@pytest.fixture
def admin(secured_kafka: Secured, topic_prefix: str) -> Admin:
    """The environment of the cluster's administrator, with a prefix that nobody else has."""
    variables = Tenant(secured_kafka, topic_prefix, "acme", {}).variables(None)
    return {name: value for name, value in variables.items() if name != "HEADGATE_PLACEMENT"}


def test_dry_run_says_all_and_makes_nothing(admin: Admin, tmp_path: Path) -> None:
    for _ in range(2):
        said = answer("tenant", "create", "acme", "--dry-run", cwd=tmp_path, **admin)
        assert len(said["topics"]["missing"]) == 7
        assert [(one["exists"], one["new_password"]) for one in said["users"]] == [(False, True)] * len(Role)
        assert all(one["missing_acls"] and "password" not in one for one in said["users"])


def test_second_time_changes_nothing(admin: Admin, tmp_path: Path) -> None:
    first = answer("tenant", "create", "acme", "--queue", "gpu", cwd=tmp_path, **admin)
    assert len({one["password"] for one in first["users"]}) == len(Role)
    again = answer("tenant", "create", "acme", "--queue", "gpu", cwd=tmp_path, **admin)
    assert again["topics"]["missing"] == []
    for one in again["users"]:
        assert (one["exists"], one["missing_acls"], one["surplus_acls"]) == (True, [], [])
        assert (one["quota_changes"], one["new_password"]) == ({}, False)
        assert "password" not in one
    shown = answer("tenant", "show", "acme", "--queue", "gpu", cwd=tmp_path, **admin)
    assert [one["missing_acls"] for one in shown["users"]] == [[]] * len(Role)
    assert {name for one in shown["users"] for name in one["quotas"]} == {
        "producer_byte_rate",
        "consumer_byte_rate",
    }


def test_passwords_go_to_files_of_their_owner_alone_and_are_not_shown(admin: Admin, tmp_path: Path) -> None:
    done = headgate("tenant", "create", "acme", "--passwords", "kept", cwd=tmp_path, **admin)
    assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "kept").iterdir())
    assert len(files) == len(Role)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    passwords = {file.name: file.read_text().strip() for file in files}
    assert [one for one in passwords.values() if one in done.stdout + done.stderr] == []
    rotated = headgate(
        "tenant", "create", "acme", "--passwords", "kept", "--rotate", "worker", cwd=tmp_path, **admin
    )
    assert rotated.returncode == 0, rotated.stderr
    changed = [file.name for file in files if file.read_text().strip() != passwords[file.name]]
    assert changed == [f"{admin['HEADGATE_TOPIC_PREFIX']}.acme.worker.password"]


def test_acl_that_is_not_needed_is_shown(
    admin: Admin, admin_settings: StreamSettings, tmp_path: Path
) -> None:
    answer("tenant", "create", "acme", cwd=tmp_path, **admin)
    name = f"{admin_settings.topic_prefix}.acme"
    open_accounts(admin_settings).allow(
        f"{name}.worker", [Grant("TOPIC", f"{name}.lifetimes", False, "READ")]
    )
    said = headgate("tenant", "show", "acme", cwd=tmp_path, **admin).stdout
    assert f"{name}.worker does not need READ TOPIC {name}.lifetimes" in said


def test_shared_topics_get_users_too_that_see_no_dedicated_ones(
    admin: Admin, secured_kafka: Secured, tmp_path: Path
) -> None:
    answer("tenant", "create", "acme", cwd=tmp_path, **admin)
    said = answer("tenant", "create", "shared", cwd=tmp_path, **admin)
    assert said["prefix"] == admin["HEADGATE_TOPIC_PREFIX"]
    passwords = {one["user"]: one["password"] for one in said["users"]}
    shared = Tenant(secured_kafka, said["prefix"], "shared", passwords)
    for role in Role:
        log = open_log(shared.settings(role))
        seen = log.topics(f"{said['prefix']}.")  # type: ignore[attr-defined]
        assert seen
        assert [name for name in seen if ".acme." in name] == []
        log.close()


@pytest.mark.parametrize("name", ["gate", "task-inputs", "../b", "A", "executions"])
def test_name_that_cannot_have_topics_is_refused(admin: Admin, tmp_path: Path, name: str) -> None:
    done = headgate("tenant", "create", name, cwd=tmp_path, **admin)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_who_is_no_administrator_makes_nothing(tenants: tuple[Tenant, Tenant], tmp_path: Path) -> None:
    variables = tenants[0].variables(Role.GATE)
    done = headgate("tenant", "create", "acme-3", cwd=tmp_path, **variables)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "no ACL" in done.stderr


def seconds(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def test_quota_slows_one_tenant_and_not_the_other(
    secured_kafka: Secured, admin_settings: StreamSettings
) -> None:
    from tests.integration.security.conftest import settle

    accounts = open_accounts(admin_settings)
    slow, quick = (settle(secured_kafka, admin_settings.topic_prefix, name) for name in ("slow", "quick"))
    user = f"{slow.topics.prefix}.client"
    accounts.set_quotas({user: {"producer_byte_rate": 65_536.0}})
    assert accounts.quotas([user])[user]["producer_byte_rate"] == 65_536.0
    took_s = {}
    for tenant in (slow, quick):
        log = tenant.log(Role.CLIENT)
        producer = log.producer()
        producer.append(tenant.topics.executions, 0, key=b"k", value=b"warm")
        producer.flush()

        def send(producer=producer, topic=tenant.topics.executions) -> None:  # type: ignore[no-untyped-def]
            for _ in range(4):
                producer.append(topic, 0, key=b"k", value=bytes(500_000))
                producer.flush(120)

        took_s[tenant.name] = seconds(send)
        producer.close()
        log.close()
    assert took_s["slow"] > took_s["quick"] + 2.0, took_s


def test_json_is_one_document(admin: Admin, tmp_path: Path) -> None:
    done = headgate("tenant", "create", "acme", "--json", cwd=tmp_path, **admin)
    assert json.loads(done.stdout)["dry_run"] is False
    assert done.stdout.count("\n") == 1
    assert PARTITIONS == 2
