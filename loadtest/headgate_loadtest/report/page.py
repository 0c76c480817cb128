"""The page itself: what was loaded, whether it holds, the figures and the charts. Self-contained."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from headgate_loadtest.knee import Knee
from headgate_loadtest.report import charts
from headgate_loadtest.result import LoadResult
from headgate_loadtest.samples import Summary
from headgate_replay import pages
from headgate_replay.pages import table


def page(
    title: str, results: Sequence[LoadResult], tables: Iterable[str] = (), knee: Knee | None = None
) -> str:
    """Return the HTML of one report: `tables` come first, then the knee, then each result with its charts."""
    body = [f"<h1>{html.escape(title)}</h1>", *tables]
    if results:
        body.append(table(("", ""), list(results[0].machine.items())))
    if knee is not None and knee.trials:
        body += [f"<h2>Knee: {knee.rate:,.1f} runs/s</h2>", charts.latency_against_rate(knee), _trials(knee)]
    for result in results:
        body += _one(result)
    return pages.page(title, body)


def write_report(
    path: Path,
    title: str,
    results: Sequence[LoadResult],
    tables: Iterable[str] = (),
    knee: Knee | None = None,
) -> None:
    """Write the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(title, results, tables, knee))


def _trials(knee: Knee) -> str:
    rows = [
        (
            t.rate,
            t.result.steps_per_s,
            t.result.response.p50_ms,
            t.result.response.p99_ms,
            "yes" if t.held else "no",
        )
        for t in sorted(knee.trials, key=lambda one: one.rate)
    ]
    return table(("runs/s", "steps/s", "p50 ms", "p99 ms", "held"), rows)


def _one(result: LoadResult) -> list[str]:
    verdict = "nothing lost, nothing doubled" if result.is_good else "; ".join(result.faults)
    readings, tone = result.readings, "good" if result.is_good else "bad"
    parts = [
        f"<h2>{html.escape(result.name)} <small>{html.escape(result.began)}</small></h2>",
        f"<p class={tone}><b>{html.escape(verdict)}</b></p>",
        table(("counted", ""), _counts(result)),
        table(("", "count", "mean", "p50", "p90", "p99", "p99.9", "max (ms)"), _latencies(result)),
        charts.percentile_curve(result),
        charts.time_series(result),
        charts.over_time(result, {"in flight": readings["in_flight"]}, "Runs in flight", "runs"),
        charts.over_time(result, readings["backlog"], "Backlog per partition", "records that wait"),
    ]
    if readings["cpu_percent"]:
        parts.append(charts.over_time(result, readings["cpu_percent"], "CPU", "% of a core"))
        parts.append(charts.over_time(result, readings["rss_mb"], "Resident memory", "MB"))
    parts += [charts.per_tenant(result), charts.sender_lag(result)]
    if result.check:
        parts.append(f"<pre>{html.escape(chr(10).join(result.check))}</pre>")
    parts.append(
        f"<details><summary>scenario</summary><pre>{html.escape(_json(result.scenario))}</pre></details>"
    )
    return parts


def _json(value: object) -> str:
    return json.dumps(value, indent=1)


def _counts(result: LoadResult) -> list[tuple[str, object]]:
    little = result.little
    law = f"{little['sampled']} sampled, {little['rate_x_time']} by rate and time: {little['ratio']}"
    return [
        (
            "runs asked for, acknowledged, ended",
            f"{result.asked:,}, {result.acknowledged:,}, {result.ended:,}",
        ),
        ("lost, doubled, executions repeated", f"{result.lost_count}, {result.conflicts}, {result.repeated}"),
        ("offered, runs/s", result.offered_rate),
        ("steps, steps/s", f"{result.steps:,}, {result.steps_per_s:,.0f}"),
        ("most in flight", f"{max(result.readings['in_flight'], default=0):,}"),
        ("Little's law: in flight", law),
        ("seed", result.scenario["seed"]),
    ]


def _latencies(result: LoadResult) -> list[tuple[object, ...]]:
    shown: list[tuple[str, Summary]] = [
        ("response: seen minus intended", result.response),
        ("planner loop", result.loop),
        ("sender's lag", result.lag),
    ]
    return [
        (name, str(s.count), s.mean_ms, s.p50_ms, s.p90_ms, s.p99_ms, s.p999_ms, s.max_ms)
        for name, s in shown
    ]
