"""What every blob store does, alone and under references."""

from __future__ import annotations

import hashlib
import json
import urllib.request

import pytest

from headgate_graphs.errors import BadRecord, BlobIntegrity, BlobMissing
from headgate_protos.v1.common_pb2 import BlobReference, Payload
from headgate_streams.blobs import BlobStore, MemoryBlobStore, blob_key
from headgate_streams.payloads import BlobManager

SHA = hashlib.sha256(b"x").hexdigest()


def test_content_is_kept_whole_and_a_repeat_is_harmless(blobs: BlobStore, tenant: str) -> None:
    key = blob_key(tenant, SHA)
    content = bytes(range(256)) * 20_000
    assert blobs.head(key) is None
    blobs.put(key, content)
    blobs.put(key, content)
    assert blobs.head(key) == len(content)
    assert blobs.get(key, len(content)) == content


def test_empty_content_is_content(blobs: BlobStore, tenant: str) -> None:
    blobs.put(f"{tenant}/empty", b"")
    assert blobs.head(f"{tenant}/empty") == 0
    assert blobs.get(f"{tenant}/empty", 10) == b""


def test_missing_blob_is_missing(blobs: BlobStore, tenant: str) -> None:
    with pytest.raises(BlobMissing):
        blobs.get(blob_key(tenant, SHA), 100)
    blobs.delete(blob_key(tenant, SHA))


def test_deleted_blob_is_gone(blobs: BlobStore, tenant: str) -> None:
    blobs.put(f"{tenant}/thing", b"1")
    blobs.delete(f"{tenant}/thing")
    assert blobs.head(f"{tenant}/thing") is None


def test_no_more_than_the_cap_is_read(blobs: BlobStore, tenant: str) -> None:
    blobs.put(f"{tenant}/thing", b"12345")
    with pytest.raises(BlobIntegrity, match="longer than 4 bytes"):
        blobs.get(f"{tenant}/thing", 4)


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".hidden", "a\x00b", "a" * 901]
)
def test_keys_that_leave_the_root_are_refused(blobs: BlobStore, key: str) -> None:
    for call in (lambda: blobs.put(key, b""), lambda: blobs.get(key, 1), lambda: blobs.head(key)):
        with pytest.raises(BlobIntegrity):
            call()


def test_presigned_url_reads_the_blob(blobs: BlobStore, tenant: str) -> None:
    if isinstance(blobs, MemoryBlobStore):
        pytest.skip("what is in memory has no URL")
    blobs.put(f"{tenant}/thing", b"hello")
    with urllib.request.urlopen(blobs.presign(f"{tenant}/thing", 60), timeout=10) as answer:
        assert answer.read() == b"hello"


def test_large_value_travels_as_a_reference(blobs: BlobStore, tenant: str) -> None:
    manager = BlobManager(blobs, inline_limit_bytes=1000, max_blob_bytes=10_000_000)
    text = json.dumps("ü" * 2_500_000, ensure_ascii=False)
    payload = manager.pack(tenant, text)
    size, sha256 = len(text.encode()), hashlib.sha256(text.encode()).hexdigest()
    assert payload.blob == BlobReference(
        uri=f"{tenant}/{sha256[:2]}/{sha256}", content_type="application/json", size_bytes=size, sha256=sha256
    )
    assert payload.ByteSize() < 400
    assert manager.unpack(tenant, payload) == text


def test_reference_to_another_tenants_blob_is_refused(blobs: BlobStore, tenant: str) -> None:
    manager = BlobManager(blobs, inline_limit_bytes=0, max_blob_bytes=1000)
    payload = manager.pack(tenant, '"secret"')
    with pytest.raises(BadRecord, match="BLOB_REF"):
        manager.unpack("other-tenant", payload)


def test_changed_content_is_noticed(blobs: BlobStore, tenant: str) -> None:
    manager = BlobManager(blobs, inline_limit_bytes=0, max_blob_bytes=1000)
    payload = manager.pack(tenant, '"12345"')
    for content in (b'"12346"', b'"1234', b'"12345" and more'):
        blobs.put(payload.blob.uri, content)
        with pytest.raises(BlobIntegrity):
            manager.unpack(tenant, payload)
    blobs.delete(payload.blob.uri)
    with pytest.raises(BlobMissing):
        manager.unpack(tenant, payload)


def test_unknown_reference_is_missing(blobs: BlobStore, tenant: str) -> None:
    manager = BlobManager(blobs, inline_limit_bytes=0, max_blob_bytes=1000)
    reference = BlobReference(uri=blob_key(tenant, SHA), sha256=SHA, size_bytes=1)
    with pytest.raises(BlobMissing):
        manager.unpack(tenant, Payload(blob=reference))
