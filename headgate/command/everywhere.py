"""Sends one record to every partition and tells what the gates say to it: behind `keys` and `logic`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.client import Client
    from headgate.command.place import Place
    from headgate_protos.v1.execution_pb2 import ExecutionEnvelope

WAIT_S = 10.0
"""How long the gates of all partitions are waited for."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a record in every partition, none of which has refused it."""

    partitions: int
    silent: list[int]
    """Partitions whose gate has not answered."""
    gates: int | None
    """How many gates run; None when the log does not tell."""

    @property
    def is_done(self) -> bool:
        """Whether every partition has it."""
        return not self.silent


def send_everywhere(
    client: Client, envelope: ExecutionEnvelope, asked: str, timeout_s: float = WAIT_S
) -> Sent:
    """Append a record to every partition; return who has answered in time.

    Raises UserError when a partition's gate refuses it, with the first of the refusals.
    """
    from headgate.standing import numbers_words

    deliveries = client.submit_everywhere(envelope)
    answers = client.answers(envelope.tenant_id, deliveries, timeout_s)
    refused = [one.partition for one, said in zip(deliveries, answers, strict=True) if said.refusal]
    where = "" if len(refused) == len(deliveries) else f" in {numbers_words(sorted(refused))}"
    for answer in answers:
        answer.accepted(f"{asked}{where}")
    silent = [one.partition for one, said in zip(deliveries, answers, strict=True) if not said.is_read]
    return Sent(len(deliveries), sorted(silent), answers[0].gates)


def outlook_everywhere(sent: Sent) -> str:
    """Return whether it is done, and if not, when it will be."""
    from headgate.standing import numbers_words

    if sent.is_done:
        return f"in all {sent.partitions} partitions"
    if sent.gates == 0:
        return "no gate is running: the next one acts on it"
    return f"no gate has answered yet in {numbers_words(sent.silent)}"


def say_everywhere(place: Place, known: dict[str, Any], sent: Sent, done: str, more: str = "") -> None:
    """Tell what came of a record, for people or for scripts."""
    from headgate.command.printing import say, say_json

    if place.json:
        said = {"partitions": sent.partitions, "silent": sent.silent, "gates": sent.gates}
        say_json(known | {"done": sent.is_done} | said)
    else:
        say(f"{done}: {outlook_everywhere(sent)}{more}")
