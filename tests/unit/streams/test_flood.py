from __future__ import annotations

from headgate_streams.flood import FIRST_PAUSE_S, LONGEST_PAUSE_S, FloodLimit
from headgate_streams.port import TopicPartition

HERE = TopicPartition("t", 0)
THERE = TopicPartition("t", 1)


def test_as_many_as_the_limit_may_come_at_once_and_one_more_pauses_the_source() -> None:
    flood = FloodLimit(60)
    assert [flood.note(HERE, 100.0) for _ in range(60)] == [0.0] * 60
    assert flood.note(HERE, 100.0) == FIRST_PAUSE_S
    assert flood.paused() == [HERE]
    assert flood.note(THERE, 100.0) == 0.0


def test_a_steady_trickle_below_the_limit_never_pauses() -> None:
    flood = FloodLimit(60)
    assert {flood.note(HERE, 100.0 + second) for second in range(1_000)} == {0.0}


def test_what_was_fetched_before_the_pause_does_not_pause_again() -> None:
    flood = FloodLimit(1)
    flood.note(HERE, 0.0)
    assert flood.note(HERE, 0.0) == FIRST_PAUSE_S
    assert [flood.note(HERE, 0.1) for _ in range(100)] == [0.0] * 100


def test_a_pause_is_over_once_and_the_next_one_is_longer_up_to_a_minute() -> None:
    flood, now, pauses = FloodLimit(60), 0.0, []
    for _ in range(6):
        while not (pause_s := flood.note(HERE, now)):
            pass
        pauses.append(pause_s)
        assert flood.over(now + pause_s - 0.1) == []
        now += pause_s
        assert flood.over(now) == [HERE]
        assert flood.over(now) == []
    assert pauses == [5.0, 10.0, 20.0, 40.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S]


def test_a_quiet_minute_is_forgiven() -> None:
    flood = FloodLimit(1)
    flood.note(HERE, 0.0)
    assert flood.note(HERE, 0.0) == FIRST_PAUSE_S
    flood.over(100.0)
    assert flood.note(HERE, 200.0) == 0.0
    assert flood.note(HERE, 200.0) == FIRST_PAUSE_S


def test_no_limit_counts_nothing() -> None:
    flood = FloodLimit(0)
    assert {flood.note(HERE, 0.0) for _ in range(10_000)} == {0.0}
    assert flood.paused() == []


def test_what_somebody_else_reads_is_forgotten() -> None:
    flood = FloodLimit(1)
    flood.note(HERE, 0.0)
    flood.note(HERE, 0.0)
    flood.forget([HERE, THERE])
    assert flood.paused() == []
    assert flood.over(1_000.0) == []
    assert flood.note(HERE, 0.0) == 0.0


def test_the_warning_says_which_source_how_many_and_for_how_long() -> None:
    said = FloodLimit(600).warning(HERE, 5.0)
    assert said.startswith("t[0] yields more than 600 dead letters a minute: it is not read for 5 s")
