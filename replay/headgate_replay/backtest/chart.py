"""The course of spend as a picture: as it was, and under each draft."""

from __future__ import annotations

from pathlib import Path

from headgate_graphs.errors import UserError
from headgate_replay.backtest.report import BacktestReport

SUFFIXES = (".png", ".svg", ".pdf")


def check_plot(path: Path) -> None:
    """Raise UserError unless a picture can be drawn there."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"--plot {path}: end it in {', '.join(SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError("--plot needs matplotlib: pip install 'headgate[proof]'") from None


def draw(report: BacktestReport, path: Path) -> None:
    """Draw what was spent so far over log time, one line for each side; raises UserError."""
    from datetime import UTC, datetime

    from matplotlib.figure import Figure

    course = list(report.spend_over_time())
    times = [datetime.fromtimestamp(time_ms / 1000, UTC) for time_ms, _ in course]
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, side in enumerate(report.sides):
        spent = [sums[number] / 1e9 for _, sums in course]
        style = "-" if number else "--"
        axes.plot(times, spent, label=side.name, drawstyle="steps-post", linestyle=style)  # type: ignore[arg-type]
    axes.set_ylabel("USD spent")
    axes.set_xlabel("log time (UTC)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.autofmt_xdate()
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise UserError(f"--plot {path}: cannot be written: {error.strerror}") from error
