"""Begins a run, follows it to its end or pause, and tells how it went. The flow behind `headgate run`."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headgate.client import Client
from headgate.command.faults import ExitCode, complain
from headgate.command.inputs import read_input
from headgate.command.place import Place
from headgate.command.views.ending import Ending, say_ending
from headgate.command.views.screens import Screen, open_screen
from headgate.command.views.state import LifetimeState
from headgate.handlers import beside as handlers_beside
from headgate.running import Run, begin, gate_has_passed
from headgate.settings import HeadgateSettings
from headgate.words import TERMINAL
from headgate_graphs.errors import UserError
from headgate_graphs.loading import load_graph
from headgate_graphs.model import AgentGraph
from headgate_graphs.units import parse_duration
from headgate_guardrails.policy import load_policy

GATE_SILENCE_S = 10.0
"""After this time without a word from a gate the user is told so."""
PAUSE_SETTLE_S = 120.0
"""How long a paused run waits for what is in flight, so that no paid call is thrown away."""
BELOW_SETTLE_S = 3.0
"""How long nothing may go on beside a paused sub-graph until the whole run counts as paused."""
CODES = {
    "completed": ExitCode.COMPLETED,
    "aborted": ExitCode.ABORTED,
    "paused": ExitCode.PAUSED,
    "failed": ExitCode.FAILED,
    "rejected": ExitCode.USER_ERROR,
}


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What the user typed after `headgate run`."""

    path: Path
    input: str | None
    policies: tuple[Path, ...]
    lifetime: str | None
    handlers: tuple[Path, ...]
    timeout: str | None
    priority: int = 0

    def again(self, place: Place, lifetime: str) -> str:
        """Return the command that goes on with the lifetime; the policies are in force already."""
        more = "".join(f" --handlers {shlex.quote(str(path))}" for path in self.handlers)
        return (
            f"headgate run {shlex.quote(str(self.path))} --lifetime {shlex.quote(lifetime)}{more}"
            f"{self._policy_again()}{place.as_options()}"
        )

    def _policy_again(self) -> str:
        return "".join(f" --policy {shlex.quote(str(path))}" for path in self.policies)


def run_and_watch(place: Place, request: RunRequest) -> int:
    """Run what was asked for; return the exit code."""
    settings = place.settings()
    value, timeout_s = read_input(request.input), _timeout_s(request.timeout)
    graph = load_graph(request.path).for_tenant(settings.tenant)
    policies = [load_policy(path) for path in request.policies]
    beside = [load_policy(path) for path in _beside(request.path)]
    with _asides_to_stderr(place), _opened(settings, request, graph) as (client, check):
        if not policies and not _is_known(client, settings.tenant, request.lifetime):
            policies = beside
        run = begin(
            client, graph, value, policies=policies, lifetime_id=request.lifetime, priority=request.priority
        )
        state = LifetimeState(frozen=_frozen(client, graph), quarantined=_held(client, graph.tenant_id))
        try:
            with open_screen(place, graph, run, state) as screen:
                _watch(client, run, state, screen, timeout_s, check)
        except KeyboardInterrupt:
            complain(f"interrupted; {run.lifetime_id} goes on with: {request.again(place, run.lifetime_id)}")
            return int(ExitCode.INTERRUPTED)
        outcome = client.outcome(run.tenant, run.lifetime_id, state.view)
    code = ExitCode.PAUSED if state.halted else CODES.get(state.status, ExitCode.UNFINISHED)
    say_ending(Ending(place, run, state, outcome.value, code, request.again(place, run.lifetime_id)))
    return int(code)


@contextmanager
def _asides_to_stderr(place: Place) -> Iterator[None]:
    """Keep stdout for the answer with --json (handlers print to stderr); let SIGTERM do as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with redirect_stdout(sys.stderr) if place.json else nullcontext():
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _opened(
    settings: HeadgateSettings, request: RunRequest, graph: AgentGraph
) -> Iterator[tuple[Client, Any]]:
    """Open the log: embedded with gate and workers in this process, Kafka with a client alone."""
    if settings.kafka:
        with Client.open(settings) as client:
            yield client, lambda: None
        return
    from headgate.embedded import Headgate

    with Headgate(
        settings=settings, handlers=[*handlers_beside(request.path), *request.handlers]
    ) as headgate:
        headgate.serve(graph, str(request.path))
        yield headgate.client, headgate.check


def _watch(
    client: Client, run: Run, state: LifetimeState, screen: Screen, timeout_s: float | None, check: Any
) -> None:
    """Follow the run until it has ended, or is paused with nothing in flight, or time is up."""
    began = time.monotonic()
    warned = False
    pause = _Pause(client, run)
    for happening in run.follow(client, timeout_s, below=True):
        check()
        if happening is not None:
            if state.apply(happening):
                screen.show(happening)
            continue
        screen.tick()
        if state.status not in TERMINAL and pause.holds(state):
            return
        is_awaited = state.view is None and not state.quarantined
        if not warned and is_awaited and time.monotonic() - began > GATE_SILENCE_S:
            warned = True
            screen.warn(
                f"no gate has answered for {GATE_SILENCE_S:.0f} s: is `headgate gate` running? still waiting"
            )


class _Pause:
    """Tells a pause that is in force from one that a resume, not yet folded, has already answered."""

    def __init__(self, client: Client, run: Run) -> None:
        self._client = client
        self._run = run
        self._since: float | None = None
        self._asked = 0.0

    def holds(self, state: LifetimeState) -> bool:
        """Whether the run is paused, up to date, and nothing is in flight any more."""
        now = time.monotonic()
        is_below = state.status != "paused" and state.halted
        if not (state.status == "paused" or is_below) or not self._is_current(state, now):
            self._since = None
            return False
        self._since = self._since if self._since is not None else now
        if is_below:
            return now - self._since > BELOW_SETTLE_S
        return not state.in_flight or now - self._since > PAUSE_SETTLE_S

    def _is_current(self, state: LifetimeState, now: float) -> bool:
        if state.view_offset >= self._run.offset:
            return True
        if now - self._asked < 0.5:
            return False
        self._asked = now
        return gate_has_passed(self._client, self._run)


def _frozen(client: Client, graph: AgentGraph) -> dict[str, str]:
    """Return the freezes that hold the run back from its beginning."""
    freezes = client.frozen(graph.tenant_id)
    return {one.graph_id: one.reason for one in freezes if one.graph_id in ("", graph.metadata.id)}


def _held(client: Client, tenant: str) -> str:
    """Return why the tenant's records wait from the beginning of the run on, if they do."""
    held = client.quarantine(tenant)
    return held.reason if held is not None else ""


def _is_known(client: Client, tenant: str, lifetime: str | None) -> bool:
    """Whether the lifetime has begun already: what goes on keeps the policies that are in force."""
    return lifetime is not None and client.lifetime(tenant, lifetime) is not None


def _beside(path: Path) -> list[Path]:
    """Return the policy that lies beside the graph, as `init` makes it."""
    found = path / "policy.yaml"
    return [found] if path.is_dir() and found.is_file() else []


def _timeout_s(text: str | None) -> float | None:
    try:
        return None if text is None else parse_duration(text) / 1000
    except ValueError as error:
        raise UserError(f"--timeout: {error}") from None
