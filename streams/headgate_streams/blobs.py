"""The blob store port, and its file and in-memory backends. Used through `payloads` and by checkpoints."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Final, Protocol

from headgate_graphs.errors import BlobIntegrity, BlobMissing, BlobUnavailable, UserError
from headgate_graphs.ids import tenant_id

_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=-]*(?:/[A-Za-z0-9][A-Za-z0-9_.=-]*)*")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_KEY_ID: Final = re.compile(r"[0-9a-f]{32}")


def blob_key(tenant: str, sha256: str) -> str:
    """Return `<tenant>/<sha256[:2]>/<sha256>`, the only key under which a tenant's value is kept.

    Raises:
        BadRecord: BAD_TENANT_ID.
        BlobIntegrity: `sha256` is not 64 lower-case hex digits.
    """
    if not is_sha256(sha256):
        raise BlobIntegrity(f"{sha256[:80]!a} is not a SHA-256")
    return f"{tenant_id(tenant)}/{sha256[:2]}/{sha256}"


def is_sha256(text: str) -> bool:
    """Whether `text` is 64 lower-case hex digits."""
    return _SHA256.fullmatch(text) is not None


def is_key_id(text: str) -> bool:
    """Whether `text` is 32 lower-case hex digits, as the id of a data key is."""
    return _KEY_ID.fullmatch(text) is not None


def check_key(key: str) -> str:
    """Return `key` when it is safe as a path below a root: no empty, hidden or parent segment."""
    if len(key) > 900 or _KEY.fullmatch(key) is None:
        raise BlobIntegrity(f"{key[:80]!a} is not a blob key")
    return key


class BlobStore(Protocol):
    """Keeps bytes under keys. Safe to share between threads.

    Every method raises BlobUnavailable when the store does not answer; that is worth a retry.
    """

    def put(self, key: str, content: bytes, content_type: str = "application/json") -> None:
        """Keep `content` under `key`, durably and whole or not at all; a repeat is harmless."""

    def get(self, key: str, max_bytes: int) -> bytes:
        """Return the content; raises BlobMissing, or BlobIntegrity when it is longer than `max_bytes`."""

    def head(self, key: str) -> int | None:
        """Return the size in bytes; None when there is nothing."""

    def delete(self, key: str) -> None:
        """Forget the key; nothing happens when there is nothing."""

    def presign(self, key: str, expires_s: int = 3600) -> str:
        """Return a URL that reads this blob for a while, for people and consoles."""


class FileBlobStore:
    """Blobs as files below one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def put(self, key: str, content: bytes, content_type: str = "application/json") -> None:  # noqa: ARG002
        """Write beside, fsync, rename, fsync the directory: a crash leaves the old content or the new one."""
        path = self._path(key)
        beside = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with beside.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)
            _fsync_directory(path.parent)
        except OSError as error:
            raise BlobUnavailable(f"cannot write {path}: {error.strerror or error}") from error

    def get(self, key: str, max_bytes: int) -> bytes:
        """Read the file, at most `max_bytes` of it."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                content = file.read(max_bytes + 1)
        except FileNotFoundError:
            raise BlobMissing(f"there is no blob {key}") from None
        except OSError as error:
            raise BlobUnavailable(f"cannot read {path}: {error.strerror or error}") from error
        if len(content) > max_bytes:
            raise BlobIntegrity(f"blob {key} is longer than {max_bytes} bytes")
        return content

    def head(self, key: str) -> int | None:
        """Return the size of the file."""
        try:
            return self._path(key).stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BlobUnavailable(f"cannot look at blob {key}: {error.strerror or error}") from error

    def delete(self, key: str) -> None:
        """Remove the file."""
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            raise BlobUnavailable(f"cannot delete blob {key}: {error.strerror or error}") from error

    def presign(self, key: str, expires_s: int = 3600) -> str:  # noqa: ARG002
        """Return the file's URL; whoever may read the directory may read it, for as long as it exists."""
        return self._path(key).as_uri()

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)


class MemoryBlobStore:
    """Blobs in a dict, for tests and notebooks with an in-memory log."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    def put(self, key: str, content: bytes, content_type: str = "application/json") -> None:  # noqa: ARG002
        """Keep a reference to the bytes."""
        self._blobs[check_key(key)] = content

    def get(self, key: str, max_bytes: int) -> bytes:
        """Return the bytes."""
        content = self._blobs.get(check_key(key))
        if content is None:
            raise BlobMissing(f"there is no blob {key}")
        if len(content) > max_bytes:
            raise BlobIntegrity(f"blob {key} is longer than {max_bytes} bytes")
        return content

    def head(self, key: str) -> int | None:
        """Return the length."""
        content = self._blobs.get(check_key(key))
        return None if content is None else len(content)

    def delete(self, key: str) -> None:
        """Forget the key."""
        self._blobs.pop(check_key(key), None)

    def presign(self, key: str, expires_s: int = 3600) -> str:
        """Refuse: there is nothing that a URL could name."""
        raise UserError(f"blob {key} is in memory; it has no URL for {expires_s} s or for any time")


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
