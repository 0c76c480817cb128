"""Moves JSON values between messages and blob store: small ones inline, large ones as references."""

from __future__ import annotations

import hashlib

from headgate_graphs.errors import BadRecord, BlobIntegrity, NonRetryable
from headgate_protos.v1.common_pb2 import BlobReference, Payload
from headgate_protos.v1.plan_pb2 import PlanResult
from headgate_protos.v1.task_pb2 import TaskResult
from headgate_streams.blobs import BlobStore, blob_key
from headgate_streams.sealing import DataKeys

_JSON = "application/json"


class BlobManager:
    """Packs and unpacks values; user code sees no difference between small and large. Thread-safe."""

    def __init__(self, store: BlobStore, inline_limit_bytes: int, max_blob_bytes: int) -> None:
        self._store = store
        self._inline_limit_bytes = inline_limit_bytes
        self._max_blob_bytes = max_blob_bytes
        self.keys = DataKeys(store)

    def pack(self, tenant: str, json_text: str, key_id: str = "") -> Payload:
        """Return `json_text` inline, or kept in the store and referenced when it is above the inline limit.

        With a `key_id` it is sealed with that data key first.

        Raises:
            NonRetryable: It is above the largest blob, or not Unicode text (lone surrogates).
            BlobUnavailable: The store did not take it, or did not give the key.
            BlobMissing: There is no such key.
            DataErased: The key was destroyed.
        """
        try:
            content = json_text.encode()
        except UnicodeEncodeError as error:
            raise NonRetryable(f"the value is not Unicode text: {error.reason} at {error.start}") from None
        if key_id:
            content = self.keys.seal(tenant, key_id, content)
        elif len(content) <= self._inline_limit_bytes:
            return Payload(json=json_text)
        if len(content) > self._max_blob_bytes:
            raise NonRetryable(f"the value of {len(content)} bytes is above {self._max_blob_bytes}")
        sha256 = hashlib.sha256(content).hexdigest()
        reference = BlobReference(content_type=_JSON, size_bytes=len(content), sha256=sha256, key_id=key_id)
        if len(content) <= self._inline_limit_bytes:
            reference.inline_content = content
        else:
            reference.uri = blob_key(tenant, sha256)
            self._store.put(reference.uri, content, _JSON)
        return Payload(blob=reference)

    def unpack(self, tenant: str, payload: Payload) -> str:
        """Return the JSON text; "null" for an empty payload.

        The key is computed from `tenant` and the hash; a reference that says otherwise is refused unread.

        Raises:
            BadRecord: BLOB_REF, the reference is not to this tenant's computed key.
            BlobIntegrity: Size or hash of the content is not the reference's.
            BlobMissing: There is no such blob, or no such data key.
            DataErased: Its data key was destroyed.
            BlobUnavailable: The store did not answer.
        """
        kind = payload.WhichOneof("content")
        if kind == "json":
            return payload.json
        return self._fetch(tenant, payload.blob) if kind == "blob" else "null"

    def _fetch(self, tenant: str, reference: BlobReference) -> str:
        content = self._content(tenant, reference)
        if len(content) != reference.size_bytes or hashlib.sha256(content).hexdigest() != reference.sha256:
            raise BlobIntegrity(f"blob {reference.uri[:160]!a} is not the bytes its reference describes")
        if reference.key_id:
            content = self.keys.unseal(tenant, reference.key_id, content)
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise BlobIntegrity(f"blob {reference.uri[:160]!a} is not UTF-8 text") from None

    def _content(self, tenant: str, reference: BlobReference) -> bytes:
        if not reference.uri:
            return reference.inline_content
        key = blob_key(tenant, reference.sha256)
        if reference.uri != key:
            raise BadRecord("BLOB_REF", f"{reference.uri[:160]!a} is not the key of this tenant's value")
        if not 0 <= reference.size_bytes <= self._max_blob_bytes:
            raise BlobIntegrity(f"blob {key} claims {reference.size_bytes} bytes")
        return self._store.get(key, reference.size_bytes)


def key_of(payload: Payload) -> str:
    """Return the data key that a payload is sealed with; "" when it is not."""
    return payload.blob.key_id if payload.HasField("blob") else ""


def payload_of(result: TaskResult | PlanResult) -> Payload:
    """Return the value of a result as a Payload; empty when it has none."""
    kind = result.WhichOneof("value")
    if kind == "json_result":
        return Payload(json=result.json_result)
    return Payload(blob=result.blob_reference) if kind == "blob_reference" else Payload()


def set_value(result: TaskResult | PlanResult, payload: Payload) -> None:
    """Make `payload` the value of a result."""
    kind = payload.WhichOneof("content")
    if kind == "json":
        result.json_result = payload.json
    elif kind == "blob":
        result.blob_reference.CopyFrom(payload.blob)
    else:
        result.ClearField("json_result")
        result.ClearField("blob_reference")
