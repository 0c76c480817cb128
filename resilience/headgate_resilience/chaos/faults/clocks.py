"""F14: processes whose clock is wrong. The brokers' clock is theirs, and is left alone."""

from __future__ import annotations

import random
import signal
import sys

from headgate_resilience.chaos.faults.fault import Act, fault
from headgate_resilience.chaos.stage import Stage

HOUR_S = 3600
SKEWED_S = 10.0


def _skewed(*kinds: str) -> Act:
    def act(stage: Stage, dice: random.Random) -> str:
        ahead_s = dice.choice((-HOUR_S, HOUR_S))
        launcher = (sys.executable, "-m", "headgate_resilience.chaos.skewed", str(ahead_s))
        with stage.one_of(dice, *kinds) as place:
            stage.fleet.hold_down(place, signal.SIGTERM)
            other = stage.fleet.add(f"{place.name}-skewed", place.kind, place.env, launcher=launcher)
            stage.wait_back(other)
            stage.hold(SKEWED_S)
            stage.fleet.remove(other)
            stage.fleet.let_up(place)
            stage.wait_back(place)
            return f"{place.name} by {ahead_s / HOUR_S:+.0f} h for {SKEWED_S:.0f} s"

    return act


fault("F14", "gate", "A gate's clock is an hour fast or slow, then right again.")(_skewed("gate"))
fault("F14", "worker", "A worker's clock is an hour fast or slow, then right again.")(_skewed("task", "plan"))
