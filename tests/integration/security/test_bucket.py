"""Credentials with a tenant's policy, on a real store: its own values and nobody else's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from headgate_streams.blob_access import bucket_policy
from headgate_streams.blobs import blob_key
from headgate_streams.roles import Role
from headgate_streams.settings import StreamSettings
from tests.real_servers import S3Server

SHA = "ab" * 32
ACME, OTHER = f"headgate/{blob_key('acme', SHA)}", f"headgate/{blob_key('acme-2', SHA)}"
CHECKPOINT = f"headgate/checkpoints.v2/headgate.acme/0/{SHA}"
OTHERS_CHECKPOINT = f"headgate/checkpoints.v2/headgate.acme-2/0/{SHA}"
EVERY = (ACME, OTHER, CHECKPOINT, OTHERS_CHECKPOINT)


@pytest.fixture(scope="module")
def bucket(minio: S3Server) -> str:
    name = minio.bucket()
    client = minio.client()
    for key in EVERY:
        client.put_object(Bucket=name, Key=key, Body=b"1")
    client.close()
    return name


def in_role(minio: S3Server, bucket: str, role: Role) -> Any:
    """Return a client with temporary credentials that the policy of a role of tenant acme restricts."""
    settings = StreamSettings(blob_url=f"s3://{bucket}/headgate", placement="acme")
    own = {"endpoint_url": minio.endpoint_url, "region_name": minio.region}
    keys = {"aws_access_key_id": minio.access_key, "aws_secret_access_key": minio.secret_key}
    sts = boto3.client("sts", **own, **keys)
    policy = json.dumps(bucket_policy(settings, role))
    given = sts.assume_role(RoleArn="arn:aws:iam::1:role/anything", RoleSessionName="test", Policy=policy)[
        "Credentials"
    ]
    sts.close()
    return boto3.client(
        "s3",
        **own,
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )


def allowed(call: Any, bucket: str) -> set[str]:
    """Return the keys for which a call is let through."""
    found = set()
    for key in EVERY:
        try:
            call(Bucket=bucket, Key=key)
            found.add(key)
        except ClientError as error:
            assert error.response["Error"]["Code"] in ("AccessDenied", "403")  # noqa: PT017 - many in a loop
    return found


@pytest.fixture(params=Role)
def client(request: pytest.FixtureRequest, minio: S3Server, bucket: str) -> Iterator[tuple[Role, Any]]:
    made = in_role(minio, bucket, request.param)
    yield request.param, made
    made.close()


READS = {
    Role.GATE: {CHECKPOINT},
    Role.WORKER: {ACME},
    Role.CLIENT: {ACME, CHECKPOINT},
    Role.OPERATOR: {ACME, CHECKPOINT},
    Role.AUDITOR: {ACME, CHECKPOINT},
}
WRITES = {
    Role.GATE: {CHECKPOINT},
    Role.WORKER: {ACME},
    Role.CLIENT: {ACME},
    Role.OPERATOR: {ACME},
    Role.AUDITOR: set[str](),
}


def test_role_reaches_its_own_part_of_the_bucket_alone(client: tuple[Role, Any], bucket: str) -> None:
    role, s3 = client
    for key in allowed(s3.get_object, bucket):
        s3.get_object(Bucket=bucket, Key=key)["Body"].close()
    assert allowed(s3.head_object, bucket) == READS[role]
    assert allowed(s3.put_object, bucket) == WRITES[role]
    with pytest.raises(ClientError):
        s3.list_objects_v2(Bucket=bucket)


def test_nobody_but_the_gate_deletes(client: tuple[Role, Any], bucket: str, minio: S3Server) -> None:
    role, s3 = client
    assert allowed(s3.delete_object, bucket) == ({CHECKPOINT} if role is Role.GATE else set())
    restored = minio.client()
    restored.put_object(Bucket=bucket, Key=CHECKPOINT, Body=b"1")
    restored.close()
