"""Opens the log and the blob store that the settings name. Called once by each process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from headgate_graphs.errors import UserError
from headgate_streams.blobs import BlobStore, FileBlobStore, MemoryBlobStore
from headgate_streams.port import Log
from headgate_streams.settings import StreamSettings

if TYPE_CHECKING:
    from headgate_streams.archive.objects import Archive
    from headgate_streams.kafka.accounts import KafkaAccounts


def open_log(settings: StreamSettings) -> Log:
    """Return the archive when one is named, else Kafka when a broker is, else the embedded log.

    The caller closes it.

    Raises:
        UserError: A file with a password, TLS material or a key cannot be read; there is no such archive.
        LogUnavailable: The embedded log's file cannot be opened. Kafka is asked at its first use.
        ArchiveBroken, BlobUnavailable: The archive cannot be read.
    """
    if settings.archive is not None:
        return _open_archived(settings, settings.archive)
    if settings.kafka is not None:
        # Loading the Kafka client costs a tenth of a second, which an embedded run need not pay.
        from headgate_streams.kafka_log import KafkaLog

        options = {"message.max.bytes": str(settings.max_record_bytes), **settings.kafka_options}
        return KafkaLog(settings.kafka, options, settings.security)
    from headgate_streams.local_log import LocalLog

    path = ":memory:" if settings.in_memory else settings.local / "log.sqlite3"
    return LocalLog(path, max_record_bytes=settings.max_record_bytes)


def _open_archived(settings: StreamSettings, url: str) -> Log:
    # fastavro need not be loaded by who reads no archive.
    from headgate_streams.archive.planning import check_prefix
    from headgate_streams.archive_log import ArchiveLog

    log = ArchiveLog(open_archive(settings, url))
    check_prefix(settings.topics(), log.manifest)
    return log


def open_archive(settings: StreamSettings, url: str, own: bytes | None = None) -> Archive:
    """Return the archive at a URL, which need not be there yet; it is reached as the blob store is.

    It must be signed by `archive_key`; where that is not set, by the public key `own`, if there is one.

    Raises:
        UserError: `url` is neither `file:///dir` nor `s3://bucket/prefix`, or `archive_key` is no key.
    """
    from headgate_streams.archive.objects import Archive
    from headgate_streams.signing import public_key_in

    trusted = public_key_in(settings.archive_key) if settings.archive_key is not None else own
    return Archive(_open_store(settings, url, "archive"), url, trusted)


def open_accounts(settings: StreamSettings) -> KafkaAccounts:
    """Return the users, ACLs and quotas of the Kafka cluster, for its administrator.

    Raises:
        UserError: No broker is named, or a file with a password or with TLS material cannot be read.
    """
    if settings.kafka is None:
        raise UserError("the embedded log has no users: name a broker with --kafka, as its administrator")
    from headgate_streams.kafka.accounts import KafkaAccounts
    from headgate_streams.kafka.material import Material

    return KafkaAccounts(Material(settings.kafka, settings.kafka_options, settings.security))


def open_blob_store(settings: StreamSettings) -> BlobStore:
    """Return the blob store; two calls with the same settings reach the same blobs, except in memory.

    Raises:
        UserError: `blob_url` is neither `file:///dir` nor `s3://bucket/prefix`.
    """
    if settings.blob_url is None:
        return MemoryBlobStore() if settings.in_memory else FileBlobStore(settings.local / "blobs")
    return _open_store(settings, settings.blob_url, "blob_url")


def _open_store(settings: StreamSettings, given: str, what: str) -> BlobStore:
    url = urlsplit(given)
    if url.scheme == "file" and not url.netloc and url.path:
        return FileBlobStore(Path(unquote(url.path)))
    if url.scheme == "s3" and url.netloc:
        return _open_s3(settings, url.netloc, url.path.strip("/"))
    raise UserError(f"{what}: {given!a} is neither file:///dir nor s3://bucket/prefix")


def _open_s3(settings: StreamSettings, bucket: str, prefix: str) -> BlobStore:
    from headgate_streams.s3_blobs import S3BlobStore

    secret = settings.s3_secret_access_key
    return S3BlobStore(
        bucket,
        prefix,
        endpoint_url=settings.s3_endpoint_url,
        access_key_id=settings.s3_access_key_id,
        secret_access_key=secret.get_secret_value() if secret is not None else None,
        region=settings.s3_region,
    )
