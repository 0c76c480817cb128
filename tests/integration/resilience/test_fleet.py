"""Places keep their processes: who ends is started again, and what we caused is told from what we did not."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate_resilience.chaos.fleet import Fleet, FleetFailed, Place
from tests.support import eventually

STAYS = """
import pathlib, signal, sys, time
print('{"ready": "gate"}', flush=True)
crash = pathlib.Path(__import__("os").environ["HEADGATE_CRASH_FILE"])
end = time.monotonic() + 60
while time.monotonic() < end:
    if crash.exists():
        crash.unlink()
        raise SystemExit(137)
    time.sleep(0.01)
"""
FALLS = "print('not today', flush=True); raise SystemExit(3)"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.close()


def stays(fleet: Fleet, program: str = STAYS) -> Place:
    return fleet.add("gate-1", "gate", {}, launcher=(sys.executable, "-c", program))


def test_who_is_killed_is_started_again_and_is_no_surprise(fleet: Fleet) -> None:
    place = stays(fleet)
    fleet.wait_ready(30)
    first = place.pid
    fleet.kill(place)
    eventually(lambda: place.is_ready and place.pid != first, timeout_s=30)
    assert (fleet.exits, fleet.kills) == ([], 1)


def test_who_ends_by_itself_is_told_with_what_it_said_last(fleet: Fleet) -> None:
    stays(fleet, FALLS)
    found = eventually(lambda: fleet.exits, timeout_s=30)[0]
    assert (found.place, found.code, found.last_line) == ("gate-1", 3, "not today")
    with pytest.raises(FleetFailed, match="gate-1"):
        fleet.wait_ready(0.2)


def test_a_crash_point_that_is_armed_counts_as_a_kill_once_it_is_reached(fleet: Fleet) -> None:
    place = stays(fleet)
    fleet.wait_ready(30)
    fleet.arm(place, "after-fold")
    eventually(lambda: not place.crash_file.exists(), timeout_s=30)
    assert fleet.disarm(place)
    eventually(lambda: place.is_ready, timeout_s=30)
    assert (fleet.exits, fleet.kills) == ([], 1)


def test_who_is_held_down_stays_down_until_it_is_let_up(fleet: Fleet) -> None:
    place = stays(fleet)
    fleet.wait_ready(30)
    fleet.hold_down(place, signal.SIGTERM)
    assert place.pid is None
    fleet.let_up(place)
    eventually(lambda: place.is_ready, timeout_s=30)


def test_who_is_frozen_says_nothing_and_goes_on_when_it_thaws(fleet: Fleet) -> None:
    place = stays(fleet)
    fleet.wait_ready(30)
    fleet.freeze(place)
    state = Path(f"/proc/{place.pid}/stat")
    if state.exists():
        eventually(lambda: state.read_text().rpartition(")")[2].split()[0] == "T")
    fleet.thaw(place)
    fleet.arm(place, "any")
    eventually(lambda: not place.crash_file.exists(), timeout_s=30)


def test_at_the_end_nothing_is_left(fleet: Fleet) -> None:
    place = stays(fleet)
    fleet.wait_ready(30)
    fleet.freeze(place)
    fleet.close()
    assert place.pid is None
