"""Settings of the streams, and the only place that reads the environment. Used by every process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from headgate_graphs.errors import UserError

MEMORY = Path(":memory:")
"""As `local`: a log that lives in this process and ends with it."""


class StreamSettings(BaseSettings):
    """Where log and blobs are, and how large a thing may be; `HEADGATE_<FIELD>` in the environment."""

    model_config = SettingsConfigDict(env_prefix="HEADGATE_", env_ignore_empty=True, frozen=True)

    kafka: str | None = None
    """Bootstrap servers, host:port[,host:port]; none means the embedded log."""
    local: Path = Path(".headgate")
    """Directory of the embedded log and, by default, of the blobs; `:memory:` keeps both in this process."""
    topic_prefix: str = Field(default="headgate", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    """First part of every topic and group name; separate installations on one broker differ in it."""
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
    ticket_keys: list[SecretStr] = Field(default_factory=list)
    """Gates' keys for the tickets of inputs, as a JSON list, the newest first; `headgate keys tickets`."""
    signing_key: Path | None = None
    """PEM file of the Ed25519 key that signs orders, policies and graphs; `headgate keys new` makes one."""
    kafka_options: dict[str, str] = Field(default_factory=dict)
    """Further options of the Kafka client, as JSON, such as security.protocol and sasl.*; they win."""

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
    """Return the variable that a graph names in place of a secret; None when it is unset or empty."""
    return os.environ.get(name) or None
