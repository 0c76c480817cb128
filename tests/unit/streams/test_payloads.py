from __future__ import annotations

import hashlib

import pytest

from headgate_graphs.errors import BadRecord, BlobIntegrity, NonRetryable
from headgate_protos.v1.common_pb2 import BlobReference, Payload
from headgate_protos.v1.plan_pb2 import PlanResult
from headgate_protos.v1.task_pb2 import TaskResult
from headgate_streams.blobs import MemoryBlobStore, blob_key
from headgate_streams.payloads import BlobManager, payload_of, set_value


class Untouchable(MemoryBlobStore):
    def get(self, key: str, max_bytes: int) -> bytes:
        raise AssertionError("the store must not be asked")


def manager(limit: int = 10, most: int = 100) -> BlobManager:
    return BlobManager(MemoryBlobStore(), limit, most)


def test_value_at_the_limit_is_inline_and_one_byte_more_is_not() -> None:
    assert manager().pack("acme", '"12345678"').json == '"12345678"'
    assert manager().pack("acme", '"123456789"').blob.size_bytes == 11
    assert manager().pack("acme", '"\u00fc\u00fc\u00fc\u00fc\u00fc"').WhichOneof("content") == "blob"


def test_value_above_the_largest_blob_cannot_be_retried() -> None:
    with pytest.raises(NonRetryable, match="above 100"):
        manager().pack("acme", "1" * 101)


def test_text_that_is_not_unicode_cannot_be_retried() -> None:
    with pytest.raises(NonRetryable, match="not Unicode"):
        manager().pack("acme", '"\ud800"')


def test_nothing_is_null() -> None:
    assert manager().unpack("acme", Payload()) == "null"


@pytest.mark.parametrize(
    "uri",
    [
        "other/2d/x",
        "../etc/passwd",
        "http://evil/x",
        "file:///etc/passwd",
        "s3://bkt@evil/x",
        "/abs",
        "acme/2d/\u202e",
    ],
)
def test_foreign_references_are_refused_without_asking_the_store(uri: str) -> None:
    sha256 = hashlib.sha256(b"x").hexdigest()
    payload = Payload(blob=BlobReference(uri=uri, sha256=sha256, size_bytes=1))
    with pytest.raises(BadRecord) as caught:
        BlobManager(Untouchable(), 0, 100).unpack("acme", payload)
    assert caught.value.reason == "BLOB_REF"
    assert caught.value.detail.isascii()


@pytest.mark.parametrize("size", [-1, 101, 2**62])
def test_impossible_sizes_are_refused_without_asking_the_store(size: int) -> None:
    sha256 = hashlib.sha256(b"x").hexdigest()
    reference = BlobReference(uri=blob_key("acme", sha256), sha256=sha256, size_bytes=size)
    with pytest.raises(BlobIntegrity, match="claims"):
        BlobManager(Untouchable(), 0, 100).unpack("acme", Payload(blob=reference))


@pytest.mark.parametrize("sha256", ["", "../x", "A" * 64, "a" * 63, "a" * 65])
def test_what_is_not_a_hash_makes_no_key(sha256: str) -> None:
    with pytest.raises(BlobIntegrity):
        blob_key("acme", sha256)


def test_bad_tenant_makes_no_key() -> None:
    with pytest.raises(BadRecord, match="BAD_TENANT_ID"):
        blob_key("../b", "a" * 64)


def test_inline_content_of_a_reference_is_checked_too() -> None:
    good = BlobReference(inline_content=b'"x"', size_bytes=3, sha256=hashlib.sha256(b'"x"').hexdigest())
    assert manager().unpack("acme", Payload(blob=good)) == '"x"'
    good.inline_content = b'"y"'
    with pytest.raises(BlobIntegrity):
        manager().unpack("acme", Payload(blob=good))


@pytest.mark.parametrize("kind", [TaskResult, PlanResult])
def test_value_of_a_result_goes_in_and_out(kind: type[TaskResult] | type[PlanResult]) -> None:
    result = kind()
    assert payload_of(result) == Payload()
    for payload in (Payload(json="1"), Payload(blob=BlobReference(uri="u")), Payload()):
        set_value(result, payload)
        assert payload_of(result) == payload
