"""Latencies as they were measured: each kept as an int64, percentiles exact, HdrHistogram for exchange."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Nanos = npt.NDArray[np.int64]
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9, 100.0)


@dataclass(frozen=True)
class Summary:
    """A set of latencies in a few numbers, in milliseconds."""

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


def percentile(samples: Nanos, percent: float) -> int:
    """Return the smallest sample that `percent` of all do not exceed; -1 when there are none.

    Exact: a sample that was measured, never a value in between.
    """
    if not len(samples):
        return -1
    return int(np.percentile(samples, percent, method="inverted_cdf"))


def summarize(samples: Nanos) -> Summary:
    """Return the summary of samples in nanoseconds; all -1 when there are none."""
    if not len(samples):
        return Summary(0, *[-1.0] * 7)
    shown = [round(percentile(samples, p) / 1e6, 4) for p in PERCENTILES]
    return Summary(len(samples), round(float(samples.mean()) / 1e6, 4), *shown)


def as_nanos(values: Iterable[int]) -> Nanos:
    """Return values as an array of int64."""
    return np.fromiter(values, dtype=np.int64)


def write_hdr_log(path: Path, named: Sequence[tuple[str, Nanos]], began_s: float, took_s: float) -> None:
    """Write HdrHistogram's interval log (version 1.3), one line for each name; values in microseconds."""
    from hdrh.histogram import HdrHistogram

    lines = [
        "#[Logged with headgate loadtest]",
        "#[Histogram log format version 1.3]",
        f"#[StartTime: {began_s:.3f} (seconds since epoch)]",
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"',
    ]
    for name, samples in named:
        histogram = HdrHistogram(1, 24 * 3600 * 1_000_000, 3)
        for value in samples:
            histogram.record_value(max(1, int(value) // 1000))
        encoded = histogram.encode().decode()
        highest_ms = percentile(samples, 100) / 1e6
        lines.append(f"Tag={name},0.000,{took_s:.3f},{highest_ms:.3f},{encoded}")
    path.write_text("\n".join(lines) + "\n")


def packed(samples: Nanos) -> str:
    """Return samples as text: base64 of zlib of little-endian int64."""
    return base64.b64encode(zlib.compress(samples.astype("<i8").tobytes())).decode()


def unpacked(text: str) -> Nanos:
    """Return what `packed` was given."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<i8").astype(np.int64)
