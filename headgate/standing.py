"""What each partition of the log stands at: logic version, keys that may sign, the key of tickets.

A fold of the whole log says it, and calls nobody. The keys of tickets are not needed for it: whether a result
had its ticket changes nothing of what is said here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headgate_graphs.errors import UserError
from headgate_guardrails.explain import fold_to_end
from headgate_guardrails.fold.engine import UnknownLogic
from headgate_guardrails.folding import surroundings

if TYPE_CHECKING:
    from headgate.client import Client

FIRST_GATE_S = 2.0
"""How long a new log waits for the logic version that its first gate gives it."""
FOLD_TIMEOUT_S = 60.0
"""How long folding one partition may take."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One partition at the end of the log."""

    partition: int
    logic_version: int = 0
    """0 when it is newer than what this binary can fold; nothing else is known then."""
    keys: dict[str, bytes] = field(default_factory=dict)
    """Raw public keys by id, in the order in which they came; empty for a revoked one."""
    ticket_key: str = ""
    """Fingerprint of the key of tickets for lifetimes that start, empty for none."""

    @property
    def words(self) -> str:
        """The logic version as people read it."""
        return str(self.logic_version or "newer than this binary knows")


class _Secrets(dict[str, bytes]):
    """Has a secret for every fingerprint: the wrong one, where the process was not given it."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> bytes:
        return b""


def standings(client: Client) -> list[Standing]:
    """Return where every partition stands now, in order. Raises LogUnavailable, UserError without topics."""
    return [_standing(client, partition) for partition in range(client.observer.partitions())]


def keys_known(found: list[Standing]) -> dict[str, bytes]:
    """Return every key that any partition knows, by id; one that is revoked anywhere keeps its bytes."""
    known: dict[str, bytes] = {}
    for one in found:
        for key_id, public in one.keys.items():
            known[key_id] = known.get(key_id) or public
    return known


def standings_with_keys(client: Client) -> list[Standing]:
    """As `standings`; raises UserError where a partition's logic does not know keys.

    A first gate that has just begun gets a moment to give a new log its logic.
    """
    give_up_at = time.monotonic() + FIRST_GATE_S
    while True:
        found = standings(client)
        behind = [one for one in found if one.logic_version == 1]
        if not behind:
            return found
        if time.monotonic() > give_up_at or not client.log.members(client.topics.gate_group):
            raise UserError(
                f"logic version 1, which knows no keys, still decides in {partitions_words(behind)}: a log "
                "that no gate has served yet gets the newest from its first gate; give an older one "
                "`headgate logic activate 2`"
            )
        time.sleep(0.1)


def partitions_words(found: list[Standing]) -> str:
    """Return "partition 3" or "partitions 0, 3, 5"."""
    return numbers_words([one.partition for one in found])


def numbers_words(numbers: list[int]) -> str:
    """As `partitions_words`, from the numbers."""
    return f"partition{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _standing(client: Client, partition: int) -> Standing:
    settings = client.settings.model_copy(update={"partitions": client.observer.partitions()})
    means = surroundings(client.log, client.topics.executions, settings)
    means = means._replace(secrets=_Secrets(means.secrets))
    try:
        state = fold_to_end(client.log, client.blobs, settings, partition, FOLD_TIMEOUT_S, means)
    except UnknownLogic:
        return Standing(partition)
    return Standing(partition, state.logic_version, dict(state.keys), state.ticket_key)
