"""The map/reduce handlers, called as the plain functions they are."""

from __future__ import annotations

import pytest

from headgate_graphs.errors import NonRetryable

MAPPERS = ["m1", "m2", "m3"]


@pytest.fixture
def words(example):
    return example("map_reduce")


@pytest.mark.parametrize("lines", [0, 1, 2, 3, 7])
def test_every_line_goes_to_one_mapper_in_its_order(words, plan_context, tmp_path, lines):
    text = [f"line {number}" for number in range(lines)]
    (tmp_path / "text.txt").write_text("\n".join(text))
    decision = words.split(plan_context({}, allowed=MAPPERS, text=str(tmp_path / "text.txt")))
    assert decision.next == MAPPERS
    parts = [decision.inputs[mapper]["lines"] for mapper in MAPPERS]
    assert [line for part in parts for line in part] == text
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_text_that_is_not_there_is_named(words, plan_context):
    with pytest.raises(NonRetryable, match=r"nowhere\.txt"):
        words.split(plan_context({}, allowed=MAPPERS, text="nowhere.txt"))


def test_words_are_counted_without_case_and_punctuation(words, task_context):
    shard = words.Shard(lines=["Of shoes--and ships--", "and sealing-wax;", "I've SHIPS"])
    context = task_context()
    counted = words.count_words(context, shard)
    assert counted == {"of": 1, "shoes": 1, "and": 2, "ships": 2, "sealing-wax": 1, "i've": 1}
    assert context.usage.spent()[0] == 8


def test_the_reducer_gets_all_counts(words, plan_context):
    decision = words.gather(plan_context({"m1": {"a": 1}, "m2": {"a": 2}}))
    assert (decision.next, decision.output) == (["reduce"], {"counts": [{"a": 1}, {"a": 2}]})


def test_a_mapper_that_failed_fails_the_run(words, plan_context):
    with pytest.raises(NonRetryable, match="m2 failed: disk full"):
        words.gather(plan_context({"m1": {"a": 1}, "m2": OSError("disk full")}))


def test_the_outcome_has_the_most_frequent_words_first(words, task_context):
    data = {"counts": [{"b": 1, "a": 1}, {"a": 1, "c": 3}]}
    outcome = words.reduce(task_context(top=2), data)
    assert outcome == {"words": 6, "different": 3, "top": {"c": 3, "a": 2}, "shards": 2}
    assert list(outcome["top"]) == ["c", "a"]
