"""Tells the user what a gate has said to what was asked for: refused, done, or nothing yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.answering import Answer
    from headgate.client import Client
    from headgate_streams.port import Delivery


def answer_or_refuse(
    client: Client, owner: str, delivery: Delivery, asked: str, command_id: str = ""
) -> Answer:
    """Return what a gate says within two seconds; raises UserError when it refuses what was `asked`."""
    from headgate_graphs.errors import UserError

    answer = client.answer(owner, delivery, command_id)
    if answer.refusal is not None:
        raise UserError(f"the gate refused {asked}: {answer.refusal.reason}: {answer.refusal.detail}")
    return answer


def outlook(answer: Answer) -> str:
    """Return whether it is done, and if not, when it will be."""
    if answer.is_read:
        return "the gate has acted on it"
    if answer.gates == 0:
        return "no gate is running: the next one acts on it"
    return "no gate has answered yet: one acts on it as soon as it has read what comes before it"


def as_data(answer: Answer) -> dict[str, Any]:
    """Return the same for scripts."""
    return {"answered": answer.is_read, "gates": answer.gates}
