"""Keys without a gate: files, what a client signs, what views leave out, what partitions disagree about."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate import envelopes, orders
from headgate.client import Client
from headgate.command.verbs.keys import _agree, _ticket_lines, _where
from headgate.settings import open_settings
from headgate.standing import Standing, keys_known, standings
from headgate_graphs.errors import UserError
from headgate_graphs.ids import EVERY_TENANT
from headgate_guardrails.policy import Policy, load_policy
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_streams.signing import SigningKey, fingerprint, is_signed_by, public_key_in

Command = Callable[..., tuple[int, str, str]]
POLICY = """apiVersion: headgate/v1
kind: GuardrailPolicy
metadata: {name: caps, version: 1}
rules:
  - {name: tokens, scope: lifetime, limit: {tokens_used: 10}, action: abort_lifetime}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    (tmp_path / "policy.yaml").write_text(POLICY)
    return load_policy(tmp_path / "policy.yaml")


def signing(client: Client, path: Path) -> tuple[Client, SigningKey]:
    """Return a client of the same log that signs, and its key."""
    key = SigningKey.new()
    path.write_bytes(key.to_pem())
    settings = client.settings.model_copy(update={"signing_key": path})
    return Client(client.log, client.blobs, settings), key


def newest(client: Client, tenant: str = "default") -> ExecutionEnvelope:
    *_, (_, envelope) = client.observer.records(tenant)
    return envelope


# Files -------------------------------------------------------------------------------------------------


