"""Who we are to the broker, and how the connection is kept secret: one group of settings, checked together.

`StreamSettings.security` makes one; the Kafka adapter turns it into client options and looks at its files
again while it runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import SecretStr

from headgate_graphs.errors import UserError

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"]

MAX_PASSWORD_BYTES: Final = 4096
"""A file above this is no password: somebody has named the wrong one."""


@dataclass(frozen=True)
class KafkaSecurity:
    """How a process shows who it is and whom it trusts. `faults` is empty when it can be used."""

    protocol: SecurityProtocol = "PLAINTEXT"
    mechanism: SaslMechanism = "SCRAM-SHA-512"
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password: SecretStr | None = None
    reload_s: float = 30.0

    @property
    def has_sasl(self) -> bool:
        """Whether the client logs in with a name and a password."""
        return self.protocol.startswith("SASL_")

    @property
    def has_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.protocol.endswith("SSL")

    def faults(self) -> Iterator[str]:
        """Yield what does not fit together, in the names of the settings; values are never part of it."""
        yield from self._sasl_faults() if self.has_sasl else self._without_sasl()
        yield from self._tls_faults() if self.has_tls else self._without_tls()

    def _sasl_faults(self) -> Iterator[str]:
        if self.username is None:
            yield "kafka_security_protocol asks for a login, so kafka_username is needed"
        if self.password is None and self.password_file is None:
            yield "kafka_username needs kafka_password or kafka_password_file"
        if self.password is not None and self.password_file is not None:
            yield "kafka_password and kafka_password_file exclude each other"

    def _without_sasl(self) -> Iterator[str]:
        if self.username is not None:
            yield f"kafka_username is never sent over {self.protocol}: set {_PROTOCOL} to SASL_SSL"
        elif self.password is not None or self.password_file is not None:
            yield "a password without kafka_username"

    def _tls_faults(self) -> Iterator[str]:
        if (self.cert_file is None) != (self.key_file is None):
            yield "kafka_cert_file and kafka_key_file belong together"
        elif self.key_password is not None and self.key_file is None:
            yield "kafka_key_password without kafka_key_file"

    def _without_tls(self) -> Iterator[str]:
        given = [name for name, value in self._tls_settings() if value is not None]
        if given:
            secure = "SASL_SSL" if self.has_sasl else "SSL"
            yield f"{', '.join(given)} without TLS: set {_PROTOCOL} to {secure}"

    def _tls_settings(self) -> Iterator[tuple[str, object]]:
        yield "kafka_ca_file", self.ca_file
        yield "kafka_cert_file", self.cert_file
        yield "kafka_key_file", self.key_file
        yield "kafka_key_password", self.key_password

    def options(self) -> dict[str, str]:
        """Return the client's options; reads the password's file.

        Raises:
            UserError: A file cannot be read; one line names it.
        """
        made: dict[str, str] = {}
        if self.protocol != "PLAINTEXT":
            made["security.protocol"] = self.protocol
        if self.has_tls:
            made |= self._tls_options()
        if self.has_sasl:
            made["sasl.mechanism"] = self.mechanism
            made["sasl.username"] = self.username or ""
            made["sasl.password"] = self.current_password()
        return made

    def _tls_options(self) -> dict[str, str]:
        named = {
            "ssl.ca.location": self.ca_file,
            "ssl.certificate.location": self.cert_file,
            "ssl.key.location": self.key_file,
        }
        made = {option: str(path) for option, path in named.items() if path is not None}
        for path in made.values():
            _read(Path(path), "TLS file")
        if self.key_password is not None:
            made["ssl.key.password"] = self.key_password.get_secret_value()
        return made

    def current_password(self) -> str:
        """Return the password as it is now; raises UserError when its file cannot be used."""
        if self.password_file is None:
            return self.password.get_secret_value() if self.password is not None else ""
        content = _read(self.password_file, "kafka_password_file")
        text = content.decode(errors="replace").removesuffix("\n").removesuffix("\r")
        if not text or len(content) > MAX_PASSWORD_BYTES or not text.isprintable():
            raise UserError(f"kafka_password_file: {self.password_file} does not hold one line of text")
        return text

    @property
    def tls_files(self) -> tuple[Path, ...]:
        """The files whose change needs a new connection."""
        files = (self.ca_file, self.cert_file, self.key_file)
        return tuple(path for path in files if path is not None) if self.has_tls else ()


_PROTOCOL: Final = "kafka_security_protocol"


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{what}: cannot read {path}: {error.strerror}") from None
