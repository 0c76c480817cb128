"""Runs one open-loop load against processes that serve, waits until all has ended, and counts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np

from headgate_loadtest.arrivals import plan_arrivals
from headgate_loadtest.audit import Audit, audit, lost
from headgate_loadtest.installation import Installation, tenant_names
from headgate_loadtest.machine import machine
from headgate_loadtest.meters import Meters, Readings
from headgate_loadtest.processes import Serving
from headgate_loadtest.result import LoadResult, faults_of
from headgate_loadtest.samples import Nanos, as_nanos, packed, summarize
from headgate_loadtest.scenario import Scenario
from headgate_loadtest.sender import Sender, Sent
from headgate_loadtest.watcher import Watcher

Progress = Callable[[str], None]
NOTHING = Serving({}, lambda: None)
"""What serves before anything is started."""
_TELL_S = 1.0


@dataclass(frozen=True)
class Bounds:
    """When a load is over, whatever happens."""

    drain_s: float = 60.0
    """How long what was asked for may take after the last request."""
    lose: int = 0
    """Runs that are taken for lost although they ended: plants a fault, for tests of the harness."""


def silent(_line: str) -> None:
    """Show no progress."""


def run_load(
    installation: Installation,
    serving: Serving | AbstractContextManager[Serving],
    scenario: Scenario,
    bounds: Bounds = Bounds(),
    progress: Progress = silent,
) -> tuple[LoadResult, list[tuple[str, str]]]:
    """Return what a scenario gave, and (tenant, lifetime) of each run that the log took.

    What serves may be something that is started only when everything has been asked for.

    The result's `faults` say whether the load failed.

    Raises NotServing when a process ended on the way, LogUnavailable when the log did.
    """
    load = _Load(installation, serving, scenario, bounds, progress)
    result, sent = load.run(), load.sent
    pairs = zip(sent.tenants, sent.lifetimes, strict=True)
    return result, [(tenant, lifetime) for tenant, lifetime in pairs if lifetime in sent.acknowledged]


class _Load:
    def __init__(
        self,
        installation: Installation,
        serving: Serving | AbstractContextManager[Serving],
        scenario: Scenario,
        bounds: Bounds,
        progress: Progress,
    ) -> None:
        self.installation, self.scenario = installation, scenario
        self.bounds, self.progress = bounds, progress
        self.later = serving if isinstance(serving, AbstractContextManager) else None
        self.serving = NOTHING if isinstance(serving, AbstractContextManager) else serving
        self.tenants = tenant_names(scenario)
        self.events: list[tuple[float, str]] = []
        self._told_s = 0.0

    def run(self) -> LoadResult:
        graph_id = self.installation.prepare(self.scenario, self.tenants)
        begins = self.installation.ends(self.installation.topics.executions)
        sender = Sender(self.installation, plan_arrivals(self.scenario), self.tenants, graph_id)
        self.sent = sender.sent
        self.watcher = Watcher(self.installation)
        began = datetime.now(UTC).isoformat(timespec="seconds")
        sender.begin()
        with ExitStack() as stack:
            stack.callback(self.watcher.stop)
            if self.later is not None:
                sender.run(self._tick)
                self.serving = stack.enter_context(self.later)
                self._event("gate and workers started")
            meters = Meters(self.installation, self.serving.pids, self._in_flight, self.sent.begin_ns)
            stack.callback(meters.stop)
            if self.later is None:
                sender.run(self._tick)
                self._event("all requests sent")
            self._drain()
        return self._result(began, meters.readings, audit(self.installation, begins))

    def _in_flight(self) -> int:
        return int(np.count_nonzero(self.sent.lag_ns >= 0)) - len(self.watcher.seen_ns)

    def _event(self, what: str) -> None:
        self.events.append((round((time.monotonic_ns() - self.sent.begin_ns) / 1e9, 3), what))

    def _tick(self, number: int) -> bool:
        now = time.monotonic()
        if now - self._told_s >= _TELL_S:
            self._told_s = now
            self.serving.check()
            total, ended = len(self.sent.lifetimes), len(self.watcher.seen_ns)
            self.progress(
                f"{number:,} of {total:,} runs asked for, {ended:,} ended, {number - ended:,} in flight"
            )
        return True

    def _drain(self) -> None:
        deadline = time.monotonic() + self.bounds.drain_s
        while time.monotonic() < deadline:
            if self.watcher.seen_ns.keys() >= self.sent.acknowledged:
                self._event("all runs ended")
                return
            self._tick(len(self.sent.lifetimes))
            time.sleep(0.02)
        self._event("gave up waiting")

    def _result(self, began: str, readings: Readings, found: Audit) -> LoadResult:
        sent, seen = self.sent, dict(self.watcher.seen_ns)
        for lifetime in sent.lifetimes[: self.bounds.lose]:
            seen.pop(lifetime, None)
        missing = lost(sent.acknowledged, seen)
        response, tenant_of = responses(sent, seen)
        ended_ns = max(seen.values(), default=sent.begin_ns)
        took_s = (ended_ns - int(sent.due_ns[0])) / 1e9 if len(sent.due_ns) else 0.0
        result = LoadResult(
            name=self.scenario.name,
            scenario=self.scenario.model_dump(mode="json", exclude={"at_ms"}),
            machine=machine(),
            began=began,
            offered_rate=round(len(sent.due_ns) / max(1e-9, self.scenario.duration_ms / 1000), 3),
            asked=len(sent.lifetimes),
            acknowledged=len(sent.acknowledged),
            ended=len(seen),
            statuses=dict(Counter(self.watcher.status[one] for one in seen)),
            lost=missing[:100],
            lost_count=len(missing),
            conflicts=len(self.watcher.conflicts),
            repeated=found.repeated,
            send_errors=[str(error) for error in sent.errors[:100]],
            took_s=round(took_s, 3),
            steps=found.results,
            steps_per_s=round(found.steps_per_s, 1),
            response=summarize(response),
            loop=summarize(found.loop_ns),
            lag=summarize(sent.lag_ns[sent.lag_ns >= 0]),
            little=littles_law(readings, response, took_s),
            tenants={name: summarize(response[tenant_of == name]) for name in self.tenants[:50]},
            series=per_second(sent, seen),
            readings=asdict(readings),
            events=self.events,
            samples={
                "response": packed(response),
                "others": packed(response[tenant_of != self.tenants[0]]),
                "loop": packed(found.loop_ns),
                "lag": packed(sent.lag_ns),
            },
        )
        result.faults = faults_of(result)
        return result


def responses(sent: Sent, seen: dict[str, int]) -> tuple[Nanos, np.ndarray[tuple[int], np.dtype[np.str_]]]:
    """Return seen minus intended of every run that ended, and whose each was."""
    ended = [n for n, lifetime in enumerate(sent.lifetimes) if lifetime in seen]
    times = as_nanos(seen[sent.lifetimes[n]] - int(sent.due_ns[n]) for n in ended)
    return times, np.array([sent.tenants[n] for n in ended], dtype=np.str_)


def littles_law(readings: Readings, response: Nanos, took_s: float) -> dict[str, float]:
    """Return what was in flight on average, as sampled and as rate times time, and how they compare."""
    during = [n for at, n in zip(readings.at_s, readings.in_flight, strict=False) if 0 <= at <= took_s]
    sampled = float(np.mean(during)) if during else 0.0
    expected = len(response) / took_s * float(response.mean()) / 1e9 if len(response) and took_s else 0.0
    ratio = sampled / expected if expected else 0.0
    return {"sampled": round(sampled, 2), "rate_x_time": round(expected, 2), "ratio": round(ratio, 3)}


def per_second(sent: Sent, seen: dict[str, int]) -> dict[str, list[float]]:
    """Return, per second of the load, what ended in it and how long that had taken."""
    due = dict(zip(sent.lifetimes, sent.due_ns.tolist(), strict=True))
    buckets: dict[int, list[int]] = {}
    for lifetime, at_ns in seen.items():
        if lifetime in due:
            buckets.setdefault((at_ns - sent.begin_ns) // 10**9, []).append(at_ns - due[lifetime])
    seconds = range(max(buckets, default=-1) + 1)
    found = [summarize(as_nanos(buckets.get(second, []))) for second in seconds]
    return {
        "second": [float(second) for second in seconds],
        "ended": [float(one.count) for one in found],
        "p50_ms": [one.p50_ms for one in found],
        "p99_ms": [one.p99_ms for one in found],
    }