def test_a_new_key_is_for_its_owner_alone_and_never_written_over(command: Command) -> None:
    code, said, _ = command("keys", "new", "ops.pem", "--json")
    made = json.loads(said)
    assert (code, Path("ops.pem").stat().st_mode & 0o777) == (0, 0o600)
    assert SigningKey.load(Path("ops.pem")).key_id == made["key_id"]
    assert public_key_in(Path("ops.pub")) == public_key_in(Path("ops.pem"))
    before = Path("ops.pem").read_bytes()
    code, said, err = command("keys", "new", "ops.pem")
    assert (code, said) == (2, "")
    assert "never written over" in err
    assert Path("ops.pem").read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["keys", "new", "key.pub"],
        ["keys", "new", "no/such/folder/key.pem"],
        ["keys", "register"],
        ["keys", "register", "missing.pem"],
        ["keys", "register", "not-a-key.pem"],
        ["keys", "revoke", "0123456789abcdef"],
        ["keys", "tickets"],
        ["logic", "activate", "99"],
        ["logic", "activate", "2", "--timeout", "soon"],
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(command: Command, arguments: list[str]) -> None:
    Path("not-a-key.pem").write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    code, out, err = command(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err


def test_keys_need_a_log_whose_logic_knows_them(command: Command) -> None:
    command("keys", "new", "ops.pem")
    code, _, err = command("keys", "register", "ops.pem")
    assert (code, "headgate logic activate 2" in err) == (2, True)


def test_without_keys_the_list_says_what_that_means(command: Command) -> None:
    code, said, _ = command("keys", "list")
    assert (code, said.splitlines()) == (
        0,
        [
            "no key is registered: orders, policies and graphs need no signature",
            "no tickets: results need none",
        ],
    )
    assert "all 16 partitions: version 1" in command("logic", "show")[1]


def test_a_secret_is_fresh_each_time(command: Command) -> None:
    first, second = (command("keys", "tickets", "--new")[1].strip() for _ in range(2))
    assert len({first, second}) == 2
    assert len(first) >= 43
    made = json.loads(command("keys", "tickets", "--new", "--json")[1])
    assert made["fingerprint"] == fingerprint(made["secret"].encode())


# What a client signs -----------------------------------------------------------------------------------


def test_orders_are_signed_and_starts_are_not(client: Client, tmp_path: Path) -> None:
    signer, key = signing(client, tmp_path / "key.pem")
    signer.order("default", "life", orders.pause("odd"))
    said = newest(client)
    assert said.envelope_id
    assert is_signed_by(said, key.public)
    signer.start("demo", tenant="default")
    assert newest(client).signature.key_id == ""
    client.order("default", "life", orders.pause("odd"))
    assert newest(client).signature.key_id == ""


def test_what_concerns_every_tenant_lands_signed_in_every_partition(client: Client, tmp_path: Path) -> None:
    signer, key = signing(client, tmp_path / "key.pem")
    places = signer.submit_everywhere(envelopes.logic_activated(2))
    assert sorted(one.partition for one in places) == list(range(16))
    assert is_signed_by(newest(client, EVERY_TENANT), key.public)


def test_a_file_that_is_no_key_is_told_before_anything_is_sent(client: Client, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("secret")
    settings = client.settings.model_copy(update={"signing_key": tmp_path / "key.pem"})
    with pytest.raises(UserError, match="not a signing key"):
        Client(client.log, client.blobs, settings).freeze("default")
    assert list(client.observer.records("default")) == []


def test_secrets_are_not_shown(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_TICKET_KEYS", '["what all gates know"]')
    assert "what all gates know" not in "".join(str(part) for part in command("config"))
    assert "what all gates know" not in repr(open_settings({}))


# What views leave out ----------------------------------------------------------------------------------


def test_what_nobody_signed_is_not_shown_as_if_it_were_in_force(
    client: Client, tmp_path: Path, policy: Policy
) -> None:
    signer, key = signing(client, tmp_path / "key.pem")
    client.apply_policy(policy, "default")
    client.submit(envelopes.logic_activated(2))
    signer.submit(envelopes.key_registered(key.key_id, key.public))
    client.apply_policy(policy.model_copy(update={"metadata": _named(policy, 2)}), "default")
    client.freeze("default", reason="forged")
    assert [one.version for one in client.observer.policies("default")] == [1]
    assert client.frozen("default") == []
    signer.apply_policy(policy.model_copy(update={"metadata": _named(policy, 3)}), "default")
    signer.freeze("default", reason="real")
    assert [one.version for one in client.observer.policies("default")] == [3]
    assert [one.reason for one in client.frozen("default")] == ["real"]


def _named(policy: Policy, version: int) -> object:
    return policy.metadata.model_copy(update={"version": version})


def test_before_logic_2_a_key_changes_nothing(client: Client, tmp_path: Path) -> None:
    signer, key = signing(client, tmp_path / "key.pem")
    signer.submit(envelopes.key_registered(key.key_id, key.public))
    client.freeze("default", reason="taken")
    assert [one.reason for one in client.frozen("default")] == ["taken"]


# What each partition stands at --------------------------------------------------------------------------


def test_the_standing_is_folded_without_the_secrets_of_the_gates(client: Client, tmp_path: Path) -> None:
    signer, key = signing(client, tmp_path / "key.pem")
    for envelope in (
        envelopes.logic_activated(2),
        envelopes.ticket_key_registered("0123456789abcdef"),
        envelopes.key_registered(key.key_id, key.public),
    ):
        signer.submit(envelope)
    found = standings(client)
    assert {(one.logic_version, one.ticket_key) for one in found} == {(2, "0123456789abcdef")}
    assert keys_known(found) == {key.key_id: key.public}
    assert _agree(found)


def test_a_log_of_a_newer_logic_is_told_and_not_folded(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.submit(envelopes.logic_activated(2))
    monkeypatch.setenv("HEADGATE_NEWEST_LOGIC", "1")
    assert {one.logic_version for one in standings(client)} == {0}


def test_partitions_that_disagree_are_named() -> None:
    found = [Standing(0, 2, {"k": b"x"}, "t"), Standing(1, 2, {"k": b""}, ""), Standing(2, 2, {}, "")]
    assert _where(found, "k") == (
        "unclear",
        "registered in partition 0; revoked in partition 1; not known in partition 2",
    )
    assert _ticket_lines(found) == [
        "tickets by t in partition 0",
        "no tickets in partitions 1, 2",
    ]
    assert not _agree(found)
    assert keys_known(found) == {"k": b"x"}
