from __future__ import annotations

from pathlib import Path

import pytest

from headgate_graphs.errors import BlobUnavailable, UserError
from headgate_streams.blobs import FileBlobStore, MemoryBlobStore


def test_nothing_but_the_blob_is_left_after_a_write(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path)
    store.put("a/b/c", b"1")
    store.put("a/b/c", b"2")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "a/b/c"]


def test_failed_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileBlobStore(tmp_path)
    store.put("a/b", b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headgate_streams.blobs.os.fsync", full)
    with pytest.raises(BlobUnavailable, match="No space left"):
        store.put("a/b", b"new")
    assert store.get("a/b", 10) == b"old"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_file_in_the_way_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    store = FileBlobStore(tmp_path)
    for call in (lambda: store.put("a/b", b""), lambda: store.get("a/b", 1), lambda: store.head("a/b")):
        with pytest.raises(BlobUnavailable):
            call()


def test_memory_has_no_urls() -> None:
    with pytest.raises(UserError, match="no URL"):
        MemoryBlobStore().presign("a/b")
