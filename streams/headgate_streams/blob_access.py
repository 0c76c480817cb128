"""The S3 policy that keeps a role to one tenant's part of a bucket. Read by `headgate tenant`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from headgate_graphs.errors import UserError
from headgate_streams.roles import Role
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import SHARED

_VALUES: Final = {
    Role.WORKER: ("s3:GetObject", "s3:PutObject"),
    Role.CLIENT: ("s3:GetObject", "s3:PutObject"),
    Role.OPERATOR: ("s3:GetObject", "s3:PutObject"),
    Role.AUDITOR: ("s3:GetObject",),
}
"""What each role does with the tenant's values; a gate never looks at one."""
_CHECKPOINTS: Final = {
    Role.GATE: ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"),
    Role.CLIENT: ("s3:GetObject",),
    Role.OPERATOR: ("s3:GetObject",),
    Role.AUDITOR: ("s3:GetObject",),
}
"""A client folds from the newest checkpoint on to say what rules are in force."""


def bucket_policy(settings: StreamSettings, role: Role) -> dict[str, Any]:
    """Return an IAM policy document for a role in the placement of `settings`.

    On the shared placement values are of every tenant: their keys begin with any tenant's id.

    Raises:
        UserError: `blob_url` is no bucket.
    """
    url = urlsplit(settings.blob_url or "")
    if url.scheme != "s3" or not url.netloc:
        raise UserError("blob_url names no bucket: set HEADGATE_BLOB_URL to s3://bucket/prefix")
    root = f"{url.path.strip('/')}/".removeprefix("/")
    statements = [
        {"Effect": effect, "Action": list(actions), "Resource": f"arn:aws:s3:::{url.netloc}/{root}{part}"}
        for effect, part, actions in _parts(settings, role)
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def _parts(settings: StreamSettings, role: Role) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    # No tenant id has a dot, so no tenant's values are among the checkpoints.
    is_shared, checkpoints = settings.placement == SHARED, _CHECKPOINTS.get(role, ())
    if role in _VALUES:
        yield "Allow", "*" if is_shared else f"{settings.placement}/*", _VALUES[role]
    if checkpoints:
        yield "Allow", f"checkpoints.v*/{settings.topics().prefix}/*", checkpoints
    refused = tuple(action for action in _CHECKPOINTS[Role.GATE] if action not in checkpoints)
    if is_shared and refused:
        yield "Deny", "checkpoints.v*", refused
