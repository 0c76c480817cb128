"""F5: brokers that end and come back, when whoever runs chaos may do that."""

from __future__ import annotations

import random

from headgate_resilience.chaos.faults.fault import SERVERS, Act, fault
from headgate_resilience.chaos.stage import NotHere, Servers, Stage

AWAY_S = 2.0
BACK_S = 30.0


def _servers(stage: Stage) -> Servers:
    if stage.servers is None:
        raise NotHere("nobody here may end and start the brokers")
    return stage.servers


def _restart(*, hard: bool) -> Act:
    def act(stage: Stage, dice: random.Random) -> str:
        servers = _servers(stage)
        name = dice.choice(servers.names())
        servers.stop(name, hard=hard)
        try:
            stage.hold(AWAY_S)
        finally:
            servers.start(name)
        return name

    return act


for _name, _hard, _text in (("term", False, "ended (SIGTERM)"), ("kill", True, "killed (SIGKILL)")):
    fault(
        "F5",
        _name,
        f"A broker is {_text} and started again; a group's coordinator moves, if there is another.",
        stalls="gate worker",
        bound_s=BACK_S,
        is_from_healing=True,
        needs=(SERVERS,),
    )(_restart(hard=_hard))
