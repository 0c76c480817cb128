"""The research agent's handlers, called as the plain functions they are."""

from __future__ import annotations

import pytest

from headgate_graphs.errors import NonRetryable


@pytest.fixture
def research(example):
    return example("research_agent")


def test_the_question_goes_to_every_search(research, plan_context, run):
    decision = run(
        research.ask(plan_context({}, allowed=["a", "b"], question="Why?", wait_s={"b": 2, "x": 1}))
    )
    assert decision.next == ["a", "b"]
    assert decision.inputs == {"a": {"question": "Why?"}, "b": {"question": "Why?", "wait_s": 2.0}}


def test_a_search_answers_by_its_method(research, task_context, run):
    data = research.Search(method="title", question="What is a sextant?")
    assert run(research.search(task_context(), data)) == {"sextant": 1}


def test_a_search_that_finds_nothing_has_failed(research, task_context, run):
    with pytest.raises(NonRetryable, match="answers by title"):
        run(research.search(task_context(), research.Search(method="title", question="Volcanoes?")))


def test_an_empty_shelf_is_named(research, task_context, run, tmp_path):
    data = research.Search(method="title", question="Why?")
    with pytest.raises(NonRetryable, match="no texts in"):
        run(research.search(task_context(corpus=str(tmp_path)), data))


def test_texts_that_several_searches_put_first_win(research, plan_context, run):
    found = {"one": {"a": 9, "b": 1}, "two": {"c": 9, "a": 1}, "three": {"c": 2, "d": 1}}
    decision = run(research.collect(plan_context(found)))
    assert decision.output == {"sources": ["c", "a", "b"]}
    assert decision.metadata == {"searches": ["one", "two", "three"]}


def test_a_search_that_failed_has_no_vote(research, plan_context, run):
    decision = run(research.collect(plan_context({"one": OSError("down"), "two": {"a": 1}})))
    assert decision.metadata == {"searches": ["two"]}


def test_nothing_found_fails_the_run(research, plan_context, run):
    with pytest.raises(NonRetryable, match="no search found anything for: Volcanoes"):
        run(research.collect(plan_context({"one": OSError("nothing")}, question="Volcanoes?")))


def drafted(research, task_context, iteration, **brief):
    return research.draft(task_context(iteration), research.Brief(**brief))["text"]


def test_a_draft_says_what_its_sources_say_about_the_question(research, task_context):
    text = drafted(research, task_context, 1, sources=["dead_reckoning", "knots"])
    assert text.startswith("# How did sailors find their longitude at sea?\n")
    assert "prize for finding the longitude. [1]" in text
    assert text.endswith("[1] Dead reckoning\n[2] Why speed is counted in knots\n")


def test_a_revision_keeps_its_sources_and_has_what_was_missed(research, task_context):
    first = drafted(research, task_context, 1, sources=["chronometer", "dead_reckoning"])
    second = drafted(research, task_context, 2, wishes=["the traverse board"])
    assert "traverse board" not in first
    assert "traverse board" in second


def test_a_draft_that_is_written_twice_is_the_same(research, task_context):
    drafted(research, task_context, 1, sources=["chronometer"])
    again = [drafted(research, task_context, 2, wishes=["Jamaica"]) for _ in range(2)]
    assert again[0] == again[1]


def test_a_person_sees_the_draft(research, plan_context, run):
    decision = run(research.present(plan_context({"draft": {"file": "f", "text": "t"}})))
    assert decision.next == ["approve"]
    assert decision.output == {"question": "Is this draft good?", "file": "f", "text": "t"}


@pytest.mark.parametrize("outcome", ["approved", "answered"])
def test_what_a_person_lets_through_is_published(research, plan_context, run, outcome):
    said = {"approve": {"outcome": outcome, "answer": None}}
    decision = run(research.judge(plan_context(said, iteration=2)))
    assert (decision.next, decision.output) == (["publish"], {"draft": 2})


def test_what_a_person_rejects_is_revised_by_their_words(research, plan_context, run):
    said = {"approve": {"outcome": "rejected", "answer": "shorter"}}
    decision = run(research.judge(plan_context(said, iteration=2)))
    assert (decision.next, decision.output) == (["draft"], {"wishes": ["shorter"]})


def test_the_last_draft_that_is_rejected_fails_the_run(research, plan_context, run):
    said = {"approve": {"outcome": "rejected", "answer": "no"}}
    with pytest.raises(NonRetryable, match="none of 3 drafts was approved; the last word: no"):
        run(research.judge(plan_context(said, iteration=3)))


def test_a_person_who_does_not_answer_fails_the_run(research, plan_context, run):
    with pytest.raises(NonRetryable, match="approve failed: no person answered"):
        run(research.judge(plan_context({"approve": TimeoutError("no person answered")})))


def test_the_report_is_the_draft_that_was_approved(research, task_context, tmp_path):
    drafted(research, task_context, 1, sources=["knots"])
    second = drafted(research, task_context, 2, wishes=["sandglass"])
    published = research.publish(task_context(), {"draft": 2})
    assert (published["report"], published["sources"], published["drafts"]) == (second, ["knots"], 2)
    assert (tmp_path / "acme/r1/report.md").read_text() == second
