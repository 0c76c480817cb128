"""The client's side of SCRAM (RFC 5802), for the few requests that the client library does not know."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final

from headgate_graphs.errors import LogUnavailable

_HASHES: Final = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
_MAX_ITERATIONS: Final = 1_000_000
"""A server may not keep us busy for longer."""
_NO_SCRAM: Final = "the broker's answer to a login is not SCRAM"


class ScramLogin:
    """One login: `first`, the server's answer to `final`, the server's answer to `check`."""

    def __init__(self, mechanism: str, username: str, password: str) -> None:
        self._hash = _HASHES[mechanism]
        self._password = password.encode()
        name = username.replace("=", "=3D").replace(",", "=2C")
        self._nonce = secrets.token_urlsafe(24)
        self._bare = f"n={name},r={self._nonce}"
        self._expected = b""

    def first(self) -> bytes:
        """Return the first message."""
        return f"n,,{self._bare}".encode()

    def final(self, answer: bytes) -> bytes:
        """Return the proof that we know the password."""
        said = _fields(answer)
        nonce, rounds, salt = said.get("r", ""), _number(said.get("i", "")), _content(said.get("s", ""))
        if not nonce.startswith(self._nonce) or not 1 <= rounds <= _MAX_ITERATIONS:
            raise LogUnavailable(_NO_SCRAM)
        salted = hashlib.pbkdf2_hmac(self._hash, self._password, salt, rounds)
        unproved = f"c=biws,r={nonce}"
        text = f"{self._bare},{answer.decode()},{unproved}".encode()
        client_key = self._mac(salted, b"Client Key")
        signature = self._mac(hashlib.new(self._hash, client_key).digest(), text)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._expected = self._mac(self._mac(salted, b"Server Key"), text)
        return f"{unproved},p={base64.b64encode(proof).decode()}".encode()

    def check(self, answer: bytes) -> None:
        """Raise LogUnavailable when the server does not know the password either."""
        said = _content(_fields(answer).get("v", ""))
        if not hmac.compare_digest(said, self._expected):
            raise LogUnavailable("the broker does not know the password of the user that it let in")

    def _mac(self, key: bytes, text: bytes) -> bytes:
        return hmac.new(key, text, self._hash).digest()


def _fields(message: bytes) -> dict[str, str]:
    pairs = (part.partition("=") for part in message.decode(errors="replace").split(","))
    return {name: value for name, _, value in pairs}


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _content(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise LogUnavailable(_NO_SCRAM) from None
