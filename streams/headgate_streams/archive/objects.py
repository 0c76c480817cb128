"""The objects of one archive: documents and files below a root of a store. Used by export and reading."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from headgate_graphs.errors import ArchiveBroken, BlobIntegrity, BlobMissing, UserError
from headgate_streams.archive.format import read_file
from headgate_streams.archive.manifest import (
    ArchivedFile,
    Document,
    Manifest,
    Page,
    Plan,
    document_of,
    seal,
    sha256_of,
    unseal,
)
from headgate_streams.blobs import BlobStore
from headgate_streams.port import LogRecord
from headgate_streams.signing import SigningKey

MANIFEST: Final = "manifest.json"
"""The newest manifest; it is replaced last, so an archive is as its last finished export has left it."""
PLAN: Final = "plan.json"
"""The export under way, if there is one."""
MAX_DOCUMENT_BYTES: Final = 67_108_864
"""The largest manifest, plan or page that is read (64 MiB)."""
_JSON: Final = "application/json"
_AVRO: Final = "application/avro"


class Archive:
    """One archive. Reading raises ArchiveBroken, BlobUnavailable when the store does not answer."""

    def __init__(self, blobs: BlobStore, name: str, trusted: bytes | None = None) -> None:
        """Take the store whose root is the archive's; `name` is for messages.

        With `trusted`, a raw public key, only what it has signed is believed.
        """
        self.blobs = blobs
        self.name = name
        self.trusted = trusted

    def document(self) -> Document | None:
        """Return the newest manifest as it is signed; None when nothing was ever exported here."""
        raw = self.manifest_bytes()
        return None if raw is None else document_of(raw, self._where(MANIFEST))

    def manifest_bytes(self) -> bytes | None:
        """Return the newest manifest as it was written; None when nothing was ever exported here."""
        return self._find(MANIFEST)

    def manifest(self) -> Manifest | None:
        """Return the newest manifest, its signature checked; None when nothing was ever exported here."""
        raw = self.manifest_bytes()
        return None if raw is None else unseal(raw, Manifest, self._where(MANIFEST), self.trusted)

    def existing(self) -> Manifest:
        """Return the newest manifest; raises UserError when there is none."""
        found = self.manifest()
        if found is None:
            raise UserError(f"there is no archive at {self.name}: `headgate audit export` makes one")
        return found

    def plan(self, signer: bytes | None) -> Plan | None:
        """Return the export that was begun and not finished; with `signer`, if that public key signed it."""
        raw = self._find(PLAN)
        return None if raw is None else unseal(raw, Plan, self._where(PLAN), signer)

    def is_under_way(self) -> bool:
        """Whether an export runs, or has been interrupted."""
        return self.blobs.head(PLAN) is not None

    def files(self, manifest: Manifest) -> Iterator[ArchivedFile]:
        """Yield every file that a manifest names, in the order in which they were written."""
        for page in manifest.pages:
            raw = self._find(page.key)
            if raw is None or sha256_of(raw) != page.sha256:
                what = "is missing" if raw is None else "is not the one that the manifest names (sha256)"
                raise ArchiveBroken(f"{self._where(page.key)}: it {what}")
            yield from unseal(raw, Page, self._where(page.key)).files
        yield from manifest.files

    def records(self, file: ArchivedFile) -> Iterator[LogRecord]:
        """Yield the records of one file; all of its bytes are checked before the first, each link after."""
        try:
            content = self.blobs.get(file.key, file.size_bytes)
        except (BlobMissing, BlobIntegrity) as error:
            raise ArchiveBroken(f"archive {self.name}: {error}") from None
        yield from read_file(content, file)

    # -- writing -----------------------------------------------------------------------------------

    def put_file(self, file: ArchivedFile, content: bytes) -> None:
        """Keep one file."""
        self.blobs.put(file.key, content, _AVRO)

    def put_page(self, page: Page) -> str:
        """Keep a page; return its SHA-256, which its key is made of."""
        raw = seal(page)
        digest = sha256_of(raw)
        self.blobs.put(f"pages/{digest}.json", raw, _JSON)
        return digest

    def put_plan(self, plan: Plan, key: SigningKey | None) -> None:
        """Keep how far an export has come."""
        self.blobs.put(PLAN, seal(plan, key), _JSON)

    def put_manifest(self, manifest: Manifest, key: SigningKey | None) -> None:
        """Finish an export: from here on this is the archive."""
        raw = seal(manifest, key)
        self.blobs.put(manifest.kept_key, raw, _JSON)
        self.blobs.put(MANIFEST, raw, _JSON)
        self.blobs.delete(PLAN)

    def _find(self, key: str) -> bytes | None:
        try:
            return self.blobs.get(key, MAX_DOCUMENT_BYTES)
        except BlobMissing:
            return None
        except BlobIntegrity as error:
            raise ArchiveBroken(f"archive {self.name}: {error}") from None

    def _where(self, key: str) -> str:
        return f"archive {self.name}: {key}"
