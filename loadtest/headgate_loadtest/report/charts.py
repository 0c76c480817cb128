"""Charts as SVG text, to be put into a page. matplotlib is imported here alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from headgate_loadtest.knee import Knee
from headgate_loadtest.result import LoadResult
from headgate_loadtest.samples import Nanos, unpacked


def _drawn(draw: Callable[[Any], None], title: str, x: str, y: str) -> str:
    """Return the SVG of one chart."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams["svg.hashsalt"] = "headgate"
    figure, axes = pyplot.subplots(figsize=(7.2, 3.2), layout="constrained")
    draw(axes)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, loc="best", ncols=2)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :]


def latency_against_rate(knee: Knee) -> str:
    """Return what response times are at each rate that was tried, and where the knee is."""
    trials = sorted(knee.trials, key=lambda one: one.rate)

    def draw(axes: Any) -> None:
        for name, figure in (("p50", "p50_ms"), ("p99", "p99_ms"), ("max", "max_ms")):
            axes.plot(
                [t.rate for t in trials],
                [getattr(t.result.response, figure) for t in trials],
                ".-",
                label=name,
            )
        axes.axvline(knee.rate, color="k", linestyle="--", label=f"knee {knee.rate:,.0f}/s")
        axes.set_yscale("log")

    return _drawn(draw, "Response time against offered rate", "runs asked for in a second", "ms")


def percentile_curve(result: LoadResult) -> str:
    """Return the whole distribution, with the tail spread out."""
    named = {name: unpacked(result.samples[name]) for name in ("response", "loop") if name in result.samples}

    def draw(axes: Any) -> None:
        for name, samples in named.items():
            if len(samples):
                _curve(axes, samples, name)
        axes.set_xscale("log")
        axes.set_yscale("log")

    return _drawn(draw, "Percentiles", "1 / (1 - quantile)", "ms")


def _curve(axes: Any, samples: Nanos, name: str) -> None:
    ordered = np.sort(samples) / 1e6
    count = len(ordered)
    picked = np.unique(np.geomspace(1, count, min(count, 400)).astype(int))
    axes.plot(count / picked, np.maximum(ordered[count - picked], 1e-3), label=name)


def time_series(result: LoadResult) -> str:
    """Return p50 and p99 per second, and what happened when."""
    series = result.series

    def draw(axes: Any) -> None:
        for name in ("p50_ms", "p99_ms"):
            axes.plot(series["second"], series[name], ".-", label=name.removesuffix("_ms"))
        beside = axes.twinx()
        beside.plot(series["second"], series["ended"], color="grey", alpha=0.5)
        beside.set_ylabel("runs ended in the second")
        for at, what in result.events:
            axes.axvline(at, color="k", linestyle=":", linewidth=0.8)
            axes.annotate(what, (at, axes.get_ylim()[1]), fontsize=6, rotation=90, va="top", ha="right")

    return _drawn(draw, "Over time", "seconds after the begin", "ms")


def over_time(result: LoadResult, lines: Mapping[str, Sequence[float]], title: str, unit: str) -> str:
    """Return one line for each series of readings."""
    at_s = result.readings["at_s"]

    def draw(axes: Any) -> None:
        for name, values in sorted(lines.items()):
            shown = min(len(at_s), len(values))
            axes.plot(at_s[:shown], values[:shown], label=name)

    return _drawn(draw, title, "seconds after the begin", unit)


def per_tenant(result: LoadResult) -> str:
    """Return p50 and p99 of each tenant."""
    names = list(result.tenants)

    def draw(axes: Any) -> None:
        axes.bar(names, [result.tenants[n].p99_ms for n in names], label="p99", alpha=0.5)
        axes.bar(names, [result.tenants[n].p50_ms for n in names], label="p50")
        axes.tick_params(axis="x", labelrotation=90, labelsize=6)

    return _drawn(draw, "Response time per tenant", "tenant", "ms")


def sender_lag(result: LoadResult) -> str:
    """Return how late the sender was, over the requests in their order."""
    lag = unpacked(result.samples["lag"]) / 1e6

    def draw(axes: Any) -> None:
        axes.plot(np.arange(len(lag)), lag, ",", label=f"p99 {result.lag.p99_ms:.2f} ms")

    return _drawn(draw, "The sender's own lag", "request", "ms")
