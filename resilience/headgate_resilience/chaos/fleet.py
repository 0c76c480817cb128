"""Gates and workers as processes of the installed command, each in a place of its own, always restarted.

As a service manager does it: whoever ends without being asked to is started again, after a wait that doubles
while it keeps ending.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headgate_graphs.errors import HeadgateError
from headgate_resilience.chaos.workload import handlers

logger = logging.getLogger(__name__)

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 8.0
STEADY_S = 20.0
"""Who has lived so long is restarted after the first wait again."""
READY = b'"ready"'
HANDLERS = Path(handlers.__file__)
KINDS: Mapping[str, tuple[str, ...]] = {
    "gate": ("gate",),
    "task": ("worker", "task", str(HANDLERS)),
    "plan": ("worker", "plan", str(HANDLERS)),
}
"""What runs in a place, as arguments of the command."""


class FleetFailed(HeadgateError):
    """A process was not ready in time."""


@dataclass(frozen=True)
class Exit:
    """One end of a process that we had not caused, by a signal, a crash point or the end of the run."""

    at_s: float
    """Unix time."""
    place: str
    code: int
    last_line: str


@dataclass
class Place:
    """Where one gate or worker lives; the process in it changes."""

    name: str
    kind: str
    command: tuple[str, ...]
    env: dict[str, str]
    log: Path
    crash_file: Path
    process: subprocess.Popen[bytes] | None = None
    began_s: float = 0.0
    log_from: int = 0
    restart_at_s: float | None = None
    wait_s: float = FIRST_WAIT_S
    is_doomed: bool = False
    """Whether we have caused its end."""
    is_held_down: bool = False
    """Whether it is not to be started again for now."""

    @property
    def pid(self) -> int | None:
        """The process, when one runs."""
        return self.process.pid if self.process is not None and self.process.poll() is None else None

    @property
    def is_ready(self) -> bool:
        """Whether the process that lives here now has said that it is ready."""
        return self.pid is not None and READY in self.said()

    def said(self) -> bytes:
        """Return what the newest process has written."""
        with self.log.open("rb") as file:
            file.seek(self.log_from)
            return file.read()


@dataclass
class Fleet:
    """All places. The methods may be called from any thread."""

    home: Path
    """Where logs and crash files are."""
    places: list[Place] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    """Those that we have not caused."""
    killed: Counter[str] = field(default_factory=Counter)
    """Processes that we have killed, by what they were and how: "gate, SIGKILL", "task, crash point"."""

    @property
    def kills(self) -> int:
        """How many those are together."""
        return self.killed.total()

    def __post_init__(self) -> None:
        """Make the folder and start the thread that restarts."""
        self.home.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="chaos-fleet", daemon=True)
        self._thread.start()

    # Places ----------------------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        kind: str,
        env: Mapping[str, str],
        options: Sequence[str] = (),
        launcher: Sequence[str] = (),
    ) -> Place:
        """Start a gate or a worker with this environment; `launcher` stands in for the command."""
        crash_file = self.home / f"{name}.crash"
        given = {**env, "HEADGATE_CRASH_FILE": str(crash_file)}
        command = (*(launcher or headgate_command()), *KINDS[kind], "--json", *options)
        place = Place(name, kind, command, given, self.home / f"{name}.log", crash_file)
        place.log.touch()
        with self._lock:
            self._start(place)
            self.places.append(place)
        return place

    def remove(self, place: Place) -> None:
        """Ask the process to end, and forget the place."""
        self.hold_down(place, signal.SIGTERM)
        with self._lock:
            self.places.remove(place)

    def of_kind(self, *kinds: str) -> list[Place]:
        """Return the places of these kinds, in order."""
        with self._lock:
            return [place for place in self.places if place.kind in kinds]

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Return when every process is ready; FleetFailed with the last line of one that is not."""
        deadline = time.monotonic() + timeout_s
        while waiting := [place for place in self.of_kind(*KINDS) if not place.is_ready]:
            if time.monotonic() > deadline:
                names = ", ".join(f"{p.name} ({last_line(p)})" for p in waiting)
                raise FleetFailed(f"not ready within {timeout_s:.0f} s: {names}")
            time.sleep(0.05)

    # What is done to them --------------------------------------------------------------------------------

    def kill(self, place: Place) -> None:
        """SIGKILL; it is restarted."""
        with self._lock:
            self.killed[f"{place.kind}, SIGKILL"] += 1
            place.is_doomed = True
            _signal(place, signal.SIGKILL)

    def stop(self, place: Place) -> None:
        """SIGTERM, as a rolling restart does; it is restarted."""
        with self._lock:
            place.is_doomed = True
            _signal(place, signal.SIGTERM)

    def freeze(self, place: Place) -> None:
        """SIGSTOP: it does nothing more and does not know it."""
        _signal(place, signal.SIGSTOP)

    def thaw(self, place: Place) -> None:
        """SIGCONT."""
        _signal(place, signal.SIGCONT)

    def arm(self, place: Place, crash_point: str) -> None:
        """Let the process die the next time it passes the crash point; it is restarted."""
        with self._lock:
            place.is_doomed = True
            beside = place.crash_file.with_suffix(".new")
            beside.write_text(crash_point)
            beside.replace(place.crash_file)

    def disarm(self, place: Place) -> bool:
        """Take the crash point back; return whether the process had died of it."""
        with self._lock:
            if not place.crash_file.exists():
                self.killed[f"{place.kind}, crash point"] += 1
                return True
            place.crash_file.unlink()
            place.is_doomed = False
            return False

    def hold_down(self, place: Place, number: int = signal.SIGKILL, timeout_s: float = 20.0) -> None:
        """End the process and leave it so until `let_up`; a SIGTERM that is not obeyed is a kill."""
        with self._lock:
            place.is_doomed = place.is_held_down = True
            process = place.process
            _signal(place, signal.Signals(number))
        if process is not None:
            _wait(process, timeout_s)

    def let_up(self, place: Place) -> None:
        """Start the process again."""
        with self._lock:
            place.is_held_down = False
            if place.pid is None:
                self._start(place)

    def rest(self) -> None:
        """End every process until it is let up: asked first, then killed."""
        with self._lock:
            for place in self.places:
                place.is_doomed = place.is_held_down = True
                _signal(place, signal.SIGCONT)
                _signal(place, signal.SIGTERM)
        for place in self.places:
            if place.process is not None:
                _wait(place.process, 15.0)

    def close(self) -> None:
        """End everything for good."""
        self._over.set()
        self._thread.join(10.0)
        self.rest()

    # Restarting ------------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        while not self._over.wait(0.05):
            with self._lock:
                for place in self.places:
                    self._look_at(place, time.time())

    def _look_at(self, place: Place, now_s: float) -> None:
        if place.process is None or place.process.poll() is None or place.is_held_down:
            return
        if place.restart_at_s is None:
            self._note_end(place, now_s)
        elif now_s >= place.restart_at_s:
            self._start(place)

    def _note_end(self, place: Place, now_s: float) -> None:
        assert place.process is not None  # noqa: S101 - for the type checker
        is_steady = now_s - place.began_s > STEADY_S
        place.wait_s = FIRST_WAIT_S if is_steady or place.is_doomed else min(place.wait_s * 2, LONGEST_WAIT_S)
        place.restart_at_s = now_s + place.wait_s
        if not place.is_doomed:
            code, line = place.process.returncode, last_line(place)
            self.exits.append(Exit(now_s, place.name, code, line))
            logger.warning("%s ended with %d: %s", place.name, code, line)

    def _start(self, place: Place) -> None:
        place.log_from = place.log.stat().st_size
        with place.log.open("ab") as output:
            place.process = subprocess.Popen(
                place.command,
                env=_environment(place.env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        place.began_s, place.restart_at_s, place.is_doomed = time.time(), None, place.crash_file.exists()


def headgate_command() -> tuple[str, ...]:
    """Return the installed command beside this interpreter, else the module."""
    beside = Path(sys.executable).with_name("headgate")
    return (str(beside),) if beside.exists() else (sys.executable, "-m", "headgate")


def last_line(place: Place) -> str:
    """Return the last line that the newest process has written, capped."""
    lines = place.said().decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it wrote nothing"


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE_")}
    return {**inherited, **given}


def _signal(place: Place, number: signal.Signals) -> None:
    if place.process is not None and place.process.poll() is None:
        place.process.send_signal(number)


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout_s)
