"""The coding agent's handlers, called as the plain functions they are."""

from __future__ import annotations

import sys

import pytest

from headgate_graphs.errors import NonRetryable, UserError

REPORT = {
    "files": [],
    "explanation": "why",
    "tried": "the diff",
    "output": "1 failed",
    "directory": "d",
    "model": "m",
}


def test_the_default_request_reads_the_shipped_issue_and_repository(issue_read):
    assert "loses cents" in issue_read["issue"]
    assert {"tally/split.py", "tests/test_split.py"} <= set(issue_read["files"])


def test_an_issue_may_be_text_and_a_repository_anywhere(handlers, task_context, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.py").write_text("x = 1\n")
    request = handlers.Request(repo=tmp_path / "mine", issue="x is wrong")
    read = handlers.read_issue(task_context(repo=str(tmp_path / "mine")), request)
    assert read == {"issue": "x is wrong", "files": ["a.py"]}


def test_a_repository_that_is_not_there_fails_without_a_retry(handlers, task_context):
    with pytest.raises(NonRetryable, match="not a directory"):
        handlers.read_issue(task_context(), handlers.Request(repo="/nowhere"))


def test_the_search_puts_the_file_that_holds_most_first(handlers, task_context, issue_read):
    found = handlers.search_code(task_context(), {"look_for": ["split_evenly", "//"]})
    assert found["files"][0] == "tally/split.py"
    assert any(match.startswith("tally/split.py:") for match in found["matches"])


def test_the_findings_of_both_branches_reach_the_first_proposal(handlers, plan_context, run):
    found, report = {"files": ["a.py"], "matches": []}, {"passed": False, "output": "1 failed"}
    decision = run(handlers.diagnose(plan_context({"run_tests": report, "search_code": found})))
    assert decision.next == ["propose_patch"]
    assert decision.output == {"files": ["a.py"], "matches": [], "failure": "1 failed", "tried": ""}


def test_a_failed_branch_fails_the_run_with_its_reason(handlers, plan_context, run):
    with pytest.raises(NonRetryable, match="search_code failed: disk full"):
        run(handlers.diagnose(plan_context({"run_tests": {}, "search_code": OSError("disk full")})))


def test_a_patch_that_cannot_be_applied_counts_as_one_that_fails(handlers, task_context, issue_read, run):
    edit = {"file": "tally/split.py", "find": "not there", "replace": ""}
    data = {"explanation": "", "edits": [edit], "files": []}
    checked = run(handlers.validate(task_context(), data)).value
    assert not checked["passed"]
    assert "occurs 0 times" in checked["output"]


@pytest.mark.parametrize(("edits", "target"), [([], "propose_patch"), ([{"file": "a"}], "validate")])
def test_a_patch_that_changes_nothing_is_asked_for_again(handlers, plan_context, run, edits, target):
    assert run(handlers.check_patch(plan_context({"propose_patch": {"edits": edits}}))).next == [target]


@pytest.mark.parametrize(("approve", "target"), [(False, "accept"), (True, "approve")])
def test_a_patch_that_passes_is_accepted_or_shown_to_a_person(handlers, plan_context, run, approve, target):
    report = REPORT | {"passed": True, "round": 2}
    decision = run(handlers.decide(plan_context({"validate": report}, approve=approve)))
    assert decision.next == [target]
    assert decision.output["diff"] == "the diff"


def test_a_patch_that_fails_goes_back_with_what_failed(handlers, plan_context, run):
    report = REPORT | {"passed": False, "round": 2}
    decision = run(handlers.decide(plan_context({"validate": report}, max_rounds=3)))
    assert decision.next == ["propose_patch"]
    assert (decision.output["failure"], decision.output["tried"]) == ("1 failed", "the diff")


def test_after_the_last_round_the_run_fails(handlers, plan_context, run):
    with pytest.raises(NonRetryable, match="none of 3 patches"):
        run(handlers.decide(plan_context({"validate": REPORT | {"passed": False, "round": 3}}, max_rounds=3)))


@pytest.mark.parametrize("outcome", ["approved", "answered"])
def test_what_a_person_lets_through_is_accepted(handlers, plan_context, run, outcome):
    said = {"outcome": outcome, "answer": None}
    assert run(handlers.confirm(plan_context({"approve": said}))).next == ["accept"]


def test_what_a_person_refuses_fails_the_run_with_their_words(handlers, plan_context, run):
    with pytest.raises(NonRetryable, match="said no: too clever"):
        run(handlers.confirm(plan_context({"approve": {"outcome": "rejected", "answer": "too clever"}})))


def test_a_missing_library_is_named_with_what_to_install(module, monkeypatch):
    monkeypatch.delitem(sys.modules, "model", raising=False)
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UserError, match=r"needs openai: pip install 'headgate\[llm\]' pytest"):
        module("model")
