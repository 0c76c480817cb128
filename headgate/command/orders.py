"""Gives one order and tells what a gate says to it; the flow behind every `headgate control …`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.command.answers import answer_or_refuse, as_data, outlook
from headgate.command.place import Place
from headgate.command.printing import say, say_json

if TYPE_CHECKING:
    from headgate.answering import Answer
    from headgate.client import Client
    from headgate_protos.v1.control_pb2 import OperatorCommand

RELEASE_S = 30.0
"""How long a release waits for its answer: the gate folds all that was missed before it says anything."""
IDLE = {
    "pause": "nothing to do, it was paused before",
    "resume": "nothing to do, it was not paused",
    "abort": "nothing to do, it had ended",
    "release": "nothing to do, it was not quarantined",
}
"""What it means that a gate has read an order and published nothing for it."""


def open_for(place: Place, lifetime: str | None, graph: str = "") -> tuple[str, Client]:
    """Return the tenant and a client, having checked that the lifetime lives, or that the graph exists."""
    from headgate_graphs.errors import UserError

    settings = place.settings()
    client = place.client(settings)
    try:
        if lifetime is not None:
            _check_lives(client, settings.tenant, lifetime)
        elif graph and graph not in (
            known := {one.graph_id for one in client.observer.graphs(settings.tenant)}
        ):
            names = ", ".join(sorted(known)) or "none"
            raise UserError(
                f"graph {graph[:64]!a} is not registered for tenant {settings.tenant} (registered: {names})"
            )
    except BaseException:
        client.close()
        raise
    return settings.tenant, client


def _check_lives(client: Client, tenant: str, lifetime: str) -> None:
    from headgate.command.verbs.lifetimes import state_of
    from headgate.words import TERMINAL
    from headgate_graphs.errors import UserError

    history = client.history(tenant, lifetime)
    status = state_of(history).status
    if not history:
        raise UserError(f"lifetime {lifetime[:128]!a} of tenant {tenant} is not known: see `headgate list`")
    if status in TERMINAL:
        raise UserError(f"lifetime {lifetime[:128]!a} has ended: {status}")


def give(
    place: Place,
    client: Client,
    tenant: str,
    lifetime_id: str,
    order: OperatorCommand,
    whom: str,
    timeout_s: float | None = None,
) -> Answer:
    """Send an order and tell what comes of it; raises UserError when a gate refuses it within two seconds."""
    from headgate.words import control_word

    what = str(order.WhichOneof("command")).replace("_", "-")
    delivery = client.order(tenant, lifetime_id, order)
    asked = f"{what} of {whom}"
    answer = answer_or_refuse(client, tenant, delivery, asked, order.command_id, timeout_s)
    if place.json:
        said = {"command": what, "lifetime_id": lifetime_id, "whom": whom, "command_id": order.command_id}
        events = [control_word(one.type) for one in answer.events]
        say_json(said | as_data(answer) | {"events": events})
    else:
        say(f"asked for {asked} (command {order.command_id}): {_came_of_it(what, answer)}")
    return answer


def _came_of_it(what: str, answer: Answer) -> str:
    from headgate.words import control_word

    if what == "release" and answer.held is not None:
        return "the gate failed again"
    if not answer.is_read or answer.held is not None:
        return outlook(answer)
    kinds = [control_word(one.type) for one in answer.events]
    if what == "raise-budget" and "RESUME_LIFETIME" in kinds:
        return f"done, and {kinds.count('RESUME_LIFETIME')} paused by it goes on"
    return "done" if kinds else IDLE.get(what, "done")
