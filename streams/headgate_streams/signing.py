"""Who may say what: tickets that gates give with inputs, signatures that operators put on orders.

Called by the fold, which checks, by clients and gates, which sign, and by archives, which do both. Pure; the
only importer of the cryptography library.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from headgate_graphs.errors import UserError
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope

TICKET_BYTES = 16
"""Length of a ticket: nobody guesses 128 bits."""


def ticket(secret: bytes, *parts: str) -> bytes:
    """Return what proves that a holder of `secret` has given out these parts."""
    return hmac.digest(secret, "\0".join(parts).encode(), "sha256")[:TICKET_BYTES]


def is_ticket(given: bytes, secret: bytes, *parts: str) -> bool:
    """Whether `given` is the ticket of these parts; takes as long whatever was given."""
    return hmac.compare_digest(given, ticket(secret, *parts))


def fingerprint(secret: bytes) -> str:
    """Return the name of a ticket key: 16 hex digits that give nothing of it away."""
    return hmac.digest(secret, b"headgate ticket key", "sha256").hex()[:16]


class SigningKey:
    """An operator's Ed25519 key: signs envelopes."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()
        """Raw public key, 32 bytes."""
        self.key_id = key_id_of(self.public)

    @classmethod
    def new(cls) -> SigningKey:
        """Return a key that nobody has yet."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read a PEM file (PKCS#8, no password); raises UserError."""
        try:
            private = serialization.load_pem_private_key(path.read_bytes(), None)
        except OSError as error:
            raise UserError(f"{path}: the signing key cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise UserError(f"{path}: not a signing key; make one with `headgate keys new`") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise UserError(f"{path}: not an Ed25519 key; make one with `headgate keys new`")
        return cls(private)

    def to_pem(self) -> bytes:
        """Return the private key as PEM; whoever has it can sign."""
        return self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def public_pem(self) -> bytes:
        """Return the public key as PEM; nobody can sign with it."""
        kind = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._private.public_key().public_bytes(serialization.Encoding.PEM, kind)

    def sign(self, envelope: ExecutionEnvelope) -> None:
        """Put this key's signature on the envelope, in place of any other."""
        made = self.signature_of(signed_bytes(envelope))
        envelope.signature.key_id = self.key_id
        envelope.signature.ed25519 = made

    def signature_of(self, content: bytes) -> bytes:
        """Return the signature over bytes, 64 bytes; the same each time."""
        return self._private.sign(content)


def public_key_in(path: Path) -> bytes:
    """Return the raw public key that a PEM file holds, or that belongs to the private one in it.

    Raises UserError.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: the key cannot be read: {error.strerror}") from error
    if b"PRIVATE KEY" in content:
        return SigningKey.load(path).public
    try:
        public = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise UserError(f"{path}: not a key; make one with `headgate keys new`") from None
    if not isinstance(public, Ed25519PublicKey):
        raise UserError(f"{path}: not an Ed25519 key; make one with `headgate keys new`")
    return public.public_bytes_raw()


def key_id_of(public: bytes) -> str:
    """Return the name of a public key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def is_signed_by(envelope: ExecutionEnvelope, public: bytes) -> bool:
    """Whether the envelope's signature is of this raw public key, over all else in the envelope."""
    return is_signature_of(envelope.signature.ed25519, signed_bytes(envelope), public)


def is_signature_of(signature: bytes, content: bytes, public: bytes) -> bool:
    """Whether `signature` is one over `content` by this raw public key."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def signed_bytes(envelope: ExecutionEnvelope) -> bytes:
    """Return what a signature is over; no message that is signed has a map, so equal means equal bytes."""
    bare = ExecutionEnvelope()
    bare.CopyFrom(envelope)
    bare.ClearField("signature")
    return bare.SerializeToString(deterministic=True)
