"""A certificate authority of one's own and what it signs, for servers and tests; needs `cryptography`."""

from __future__ import annotations

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAYS = 30


@dataclass(frozen=True)
class Signed:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write `<name>.crt` and `<name>.key` (mode 0600), each in one step; return their paths."""
        return (
            _replace(folder / f"{name}.crt", self.certificate, 0o644),
            _replace(folder / f"{name}.key", self.key, 0o600),
        )


class Authority:
    """Signs for 127.0.0.1 and localhost with a key that lives in this process alone."""

    def __init__(self, name: str = "Headgate test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        basic = x509.BasicConstraints(ca=True, path_length=0)
        made = _builder(self._name, self._name, self._key.public_key()).add_extension(basic, critical=True)
        self.certificate = made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        """PEM, for who must trust what it signs."""

    def sign(self, common_name: str) -> Signed:
        """Return a new certificate that serves and asks on this machine."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        made = _builder(_name(common_name), self._name, key.public_key()).add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
        pem = serialization.Encoding.PEM
        return Signed(
            made.sign(self._key, hashes.SHA256()).public_bytes(pem),
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        )

    def write(self, folder: Path, name: str = "ca") -> Path:
        """Write the authority's own certificate as `<name>.crt`; return its path."""
        return _replace(folder / f"{name}.crt", self.certificate, 0o644)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    begins, ends = now - datetime.timedelta(days=1), now + datetime.timedelta(days=_DAYS)
    number = x509.random_serial_number()
    return x509.CertificateBuilder(issuer, subject, public_key, number, begins, ends)


def _replace(path: Path, content: bytes, mode: int) -> Path:
    beside = path.with_name(f".{path.name}.new")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
    beside.replace(path)
    return path
