"""What is sealed can be read with its key, by nobody else, and never again once the key is destroyed."""

from __future__ import annotations

import pytest

from headgate_graphs.errors import BadRecord, BlobMissing, DataErased, UserError
from headgate_protos.v1.common_pb2 import BlobReference, ExecutionStatus, NodeKind, Payload
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_streams.blobs import MemoryBlobStore
from headgate_streams.codec import decode, encode
from headgate_streams.payloads import BlobManager, key_of
from headgate_streams.port import LogRecord
from headgate_streams.sealing import KNOWN_S, DataKeys

SECRET = '{"name": "Ada Lovelace"}'


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def store() -> MemoryBlobStore:
    return MemoryBlobStore()


def manager(store: MemoryBlobStore, inline_limit_bytes: int = 1_000) -> BlobManager:
    return BlobManager(store, inline_limit_bytes, 1_000_000)


def protected(store: MemoryBlobStore, tenant: str = "acme") -> str:
    keys = DataKeys(store)
    assert keys.create(tenant)
    return keys.new_key(tenant)


@pytest.mark.parametrize("limit", [1_000, 0], ids=["inline", "in the store"])
def test_a_sealed_value_comes_back_and_is_nowhere_in_plain(store: MemoryBlobStore, limit: int) -> None:
    key_id = protected(store)
    payload = manager(store, limit).pack("acme", SECRET, key_id)
    assert key_of(payload) == key_id
    kept = b"".join([payload.SerializeToString(), *store._blobs.values()])
    assert b"Ada" not in kept
    assert bool(payload.blob.uri) is (limit == 0)
    assert manager(store).unpack("acme", payload) == SECRET


def test_equal_values_of_one_key_are_sealed_alike_and_others_are_not(store: MemoryBlobStore) -> None:
    one, other = protected(store), DataKeys(store).new_key("acme")
    blobs = manager(store)
    assert blobs.pack("acme", SECRET, one) == blobs.pack("acme", SECRET, one)
    sealed = {blobs.pack("acme", text, key).blob.sha256 for text in (SECRET, "1") for key in (one, other)}
    assert len(sealed) == 4


def test_a_destroyed_key_opens_nothing_and_says_when_and_by_whom(store: MemoryBlobStore) -> None:
    key_id = protected(store)
    payload = manager(store).pack("acme", SECRET, key_id)
    DataKeys(store).destroy("acme", key_id, "ops@host")
    with pytest.raises(DataErased, match=r"was erased at 20.* by ops@host"):
        manager(store).unpack("acme", payload)
    first = DataKeys(store).erasure("acme", key_id)
    DataKeys(store).destroy("acme", key_id, "somebody else")
    assert DataKeys(store).erasure("acme", key_id) == first


def test_destroying_the_tenants_key_erases_all_its_lifetimes_and_nobody_elses(store: MemoryBlobStore) -> None:
    mine, theirs = protected(store, "acme"), protected(store, "globex")
    lost, kept = manager(store).pack("acme", SECRET, mine), manager(store).pack("globex", SECRET, theirs)
    DataKeys(store).destroy("acme", "", "ops")
    with pytest.raises(DataErased):
        manager(store).unpack("acme", lost)
    assert manager(store).unpack("globex", kept) == SECRET


def test_a_new_key_of_the_tenant_does_not_bring_back_what_was_erased(store: MemoryBlobStore) -> None:
    key_id = protected(store)
    payload = manager(store).pack("acme", SECRET, key_id)
    DataKeys(store).destroy("acme", "", "ops")
    assert DataKeys(store).create("acme")
    with pytest.raises(DataErased):
        manager(store).unpack("acme", payload)
    assert manager(store).pack("acme", SECRET, DataKeys(store).new_key("acme"))


def test_a_key_is_made_once(store: MemoryBlobStore) -> None:
    key_id = protected(store)
    payload = manager(store).pack("acme", SECRET, key_id)
    assert not DataKeys(store).create("acme")
    assert manager(store).unpack("acme", payload) == SECRET


def test_nothing_is_sealed_for_a_tenant_without_a_key(store: MemoryBlobStore) -> None:
    with pytest.raises(UserError, match="headgate keys data --tenant acme"):
        DataKeys(store).new_key("acme")
    with pytest.raises(BlobMissing):
        manager(store).pack("acme", SECRET, "0" * 32)


def test_a_process_forgets_a_key_after_a_minute(store: MemoryBlobStore) -> None:
    clock = Clock()
    keys = DataKeys(store, clock)
    keys.create("acme")
    key_id = keys.new_key("acme")
    sealed = keys.seal("acme", key_id, b"x")
    DataKeys(store).destroy("acme", key_id, "ops")
    assert keys.unseal("acme", key_id, sealed) == b"x"
    clock.now_s = KNOWN_S
    with pytest.raises(DataErased):
        keys.unseal("acme", key_id, sealed)


def test_a_value_that_was_sealed_for_another_tenant_or_was_changed_does_not_open(
    store: MemoryBlobStore,
) -> None:
    key_id = protected(store)
    sealed = bytearray(DataKeys(store).seal("acme", key_id, b"x" * 40))
    sealed[20] ^= 1
    with pytest.raises(DataErased, match="is not what its data key has sealed"):
        DataKeys(store).unseal("acme", key_id, bytes(sealed))
    protected(store, "globex")
    store._blobs[f"globex/keys/{key_id}"] = store._blobs[f"acme/keys/{key_id}"]
    with pytest.raises(DataErased):
        DataKeys(store).unseal("globex", key_id, DataKeys(store).seal("acme", key_id, b"x"))


@pytest.mark.parametrize("key_id", ["tenant", "../globex/keys/0", "A" * 32, "0" * 31, "0" * 33])
def test_a_record_that_names_no_data_key_is_refused(key_id: str) -> None:
    envelope = ExecutionEnvelope(tenant_id="acme", lifetime_id="x")
    execution = envelope.task_execution
    execution.tenant_id = "acme"
    execution.headers.status = ExecutionStatus.EXECUTION_STATUS_COMPLETED
    execution.headers.node_kind = NodeKind.NODE_KIND_TASK
    execution.result.blob_reference.CopyFrom(BlobReference(inline_content=b"x", size_bytes=1, key_id=key_id))
    value, headers = encode(envelope, "acme")
    with pytest.raises(BadRecord, match="BLOB_REF"):
        decode(LogRecord("t", 0, 0, 0, b"acme", value, headers), ExecutionEnvelope)


def test_an_unsealed_value_needs_no_store_of_keys() -> None:
    assert manager(MemoryBlobStore()).pack("acme", "1") == Payload(json="1")
