"""The lifetimes of one tenant: whole while something happens to them, at rest as bytes while nothing does.

Everything that changes a lifetime gets it here, by its id, and those above it with it. So this is where one
at rest is made whole again, and where one that a capture has not written yet is written before it changes.
Whether a lifetime rests can be seen in nothing but memory and time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from headgate_guardrails.fold.lifetime import Lifetime
from headgate_guardrails.fold.packing import pack, unpack
from headgate_protos.v1 import common_pb2 as pb

if TYPE_CHECKING:
    from headgate_guardrails.fold.state import Registered

_AT_REST = struct.Struct(">q?")
"""Before the bytes of a lifetime at rest: its wake-up, and whether an order to all of the tenant may concern
it, so that neither makes it whole."""

Kept = Lifetime | bytes


def at_rest(content: bytes, wake: int, is_held: bool) -> bytes:
    """Return what is kept of a lifetime at rest."""
    return _AT_REST.pack(wake, is_held) + content


def _wake_of(kept: Kept) -> int:
    return int(_AT_REST.unpack_from(kept)[0]) if isinstance(kept, bytes) else kept.wake


def _is_held(lifetime: Lifetime) -> bool:
    paused = lifetime.status == pb.LIFETIME_STATUS_PAUSED
    return paused or bool(lifetime.parked or lifetime.budgets)


class Picture:
    """The lifetimes of a tenant as they are at one moment; those that are whole are written bit by bit."""

    def __init__(self, kept: Mapping[str, Kept], whole: Mapping[str, Lifetime]) -> None:
        self._kept = dict(kept)
        self._written: dict[str, bytes] = {}
        self.left = dict(whole)
        """Those that are not written yet: none of them has changed."""

    def write(self, lifetime_id: str) -> None:
        """Write one of those that are left, as it is."""
        self._written[lifetime_id] = pack(self.left.pop(lifetime_id))

    def contents(self) -> Iterator[bytes]:
        """Yield the bytes of each lifetime, in order; needs no state any more once nothing is left."""
        for lifetime_id, kept in self._kept.items():
            yield kept[_AT_REST.size :] if isinstance(kept, bytes) else self._written[lifetime_id]


class Lifetimes:
    """A tenant's lifetimes by their ids, in the order in which they came."""

    __slots__ = ("_graphs", "_kept", "_picture", "_whole")

    def __init__(self, graphs: Mapping[tuple[str, str], Registered]) -> None:
        self._graphs = graphs
        self._kept: dict[str, Kept] = {}
        self._whole: dict[str, Lifetime] = {}
        """Those that do not rest."""
        self._picture: Picture | None = None

    def get(self, lifetime_id: str) -> Lifetime | None:
        """Return a lifetime that may be changed; None when there is none of this id."""
        found = self._kept.get(lifetime_id)
        if isinstance(found, bytes):
            return self._wake(lifetime_id, found)
        if found is not None:
            found.is_stirred = True
            if self._picture is not None or found.parent is not None:
                self._about_to_change(found)
        return found

    def __getitem__(self, lifetime_id: str) -> Lifetime:
        """Return a lifetime that may be changed; raises KeyError."""
        found = self.get(lifetime_id)
        if found is None:
            raise KeyError(lifetime_id)
        return found

    def __contains__(self, lifetime_id: str) -> bool:
        """Whether the lifetime is remembered."""
        return lifetime_id in self._kept

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._kept)

    def __iter__(self) -> Iterator[str]:
        """Yield their ids."""
        return iter(self._kept)

    def values(self) -> Iterator[Lifetime]:
        """Yield each of them to be changed: that makes them whole, so it is for looking closely at a few."""
        return (self[lifetime_id] for lifetime_id in list(self._kept))

    def held(self) -> Iterator[Lifetime]:
        """Yield those that are paused, hold work back or have caps of their own, to be changed, in order."""
        for lifetime_id in list(self._kept):
            kept = self._kept[lifetime_id]  # as it is by now: what is done to one may concern the next
            if kept[_AT_REST.size - 1] if isinstance(kept, bytes) else _is_held(kept):
                yield self[lifetime_id]

    def wake_of(self, lifetime_id: str) -> int:
        """Return when it will next be looked at, 0 for never or when there is none."""
        kept = self._kept.get(lifetime_id)
        if kept is None:
            return 0
        return _wake_of(kept)

    def wakes(self) -> Iterator[tuple[int, str]]:
        """Yield (when, id) of each that has a wake-up."""
        for lifetime_id, kept in self._kept.items():
            wake = _wake_of(kept)
            if wake:
                yield wake, lifetime_id

    def add(self, lifetime: Lifetime) -> None:
        """Take in one that begins; the one above it, if any, is set."""
        if lifetime.parent is not None:
            lifetime.parent.whole_below += 1
        self._kept[lifetime.lifetime_id] = self._whole[lifetime.lifetime_id] = lifetime

    def add_at_rest(self, lifetime_id: str, kept: bytes) -> None:
        """Take in one that rests."""
        self._kept[lifetime_id] = kept

    def remove(self, lifetime: Lifetime) -> None:
        """Forget one."""
        del self._kept[lifetime.lifetime_id]
        self._leave(lifetime)

    def _leave(self, lifetime: Lifetime) -> None:
        del self._whole[lifetime.lifetime_id]
        if lifetime.parent is not None:
            lifetime.parent.whole_below -= 1

    # -- at rest -----------------------------------------------------------------------------------

    def look(self) -> Iterator[None]:
        """Lay to rest who was not asked for since the last look; yields after each, and may be left alone.

        One with a whole lifetime below it stays whole: the two refer to one another.
        """
        for lifetime_id in list(self._whole):
            lifetime = self._whole.get(lifetime_id)
            if lifetime is None:
                continue
            if lifetime.is_stirred:
                lifetime.is_stirred = False
            elif not lifetime.whole_below:
                self._kept[lifetime_id] = at_rest(pack(lifetime), lifetime.wake, _is_held(lifetime))
                self._leave(lifetime)
            yield

    def _wake(self, lifetime_id: str, kept: bytes) -> Lifetime:
        lifetime = unpack(kept[_AT_REST.size :], lifetime_id, self._graphs)
        self._kept[lifetime_id] = self._whole[lifetime_id] = lifetime
        if lifetime.parent_id:
            lifetime.parent = self.get(lifetime.parent_id)
            if lifetime.parent is not None:
                lifetime.parent.whole_below += 1
        return lifetime

    # -- captures ----------------------------------------------------------------------------------

    def take_picture(self) -> Picture:
        """Begin a capture of how they are now. Until `picture_taken` none changes before it is written."""
        if self._picture is not None:
            raise RuntimeError("a picture of these lifetimes is being taken already")
        self._picture = Picture(self._kept, self._whole)
        return self._picture

    def picture_taken(self) -> None:
        """Go on without the picture."""
        self._picture = None

    def _about_to_change(self, lifetime: Lifetime) -> None:
        """Write it and those above it, if that is still to be done: whoever gets one may change them all."""
        owner: Lifetime | None = lifetime
        while owner is not None:
            owner.is_stirred = True
            if self._picture is not None and owner.lifetime_id in self._picture.left:
                self._picture.write(owner.lifetime_id)
            owner = owner.parent
