from __future__ import annotations

import pytest

from headgate_graphs.errors import UserError
from headgate_graphs.ids import execution_id
from headgate_streams.topics import Topics, murmur2, partition_for, spread


def signed(number: int) -> int:
    return number - 2**32 if number >= 2**31 else number


@pytest.mark.parametrize(
    ("key", "java"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_gives_the_numbers_of_kafkas_own_test(key: bytes, java: int) -> None:
    assert signed(murmur2(key)) == java


def test_partition_is_the_same_for_text_and_bytes_and_in_range() -> None:
    for number in range(200):
        tenant = f"tenant-{number}"
        assert partition_for(tenant, 16) == partition_for(tenant.encode(), 16)
        assert 0 <= partition_for(tenant, 16) < 16


def test_partitions_are_used_evenly() -> None:
    counts = [0] * 16
    for number in range(16_000):
        counts[partition_for(f"tenant-{number}", 16)] += 1
    assert min(counts) > 850
    assert max(counts) < 1150


def test_names_carry_prefix_and_queue() -> None:
    topics = Topics("hg")
    assert topics.executions == "hg.executions"
    assert topics.task_inputs() == "hg.task-inputs"
    assert topics.task_inputs("gpu") == "hg.task-inputs.gpu"
    assert topics.plan_inputs("gpu") == "hg.plan-inputs.gpu"


@pytest.mark.parametrize("queue", ["a b", "../x", "-x", "a" * 129, "ü"])
def test_bad_queue_names_are_refused(queue: str) -> None:
    with pytest.raises(UserError, match="queue name"):
        Topics().task_inputs(queue)


def test_descriptions_hold_every_topic_once() -> None:
    topics = Topics()
    found = {topic.name: topic for topic in topics.descriptions(16, ["gpu", "gpu"])}
    assert len(topics.descriptions(16, ["gpu", "gpu"])) == len(found) == 9
    assert {t.partitions for n, t in found.items() if n != topics.checkpoints} == {16}
    assert found[topics.checkpoints].partitions == 1
    assert found[topics.lifetimes].config["cleanup.policy"] == "compact"
    assert found[topics.executions].config["cleanup.policy"] == "delete"
    assert {t.config["message.timestamp.type"] for t in found.values()} == {"LogAppendTime"}


def test_inputs_are_spread_evenly_and_always_alike() -> None:
    counts = [0] * 16
    for number in range(1_600):
        counts[spread(execution_id("acme", "run-1", "call", number, 1), 16)] += 1
    assert min(counts) > 60
    assert spread("0123456789abcdef0123456789abcdef", 16) == 14
