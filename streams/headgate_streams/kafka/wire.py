"""A plain connection to a broker, for the few requests that the client library does not know: quotas.

It speaks the first versions of the protocol's messages, which brokers keep for years.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Mapping
from typing import Final, Self

from headgate_graphs.errors import LogUnavailable, UserError
from headgate_streams.kafka.clients import ANSWER_S
from headgate_streams.kafka.scram import ScramLogin

_SASL_HANDSHAKE: Final = (17, 1)
_SASL_AUTHENTICATE: Final = (36, 0)
_MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024


def text(value: str | None) -> bytes:
    """Return a nullable string as it travels."""
    if value is None:
        return struct.pack(">h", -1)
    encoded = value.encode()
    return struct.pack(">h", len(encoded)) + encoded


class Answer:
    """Reads an answer from its beginning to its end."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def number(self, form: str) -> int:
        """Return the next number: `b`, `h` or `i` of `struct`."""
        return int(self._unpack(form))

    def real(self) -> float:
        """Return the next floating-point number."""
        return float(self._unpack("d"))

    def _unpack(self, form: str) -> int | float:
        (value,) = struct.unpack_from(f">{form}", self._content, self._at)
        self._at += struct.calcsize(f">{form}")
        return value  # type: ignore[no-any-return]  # unpack cannot say which

    def text(self) -> str | None:
        """Return the next nullable string."""
        length = self.number("h")
        return None if length < 0 else self._take(length).decode()

    def content(self) -> bytes:
        """Return the next bytes."""
        return self._take(max(0, self.number("i")))

    def _take(self, length: int) -> bytes:
        self._at += length
        return self._content[self._at - length : self._at]


class Connection:
    """One connection to the first broker that can be reached; close it, or use it as a context."""

    def __init__(self, options: Mapping[str, str]) -> None:
        """Connect and log in with the options of the client library.

        Raises:
            UserError: The way to log in is none that is spoken here.
            LogUnavailable: No broker can be reached, or it does not let us in.
        """
        self._options = options
        self._number = 0
        self._socket = self._connect()
        try:
            if options.get("security.protocol", "PLAINTEXT").upper().startswith("SASL_"):
                self._log_in()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        """Nothing to do: it is open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self._socket.close()

    def ask(self, kind: tuple[int, int], body: bytes) -> Answer:
        """Send one request (its key and version) and return the answer."""
        self._number += 1
        head = struct.pack(">hhi", *kind, self._number) + text("headgate")
        try:
            self._socket.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
            (length,) = struct.unpack(">i", self._read(4))
            if not 4 <= length <= _MAX_ANSWER_BYTES:
                raise LogUnavailable("Kafka's answer is no answer")
            return Answer(self._read(length)[4:])
        except OSError as error:
            raise LogUnavailable(f"Kafka did not answer a request: {error}") from error

    def _read(self, length: int) -> bytes:
        content = b""
        while len(content) < length:
            part = self._socket.recv(length - len(content))
            if not part:
                raise LogUnavailable("Kafka has closed the connection")
            content += part
        return content

    def _connect(self) -> socket.socket:
        why: OSError | None = None
        for address in self._options["bootstrap.servers"].split(","):
            host, _, port = address.strip().rpartition("://")[2].rpartition(":")
            try:
                return self._encrypted(socket.create_connection((host, int(port)), ANSWER_S), host)
            except OSError as error:
                why = error
        raise LogUnavailable(f"Kafka at {self._options['bootstrap.servers']} cannot be reached: {why}")

    def _encrypted(self, plain: socket.socket, host: str) -> socket.socket:
        if not self._options.get("security.protocol", "PLAINTEXT").upper().endswith("SSL"):
            return plain
        context = ssl.create_default_context(cafile=self._options.get("ssl.ca.location"))
        if self._options.get("ssl.endpoint.identification.algorithm", "https") == "none":
            context.check_hostname = False
        if certificate := self._options.get("ssl.certificate.location"):
            key, password = self._options.get("ssl.key.location"), self._options.get("ssl.key.password")
            context.load_cert_chain(certificate, key, password)
        try:
            return context.wrap_socket(plain, server_hostname=host.strip("[]"))
        except OSError:
            plain.close()
            raise

    def _log_in(self) -> None:
        mechanism = self._options.get("sasl.mechanism") or self._options.get("sasl.mechanisms", "")
        username, password = self._options.get("sasl.username", ""), self._options.get("sasl.password", "")
        answer = self.ask(_SASL_HANDSHAKE, text(mechanism))
        if answer.number("h"):
            raise UserError(f"the broker does not offer a login by {mechanism}")
        if mechanism == "PLAIN":
            self._authenticate(f"\0{username}\0{password}".encode())
        elif mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            login = ScramLogin(mechanism, username, password)
            login.check(self._authenticate(login.final(self._authenticate(login.first()))))
        else:
            raise UserError(f"quotas cannot be set with a login by {mechanism}: use SCRAM-SHA-512")

    def _authenticate(self, message: bytes) -> bytes:
        answer = self.ask(_SASL_AUTHENTICATE, struct.pack(">i", len(message)) + message)
        if answer.number("h"):
            raise LogUnavailable(f"Kafka refuses the login: {answer.text()}")
        answer.text()
        return answer.content()
