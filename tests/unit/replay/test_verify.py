"""A sound log has no divergence; one thing that is changed is found, at its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from headgate_guardrails.fold.definitions import orchestrate
from headgate_guardrails.fold.engine import GuardrailEngine
from headgate_guardrails.fold.quarantine import Hold
from headgate_guardrails.fold.state import PartitionState
from headgate_protos.v1 import execution_pb2
from headgate_protos.v1.control_pb2 import ExecutionEvent
from headgate_replay.reading.installation import Installation
from headgate_replay.reading.moments import Moment, Range
from headgate_replay.verify import Divergence, VerifyInput, VerifyReport, verify_log
from headgate_streams.blobs import MemoryBlobStore
from headgate_streams.port import LogRecord
from headgate_streams.settings import StreamSettings
from tests.support import needs_source
from tests.unit.guardrails.properties.mutations import (
    MUTATIONS,
    Mutation,
    a_rest_forgets_what_was_settled,
    checkpoint_forgets_the_delayed,
)
from tests.unit.guardrails.properties.partition import digest_of
from tests.unit.replay.memory_log import log_of
from tests.unit.resilience.check.stories import LOOP, Story, loop_story, rounds
from tests.unit.resilience.check.test_check import lose, records
from tests.unit.resilience.check.test_check_properties import heard
from tests.unit.resilience.check.topics_in_memory import MemoryTopics

WORLDS = 12
STEPS = 400
MOST_WORLDS = 40
"""Worlds in which a planted bug must have decided something otherwise."""
SETTINGS = StreamSettings(local=":memory:", partitions=1)  # type: ignore[arg-type]
KEEPING = (a_rest_forgets_what_was_settled, checkpoint_forgets_the_delayed)
"""Planted bugs of keeping a state, which a fold that neither rests nor restarts does not meet."""
FOLDED = tuple(one for one in MUTATIONS if one not in KEEPING)
"""Planted bugs of the fold itself."""


def verified(topics: MemoryTopics, committed: int | None = None, **asked: Any) -> VerifyReport:
    return verify_log(log_of(topics, committed), MemoryBlobStore(), SETTINGS, VerifyInput(**asked))


def divergence(topics: MemoryTopics, **asked: Any) -> Divergence:
    """Return the only one; it must be readable."""
    report = verified(topics, **asked)
    (found,) = report.divergences
    assert "no divergence" not in report.lines()
    assert report.to_json()["verified"] is False
    return found


def between(first: int | None = None, end: int | None = None) -> Range:
    return Range(
        Moment(offset=first) if first is not None else None, Moment(offset=end) if end is not None else None
    )


def warned() -> Story:
    """Return a loop of which a rule warns, that has come to its end."""
    story = Story()
    story.register(LOOP)
    rule = {"name": "much", "scope": "lifetime", "action": "warn", "limit": {"tokens_used": 60}}
    story.set_policy(rule)
    story.start()
    story.work(rounds(3))
    return story


# -- sound logs ------------------------------------------------------------------------------------------


def test_random_worlds_have_no_divergence() -> None:
    compared = 0
    for seed in range(WORLDS):
        topics = heard(seed, STEPS)
        report = verified(topics)
        assert not report.divergences, f"seed {seed}\n" + "\n".join(report.lines())
        assert report.counts.folded == len(topics.records[topics.topics.executions][0])
        compared += report.counts.compared
    assert compared > WORLDS * STEPS / 4


def test_a_part_of_the_log_is_compared_alone() -> None:
    topics = heard(1, STEPS)
    _stamp(topics)
    whole, part = verified(topics), verified(topics, range=between(100, 200))
    rest = [verified(topics, range=between(0, 100)), verified(topics, range=between(200))]
    assert not part.divergences
    assert part.counts.compared + sum(one.counts.compared for one in rest) == whole.counts.compared


def _stamp(topics: MemoryTopics) -> None:
    """Give outputs the time of the records that led to them: where a range begins is found by time."""
    log = topics.records[topics.topics.executions][0]
    for topic, kind in Installation(log_of(topics), topics.topics).outputs().items():
        found = topics.records[topic][0]
        for place, record in enumerate(found):
            source = kind.FromString(record.value or b"").source
            found[place] = replace(record, timestamp_ms=log[source.offset].timestamp_ms)


def test_outputs_that_are_said_again_are_told_by_their_source() -> None:
    story = warned()
    for kind in ("control-events", "plan-inputs", "lifetimes"):
        for record in list(records(story, kind)):
            found = records(story, kind)
            found.append(replace(record, offset=found[-1].offset + 1))
    report = verified(story.topics)
    assert not report.divergences
    assert report.counts.repeats == 1 + 4 + 2


def test_what_no_gate_has_committed_is_not_looked_at() -> None:
    story = warned()
    lose(story, "lifetimes", -1)
    last = records(story, "executions")[-1].offset
    report = verified(story.topics, committed=last)
    assert (report.divergences, report.not_acted_on) == ([], 1)


def test_states_are_compared_with_checkpoints() -> None:
    story = warned()
    story.checkpoint()
    assert verified(story.topics).counts.states == 1
    story.checkpoint(wrong=True)
    records(story, "checkpoints").pop(0)
    found = divergence(story.topics)
    assert (found.kind, found.offset) == ("state", len(story.log) - 1)
    assert "0000" in found.detail


def test_a_tenant_that_gates_have_held_is_held_again() -> None:
    story = Story(Hold("acme", 4, "planted"))
    story.append("*", logic_version=execution_pb2.LogicVersionActivated(version=2))
    story.register(LOOP)
    story.register(LOOP, "other")
    story.start()
    story.append("acme", "x", heartbeat=execution_pb2.WorkerHeartbeat())
    note = execution_pb2.TenantQuarantined(from_offset=4, error="planted")
    story.append("acme", tenant_quarantined=note)
    story.start(tenant="acme", lifetime="waits")
    story.start(tenant="other", lifetime="goes-on")
    report = verified(story.topics)
    assert not report.divergences, "\n".join(report.lines())


# -- one thing is changed --------------------------------------------------------------------------------


def test_each_byte_of_a_control_event_counts() -> None:
    story = warned()
    (event,) = records(story, "control-events")
    value = event.value or b""
    for place in range(len(value)):
        changed = bytes((*value[:place], value[place] ^ 1, *value[place + 1 :]))
        records(story, "control-events")[0] = replace(event, value=changed)
        found = verified(story.topics).divergences
        assert any(one.where.startswith("headgate.control-events[0]") for one in found), f"byte {place}"


def test_a_changed_control_event_is_shown_beside_what_the_fold_says() -> None:
    story = warned()
    (event,) = records(story, "control-events")
    message = ExecutionEvent.FromString(event.value or b"")
    message.violations[0].measured += 1
    records(story, "control-events")[0] = replace(event, value=message.SerializeToString())
    found = divergence(story.topics)
    assert (found.kind, found.message, found.where) == (
        "differs", "ExecutionEvent", "headgate.control-events[0]@0",
    )  # fmt: skip
    assert (found.offset, found.index) == (message.source.offset, message.source.index)
    assert found.differences == ["-   measured: 151", "+   measured: 150"]
    assert found.rules == ["caps v1 much"]
    assert found.record == "plan_execution of tenant acme, lifetime run"


@pytest.mark.parametrize("part", ["key", "headers"])
def test_key_and_headers_are_part_of_an_output(part: str) -> None:
    story = warned()
    found = records(story, "plan-inputs")
    changed: dict[str, Any] = {"key": b"x"} if part == "key" else {"headers": (("hg-type", b"TaskInput"),)}
    found[1] = replace(found[1], **changed)
    assert divergence(story.topics).where == "headgate.plan-inputs[0]@1"


def test_headers_of_others_do_not_count() -> None:
    story = warned()
    found = records(story, "plan-inputs")
    found[1] = replace(found[1], headers=(*found[1].headers, ("traceparent", b"00-x")))
    assert not verified(story.topics).divergences


@pytest.mark.parametrize("kind", ["control-events", "plan-inputs", "task-inputs"])
def test_an_output_that_was_never_written_is_named(kind: str) -> None:
    story = warned()
    lost = records(story, kind)[0]
    lose(story, kind, 0)
    found = divergence(story.topics)
    assert (found.kind, found.where, found.written) == ("missing", f"headgate.{kind}[0]", "")
    assert f"offset: {_source(story, lost)}" in found.folded


def _source(story: Story, lost: LogRecord) -> int:
    """Return the offset of the record that leads to an output."""
    engine = GuardrailEngine(PartitionState(0, 1))
    return next(
        record.offset
        for record in story.log
        if any(output.value == lost.value for output in engine.apply(record))
    )


def test_a_view_that_compaction_took_is_not_missed_and_one_that_it_left_is() -> None:
    story = warned()
    first = records(story, "lifetimes").pop(0)
    report = verified(story.topics)
    assert (report.divergences, report.counts.compacted) == ([], 1)
    records(story, "lifetimes").insert(0, replace(first, key=b"other"))
    assert divergence(story.topics).kind == "differs"


def test_an_output_that_the_fold_does_not_say_is_named() -> None:
    story = warned()
    found = records(story, "control-events")
    event = ExecutionEvent.FromString(found[0].value or b"")
    event.source.index += 7
    found.append(replace(found[0], offset=1, value=event.SerializeToString()))
    one = divergence(story.topics)
    assert (one.kind, one.where, one.folded) == ("extra", "headgate.control-events[0]@1", "")
    assert one.offset == event.source.offset


def test_a_repeat_with_other_bytes_is_named() -> None:
    story = warned()
    found = records(story, "control-events")
    event = ExecutionEvent.FromString(found[0].value or b"")
    event.reason = "another"
    found.append(replace(found[0], offset=1, value=event.SerializeToString()))
    assert divergence(story.topics).kind == "repeat"


def test_what_no_gate_wrote_is_named() -> None:
    story = warned()
    found = records(story, "control-events")
    found.append(replace(found[0], offset=1, value=b"\xff"))
    one = divergence(story.topics)
    assert (one.kind, one.where, one.offset) == ("stray", "headgate.control-events[0]@1", None)


@pytest.mark.parametrize("place", [3, 6, -1])
def test_a_record_that_is_gone_from_the_middle_is_named(place: int) -> None:
    story = warned()
    story.wait()
    gone = story.log.pop(place - 1 if place < 0 else place)
    found = divergence(story.topics)
    assert (found.kind, found.offset) == ("lost", gone.offset)


def test_a_record_that_is_dropped_without_a_trace_is_missed_where_it_mattered() -> None:
    story = warned()
    lose(story, "executions", 5)
    assert divergence(story.topics).offset == 5


def test_the_first_difference_is_named_whichever_topic_shows_it() -> None:
    story = warned()
    for kind, place in (("plan-inputs", -1), ("task-inputs", 0), ("lifetimes", -1)):
        found = records(story, kind)
        found[place] = replace(found[place], key=b"x")
    assert divergence(story.topics).where == "headgate.task-inputs[0]@0"


def test_a_tenant_is_looked_at_alone() -> None:
    story = loop_story()
    story.register(LOOP, "other")
    story.start(tenant="other", lifetime="two")
    lost = records(story, "plan-inputs")[-1]
    lose(story, "plan-inputs", -1)
    assert dict(lost.headers)["hg-tenant"] == b"other"
    assert not verified(story.topics, tenant="acme").divergences
    assert divergence(story.topics, tenant="other").kind == "missing"


# -- another logic ---------------------------------------------------------------------------------------


@needs_source
@pytest.mark.parametrize("mutation", FOLDED, ids=lambda mutation: mutation.__name__)
def test_a_changed_logic_is_named_where_it_first_decides_otherwise(mutation: Mutation) -> None:
    for seed in range(MOST_WORLDS):
        topics = heard(seed, 200)
        log = topics.records[topics.topics.executions][0]
        expected = _first_difference(log, mutation)
        if expected is None:
            continue
        found = _mutated(mutation, lambda: verified(topics).divergences)  # noqa: B023
        orchestrate.cache_clear()
        assert [one.offset for one in found] == [expected], f"seed {seed}"
        return
    pytest.fail(f"{mutation.__name__} decided nothing otherwise in {MOST_WORLDS} worlds")


def _first_difference(log: list[LogRecord], mutation: Mutation) -> int | None:
    """Return the first record of which the changed fold says something else, or fails."""
    said = _said(log)
    changed = _mutated(mutation, lambda: _said(log))
    return next((at for at, (one, other) in enumerate(zip(said, changed, strict=True)) if one != other), None)


def _mutated(mutation: Mutation, do: Callable[[], Any]) -> Any:
    orchestrate.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        mutation(patch)
        found = do()
    orchestrate.cache_clear()
    return found


def _said(log: list[LogRecord]) -> list[bytes]:
    engine = GuardrailEngine(PartitionState(0, 1))
    said: list[bytes] = []
    for record in log:
        try:
            said.append(digest_of(engine.apply(record)))
        except Exception:
            said.append(b"failed")
            return said + [b""] * (len(log) - len(said))
    return said


@needs_source
def test_a_fold_that_fails_is_named() -> None:
    story = warned()

    def broken(*_: Any) -> None:
        raise RuntimeError("planted")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headgate_guardrails.fold.engine.on_result", broken)
        found = divergence(story.topics)
    assert (found.kind, found.offset) == ("failed", 3)
    assert "planted" in found.detail
