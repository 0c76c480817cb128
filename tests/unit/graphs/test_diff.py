"""What changed between two graphs: everything, once, in document order, a line each."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings

from headgate_graphs.diff import Change, diff
from headgate_graphs.model import AgentGraph
from tests.unit.graphs.random_graphs import graphs
from tests.unit.graphs.test_checks import graph

SHAPE = "a>P P=>b P=>c b.>Q c.>Q Q!"


def changed(**sections: Any) -> list[str]:
    """The lines from the graph of SHAPE to the same one with other top-level sections."""
    return [str(change) for change in diff(graph(SHAPE), graph(SHAPE, **sections))]


def tasks(**by_id: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": name, "type": "work", **by_id.get(name, {})} for name in ("a", "b", "c")]


def test_equal_graphs_have_no_changes() -> None:
    assert changed() == []
    assert changed(limits={"deadline": "24h"}, tasks=tasks(a={"config": {"max_retries": 2}})) == []


@pytest.mark.parametrize(
    ("sections", "lines"),
    [
        (
            {"metadata": {"id": "g", "version": "1.1.0", "tags": ["x"]}},
            ["~ graph: metadata.version: 1.0.0 -> 1.1.0", '~ graph: metadata.tags: [] -> ["x"]'],
        ),
        ({"entry": "b"}, ["~ graph: entry: a -> b"]),
        ({"limits": {"deadline": "1h"}}, ["~ graph: limits.deadline: 1d -> 1h"]),
        (
            {"limits": {"max_in_flight_by_type": {"chat": 3}}},
            ["+ graph: limits.max_in_flight_by_type.chat: 3"],
        ),
        (
            {"tasks": tasks(b={"type": "other", "config": {"timeout": "1m", "params": {"x": {"y": 1}}}})},
            [
                "~ task b: type: work -> other",
                "~ task b: config.timeout: none -> 1m",
                '+ task b: config.params.x: {"y": 1}',
            ],
        ),
        ({"tasks": tasks(a={"description": "two\nlines"})}, ['~ task a: description: "" -> "two\\nlines"']),
        ({"tasks": tasks()[:2]}, ['- task c: {"type": "work"}']),
        ({"tasks": [*tasks(), {"id": "z", "type": "z"}]}, ['+ task z: {"type": "z"}']),
        (
            {"tasks": tasks()[::-1]},
            ['~ order of tasks: ["task a", "task b", "task c"] -> ["task c", "task b", "task a"]'],
        ),
    ],
)
def test_every_change_is_one_line(sections: dict[str, Any], lines: list[str]) -> None:
    assert changed(**sections) == lines


def test_edges_are_told_apart_by_their_ends() -> None:
    lines = [str(change) for change in diff(graph("a>P P>b b>P P!"), graph("a>P P=>b b!  P!"))]
    assert lines == [
        "~ edge P -> b: type: normal -> parallel",
        "- edge b -> P",
        '+ edge b -> end: {"type": "final"}',
    ]


def test_a_task_that_became_a_plan_is_removed_and_added() -> None:
    old, new = graph("a>P P!"), graph("a>P P!", tasks=[], plans=[{"id": "a", "type": "work"}])
    assert [str(change) for change in diff(old, new)] == [
        '- task a: {"type": "work"}',
        '- plan P: {"type": "decide"}',
        '+ plan a: {"type": "work"}',
    ]


def test_rules_are_compared_one_by_one() -> None:
    def rules(*texts: str) -> AgentGraph:
        config = {"rules": [{"when": text, "next": ["end"]} for text in texts]}
        return graph("a>P P!", plans=[{"id": "P", "type": "rules", "config": config}])

    assert [str(change) for change in diff(rules("success"), rules("!success", "true"))] == [
        "~ plan P: config.rules[0].when: success -> !success",
        '+ plan P: config.rules[1]: {"when": "true", "next": ["end"], "priority": 0}',
    ]


def test_what_was_removed_stands_where_it_stood() -> None:
    kinds = [change.kind for change in diff(graph("a>P P>b b>P P>c c>P P!"), graph("a>P P>c c>P P>d d>P P!"))]
    assert kinds == ["removed", "added", "removed", "removed", "added", "added"]


def test_no_text_of_a_graph_can_write_a_second_line() -> None:
    (line,) = changed(tasks=tasks(a={"config": {"params": {"\x1b[31m\n": "\x1b[2J\n" * 100}}}))
    assert line.isprintable()
    assert len(line) < 150


def test_values_of_other_types_differ() -> None:
    one, true = (tasks(a={"config": {"params": {"x": value}}}) for value in (1, True))
    assert [str(c) for c in diff(graph(SHAPE, tasks=one), graph(SHAPE, tasks=true))] == [
        "~ task a: config.params.x: 1 -> true"
    ]


def test_a_change_is_json_too() -> None:
    (change,) = diff(graph(SHAPE), graph(SHAPE, entry="b"))
    assert change == Change("changed", "graph", ("entry",), "a", "b")
    assert json.loads(json.dumps(change._asdict()))["path"] == ["entry"]


@given(graphs(), graphs())
@settings(max_examples=60, deadline=None)
def test_graphs_without_changes_are_equal_graphs(one: AgentGraph, other: AgentGraph) -> None:
    assert diff(one, one) == []
    assert (diff(one, other) == []) == (one.canonical_json() == other.canonical_json())
    assert all(str(change).isprintable() for change in diff(one, other))


@given(graphs(), graphs())
@settings(max_examples=30, deadline=None)
def test_the_way_back_has_the_opposite_changes(one: AgentGraph, other: AgentGraph) -> None:
    opposite = {"added": "removed", "removed": "added", "changed": "changed"}
    there = {(change.part, change.path, change.kind) for change in diff(one, other)}
    back = {(change.part, change.path, opposite[change.kind]) for change in diff(other, one)}
    assert there == back
