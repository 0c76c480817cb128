"""What one side of a backtest has said: verdicts by rule, how lifetimes ended, what was spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from headgate_guardrails.fold.turn import CONTROL_EVENTS, LIFETIMES, Output
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2
from headgate_streams.port import LogRecord

VERDICTS = {
    control_pb2.CONTROL_TYPE_REJECT_EXECUTION: "rejected",
    control_pb2.CONTROL_TYPE_PAUSE_LIFETIME: "paused",
    control_pb2.CONTROL_TYPE_ABORT_LIFETIME: "aborted",
    control_pb2.CONTROL_TYPE_THROTTLE_EXECUTION: "throttled",
    control_pb2.CONTROL_TYPE_WARN: "warned",
}
_STOPS = ("paused", "aborted")
_OVER = frozenset(
    {
        pb.LIFETIME_STATUS_COMPLETED,
        pb.LIFETIME_STATUS_FAILED,
        pb.LIFETIME_STATUS_ABORTED,
        pb.LIFETIME_STATUS_REJECTED,
    }
)

Run = tuple[str, str]
"""(tenant, lifetime)."""


class Usage(NamedTuple):
    """Spend."""

    tokens: int = 0
    cost_nano_usd: int = 0

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.tokens - other.tokens, self.cost_nano_usd - other.cost_nano_usd)

    def __add__(self, other: Usage) -> Usage:  # type: ignore[override]
        return Usage(self.tokens + other.tokens, self.cost_nano_usd + other.cost_nano_usd)


class Stop(NamedTuple):
    """Why a run was stopped."""

    rule: str
    """`policy v1 rule`."""
    verdict: str
    offset: int
    """Of the record that led to it."""
    time_ms: int


class Ended(NamedTuple):
    """How a run ended."""

    run: Run
    status: int
    usage: Usage
    """Its own and that of what it started."""


@dataclass(slots=True)
class Tally:
    """One side. What is kept grows with the runs that a rule stops, and not with the log."""

    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By (`policy v1 rule`, verdict)."""
    stopped: dict[Run, Stop] = field(default_factory=dict)
    """Runs that a rule has stopped, and that were not resumed."""

    def hear(self, outputs: Sequence[Output], record: LogRecord, tenant: str) -> list[Ended]:
        """Count what follows from a record for one tenant, or for all; return the runs that ended."""
        ended = []
        for output in outputs:
            if tenant not in (output.tenant_id, ""):
                continue
            if output.topic == CONTROL_EVENTS:
                self._verdict(output.message, record.offset, record.timestamp_ms)
            elif output.topic == LIFETIMES and output.message.status in _OVER:
                view = output.message
                usage = Usage(view.usage.tokens_used, view.usage.cost_nano_usd)
                ended.append(Ended((view.tenant_id, view.lifetime_id), view.status, usage))
        return ended

    def _verdict(self, event: control_pb2.ExecutionEvent, offset: int, time_ms: int) -> None:
        run = (event.tenant_id, event.lifetime_id)
        if event.type == control_pb2.CONTROL_TYPE_RESUME_LIFETIME:
            self.stopped.pop(run, None)
        verdict = VERDICTS.get(event.type)
        if verdict is None or not event.violations:
            return
        strongest = event.violations[0]
        rule = f"{strongest.policy} v{strongest.version} {strongest.rule}"
        self.verdicts[rule, f"{verdict} (shadow)" if event.shadow else verdict] += 1
        if verdict in _STOPS and not event.shadow:
            self.stopped[run] = Stop(rule, verdict, offset, time_ms)
