"""What one load gave: plain values that are written as JSON and read back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from headgate_graphs.errors import UserError
from headgate_loadtest.samples import Summary

LAG_SHARE = 0.1
"""A result is refused when the sender's p99 lag is above this share of the p99 of the response time."""


@dataclass
class LoadResult:
    """One load. Latencies are in milliseconds in the summaries, in nanoseconds in the raw samples."""

    name: str
    scenario: dict[str, Any]
    machine: dict[str, str]
    began: str
    """ISO time."""
    offered_rate: float
    """Runs a second that were planned."""
    asked: int
    acknowledged: int
    ended: int
    statuses: dict[str, int]
    lost: list[str]
    """Runs that the log took and that did not end in time; the first hundred."""
    lost_count: int
    conflicts: int
    """Runs that ended twice, and differently."""
    repeated: int
    """Executions with more than one result."""
    send_errors: list[str]
    took_s: float
    """From the first planned moment to the last end."""
    steps: int
    steps_per_s: float
    response: Summary
    loop: Summary
    """From the end of a task to the begin of the next one, a plan between them."""
    lag: Summary
    """How late the sender was."""
    little: dict[str, float]
    """In flight as sampled, rate times mean response time, and their ratio."""
    tenants: dict[str, Summary]
    series: dict[str, list[float]]
    """Per second of the load: runs that ended, p50 and p99 of their response times in ms."""
    readings: dict[str, Any]
    events: list[tuple[float, str]]
    """Seconds after the begin, and what happened."""
    check: list[str] = field(default_factory=list)
    """Lines of `headgate check`; empty when it was not asked."""
    faults: list[str] = field(default_factory=list)
    """Why this load failed; empty when it did not."""
    samples: dict[str, str] = field(default_factory=dict)
    """Raw response times, in the order of the plan (`others`: without the first tenant), loops, lags."""

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, doubled or measured wrongly."""
        return not self.faults

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self)) + "\n")


def read_result(path: Path) -> LoadResult:
    """Return a result that was written; raises UserError."""
    try:
        found = json.loads(path.read_text())
        for name in ("response", "loop", "lag"):
            found[name] = Summary(**found[name])
        found["tenants"] = {name: Summary(**one) for name, one in found["tenants"].items()}
        found["events"] = [(float(at), str(what)) for at, what in found["events"]]
        return LoadResult(**found)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not the result of a load: {type(error).__name__} {error}") from None


def faults_of(result: LoadResult) -> list[str]:
    """Return what makes a load a failed one."""
    found = []
    if result.lost_count:
        which = f"{result.lost_count} of {result.acknowledged} acknowledged runs"
        found.append(f"{which} were lost, such as {result.lost[0]}")
    if result.conflicts:
        found.append(f"{result.conflicts} runs ended twice, and differently")
    if result.repeated:
        found.append(f"{result.repeated} executions have more than one result")
    if result.send_errors:
        found.append(f"{len(result.send_errors)} requests were not taken: {result.send_errors[0]}")
    odd = {name: count for name, count in result.statuses.items() if name != "completed"}
    if odd:
        found.append("not every run completed: " + ", ".join(f"{n} {s}" for s, n in odd.items()))
    if result.response.count and result.lag.p99_ms > LAG_SHARE * result.response.p99_ms:
        found.append(
            f"the sender lagged by {result.lag.p99_ms:.1f} ms at p99, above {LAG_SHARE:.0%} of the response"
            f" time's {result.response.p99_ms:.1f} ms: the load was not as planned, its figures are refused"
        )
    return found
