"""Sealed values: readable by who has the data key, and by nobody once that is destroyed. Used by `payloads`.

A lifetime whose start was sealed has a data key of its own; all its values, and those of its sub-graphs, are
sealed with it, wherever they travel or are kept. The data keys of a tenant are wrapped with the tenant's key.
Both lie in the blob store, `<tenant>/keys/…`, and nowhere else: to destroy one is to erase what it opens, in
topics, checkpoints, archives, backups and blobs at once. What decides never sees a sealed value.

AES-SIV (RFC 5297) is deterministic: within one lifetime equal values have equal bytes, so that rules about
progress see that nothing changes, and a value that is stored twice is one blob.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from headgate_graphs.errors import BlobMissing, DataErased, UserError
from headgate_graphs.ids import tenant_id
from headgate_streams.blobs import BlobStore

KNOWN_S: Final = 60.0
"""How long a process remembers a key: so long after an erasure it may still read what it opens."""
MAX_KNOWN: Final = 4_096
"""Keys that a process remembers at once."""
_BITS: Final = 512
_MAX_KEY_BYTES: Final = 1_024
_ERASED: Final = b"erased "
"""How the content begins that stands where a key was."""


class DataKeys:
    """The data keys in one blob store. Thread-safe.

    Everything raises BlobUnavailable when the store does not answer.
    """

    def __init__(self, store: BlobStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], tuple[float, AESSIV]] = {}

    def create(self, tenant: str) -> bool:
        """Make the tenant's key, from which on its values can be sealed; False when it has one."""
        try:
            if not self._read(tenant, "").startswith(_ERASED):
                return False
        except BlobMissing:
            pass
        self._store.put(_path(tenant, ""), AESSIV.generate_key(_BITS), "application/octet-stream")
        return True

    def new_key(self, tenant: str) -> str:
        """Make a data key and return its id; raises UserError when the tenant has no key to wrap it with."""
        key_id = secrets.token_hex(16)
        try:
            wrapping = self._tenant_key(tenant)
        except (BlobMissing, DataErased):
            hint = f"make one with `headgate keys data --tenant {tenant}`"
            raise UserError(f"tenant {tenant} has no data key, so nothing can be sealed: {hint}") from None
        wrapped = wrapping.encrypt(AESSIV.generate_key(_BITS), _said(tenant, key_id))
        self._store.put(_path(tenant, key_id), wrapped, "application/octet-stream")
        return key_id

    def seal(self, tenant: str, key_id: str, content: bytes) -> bytes:
        """Return the sealed bytes, 16 longer; raises BlobMissing for an unknown key, DataErased."""
        return self._data_key(tenant, key_id).encrypt(content, _said(tenant, key_id))

    def unseal(self, tenant: str, key_id: str, sealed: bytes) -> bytes:
        """Return what was sealed; raises BlobMissing for an unknown key, DataErased."""
        try:
            return self._data_key(tenant, key_id).decrypt(sealed, _said(tenant, key_id))
        except InvalidTag:
            raise DataErased(f"a value of {tenant} is not what its data key has sealed") from None

    def destroy(self, tenant: str, key_id: str, by: str) -> None:
        """Erase all that a data key opens; with an empty `key_id`, all that is sealed of the tenant.

        In the key's place stands when that was, and `by` whom. A repeat keeps the first.
        """
        if self.erasure(tenant, key_id):
            return
        told = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "by": by}
        self._store.put(_path(tenant, key_id), _ERASED + json.dumps(told).encode(), "text/plain")
        with self._lock:
            self._known.pop((tenant, key_id), None)

    def erasure(self, tenant: str, key_id: str) -> str:
        """Return when and by whom a key was destroyed, as one line; "" when it was not."""
        try:
            content = self._read(tenant, key_id)
        except BlobMissing:
            return ""
        if not content.startswith(_ERASED):
            return ""
        told = json.loads(content.removeprefix(_ERASED))
        return f"erased at {told['at']} by {told['by']}"

    # -- keys --------------------------------------------------------------------------------------

    def _data_key(self, tenant: str, key_id: str) -> AESSIV:
        known = self._remembered(tenant, key_id)
        if known is not None:
            return known
        wrapped = self._live(tenant, key_id)
        try:
            key = AESSIV(self._tenant_key(tenant).decrypt(wrapped, _said(tenant, key_id)))
        except InvalidTag:
            raise DataErased(f"the key of {tenant} that wrapped data key {key_id} was destroyed") from None
        return self._remember(tenant, key_id, key)

    def _tenant_key(self, tenant: str) -> AESSIV:
        known = self._remembered(tenant, "")
        return known or self._remember(tenant, "", AESSIV(self._live(tenant, "")))

    def _live(self, tenant: str, key_id: str) -> bytes:
        content = self._read(tenant, key_id)
        if content.startswith(_ERASED):
            raise DataErased(f"this value of {tenant} was {self.erasure(tenant, key_id)}")
        return content

    def _read(self, tenant: str, key_id: str) -> bytes:
        return self._store.get(_path(tenant, key_id), _MAX_KEY_BYTES)

    def _remembered(self, tenant: str, key_id: str) -> AESSIV | None:
        with self._lock:
            until, key = self._known.get((tenant, key_id), (0.0, None))
            return key if self._clock() < until else None

    def _remember(self, tenant: str, key_id: str, key: AESSIV) -> AESSIV:
        with self._lock:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[tenant, key_id] = (self._clock() + KNOWN_S, key)
        return key


def _path(tenant: str, key_id: str) -> str:
    return f"{tenant_id(tenant)}/keys/{key_id or 'tenant'}"


def _said(tenant: str, key_id: str) -> list[bytes]:
    """Return what is bound to the bytes: nobody can pass them off as another tenant's or key's."""
    return [tenant.encode(), key_id.encode()]
