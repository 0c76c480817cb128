"""The table of figures: what was measured beside a floor, a target and a stretch, with a verdict on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """One row: what is measured, and how good it should be."""

    key: str
    what: str
    floor: float
    target: float
    stretch: float
    unit: str = ""
    """Written behind each number."""
    digits: int = 2

    @property
    def more_is_better(self) -> bool:
        """Whether a larger number is a better one."""
        return self.stretch > self.floor

    def verdict(self, measured: float | None) -> str:
        """Return the best of stretch, target and floor that holds; "below the floor" when none does."""
        if measured is None:
            return "not measured"
        for name in ("stretch", "target", "floor"):
            goal = getattr(self, name)
            if measured >= goal if self.more_is_better else measured <= goal:
                return name
        return "below the floor"

    def shown(self, value: float | None) -> str:
        """Return a number as the table writes it."""
        return "-" if value is None else f"{value:,.{self.digits}f}{self.unit}"


GOALS: Sequence[Goal] = (
    Goal("ratio", "steps/s on Kafka, ten rules, as a ratio to the bare loop", 0.20, 0.35, 0.50),
    Goal("ratio_synced", "the same with every batch synced (flush.messages=1)", 0.20, 0.35, 0.50),
    Goal("step_ratio", "p50 of a step, one lifetime, as a ratio to the bare loop", 3.0, 2.0, 1.5, "x"),
    Goal("loop_p99_ms", "planner loop p99 at half the knee", 100, 50, 25, " ms", 1),
    Goal(
        "breach_event_p99_ms", "breach to control event readable, p99 at half the knee", 100, 50, 25, " ms", 1
    ),
    Goal("breach_stop_p99_ms", "breach to handler stopped, p99 at half the knee", 250, 100, 50, " ms", 1),
    Goal("leased_ratio", "leased nodes, as a ratio to plain ones", 0.4, 0.55, 0.7),
    Goal("fold_us", "fold alone, CPU per event, ten rules", 60, 30, 15, " us", 1),
    Goal(
        "alive_loop_p99_ms", "10,000 lifetimes alive, 5 s steps, none lost: loop p99", 250, 100, 50, " ms", 1
    ),
    Goal("idle_lifetime_kb", "memory of an idle lifetime in the gate", 4.0, 1.5, 0.7, " KB"),
    Goal("growth_alive", "cost of a step, 100 to 10,000 lifetimes alive", 1.5, 1.2, 1.05, "x"),
    Goal("growth_long", "cost of a step, 10 to 1,000 iterations of a run", 1.5, 1.2, 1.05, "x"),
    Goal("checkpoint_ms", "longest pause for a checkpoint with 10,000 lifetimes", 100, 30, 10, " ms", 1),
    Goal("noisy_ratio", "others' p99 with one tenant at 20 times its share", 3.0, 2.0, 1.3, "x"),
    Goal("replay_per_s", "replay, records/s a core", 10_000, 25_000, 50_000, "/s", 0),
    Goal("embedded_per_s", "embedded log, durable, one process", 2_000, 5_000, 10_000, "/s", 0),
    Goal("embedded_p50_ms", "embedded log, p50 of a step", 3.0, 1.5, 0.8, " ms"),
    Goal("cold_start_s", "cold start of headgate run to the first dispatch", 2.0, 1.0, 0.5, " s"),
)


def table_lines(measured: Mapping[str, float]) -> list[str]:
    """Return the table as text; its first line is the ratio to the bare loop."""
    ratio = measured.get("ratio")
    rows = rows_of(measured)
    head = ("what", "measured", "floor", "target", "stretch", "verdict")
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    lines = [
        f"ratio to the bare loop: {ratio:.2f}"
        if ratio is not None
        else "ratio to the bare loop: not measured",
        "",
    ]
    for row in (head, *rows):
        cells = [
            cell.ljust(w) if n in (0, 5) else cell.rjust(w)
            for n, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def rows_of(measured: Mapping[str, float]) -> list[tuple[str, ...]]:
    """Return the rows as text: what, measured, floor, target, stretch, verdict."""
    return [
        (
            goal.what,
            goal.shown(measured.get(goal.key)),
            goal.shown(goal.floor),
            goal.shown(goal.target),
            goal.shown(goal.stretch),
            goal.verdict(measured.get(goal.key)),
        )
        for goal in GOALS
    ]
