from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate_graphs.errors import UserError
from headgate_protos.v1.common_pb2 import Source
from headgate_streams.offsets import OffsetTracker, SourceCursor

sources = st.builds(
    Source, partition=st.integers(0, 31), offset=st.integers(0, 2**53), index=st.integers(0, 1000)
)
"""What a gate writes as the source of an output."""


def place(source: Source) -> tuple[int, int]:
    return source.offset, source.index


@given(st.lists(sources, max_size=60))
def test_cursor_is_the_highest_place_of_each_partition(seen: list[Source]) -> None:
    cursor = SourceCursor()
    highest: dict[int, tuple[int, int]] = {}
    for source in seen:
        assert cursor.is_new(source) == (place(source) > highest.get(source.partition, (-1, -1)))
        cursor.advance(source)
        highest[source.partition] = max(place(source), highest.get(source.partition, (-1, -1)))
        assert not cursor.is_new(source)


@given(st.lists(sources, max_size=60), st.lists(sources, max_size=20))
def test_cursor_survives_its_text(seen: list[Source], later: list[Source]) -> None:
    cursor = SourceCursor()
    for source in seen:
        cursor.advance(source)
    again = SourceCursor.decode(cursor.encode())
    assert again == cursor
    assert again.encode() == cursor.encode()
    assert [again.is_new(s) for s in later] == [cursor.is_new(s) for s in later]


@given(st.lists(sources, max_size=20), sources)
def test_copy_of_a_cursor_is_independent(seen: list[Source], one: Source) -> None:
    cursor = SourceCursor()
    for source in seen:
        cursor.advance(source)
    text = cursor.encode()
    cursor.copy().advance(one)
    assert cursor.encode() == text


def test_text_of_sixteen_partitions_fits_into_commit_metadata() -> None:
    cursor = SourceCursor()
    for partition in range(100):
        cursor.advance(Source(partition=partition, offset=2**62, index=2**31 - 1))
    assert len(cursor.encode()) < 4096


@pytest.mark.parametrize("text", ["x", "2;0:1.2", "1;", "1;0:1", "1;0:a.b", "1;0:1.2;", "{}", "1;0:1.2,"])
def test_foreign_commit_metadata_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="not ours"):
        SourceCursor.decode(text)


def test_no_metadata_is_an_empty_cursor() -> None:
    assert SourceCursor.decode("") == SourceCursor()
    assert SourceCursor().encode() == ""


@given(
    gaps=st.lists(st.integers(1, 5), min_size=1, max_size=40),
    has_source=st.lists(st.booleans(), min_size=40, max_size=40),
    seed=st.integers(0, 2**32),
)
def test_committable_is_the_end_of_the_finished_prefix(
    gaps: list[int], has_source: list[bool], seed: int
) -> None:
    """Whatever the order of tracking and finishing, against the plain definition."""
    chance = random.Random(seed)
    offsets: list[int] = []
    for gap in gaps:
        offsets.append((offsets[-1] if offsets else 100) + gap)
    source_of = {
        offset: Source(partition=offset % 3, offset=offset, index=0) if wanted else None
        for offset, wanted in zip(offsets, has_source, strict=False)
    }
    tracker = OffsetTracker()
    waiting, tracked, finished = list(offsets), [], set()
    reported = -1
    while waiting or len(finished) < len(offsets):
        unfinished = [offset for offset in tracked if offset not in finished]
        if waiting and (not unfinished or chance.random() < 0.5):
            offset = waiting.pop(0)
            tracker.track(offset, source_of[offset])
            tracked.append(offset)
        else:
            offset = chance.choice(unfinished)
            tracker.done(offset)
            finished.add(offset)
        prefix = tracked[: next((i for i, o in enumerate(tracked) if o not in finished), len(tracked))]
        assert tracker.in_flight == len(tracked) - len(finished)
        committable = tracker.committable()
        expected_next = prefix[-1] + 1 if prefix else -1
        assert (committable.offset if committable else reported) == max(expected_next, reported)
        if committable is not None:
            cursor = SourceCursor()
            for done in prefix:
                if (source := source_of[done]) is not None:
                    cursor.advance(source)
            assert SourceCursor.decode(committable.metadata) == cursor
            if chance.random() < 0.5:
                tracker.committed_ok(committable)
                reported = committable.offset
                assert tracker.committable() is None


def test_committed_cursor_is_carried_on() -> None:
    before = SourceCursor()
    before.advance(Source(partition=1, offset=9, index=1))
    tracker = OffsetTracker(before)
    tracker.track(5, Source(partition=2, offset=3))
    tracker.done(5)
    committable = tracker.committable()
    assert committable is not None
    assert committable.metadata == "1;1:9.1,2:3.0"
    assert before.encode() == "1;1:9.1"


def test_done_twice_changes_nothing() -> None:
    tracker = OffsetTracker()
    for offset in (1, 2, 3):
        tracker.track(offset)
    for offset in (1, 1, 3, 3):
        tracker.done(offset)
    assert tracker.in_flight == 1
    tracker.done(2)
    assert tracker.in_flight == 0
    committable = tracker.committable()
    assert committable is not None
    assert committable.offset == 4


def test_tracking_out_of_order_is_a_bug_and_said_so() -> None:
    tracker = OffsetTracker()
    tracker.track(5)
    with pytest.raises(ValueError, match="tracked after"):
        tracker.track(5)
