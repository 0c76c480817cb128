"""Who may say what: signed orders once a key is registered, results with tickets once gates have a key."""

from __future__ import annotations

from headgate_graphs.errors import BadRecord, HeadgateError
from headgate_guardrails.fold.lifetime import Lifetime
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.fold.turn import Turn
from headgate_protos.v1 import execution_pb2
from headgate_streams.signing import is_signed_by, is_ticket, key_id_of

SIGNED = frozenset(
    {"command", "graph_registered", "policy_set", "logic_version", "key_registered", "ticket_key_registered"}
)
"""Kinds of record that need a signature as soon as a key is registered."""
FRESH_MS = 86_400_000
"""How far a signed command's own time may be from the log's, so that an old one is not said again."""


class UnknownTicketKey(HeadgateError):
    """The log needs a ticket key that this process was not given."""


def check_signature(state: PartitionState, kind: str, envelope: execution_pb2.ExecutionEnvelope) -> None:
    """Raise BadRecord SIGNATURE unless a registered key has signed the record."""
    given = envelope.signature
    if not given.key_id:
        raise BadRecord("SIGNATURE", f"{kind} is not signed, and keys are registered")
    public = state.keys.get(given.key_id)
    if not public:
        said = "revoked" if public is not None else "not registered"
        raise BadRecord("SIGNATURE", f"key {given.key_id[:64]!a} is {said}")
    if not is_signed_by(envelope, public):
        raise BadRecord("SIGNATURE", f"{kind} is not what key {given.key_id} signed")
    if kind == "command":
        issued = envelope.command.issued_at
        if abs(issued.seconds * 1000 - state.clock_ms) > FRESH_MS:
            raise BadRecord("SIGNATURE", "a signed command is good for a day: give it again")


def is_fork(envelope: execution_pb2.ExecutionEnvelope) -> bool:
    """Whether it asks for a fork, which may set caps anew and so needs a signature as orders do."""
    return envelope.WhichOneof("payload") == "lifetime_start" and envelope.lifetime_start.HasField("fork")


def register_key(state: PartitionState, given: execution_pb2.KeyRegistered) -> None:
    """Let a key sign from here on, or never again. A revoked one does not come back."""
    public = given.ed25519_public_key
    if len(public) != 32 or given.key_id != key_id_of(public):
        raise BadRecord("BAD_KEY", "a key is 32 bytes, and its id is made from them")
    known = state.keys.get(given.key_id)
    if known == b"":
        raise BadRecord("BAD_KEY", f"key {given.key_id} is revoked: make another")
    if not given.revoked:
        state.keys[given.key_id] = public
    elif known is None:
        raise BadRecord("BAD_KEY", f"key {given.key_id} is not registered")
    elif sum(1 for one in state.keys.values() if one) == 1:
        raise BadRecord("BAD_KEY", "the last key cannot be revoked: register another first")
    else:
        state.keys[given.key_id] = b""


def register_ticket_key(turn: Turn, given: execution_pb2.TicketKeyRegistered) -> None:
    """Sign the inputs of lifetimes that start from here on; raises UnknownTicketKey."""
    name = given.fingerprint
    if len(name) != 16 or not set(name) <= set("0123456789abcdef"):
        raise BadRecord("BAD_KEY", "the fingerprint of a ticket key has 16 hex digits")
    require(turn, name)
    turn.state.ticket_key = name


def require(turn: Turn, name: str) -> None:
    """Raise UnknownTicketKey unless this process has the key."""
    if name not in turn.secrets:
        raise UnknownTicketKey(
            f"partition {turn.state.partition} uses the ticket key {name}, which this process does not have: "
            "add it to HEADGATE_TICKET_KEYS"
        )


def check_ticket(turn: Turn, tenant_id: str, lifetime: Lifetime, execution_id: str, given: bytes) -> None:
    """Raise BadRecord TICKET unless the report comes from whom the gate gave that execution."""
    name = lifetime.ticket_key
    if name and not is_ticket(given, turn.secrets[name], tenant_id, execution_id):
        raise BadRecord("TICKET", f"execution {execution_id[:64]!a} is reported without its input's ticket")
