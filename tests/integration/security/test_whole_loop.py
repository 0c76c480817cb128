"""The whole loop under users of their own: each process is who it is, and nobody shows a secret."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from headgate.reading import partitions_of, read_to_now
from headgate_streams.roles import Role
from tests.e2e.command_line import Process, answer, headgate, running
from tests.integration.security.conftest import Tenant
from tests.support import eventually

LIFETIME = "secured-1"


class Stage:
    """A tenant's gate and workers in processes of their own, and all that anybody has printed."""

    def __init__(self, tenant: Tenant, folder: Path) -> None:
        self.tenant = tenant
        self.folder = folder
        self.printed: list[str] = []
        self.processes: list[Process] = []

    def variables(self, role: Role) -> dict[str, str]:
        return self.tenant.variables(role) | {"HEADGATE_BLOB_URL": f"file://{self.folder}/blobs"}

    def run(self, role: Role, *arguments: str) -> tuple[int, str]:
        """Run a command in a role; return its exit code and all that it has printed."""
        done = headgate(*arguments, cwd=self.folder, **self.variables(role))
        self.printed += [done.stdout, done.stderr]
        return done.returncode, done.stdout + done.stderr

    def lines(self) -> str:
        return "\n".join([*self.printed, *(line for one in self.processes for line in one.lines)])


@pytest.fixture(scope="module")
def stage(tenants: tuple[Tenant, Tenant], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The first tenant's processes, with a run of the demo graph that has ended."""
    made = Stage(tenants[0], tmp_path_factory.mktemp("secured"))
    assert made.run(Role.CLIENT, "init", "demo")[0] == 0
    with ExitStack() as stack:
        for role, arguments in (
            (Role.GATE, ("gate", "--debug")),
            (Role.WORKER, ("worker", "task", "demo", "--debug")),
            (Role.WORKER, ("worker", "plan", "demo")),
        ):
            variables = made.variables(role)
            made.processes.append(stack.enter_context(running(*arguments, cwd=made.folder, **variables)))
        code, said = made.run(Role.CLIENT, "run", "demo", "--lifetime", LIFETIME, "--timeout", "60s")
        assert code == 0, said + made.lines()
        yield made


def test_graph_runs_to_its_end_under_the_least_rights(stage: Stage) -> None:
    found = answer("list", cwd=stage.folder, **stage.variables(Role.CLIENT))
    assert [(one["tenant_id"], one["lifetime_id"]) for one in found] == [("acme", LIFETIME)]
    assert "authorization failed" not in stage.lines()


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", LIFETIME),
        ("status",),
        ("timeline", LIFETIME),
        ("policy", "list"),
        ("policy", "explain", LIFETIME),
        ("keys", "list"),
        ("logic", "show"),
        ("dlq", "list"),
        ("control", "pause", "--everything"),
        ("control", "resume", "--everything"),
    ],
)
def test_client_does_what_clients_do(stage: Stage, arguments: tuple[str, ...]) -> None:
    code, said = stage.run(Role.CLIENT, *arguments)
    assert code == 0, said


@pytest.mark.parametrize("arguments", [("status", LIFETIME), ("timeline", LIFETIME), ("topics", "list")])
def test_auditor_looks_at_everything(stage: Stage, arguments: tuple[str, ...]) -> None:
    code, said = stage.run(Role.AUDITOR, *arguments)
    assert code == 0, said


@pytest.mark.parametrize("role", [Role.AUDITOR, Role.WORKER])
def test_who_may_not_give_orders_is_told_so_in_one_line(stage: Stage, role: Role) -> None:
    code, said = stage.run(role, "control", "pause", "--everything")
    assert code in (1, 2)
    assert said.count("\n") == 1
    assert said.startswith("headgate: ")


def test_an_operator_puts_dead_letters_back_and_deletes_them_and_a_client_does_neither(stage: Stage) -> None:
    log = stage.tenant.log(Role.CLIENT)
    producer = log.producer()
    producer.append(stage.tenant.topics.executions, 0, key=b"acme", value=b"not ours")
    producer.close()
    log.close()
    every, client = ("--every-tenant", "--yes"), stage.variables(Role.CLIENT)
    found = eventually(
        lambda: answer("dlq", "list", "--every-tenant", cwd=stage.folder, **client),
        timeout_s=60,
        interval_s=0.5,
    )
    for arguments, done in ((("requeue", found[0]["id"]), ": put back at "), (("purge", *every), "deleted ")):
        code, said = stage.run(Role.CLIENT, "dlq", *arguments)
        assert code != 0
        assert said.count("\n") == 1
        assert "uthorization failed" in said or "no ACL" in said, said
        _, said = stage.run(Role.OPERATOR, "dlq", *arguments)
        assert done in said


def test_auditor_starts_nothing(stage: Stage) -> None:
    code, said = stage.run(Role.AUDITOR, "start", "demo")
    assert code == 2
    assert "no ACL" in said
    assert said.count("\n") == 1


def test_worker_is_no_gate(stage: Stage) -> None:
    code, said = stage.run(Role.WORKER, "gate")
    assert code == 2
    assert said.count("\n") == 1, said


def test_tenant_of_another_name_is_refused_on_a_dedicated_placement(stage: Stage) -> None:
    code, said = stage.run(Role.CLIENT, "list", "--tenant", "acme-2")
    assert (code, said.count("\n")) == (2, 1)
    assert "placement acme is that tenant's alone" in said


def test_settings_are_shown_without_their_secrets(stage: Stage) -> None:
    for arguments in (("config",), ("config", "--json"), ("config", "--debug")):
        code, said = stage.run(Role.CLIENT, *arguments)
        assert code == 0
        assert "********" in said


def test_no_secret_is_printed_or_written_to_the_log(stage: Stage) -> None:
    """Last in the module: looks at all that the other tests have made the processes say."""
    passwords = stage.tenant.passwords.values()
    assert len(set(passwords)) == len(Role)
    assert [password for password in passwords if password in stage.lines()] == []
    log = stage.tenant.log(Role.AUDITOR)
    names = [one.name for one in stage.tenant.topics.descriptions(1)]
    records = list(read_to_now(log, partitions_of(log, names)))
    log.close()
    written = b"".join(
        part
        for record in records
        for part in (record.key or b"", record.value or b"", *dict(record.headers).values())
    )
    assert len(records) > 5
    assert [password for password in passwords if password.encode() in written] == []
