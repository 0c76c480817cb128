"""The run as one self-contained page: throughput and p99 of the steps over time, the faults marked."""

from __future__ import annotations

import html
import io
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure

from headgate_replay import pages

if TYPE_CHECKING:
    from headgate_resilience.chaos.report import ChaosReport


def page(report: ChaosReport) -> str:
    """Return the page; it needs nothing from anywhere."""
    title = f"chaos, seed {report.seed}: {'VIOLATED' if report.violated else 'every invariant held'}"
    text = html.escape("\n".join(report.lines()))
    body = [
        f"<h1{' class=bad' if report.violated else ''}>{html.escape(title)}</h1>",
        f"<pre>{text}</pre>{drawing(report)}{_table(report)}",
        f"<p>{html.escape(report.began_at)}; {html.escape(str(report.machine))}; "
        f"{html.escape(str(report.versions))}</p>",
    ]
    return pages.page(title, body)


def drawing(report: ChaosReport) -> str:
    """Return the plot as SVG."""
    matplotlib.rcParams["svg.fonttype"] = "none"
    figure = Figure(figsize=(12, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    at = [one.at_s for one in report.seconds]
    above.plot(at, [one.steps for one in report.seconds], color="#1f77b4", linewidth=1)
    above.set_ylabel("steps a second")
    below.plot(at, [max(one.p99_ms, 1) for one in report.seconds], color="#d62728", linewidth=1, label="p99")
    below.plot(at, [max(one.p50_ms, 1) for one in report.seconds], color="#888", linewidth=1, label="p50")
    below.set_yscale("log")
    below.set_ylabel("a step, ms")
    below.set_xlabel("seconds since the first start")
    below.legend(loc="upper right")
    for axes in (above, below):
        _mark(axes, report, named=axes is above)
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    svg = written.getvalue()
    return svg[svg.index("<svg") :]


def _mark(axes: Any, report: ChaosReport, *, named: bool) -> None:
    """Shade each fault from its beginning to its end; name it where there is room."""
    last_named = -1e9
    for mark in report.marks:
        if mark.skipped:
            continue
        begin = (mark.began_ms - report.began_ms) / 1000
        end = (max(mark.healed_ms, mark.began_ms) - report.began_ms) / 1000
        axes.axvspan(begin, end, color="#ff7f0e", alpha=0.15, linewidth=0)
        axes.axvline(begin, color="#ff7f0e", linewidth=0.5)
        if named and begin - last_named > report.took_s / 90:
            last_named = begin
            axes.text(begin, 1.01, mark.fault, rotation=60, fontsize=6, transform=axes.get_xaxis_transform())


def _table(report: ChaosReport) -> str:
    """Return every fault with what it did and how long the recovery took."""
    rows = (
        (
            f"{(mark.began_ms - report.began_ms) / 1000:.0f} s", mark.fault, mark.skipped or mark.detail,
            "" if mark.recovery_s is None else f"{mark.recovery_s:.1f} s{', late' if mark.is_late else ''}",
            f"{mark.p99_ms:.0f} ms", mark.recovery_where,
        )
        for mark in report.marks
    )  # fmt: skip
    return pages.table(("at", "fault", "what", "recovery", "p99 of a step", "longest stall at"), rows)
