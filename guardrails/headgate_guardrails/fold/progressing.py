"""Whether a lifetime gets on: looks for steps that repeat, alternate or keep failing. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from headgate_guardrails.policy import NoProgress


class Step(NamedTuple):
    """What one settled execution looked like."""

    node_id: str
    given: int
    """Digest of what went in."""
    made: int
    """Digest of what came out."""
    success: bool


def fingerprint(parts: Iterable[bytes]) -> int:
    """Return 64 bits that stand for the parts."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return int.from_bytes(digest.digest(), "big")


def stuck(trail: Sequence[Step], rule: NoProgress) -> str:
    """Return how the lifetime goes round, judged at its last step; "" while it gets on.

    Polling is legal as long as what comes out changes, because then no two steps are equal.
    """
    last = trail[-1]
    if rule.failures and _all_failed(trail[-rule.failures :], rule.failures):
        return f"{rule.failures} executions in a row failed"
    own_steps = "node" in rule.of
    steps = [_key(s, rule) for s in trail if not own_steps or s.node_id == last.node_id]
    where = f"node {last.node_id}" if own_steps else "the lifetime"
    tail = steps[-rule.repeats :]
    if len(tail) == rule.repeats and len(set(tail)) == 1:
        return f"{where} made the same step {rule.repeats} times"
    tail = steps[-2 * rule.repeats :]
    if len(tail) == 2 * rule.repeats and len(set(tail[::2])) == 1 == len(set(tail[1::2])):
        return f"{where} went to and fro {rule.repeats} times"
    return ""


def _key(step: Step, rule: NoProgress) -> tuple[object, ...]:
    parts = {"node": step.node_id, "input": step.given, "output": step.made}
    return tuple(parts[name] for name in rule.of)


def _all_failed(steps: Sequence[Step], count: int) -> bool:
    return len(steps) == count and not any(step.success for step in steps)
