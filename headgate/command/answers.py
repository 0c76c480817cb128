"""Tells the user what a gate has said to what was asked for: refused, done, or nothing yet."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.answering import Answer
    from headgate.client import Client
    from headgate_streams.port import Delivery


def answer_or_refuse(
    client: Client,
    owner: str,
    delivery: Delivery,
    asked: str,
    command_id: str = "",
    timeout_s: float | None = None,
) -> Answer:
    """Return what a gate says within two seconds; raises UserError when it refuses what was `asked`.

    What a quarantined tenant asks for is read and waits, which the answer says.
    """
    from headgate.answering import ANSWER_S
    from headgate_graphs.ids import EVERY_TENANT

    answer = client.answer(owner, delivery, command_id, timeout_s or ANSWER_S).accepted(asked)
    if not answer.is_read or answer.events or owner == EVERY_TENANT:
        return answer
    return replace(answer, held=client.quarantine(owner))


def outlook(answer: Answer) -> str:
    """Return whether it is done, and if not, when it will be."""
    if answer.held is not None:
        return "the tenant is quarantined: it waits for `headgate control release`"
    if answer.is_read:
        return "the gate has acted on it"
    if answer.gates == 0:
        return "no gate is running: the next one acts on it"
    return "no gate has answered yet: one acts on it as soon as it has read what comes before it"


def as_data(answer: Answer) -> dict[str, Any]:
    """Return the same for scripts."""
    said = {"answered": answer.is_read, "gates": answer.gates}
    return said | ({"quarantined": answer.held.reason} if answer.held is not None else {})
