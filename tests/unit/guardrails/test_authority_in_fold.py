"""Results without tickets and orders without signatures are refused, once keys are in force."""

from __future__ import annotations

from typing import Any

import pytest

from headgate_guardrails.fold.authority import UnknownTicketKey
from headgate_guardrails.fold.engine import ALONE, GuardrailEngine
from headgate_guardrails.fold.state import PartitionState
from headgate_protos.v1 import control_pb2, execution_pb2
from headgate_streams.codec import encode
from headgate_streams.signing import SigningKey, fingerprint, ticket
from tests.unit.guardrails.graphs_for_tests import LOOP, PAID
from tests.unit.guardrails.world import World, fold_all

OLD, NEW = b"old secret of all gates", b"new secret of all gates"


class Secured(World):
    """A world under logic 2 whose gates have two ticket keys; the operator signs by `key` when it is set."""

    def __init__(self, *, restoring: bool = False) -> None:
        self.key: SigningKey | None = None
        super().__init__(LOOP)
        self.engine = GuardrailEngine(
            self.engine.state, ALONE._replace(secrets={fingerprint(one): one for one in (OLD, NEW)})
        )
        self.every(logic_version=execution_pb2.LogicVersionActivated(version=2))

    def append(self, envelope: execution_pb2.ExecutionEnvelope) -> list[Any]:
        if self.key is not None:
            self.key.sign(envelope)
        return super().append(envelope)

    def every(self, **payload: Any) -> None:
        self.envelope(tenant="*", **payload)

    def tickets(self, secret: bytes) -> None:
        given = execution_pb2.TicketKeyRegistered(fingerprint=fingerprint(secret))
        self.every(ticket_key_registered=given)

    def register_key(self, key: SigningKey, *, revoked: bool = False) -> None:
        given = execution_pb2.KeyRegistered(key_id=key.key_id, ed25519_public_key=key.public, revoked=revoked)
        self.every(key_registered=given)

    def pause(self, command_id: str = "", *, at_ms: int | None = None) -> list[Any]:
        order = control_pb2.OperatorCommand(
            command_id=command_id or f"c{len(self.records)}", pause=control_pb2.PauseLifetime()
        )
        order.issued_at.FromMilliseconds(self.clock if at_ms is None else at_ms)
        return self.envelope("run-1", command=order)


def done(world: World, message: Any, given: bytes) -> None:
    """Report what `message` asked for as finished, with this ticket."""
    execution = execution_pb2.ExecutionEnvelope().plan_execution
    execution.tenant_id = message.tenant_id
    execution.headers.CopyFrom(message.headers)
    execution.headers.run_id, execution.headers.status = world.new_run(), 3
    execution.result.success, execution.ticket = True, given
    world.envelope(message.headers.lifetime_id, plan_execution=execution)


def test_a_result_needs_the_ticket_of_its_input() -> None:
    world = Secured()
    world.tickets(OLD)
    world.start("g")
    message = world.take("p1")
    assert message.ticket == ticket(OLD, "acme", message.headers.execution_id)
    done(world, message, b"")
    done(world, message, b"x" * 16)
    done(world, message, ticket(OLD, "acme", "another-execution"))
    assert world.letters() == ["TICKET"] * 3
    assert world.status() == "RUNNING"
    done(world, message, message.ticket)
    assert world.status() == "COMPLETED"


def test_a_lifetime_keeps_the_key_it_began_with() -> None:
    world = Secured()
    world.start("g", "run-0")
    world.tickets(OLD)
    world.start("g", "run-1")
    world.tickets(NEW)
    world.start("g", "run-2")
    for lifetime, secret in (("run-0", b""), ("run-1", OLD), ("run-2", NEW)):
        message = world.take("p1")
        assert message.headers.lifetime_id == lifetime
        assert message.ticket == (ticket(secret, "acme", message.headers.execution_id) if secret else b"")
        done(world, message, message.ticket)
    assert world.letters() == []


