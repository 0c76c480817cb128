"""Moves values between handlers and payloads, waiting patiently for a blob store that does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from headgate_graphs.errors import BlobUnavailable
from headgate_protos.v1.common_pb2 import Payload
from headgate_streams.blobs import BlobStore
from headgate_streams.payloads import BlobManager
from headgate_streams.settings import StreamSettings
from headgate_workers.context import Fetch, UpstreamResult
from headgate_workers.conversion import to_json
from headgate_workers.threads import HandlerThreads

T = TypeVar("T")
_FIRST_WAIT_S = 0.2
_SEAL_BYTES = 16
"""How much longer a value is when it is sealed."""


class Packer:
    """Packs values for reports and fetches what inputs refer to; blob stores are asked in threads."""

    def __init__(
        self, store: BlobStore, settings: StreamSettings, attempts: int, threads: HandlerThreads
    ) -> None:
        self._blobs = BlobManager(store, settings.inline_limit_bytes, settings.max_blob_bytes)
        self._offload = BlobManager(store, -1, settings.max_blob_bytes)
        self._inline_limit_bytes = settings.inline_limit_bytes
        self._attempts = attempts
        self._threads = threads
        self.inline_budget_bytes = settings.max_record_bytes // 2
        """How much of one record values may fill; what exceeds it is offloaded however small it is."""

    def fetch_for(self, tenant: str) -> Fetch:
        """Return the function that reads this tenant's payloads; it blocks while the store is asked."""
        return partial(self._fetch, tenant)

    def _fetch(self, tenant: str, payload: Payload) -> str:
        return _patiently(self._attempts, lambda: self._blobs.unpack(tenant, payload))

    def inline(self, value: Any, room_bytes: int, key_id: str) -> Payload | str:
        """Return a value as a payload, an UpstreamResult's as it is; the JSON text when `pack` must take it.

        `room_bytes` is what is left of the record; what has a `key_id` must be sealed. Raises ResultInvalid.
        """
        if isinstance(value, UpstreamResult):
            return value.lazy.payload
        text = to_json(value)
        if key_id:
            return text
        limit = min(self._inline_limit_bytes, room_bytes)
        return Payload(json=text) if len(text) * 4 <= limit or len(text.encode()) <= limit else text

    async def pack(self, tenant: str, text: str, room_bytes: int, key_id: str) -> Payload:
        """Return JSON text sealed when it has a `key_id`, and in the store when it is large or must be.

        Raises NonRetryable, BlobUnavailable, and for a key BlobMissing and DataErased.
        """
        is_small = key_id and len(text) * 4 + _SEAL_BYTES <= room_bytes
        blobs = self._blobs if is_small else self._offload
        return await self._threads.run(_patiently, self._attempts, lambda: blobs.pack(tenant, text, key_id))


def _patiently(attempts: int, ask: Callable[[], T]) -> T:
    """Return what `ask` returns; BlobUnavailable is raised after `attempts` tries with doubling waits."""
    for tries in range(attempts - 1):
        try:
            return ask()
        except BlobUnavailable:
            time.sleep(_FIRST_WAIT_S * 2**tries)
    return ask()
