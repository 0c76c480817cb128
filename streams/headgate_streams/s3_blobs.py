"""Blobs in an S3 bucket or any store that speaks S3; the only importer of boto3."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from headgate_graphs.errors import BlobIntegrity, BlobMissing, BlobUnavailable
from headgate_streams.blobs import check_key

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

READ_S: Final = 120.0
"""How long one object may take to arrive, whatever trickles in meanwhile."""
_PART_BYTES: Final = 1_048_576
_MISSING: Final = frozenset({"NoSuchKey", "404", "NotFound"})
_CONFIG: Final = {
    "connect_timeout": 5,
    "read_timeout": 30,
    "retries": {"total_max_attempts": 4, "mode": "standard"},
    "max_pool_connections": 32,
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}
"""Four tries with back-off inside one call, then the caller's own retry decides. Our references carry a
SHA-256, so further checksums, which not every compatible store knows, add nothing."""


def _read(body: StreamingBody, most_bytes: int, key: str) -> bytes:
    """Return what the body holds, up to `most_bytes`; raises BlobUnavailable for one that only trickles."""
    content, deadline_s = bytearray(), time.monotonic() + READ_S
    while len(content) < most_bytes and (part := body.read(min(_PART_BYTES, most_bytes - len(content)))):
        content += part
        if time.monotonic() > deadline_s:
            raise BlobUnavailable(f"blob {key} has not been read within {READ_S:.0f} s")
    return bytes(content)


class S3BlobStore:
    """Blobs as objects below a prefix of one bucket. Thread-safe."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        region: str = "us-east-1",
    ) -> None:
        """Take where the bucket is; nothing is asked of it before the first use."""
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        # Compatible stores are mostly reached by address, where the bucket cannot be part of the host name.
        addressing = {"addressing_style": "path"} if endpoint_url else {"addressing_style": "auto"}
        self._client: S3Client = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint_url,
            aws_access_key_id=access_key_id,
            aws_secret_access_key=secret_access_key,
            region_name=region,
            config=Config(s3=addressing, **_CONFIG),  # type: ignore[arg-type]
        )

    def put(self, key: str, content: bytes, content_type: str = "application/json") -> None:
        """Store one object; S3 shows it whole or not at all."""
        with self._errors("write", key):
            self._client.put_object(
                Bucket=self._bucket, Key=self._name(key), Body=content, ContentType=content_type
            )

    def get(self, key: str, max_bytes: int) -> bytes:
        """Read one object, never more than `max_bytes` of it."""
        with self._errors("read", key):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._name(key))
            body = answer["Body"]
            try:
                too_long = answer.get("ContentLength", 0) > max_bytes
                content = b"" if too_long else _read(body, max_bytes + 1, key)
            finally:
                body.close()
        if too_long or len(content) > max_bytes:
            raise BlobIntegrity(f"blob {key} is longer than {max_bytes} bytes")
        return content

    def head(self, key: str) -> int | None:
        """Return the object's size."""
        try:
            with self._errors("look at", key):
                return self._client.head_object(Bucket=self._bucket, Key=self._name(key))["ContentLength"]
        except BlobMissing:
            return None

    def delete(self, key: str) -> None:
        """Delete the object."""
        with self._errors("delete", key):
            self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    def presign(self, key: str, expires_s: int = 3600) -> str:
        """Return a signed URL; made without asking the store."""
        with self._errors("sign", key):
            return self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": self._name(key)}, ExpiresIn=expires_s
            )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    @contextmanager
    def _errors(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in _MISSING:
                raise BlobMissing(f"there is no blob {key}") from None
            raise BlobUnavailable(f"cannot {verb} blob {key} in bucket {self._bucket}: {error}") from error
        except (BotoCoreError, HTTPClientError, OSError) as error:
            raise BlobUnavailable(f"cannot {verb} blob {key} in bucket {self._bucket}: {error}") from error
