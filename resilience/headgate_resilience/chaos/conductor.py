"""Injects rounds of faults, one after the other, and marks when each began and when all was well again."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from headgate_resilience.chaos.faults.fault import Fault
from headgate_resilience.chaos.stage import NotHere, Stage
from headgate_resilience.chaos.watching.recovery import longest_stall

logger = logging.getLogger(__name__)


@dataclass
class Mark:
    """One fault that was injected."""

    fault: str
    began_ms: float
    """By the log's clock."""
    healed_ms: float = 0.0
    """When the fault itself was over."""
    steady_ms: float = 0.0
    """When nothing lagged any more; 0 for not in time."""
    detail: str = ""
    skipped: str = ""
    """Why it could not be injected; empty when it was."""
    recovery_s: float | None = None
    """The longest stall of whom it concerns; None when it concerns nobody's."""
    recovery_where: str = ""
    bound_s: float | None = None

    @property
    def is_late(self) -> bool:
        """Whether the recovery took longer than it may."""
        return self.recovery_s is not None and self.bound_s is not None and self.recovery_s > self.bound_s


@dataclass
class Conductor:
    """Runs the rounds of one run."""

    stage: Stage
    steady_s: float
    rest_s: float
    tell: Callable[[str], None]
    marks: list[Mark] = field(default_factory=list)
    unsteady: list[str] = field(default_factory=list)
    """Rounds after which something lagged for too long."""

    def conduct(self, rounds: Iterable[Sequence[Fault]], is_enough: Callable[[], bool]) -> None:
        """Inject the rounds until they are over or it is enough."""
        for number, faults in enumerate(rounds, 1):
            if is_enough() or self.stage.over.is_set():
                return
            if faults:
                self._round(number, faults)
            self.stage.hold(self.rest_s)

    def now_ms(self) -> float:
        """Return the time on the log's clock."""
        return time.time() * 1000 + self.stage.driver.log_ahead_ms

    def _round(self, number: int, faults: Sequence[Fault]) -> None:
        names = " + ".join(fault.name for fault in faults)
        self.tell(f"round {number}: {names}")
        marks = [Mark(fault.name, self.now_ms(), bound_s=fault.bound_s) for fault in faults]
        self.marks += marks
        with ThreadPoolExecutor(len(faults), thread_name_prefix="chaos-fault") as pool:
            list(pool.map(lambda pair: self._inject(number, *pair), zip(faults, marks, strict=True)))
        self._mend_servers()
        lagging = self.stage.quiet.wait_steady(self.steady_s, self.stage.over.is_set)
        steady_ms = self.now_ms()
        if lagging and not self.stage.over.is_set():
            self.unsteady.append(f"{names}: after {self.steady_s:.0f} s still {lagging}")
        for fault, mark in zip(faults, marks, strict=True):
            mark.steady_ms = 0.0 if lagging else steady_ms
            self._measure(fault, mark, steady_ms)
        self.tell(f"round {number}: {', '.join(_said(mark) for mark in marks)}")

    def _inject(self, number: int, fault: Fault, mark: Mark) -> None:
        dice = random.Random(f"{self.stage.seed}/{number}/{fault.name}")  # noqa: S311 - repeatable, not secret
        mark.began_ms = self.now_ms()
        try:
            mark.detail = fault.act(self.stage, dice)
        except NotHere as error:
            mark.skipped = str(error)
        except Exception as error:  # a long run goes on, and its report says what went wrong
            mark.skipped = f"{type(error).__name__}: {error}"[:500]
            logger.warning("%s could not be injected", fault.name, exc_info=True)
        mark.healed_ms = self.now_ms()

    def _mend_servers(self) -> None:
        """Start whatever broker is down still."""
        servers = self.stage.servers
        for name in servers.names() if servers is not None else ():
            try:
                servers.start(name)  # type: ignore[union-attr]
            except Exception as error:
                self.unsteady.append(f"{name} does not come back: {error}"[:500])

    def _measure(self, fault: Fault, mark: Mark, until_ms: float) -> None:
        if mark.skipped or not fault.stalls:
            return
        timeline = self.stage.timeline
        whose = {"gate": timeline.gate_lags, "worker": timeline.worker_lags}
        from_ms = mark.healed_ms if fault.is_from_healing else mark.began_ms
        stalls = [longest_stall(whose[one], from_ms, until_ms) for one in fault.stalls.split()]
        longest = max(stalls, key=lambda stall: stall.seconds)
        mark.recovery_s, mark.recovery_where = round(longest.seconds, 3), longest.where


def _said(mark: Mark) -> str:
    if mark.skipped:
        return f"{mark.fault} not injected ({mark.skipped})"
    if mark.recovery_s is None:
        return f"{mark.fault} ({mark.detail}) healed"
    return f"{mark.fault} ({mark.detail}) recovered in {mark.recovery_s:.1f} s"
