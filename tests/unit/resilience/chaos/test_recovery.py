"""The longest stall, seconds and quantiles."""

from __future__ import annotations

from headgate_resilience.chaos.watching.recovery import longest_stall, quantile, seconds
from headgate_resilience.chaos.watching.timeline import Lag
from headgate_streams.port import TopicPartition

HERE, THERE = TopicPartition("log", 0), TopicPartition("log", 1)


def test_a_stall_counts_from_the_fault_when_it_was_asked_before() -> None:
    lags = [Lag(500, 1_010, HERE), Lag(900, 7_000, THERE), Lag(2_000, 7_500, HERE)]
    stall = longest_stall(lags, 1_000, 10_000)
    assert (stall.seconds, stall.where) == (6.0, "log[1]")


def test_what_happened_before_or_after_the_stretch_does_not_count() -> None:
    assert longest_stall([Lag(0, 900, HERE), Lag(0, 9_000, HERE)], 1_000, 8_000).seconds == 0.0


def test_a_stretch_in_which_nothing_happened_says_so() -> None:
    assert longest_stall([], 0, 1_000).where == "nothing happened"


def test_seconds_without_a_step_are_there_too() -> None:
    found = seconds([(1_000, 5), (1_500, 15), (4_200, 100)], 1_000)
    assert [one.steps for one in found] == [2, 0, 0, 1]
    assert (found[0].p50_ms, found[0].p99_ms, found[1].p99_ms) == (15.0, 15.0, 0.0)


def test_a_quantile_is_a_value_that_was_there() -> None:
    assert quantile(list(range(100)), 0.99) == 99.0
    assert quantile([], 0.5) == 0.0
