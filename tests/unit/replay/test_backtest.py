"""The live policy gives exactly the live verdicts; a stricter one stops runs, and saves what they spent."""

from __future__ import annotations

from typing import Any

from headgate_guardrails.fold.definitions import orchestrate
from headgate_guardrails.fold.engine import GuardrailEngine
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.policy import Policy, policy_from_json
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_replay.backtest import BacktestInput, BacktestReport, backtest_log
from headgate_replay.backtest.drafts import Draft
from headgate_replay.backtest.trial import Side
from headgate_streams.blobs import MemoryBlobStore
from headgate_streams.settings import StreamSettings
from tests.unit.guardrails.properties.partition import digest_of
from tests.unit.replay.memory_log import log_of
from tests.unit.resilience.check.stories import LOOP, Story, rounds
from tests.unit.resilience.check.test_check_properties import heard
from tests.unit.resilience.check.topics_in_memory import MemoryTopics

SETTINGS = StreamSettings(local=":memory:", partitions=1)  # type: ignore[arg-type]
WORLDS = 10


def policy(limit: int, action: str = "abort_lifetime") -> Policy:
    rule = {"name": "much", "scope": "lifetime", "action": action, "limit": {"tokens_used": limit}}
    document = {"kind": "GuardrailPolicy", "metadata": {"name": "caps", "version": 1}, "rules": [rule]}
    return Policy.model_validate(document)


def tried(topics: MemoryTopics, *drafts: Policy, **asked: Any) -> BacktestReport:
    named = [(f"draft {number}", one) for number, one in enumerate(drafts)]
    return backtest_log(log_of(topics), MemoryBlobStore(), SETTINGS, BacktestInput(named, **asked))


def story(limit: int = 1_000) -> Story:
    """Return two runs of 5 tasks, 50 tokens each, under a cap that is not reached."""
    told = Story()
    told.register(LOOP)
    rule = {"name": "much", "scope": "lifetime", "action": "abort_lifetime", "limit": {"tokens_used": limit}}
    told.set_policy(rule)
    told.start("one")
    told.start("two")
    told.work(rounds(4))
    told.wait()
    return told


def test_the_live_policies_say_exactly_what_was_said() -> None:
    """Event by event, in worlds whose policies change, are raised and are everybody's."""
    events = 0
    for seed in range(WORLDS):
        orchestrate.cache_clear()
        topics = heard(seed, 300)
        log = topics.records[topics.topics.executions][0]
        then = GuardrailEngine(PartitionState(0, 1))
        side = Side(GuardrailEngine(PartitionState(0, 1)), Draft(_only_ones(log)))
        for record in log:
            said, here = then.apply(record), side.take(record)
            side.compare(here, said)
            assert digest_of(here) == digest_of(said), f"seed {seed}, record {record.offset}"
            events += sum(output.topic == "control-events" for output in said)
        assert (side.undone, side.ahead) == ({}, {})
    assert events > 100


def _only_ones(log: list[Any]) -> list[Policy]:
    """Return the policies of which the log has one version alone, for everybody."""
    found: dict[str, set[str]] = {}
    for record in log:
        try:
            envelope = ExecutionEnvelope.FromString(record.value or b"")
        except Exception:
            continue
        if envelope.WhichOneof("payload") == "policy_set":
            found.setdefault(envelope.policy_set.name, set()).add(envelope.policy_set.document_json)
    return [policy_from_json(one) for texts in found.values() if len(texts) == 1 for one in texts]


def test_the_live_policy_changes_nothing() -> None:
    report = tried(story(150).topics, policy(150))
    (draft,) = report.drafts
    assert draft.verdicts == report.live.verdicts
    assert report.live.verdicts["caps v1 much", "aborted"] == 2
    assert report.saved(draft) == (0, 0)
    assert (draft.wrongly_stopped, draft.unlived) == (0, 0)


def test_a_stricter_draft_saves_what_was_spent_after_it_stops() -> None:
    report = tried(story().topics, policy(150), policy(1_000))
    strict, same = report.drafts
    assert report.live.verdicts == same.verdicts == {}
    assert strict.verdicts == {("caps v1 much", "aborted"): 2}
    assert report.saved(strict).tokens > 0
    assert report.saved(strict) == strict.saved_by["caps v1 much"]
    assert report.saved(same) == (0, 0)
    assert [(one.lifetime_id, one.stop.verdict) for one in strict.named] == [
        ("one", "aborted"), ("two", "aborted"),
    ]  # fmt: skip
    assert strict.wrongly_stopped == 2
    *_, (_, spent) = report.spend_over_time()
    assert spent == tuple(side.spent.cost_nano_usd for side in report.sides)


def test_a_run_that_a_draft_holds_is_named_and_what_it_would_have_spent_is_saved() -> None:
    (held,) = tried(story().topics, policy(150, "pause_lifetime")).drafts
    assert held.verdicts == {("caps v1 much", "paused"): 2}
    assert held.wrongly_stopped == 2


def test_a_laxer_draft_dispatches_what_has_no_result() -> None:
    report = tried(story(150).topics, policy(1_000))
    assert report.live.verdicts["caps v1 much", "aborted"] == 2
    assert report.drafts[0].verdicts == {}
    assert report.drafts[0].unlived > 0


def test_a_draft_of_a_new_name_is_in_force_only_when_it_is_added() -> None:
    told = Story()
    told.register(LOOP)
    told.start()
    told.work(rounds(4))
    assert tried(told.topics, policy(150)).drafts[0].verdicts == {}
    assert tried(told.topics, policy(150), added=True).drafts[0].verdicts == {("caps v1 much", "aborted"): 1}
    assert tried(told.topics, policy(150), added=True, tenant="other").records == len(told.log)


def test_results_that_waited_for_a_throttle_are_taken_when_it_is_over() -> None:
    told = story()
    told.wait(60_000)
    rule: dict[str, Any] = {"name": "slow", "scope": "tenant", "action": "throttle", "window": "1m"}
    rule["limit"] = {"tokens_used": 100}
    document = {"kind": "GuardrailPolicy", "metadata": {"name": "caps", "version": 2}, "rules": [rule]}
    for _ in range(20):
        told.wait(60_000)
    report = tried(told.topics, Policy.model_validate(document))
    (draft,) = report.drafts
    assert draft.verdicts["caps v2 slow", "throttled"] > 0
    assert report.saved(draft) == (0, 0)
    assert (draft.wrongly_stopped, draft.unlived) == (0, 0)
