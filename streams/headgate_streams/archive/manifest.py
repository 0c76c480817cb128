"""What an archive says of itself: manifests, the plan of an export under way, and their signatures. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from headgate_graphs.errors import ArchiveBroken
from headgate_streams.port import TopicPartition
from headgate_streams.signing import SigningKey, is_signature_of, key_id_of

PAGE_FILES: Final = 1_000
"""So many files stand in the manifest itself; they are then moved to a page, which never changes again."""
_Model = TypeVar("_Model", bound=BaseModel)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ArchivedFile(_Part):
    """One Avro file."""

    topic: str
    partition: int
    topic_id: str
    """Which of the topics that ever had this name; empty when the log does not tell."""
    first: int
    """It covers the offsets from here on; compaction may have taken some of them."""
    end: int
    """One more than its last record's offset; the next file's `first`."""
    records: int
    size_bytes: int
    sha256: str
    chain_before: str
    """Link of the chain before its first record, hex."""
    chain_after: str
    """Link of its last record."""
    earliest_ms: int
    latest_ms: int
    """Append times, Unix milliseconds."""

    @property
    def key(self) -> str:
        """Where it is below the archive's root."""
        return f"{self.topic}/{self.partition}/{self.first}-{self.end}.avro"


class ArchivedTopic(_Part):
    """One topic as it was made."""

    name: str
    partitions: int
    topic_id: str
    config: dict[str, str]


class ArchivedPartition(_Part):
    """How far one partition is archived."""

    topic: str
    partition: int
    first: int
    """Where the log began when it was archived first."""
    end: int
    """Where the next export goes on."""
    records: int
    size_bytes: int
    chain: str
    """Its last link, hex."""
    last: str
    """SHA-256 of its last record, by which the next export knows the log again; empty without records."""

    @property
    def place(self) -> TopicPartition:
        """Return the partition's name."""
        return TopicPartition(self.topic, self.partition)


class ArchivedPosition(_Part):
    """What a consumer group had committed when the export was planned."""

    group: str
    topic: str
    partition: int
    offset: int
    metadata: str


class ArchivedPage(_Part):
    """Files that are named in an object of their own."""

    sha256: str
    files: int

    @property
    def key(self) -> str:
        """Where it is below the archive's root."""
        return f"pages/{self.sha256}.json"


class Manifest(_Part):
    """An archive as one export has left it."""

    kind: Literal["manifest"] = "manifest"
    format: Literal[1] = 1
    export: int
    """Exports so far, this one among them."""
    created_ms: int
    """When this export was planned, by the exporter's clock, Unix milliseconds."""
    headgate: str
    """Version that wrote it."""
    prefix: str
    """What the names of all its topics and groups begin with: topic prefix and placement."""
    previous: str
    """SHA-256 of the manifest before it; empty for the first."""
    topics: list[ArchivedTopic]
    partitions: list[ArchivedPartition]
    positions: list[ArchivedPosition]
    pages: list[ArchivedPage]
    files: list[ArchivedFile]
    """Those that are on no page yet, in the order in which they were written."""

    @property
    def kept_key(self) -> str:
        """Where it stays when later exports replace it."""
        return f"manifests/{self.export:06d}.json"


class Target(_Part):
    """How far an export goes in one partition."""

    topic: str
    partition: int
    end: int


class Plan(_Part):
    """An export under way: where it goes, how far it has come; kept to be taken up after a crash."""

    kind: Literal["plan"] = "plan"
    format: Literal[1] = 1
    targets: list[Target]
    draft: Manifest
    """The manifest as it would be if the export ended now."""


class Page(_Part):
    """A page of file entries."""

    kind: Literal["page"] = "page"
    format: Literal[1] = 1
    files: list[ArchivedFile]


class Document(_Part):
    """What is written: the content and whose signature it has."""

    content: dict[str, Any]
    key_id: str = ""
    ed25519: str = ""
    """Signature over the canonical content, hex; empty for none."""


def seal(content: BaseModel, key: SigningKey | None = None) -> bytes:
    """Return a document with `content`, signed when there is a key; the same content gives the same bytes."""
    known = content.model_dump(mode="json")
    made = Document(content=known)
    if key is not None:
        signature = key.signature_of(_signed(known)).hex()
        made = Document(content=known, key_id=key.key_id, ed25519=signature)
    return _canonical(made.model_dump(mode="json")) + b"\n"


def unseal(raw: bytes, kind: type[_Model], where: str, trusted: bytes | None = None) -> _Model:
    """Return the content of a document called `where`; with `trusted` only what that public key has signed.

    Raises ArchiveBroken.
    """
    document = document_of(raw, where)
    if trusted is not None:
        _check_signature(document, where, trusted)
    try:
        return kind.model_validate(document.content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ArchiveBroken(f"{where}: {place}: {first['msg']} (or a newer headgate wrote it)") from None


def document_of(raw: bytes, where: str) -> Document:
    """Return the document with its content unread; raises ArchiveBroken."""
    try:
        return Document.model_validate_json(raw)
    except ValidationError as error:
        raise ArchiveBroken(f"{where}: it is no document of an archive: {error.errors()[0]['msg']}") from None


def _check_signature(document: Document, where: str, trusted: bytes) -> None:
    wanted = key_id_of(trusted)
    if not document.ed25519:
        raise ArchiveBroken(f"{where}: it is not signed, and must be by key {wanted}")
    if not is_signature_of(_bytes(document.ed25519), _signed(document.content), trusted):
        raise ArchiveBroken(
            f"{where}: its signature, by key {document.key_id[:16]}, is not one by key {wanted}"
        )


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _signed(content: dict[str, Any]) -> bytes:
    # No order begins so, and the content says its kind: no signature passes for one of something else.
    return b"headgate archive\0" + _canonical(content)


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def sha256_of(raw: bytes) -> str:
    """Return the lower-case hex SHA-256."""
    return hashlib.sha256(raw).hexdigest()
