"""Checkpoints in memory, written as the gate writes them: only what has changed."""

from __future__ import annotations

from headgate_guardrails.fold.snapshot import (
    Known,
    Sealed,
    capture,
    digest,
    known_of,
    read_manifest,
    restore,
    seal,
)
from headgate_guardrails.fold.state import PartitionState


class Keeper:
    """Keeps the newest checkpoint of one partition."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifest = b""
        self.known: Known = {}

    def keep(self, state: PartitionState) -> Sealed:
        sealed = seal(capture(state, self.known))
        assert sealed.digest == digest(state), "what has changed was not written again"
        return self.put(sealed)

    def put(self, sealed: Sealed) -> Sealed:
        self.blobs.update(sealed.blobs)
        self.manifest, self.known = sealed.manifest, sealed.known
        return sealed

    def again(self) -> PartitionState:
        """Return the state as it was kept, and go on from there."""
        self.known = known_of(read_manifest(self.manifest))
        return self.read()

    def read(self) -> PartitionState:
        """Return the state as it was kept, while another goes on."""
        return restore(read_manifest(self.manifest), lambda entry: self.blobs[entry.sha256])

    def tenants(self) -> list[bytes]:
        return [self.blobs[entry.sha256] for entry in read_manifest(self.manifest).tenants]
