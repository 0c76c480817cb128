"""F1, F2, F3, F8, F18: processes that die, freeze, come and go."""

from __future__ import annotations

import random
import signal

from headgate_resilience.chaos.faults.fault import Act, fault
from headgate_resilience.chaos.fleet import Place
from headgate_resilience.chaos.stage import NotHere, Stage

WORKERS = ("task", "plan")
WORKER_POINTS = {
    "worker-before-run": "before its handlers",
    "worker-after-started": "when a lease is announced",
    "worker-before-result": "between a handler and its result",
    "worker-after-result": "between a result and its commit",
    "worker-before-commit": "before a commit",
}
GATE_POINTS = {
    "after-fold": "after it has folded",
    "after-produce": "after it has produced",
    "after-flush": "after a flush",
    "after-commit": "after a commit",
    "during-checkpoint": "while it saves a checkpoint",
}
RESUMES_S = 12.0
"""Session timeout of 6 s, and what else it takes."""
REACHED_S = 20.0
FROZEN_S = 9.0
"""Longer than a session of 6 s."""


@fault("F1", "kill", "A worker is killed (SIGKILL), whatever it does.", stalls="worker", bound_s=RESUMES_S)
def kill_worker(stage: Stage, dice: random.Random) -> str:
    """Kill a worker."""
    with stage.one_of(dice, *WORKERS) as place:
        stage.fleet.kill(place)
        stage.until(lambda: not place.is_ready, 5.0)
        stage.wait_back(place)
        return place.name


def _die_at(point: str, *kinds: str) -> Act:
    def act(stage: Stage, dice: random.Random) -> str:
        with stage.one_of(dice, *kinds) as place:
            stage.fleet.arm(place, point)
            return _died(stage, place, point)

    return act


def _died(stage: Stage, place: Place, point: str) -> str:
    """Return when the process has died at the point and is back; NotHere when it does not come there."""
    stage.until(lambda: not place.crash_file.exists(), REACHED_S)
    if not stage.fleet.disarm(place):
        raise NotHere(f"{place.name} did not come to {point} within {REACHED_S:.0f} s")
    stage.until(lambda: not place.is_ready, 5.0)
    stage.wait_back(place)
    return place.name


for _point, _when in WORKER_POINTS.items():
    _kinds = ("task",) if _point == "worker-after-started" else WORKERS
    fault("F1", _point, f"A worker dies {_when}.", stalls="worker", bound_s=RESUMES_S)(
        _die_at(_point, *_kinds)
    )
for _point, _when in GATE_POINTS.items():
    fault("F2", _point, f"A gate dies {_when}.", stalls="gate", bound_s=RESUMES_S)(_die_at(_point, "gate"))


@fault("F2", "kill", "A gate is killed (SIGKILL), whatever it does.", stalls="gate", bound_s=RESUMES_S)
def kill_gate(stage: Stage, dice: random.Random) -> str:
    """Kill a gate."""
    with stage.one_of(dice, "gate") as place:
        stage.fleet.kill(place)
        stage.until(lambda: not place.is_ready, 5.0)
        stage.wait_back(place)
        return place.name


@fault("F2", "during-restore", "A gate dies while it restores.", stalls="gate", bound_s=RESUMES_S)
def die_restoring(stage: Stage, dice: random.Random) -> str:
    """Let a gate start anew, and die when it is given its first partition."""
    with stage.one_of(dice, "gate") as place:
        stage.fleet.hold_down(place, signal.SIGTERM)
        stage.fleet.arm(place, "during-restore")
        stage.fleet.let_up(place)
        return _died(stage, place, "during-restore")


def _zombie(*kinds: str) -> Act:
    def act(stage: Stage, dice: random.Random) -> str:
        with stage.one_of(dice, *kinds) as place:
            stage.fleet.freeze(place)
            try:
                stage.hold(FROZEN_S)
            finally:
                stage.fleet.thaw(place)
            return place.name

    return act


fault(
    "F3", "gate", "A gate is stopped past its session and goes on as a zombie.", stalls="gate", bound_s=16.0
)(_zombie("gate"))
fault("F3", "worker", "A worker is stopped past its session and goes on as a zombie.", stalls="worker")(
    _zombie(*WORKERS)
)


@fault("F8", "storm", "A worker joins or leaves every two seconds.", stalls="worker")
def rebalance_storm(stage: Stage, dice: random.Random) -> str:
    """Add and remove a task worker six times each."""
    times = 6
    for number in range(times):
        kind = dice.choice(WORKERS)
        place = stage.fleet.add(f"storm-{number}", kind, stage.env)
        stage.hold(2.0)
        stage.fleet.remove(place)
    return f"{times} came and went"


@fault("F18", "rolling", "Every process is asked to end and started again, one after the other.")
def rolling_restart(stage: Stage, dice: random.Random) -> str:
    """Restart all by SIGTERM."""
    names = [place.name for place in stage.fleet.of_kind("gate", *WORKERS)]
    dice.shuffle(names)
    for name in names:
        place = next((p for p in stage.fleet.of_kind("gate", *WORKERS) if p.name == name), None)
        if place is not None:
            stage.fleet.stop(place)
            stage.until(lambda place=place: not place.is_ready, 20.0)  # type: ignore[misc]
            stage.wait_back(place)
    return ", ".join(names)
