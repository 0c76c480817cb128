"""`headgate tenant` and `--placement` without a broker: what is refused, what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "acme"), "the embedded log has no users"),
        (("show", "acme"), "the embedded log has no users"),
        (("create", "acme", "--rotate", "boss"), "'boss' is no role"),
        (("policy", "acme"), "HEADGATE_BLOB_URL"),
        (("policy", "acme", "--role", "all"), "one role"),
        (("policy", "acme", "--role", "boss"), "'boss' is no role"),
        (("show", "gate"), "the name is taken"),
        (("show", "../b"), "neither shared nor a tenant id"),
    ],
)
def test_what_cannot_be_is_one_line(command: Command, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = command("tenant", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_policy_is_json_for_the_role(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_BLOB_URL", "s3://bucket/values")
    code, out, _ = command("tenant", "policy", "acme", "--role", "client")
    assert code == 0
    assert json.loads(out)["Statement"][0]["Resource"] == "arn:aws:s3:::bucket/values/acme/*"


@pytest.mark.parametrize("option", ["--tenant", "--placement"])
def test_topics_of_a_tenant_are_made_beside_the_shared_ones(command: Command, option: str) -> None:
    made = [
        json.loads(command("topics", "create", "--json", *more)[1])["created"]
        for more in ([], [option, "acme"])
    ]
    assert len(made[0]) == len(made[1]) == 7
    assert {name.replace("headgate.", "headgate.acme.") for name in made[0]} == set(made[1])


def test_commands_work_on_the_topics_of_their_placement(command: Command) -> None:
    command("init", "demo")
    assert command("graph", "register", "demo", "--placement", "acme")[0] == 0
    started = command("start", "demo", "--placement", "acme", "--json")
    assert started[0] == 0, started
    assert command("start", "demo")[0] == 2
    assert command("list", "--placement", "acme", "--tenant", "other")[0] == 2