def test_a_process_without_the_ticket_key_refuses_the_partition() -> None:
    world = Secured()
    world.tickets(OLD)
    fresh = GuardrailEngine(PartitionState(0, 1))
    with pytest.raises(UnknownTicketKey, match="HEADGATE_TICKET_KEYS"):
        fold_all(fresh, world.records)
    world.kept.keep(world.engine.state)
    with pytest.raises(UnknownTicketKey):
        GuardrailEngine(world.kept.again())


def test_only_a_gate_may_say_that_a_tenant_is_quarantined() -> None:
    world = Secured()
    world.tickets(OLD)
    world.envelope(tenant_quarantined=execution_pb2.TenantQuarantined(from_offset=0))
    assert world.letters() == ["TICKET"]


def test_orders_policies_and_graphs_need_a_signature_once_a_key_is_registered() -> None:
    world = Secured()
    world.start("g")
    key = SigningKey.new()
    world.register_key(key)
    world.pause()
    world.register(PAID)
    world.every(logic_version=execution_pb2.LogicVersionActivated(version=2))
    world.key = SigningKey.new()
    world.pause()
    assert world.letters() == ["SIGNATURE"] * 4
    world.key = key
    world.pause()
    assert world.status() == "PAUSED"


def test_a_signed_order_cannot_be_changed_or_said_again_later() -> None:
    world = Secured()
    world.start("g")
    key = world.key = SigningKey.new()
    world.register_key(key)
    world.pause()
    signed = execution_pb2.ExecutionEnvelope.FromString(world.records[-1].value or b"")
    signed.lifetime_id = "run-9"
    value, headers = encode(signed, "acme")
    world.append_raw(value, headers, b"acme")
    assert world.letters() == ["SIGNATURE"]
    world.clock += 2 * 86_400_000
    world.append_raw(world.records[-2].value, world.records[-2].headers, b"acme")
    assert world.letters() == ["SIGNATURE"] * 2


def test_a_key_is_registered_by_another_and_a_revoked_one_never_comes_back() -> None:
    world = Secured()
    first, second = SigningKey.new(), SigningKey.new()
    world.register_key(first)
    world.register_key(second)
    assert world.letters() == ["SIGNATURE"]
    world.key = first
    world.register_key(first, revoked=True)
    assert world.letters()[1:] == ["BAD_KEY"]
    world.register_key(second)
    world.register_key(first, revoked=True)
    world.register_key(second)
    assert world.letters()[2:] == ["SIGNATURE"]
    world.key = second
    world.register_key(first)
    assert world.letters()[3:] == ["BAD_KEY"]
    world.start("g")
    world.pause()
    assert world.status() == "PAUSED"


def test_keys_survive_a_checkpoint() -> None:
    world = Secured()
    world.tickets(OLD)
    world.register_key(SigningKey.new())
    world.start("g")
    world.kept.keep(world.engine.state)
    again = world.kept.again()
    assert again.keys == world.engine.state.keys
    assert again.ticket_key == fingerprint(OLD)
    assert again.tenants["acme"].lifetimes["run-1"].ticket_key == fingerprint(OLD)


def test_a_fork_is_signed_as_orders_are_and_a_plain_start_is_not() -> None:
    world = Secured()
    key = SigningKey.new()
    world.register_key(key)
    given = execution_pb2.LifetimeStart(graph_id="g", fork=execution_pb2.LifetimeFork())
    given.issued_at.FromMilliseconds(world.clock)
    world.envelope("fork", lifetime_start=given)
    assert world.letters() == ["SIGNATURE"]
    world.key = key
    world.envelope("fork", lifetime_start=given)
    world.key = None
    world.start("g", "plain")
    assert world.letters() == ["SIGNATURE"]
    assert set(world.engine.state.tenants["acme"].lifetimes) == {"fork", "plain"}
