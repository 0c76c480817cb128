"""What a run was and what came of it: JSON for machines, lines for people, a plot beside both."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from headgate_resilience.chaos.conductor import Mark
from headgate_resilience.chaos.fleet import Exit
from headgate_resilience.chaos.watching.recovery import Second, quantile

STATUSES = {3: "completed", 4: "failed", 5: "aborted", 6: "rejected"}


class Checked(Protocol):
    """What the checker says, as far as a report needs it."""

    @property
    def violated(self) -> Any:
        """Whatever is broken; empty or false when all is well."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""

    def lines(self) -> Any:
        """Return it as lines for people."""


@dataclass
class ChaosReport:
    """One run of chaos. Filled as the run goes, so that a run which fails can be reported too."""

    command: str
    seed: int
    settings: dict[str, Any]
    began_at: str
    """ISO 8601, UTC."""
    machine: dict[str, Any] = field(default_factory=lambda: machine())
    versions: dict[str, str] = field(default_factory=lambda: versions())
    began_ms: float = 0.0
    """When the first lifetime was started, by the log's clock; the plot begins here."""
    took_s: float = 0.0
    marks: list[Mark] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    kills: int = 0
    killed: dict[str, int] = field(default_factory=dict)
    """The same by what was killed and how."""
    acknowledged: int = 0
    refused: list[str] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)
    """Lifetimes by how they ended."""
    steps: int = 0
    records: dict[str, int] = field(default_factory=dict)
    letters: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    unsteady: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    """Acknowledged lifetimes that have not ended: lost, as far as one can see."""
    calm_p99_ms: float = 0.0
    """Of the steps before the first fault …"""
    healed_p99_ms: float = 0.0
    """… and after the last one."""
    is_quiet: bool = False
    broken: list[str] = field(default_factory=list)
    """What faults themselves saw that was promised otherwise."""
    seconds: list[Second] = field(default_factory=list)
    check: Checked | None = None
    failure: str = ""
    """What ended the run before its time."""

    @property
    def violated(self) -> bool:
        """Whether a promise was broken: the checker says so, or what was acknowledged has not ended."""
        return bool(
            self.failure or self.open or self.broken or (self.check is not None and self.check.violated)
        )

    def recoveries(self, *ids: str) -> list[float]:
        """Return the recovery times of the faults with these ids, in order of time."""
        return [
            mark.recovery_s
            for mark in self.marks
            if mark.recovery_s is not None and (not ids or mark.fault.partition("-")[0] in ids)
        ]

    def injected(self) -> dict[str, int]:
        """Return how often each fault was injected."""
        counts: dict[str, int] = {}
        for mark in self.marks:
            if not mark.skipped:
                counts[mark.fault] = counts.get(mark.fault, 0) + 1
        return dict(sorted(counts.items()))

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON."""
        plain = {name: value for name, value in vars(self).items() if name not in ("check", "marks", "exits")}
        return {
            **plain,
            "violated": self.violated,
            "injected": self.injected(),
            "seconds": [asdict(one) for one in self.seconds],
            "marks": [asdict(mark) for mark in self.marks],
            "exits": [asdict(one) for one in self.exits],
            "check": self.check.to_json() if self.check is not None else None,
        }

    def lines(self) -> Iterator[str]:
        """Yield the report for people."""
        yield f"seed {self.seed}; {self.took_s:.0f} s; {self.kills} kills; {self.command}"
        if self.killed:
            yield f"kills: {', '.join(f'{number} of {what}' for what, number in sorted(self.killed.items()))}"
        yield f"lifetimes: {self.acknowledged} acknowledged, {_counts(self.ended)}; steps: {self.steps}"
        yield f"p99 of a step: {self.calm_p99_ms:.0f} ms before the faults, {self.healed_p99_ms:.0f} ms after"
        if self.letters:
            yield f"dead letters: {_counts(self.letters)}"
        for id, who in (("F1", "worker"), ("F2", "gate")):
            if times := sorted(self.recoveries(id)):
                yield (
                    f"recovery of a {who} ({len(times)} times): "
                    f"median {quantile_s(times, 0.5):.1f} s, longest {times[-1]:.1f} s"
                )
        yield from self._troubles()
        if self.check is not None:
            yield from self.check.lines()

    def _troubles(self) -> Iterator[str]:
        yield from (f"not injected: {m.fault}: {m.skipped}" for m in self.marks if m.skipped)
        yield from (
            f"late: {m.fault} took {m.recovery_s:.1f} s, at most {m.bound_s:.0f} s ({m.recovery_where})"
            for m in self.marks
            if m.is_late and m.recovery_s is not None and m.bound_s is not None
        )
        yield from self.unsteady
        yield from (f"{one.place} ended by itself with {one.code}: {one.last_line}" for one in self.exits)
        if self.open:
            yield f"LOST: {len(self.open)} acknowledged lifetimes have not ended: {', '.join(self.open[:10])}"
        yield from (f"BROKEN: {one}" for one in self.broken)
        if self.failure:
            yield f"FAILED: {self.failure}"

    def write(self, out: Path) -> list[Path]:
        """Write report.json and report.html into `out`; return where they are.

        Without matplotlib (the extra `proof`) there is no page.
        """
        out.mkdir(parents=True, exist_ok=True)
        plain, html = out / "report.json", out / "report.html"
        plain.write_text(json.dumps(self.to_json(), indent=1, default=str) + "\n")
        if importlib.util.find_spec("matplotlib") is None:
            return [plain]
        from headgate_resilience.chaos.plot import page  # it costs a second to load

        html.write_text(page(self))
        return [plain, html]


def quantile_s(ordered: list[float], share: float) -> float:
    """Return a quantile of ordered seconds."""
    return quantile([round(one * 1000) for one in ordered], share) / 1000


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "none"


def machine() -> dict[str, Any]:
    """Return what the run was on, as far as it can be told without asking anybody."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "system": platform.platform(),
        "disk_free_gib": round(shutil.disk_usage(".").free / 2**30, 1),
    }


def versions() -> dict[str, str]:
    """Return the versions that matter."""
    names = ("headgate", "confluent-kafka", "protobuf")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
