"""Once a key is registered, an order that nobody signed is refused, and a signed one is obeyed once."""

from __future__ import annotations

import json
from pathlib import Path

from headgate_protos.v1.control_pb2 import ControlType, ExecutionEvent
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_streams.codec import decode
from headgate_streams.port import LogRecord
from tests.integration.headgate.site import ONE, Site

POLICY = """apiVersion: headgate/v1
kind: GuardrailPolicy
metadata: {name: caps, version: 1}
rules:
  - {name: tokens, scope: lifetime, limit: {tokens_used: 10}, action: abort_lifetime}
"""
PAUSE = ("control", "pause", "--everything", "--tenant", ONE)
RESUME = ("control", "resume", "--everything", "--tenant", ONE)


def new_key(site: Site, name: str) -> tuple[str, dict[str, str]]:
    """Make a key; return its id and the environment of who signs by it."""
    path = site.home / name
    made = json.loads(site.command("keys", "new", str(path), "--json")[1])
    return made["key_id"], {"HEADGATE_SIGNING_KEY": str(path)}


def pauses(site: Site) -> int:
    events = site.messages(site.client.topics.control_events, ExecutionEvent)
    return sum(event.type == ControlType.CONTROL_TYPE_PAUSE_LIFETIME for event in events)


def refused(site: Site, *arguments: str) -> None:
    code, out, err = site.command(*arguments)
    lines = [line for line in err.splitlines() if line.startswith("headgate: ")]
    assert (code, out, len(lines)) == (2, "", 1), (out, err)
    assert "SIGNATURE" in lines[0]
    assert "HEADGATE_SIGNING_KEY" in lines[0]


def test_unsigned_orders_are_refused_and_signed_ones_obeyed_once(site: Site) -> None:
    site.register(ONE)
    (site.home / "policy.yaml").write_text(POLICY)
    _, signed = new_key(site, "ops.pem")
    with site.gate():
        code, said, err = site.command("keys", "register", **signed)
        assert code == 0, err
        assert "in all 2 partitions; from now on HEADGATE_SIGNING_KEY must name" in said
        refused(site, *PAUSE)
        apply = ("policy", "apply", str(site.home / "policy.yaml"), "--tenant", ONE)
        refused(site, *apply)
        refused(site, "policy", "apply", str(site.home / "policy.yaml"), "--every-tenant")
        assert site.client.observer.policies(ONE) == []
        assert pauses(site) == 0
        assert "the gate has acted on it" in site.command(*apply, **signed)[1]
        assert site.command(*PAUSE, **signed)[1].endswith(": done\n")
        (order,) = [one for one in site.records(site.client.topics.executions) if is_signed_pause(one)]
        assert site.command(*RESUME, **signed)[1].endswith(": done\n")
        site.append(order)
        assert "it was not paused" in site.command(*RESUME, **signed)[1]
        assert pauses(site) == 1
    assert site.letters() == ["SIGNATURE"] * 4, "an order, a policy, and one policy in each partition"
    site.check_said()


def test_nothing_runs_without_the_policy_that_nobody_signed(site: Site) -> None:
    site.register(ONE)
    _, signed = new_key(site, "ops.pem")
    demo = str(site.home / "demo")
    with site.gate():
        code, _, err = site.command("keys", "register", **signed)
        assert code == 0, err
        assert site.command("init", demo)[0] == 0
        refused(site, "run", demo)
        assert site.client.lifetimes("default") == []


def is_signed_pause(record: LogRecord) -> bool:
    envelope = decode(record, ExecutionEnvelope)
    return envelope.command.HasField("pause") and bool(envelope.signature.key_id)


def test_a_key_is_registered_by_another_and_revoked(site: Site) -> None:
    site.register(ONE)
    first, by_first = new_key(site, "first.pem")
    second, by_second = new_key(site, "second.pem")
    public = str(Path(by_second["HEADGATE_SIGNING_KEY"]).with_suffix(".pub"))
    with site.gate():
        assert site.command("keys", "register", **by_first)[0] == 0
        refused(site, "keys", "register", public)
        assert site.command("keys", "register", public, **by_first)[0] == 0
        assert site.command("keys", "revoke", first, **by_second)[0] == 0
        refused(site, *PAUSE)
        assert "revoked" in site.command(*PAUSE, **by_first)[2]
        assert site.command(*PAUSE, **by_second)[0] == 0
        code, _, err = site.command("keys", "revoke", second, **by_second)
        assert (code, "BAD_KEY" in err) == (2, True)
        listed = json.loads(site.command("keys", "list", "--json")[1])
        assert {one["key_id"]: one["status"] for one in listed["keys"]} == {
            first: "revoked",
            second: "registered",
        }
