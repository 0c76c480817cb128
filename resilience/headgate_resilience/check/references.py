"""I12: every reference of the log resolves in the blob store, with its size and sha256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from headgate_graphs.errors import BadRecord, HeadgateError
from headgate_resilience.check.findings import Findings
from headgate_resilience.check.isolation import Isolation
from headgate_streams.blobs import BlobStore
from headgate_streams.sealing import DataKeys

THREADS: Final = 8
AT_ONCE: Final = 256


class References:
    """References seen in the log: one of each, with where it was seen first."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._seen: dict[tuple[str, str, int, str], str] = {}
        """(tenant, key, size, sha256) -> where."""
        self._sealed: dict[str, str] = {}
        """Key of a sealed blob -> its data key."""

    def collect(self, envelope: Any, kind: str, where: str) -> None:
        """Note the references of one envelope that was taken."""
        for blob in _blobs(getattr(envelope, kind), kind):
            if blob.uri:
                key = (envelope.tenant_id, blob.uri, blob.size_bytes, blob.sha256)
                self._seen.setdefault(key, where)
                if blob.key_id:
                    self._sealed[blob.uri] = blob.key_id

    def resolve(self, store: BlobStore | None, isolation: Isolation) -> None:
        """Read every blob once."""
        if store is None:
            if self._seen:
                self._findings.not_checked("I12", "no blob store is given")
            return
        wanted, keys = list(self._seen.items()), DataKeys(store)
        with ThreadPoolExecutor(THREADS, thread_name_prefix="blobs") as pool:
            for first in range(0, len(wanted), AT_ONCE):
                part = wanted[first : first + AT_ONCE]
                contents = pool.map(lambda item: _read(store, *item[0]), part)
                for ((tenant, uri, _, _), where), (content, fault) in zip(part, contents, strict=True):
                    if fault and self._is_erased(keys, tenant, uri):
                        self._findings.counts["blobs erased"] += 1
                        continue
                    self._findings.need("I12", not fault, where, f"{uri}: {fault}")
                    isolation.search(content, tenant, f"blob {uri}")

    def _is_erased(self, keys: DataKeys, tenant: str, uri: str) -> bool:
        """Whether a blob is gone because its data key, or that of its tenant, was destroyed."""
        key_id = self._sealed.get(uri)
        return key_id is not None and any(keys.erasure(tenant, one) for one in (key_id, ""))


def _read(store: BlobStore, tenant: str, uri: str, size: int, sha256: str) -> tuple[bytes, str]:
    """Return the content, and what is wrong with it."""
    if uri != f"{tenant}/{sha256[:2]}/{sha256}":
        return b"", "is not the key of this tenant's value"
    try:
        content = store.get(uri, max(size, 0))
    except (HeadgateError, BadRecord) as error:
        return b"", str(error)
    if len(content) != size:
        return content, f"has {len(content)} bytes, the reference says {size}"
    if hashlib.sha256(content).hexdigest() != sha256:
        return content, "has another sha256 than the reference says"
    return content, ""


def _blobs(payload: Any, kind: str) -> Iterator[Any]:
    if kind == "lifetime_start":
        yield payload.input.blob
        for one in (*payload.fork.prefix, *payload.fork.stubs):
            kind = one.WhichOneof("outcome")
            if kind in ("task_result", "plan_result"):
                yield getattr(one, kind).blob_reference
            yield from (given.input_data.blob for given in one.plan_result.next_inputs)
    elif kind in ("task_execution", "plan_execution"):
        yield payload.result.blob_reference
        if kind == "task_execution":
            yield payload.input_data.blob
        else:
            yield from (one.input_data.blob for one in payload.result.next_inputs)
