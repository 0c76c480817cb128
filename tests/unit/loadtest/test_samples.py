"""Percentiles are samples that were measured, exact, and go to other tools as HdrHistogram."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headgate_loadtest.samples import as_nanos, packed, percentile, summarize, unpacked, write_hdr_log


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=300), st.floats(0.1, 100))
def test_a_percentile_is_the_smallest_sample_that_so_many_do_not_exceed(
    values: list[int], percent: float
) -> None:
    samples = as_nanos(values)
    found = percentile(samples, percent)
    assert found in values
    assert (samples <= found).mean() * 100 >= percent - 1e-9
    below = samples[samples < found]
    assert len(below) / len(samples) * 100 < percent + 1e-9


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=100))
def test_packed_samples_are_unpacked_as_they_were(values: list[int]) -> None:
    assert unpacked(packed(as_nanos(values))).tolist() == values


def test_a_summary_of_nothing_says_so() -> None:
    empty = summarize(np.empty(0, dtype=np.int64))
    assert (empty.count, empty.mean_ms, empty.p99_ms, empty.max_ms) == (0, -1, -1, -1)


def test_the_hdr_log_is_read_by_others(tmp_path: Path) -> None:
    from hdrh.histogram import HdrHistogram

    write_hdr_log(tmp_path / "out.hlog", [("response", as_nanos([5_000_000] * 99 + [80_000_000]))], 0.0, 10.0)
    line = (tmp_path / "out.hlog").read_text().splitlines()[-1]
    histogram = HdrHistogram.decode(line.rpartition(",")[2])
    assert histogram.get_total_count() == 100
    assert abs(histogram.get_value_at_percentile(99.9) - 80_000) <= 80
