"""Settings of the streams, and the only place that reads the environment. Used by every process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from headgate_graphs.errors import UserError
from headgate_streams.security import KafkaSecurity, SaslMechanism, SecurityProtocol
from headgate_streams.topics import SHARED, Topics

MEMORY = Path(":memory:")
"""As `local`: a log that lives in this process and ends with it."""


class StreamSettings(BaseSettings):
    """Where log and blobs are, and how large a thing may be; `HEADGATE_<FIELD>` in the environment."""

    # An error never shows what was given: it may be a secret.
    model_config = SettingsConfigDict(
        env_prefix="HEADGATE_", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    kafka: str | None = None
    """Bootstrap servers, host:port[,host:port]; none means the embedded log."""
    local: Path = Path(".headgate")
    """Directory of the embedded log and, by default, of the blobs; `:memory:` keeps both in this process."""
    archive: str | None = None
    """`file:///dir` or `s3://bucket/prefix` of an archive to read in place of a log; it wins over `kafka`."""
    archive_key: Path | None = None
    """PEM file of the public key that must have signed an archive; none means that none need have."""
    topic_prefix: str = Field(default="headgate", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    """First part of every topic and group name; separate installations on one broker differ in it."""
    placement: str = SHARED
    """`shared`, or the tenant whose own topics and groups (`<prefix>.<tenant>.…`) this process works on."""
    partitions: int = Field(default=16, ge=1, le=1024)
    """Partitions of each topic, fixed when the topics are made. More costs throughput, fewer parallelism."""
    blob_url: str | None = None
    """`file:///dir` or `s3://bucket/prefix`; none means the directory `blobs` below `local`."""
    s3_endpoint_url: str | None = None
    """Endpoint of an S3-compatible store such as MinIO; none means AWS."""
    s3_access_key_id: str | None = None
    """Access key; none leaves the search for credentials to the S3 client."""
    s3_secret_access_key: SecretStr | None = None
    """Secret key; never shown."""
    s3_region: str = "us-east-1"
    """Region to sign for; S3-compatible stores mostly ignore it."""
    inline_limit_bytes: int = Field(default=32_768, ge=0, le=262_144)
    """A value above this many bytes goes to the blob store, so that records stay small (default 32 KiB)."""
    max_blob_bytes: int = Field(default=268_435_456, ge=1)
    """The largest value that is stored or read back (default 256 MiB)."""
    max_record_bytes: int = Field(default=1_048_576, ge=65_536)
    """The largest record that is appended (default 1 MiB, which is also Kafka's)."""
    seal_values: bool = False
    """Whether the values of lifetimes that are started here are sealed, so that they can be erased later."""
    ticket_keys: list[SecretStr] = Field(default_factory=list)
    """Gates' keys for the tickets of inputs, as a JSON list, the newest first; `headgate keys tickets`."""
    signing_key: Path | None = None
    """PEM file of the Ed25519 key that signs orders, policies and graphs; `headgate keys new` makes one."""
    catalog_url: SecretStr | None = None
    """`sqlite:///file` or `postgresql://user:password@host/database`: where the past is looked up; none means
    the log itself. Never shown."""
    kafka_security_protocol: SecurityProtocol = "PLAINTEXT"
    """How the broker is spoken to: encrypted with `…SSL`, with a login over `SASL_…`."""
    kafka_sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    """How the login is done; PLAIN sends the password, so use it over SASL_SSL alone."""
    kafka_username: str | None = None
    """Whom the broker's ACLs and quotas are for; needs a password."""
    kafka_password: SecretStr | None = None
    """Password; never shown. A file can be changed while the process runs, this cannot."""
    kafka_password_file: Path | None = None
    """File with the password and nothing else, in place of `kafka_password`; looked at again for a change."""
    kafka_ca_file: Path | None = None
    """PEM with the authorities to trust; none means those of the system. Looked at again for a change."""
    kafka_cert_file: Path | None = None
    """PEM with the client's own certificate chain, when the broker asks for one; looked at again."""
    kafka_key_file: Path | None = None
    """PEM with the private key of `kafka_cert_file`; looked at again."""
    kafka_key_password: SecretStr | None = None
    """Password of `kafka_key_file`; never shown."""
    kafka_reload_s: float = Field(default=30.0, ge=0.05, le=86_400)
    """Seconds between two looks at the files above; what has changed is used from then on."""
    kafka_options: dict[str, str] = Field(default_factory=dict, repr=False)
    """Further options of the Kafka client, as JSON; they win."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        self.topics()
        if self.kafka is not None and (faults := list(self.security.faults())):
            raise UserError(f"settings: {'; '.join(faults)} (in the environment HEADGATE_<NAME>)")
        return self

    @property
    def security(self) -> KafkaSecurity:
        """How this process shows the broker who it is."""
        return KafkaSecurity(
            protocol=self.kafka_security_protocol,
            mechanism=self.kafka_sasl_mechanism,
            username=self.kafka_username,
            password=self.kafka_password,
            password_file=self.kafka_password_file,
            ca_file=self.kafka_ca_file,
            cert_file=self.kafka_cert_file,
            key_file=self.kafka_key_file,
            key_password=self.kafka_key_password,
            reload_s=self.kafka_reload_s,
        )

    def topics(self) -> Topics:
        """Return the names of the topics and groups this process works on.

        Raises:
            UserError: `placement` is no tenant that may have topics of its own.
        """
        return Topics(self.topic_prefix, self.placement)

    @classmethod
    def read(cls, **given: Any) -> Self:
        """Return settings from `given` (None means not given) and the environment.

        Raises:
            UserError: A value is wrong; one line names each field.
        """
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise UserError(f"settings: {faults}") from None
        except ValueError as error:
            raise UserError(f"settings: {error}") from None

    @property
    def is_embedded(self) -> bool:
        """Whether the log is the embedded one."""
        return self.kafka is None and self.archive is None

    @property
    def in_memory(self) -> bool:
        """Whether the embedded log lives in this process alone."""
        return self.local == MEMORY


class FaultSettings(BaseSettings):
    """Faults that tests plant; nothing in production sets them."""

    model_config = SettingsConfigDict(env_prefix="HEADGATE_", env_ignore_empty=True, frozen=True)

    crash_at: str | None = None
    """Name of the crash point at which the process dies as if by kill -9."""
    newest_logic: int | None = Field(default=None, ge=1)
    """Makes a gate know no newer logic version, as an older binary."""
    fold_fails_for: str | None = None
    """Tenant whose results the fold raises on, as by a bug."""
    crash_file: Path | None = None
    """A file that may come to name a crash point while the process runs; it is removed by the crash."""


def environment(name: str) -> str | None:
    """Return the variable that a graph names in place of a secret; None when it is unset or empty.

    Headgate's own settings are unset to graphs: who may register one need not know the worker's password.
    """
    return None if name.upper().startswith("HEADGATE_") else os.environ.get(name) or None
