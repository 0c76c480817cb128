"""Whatever people give as YAML, DOT or a condition, it loads or is refused with a place, in bounded time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from headgate_graphs.checks import faults
from headgate_graphs.conditions import EDGE_ENVIRONMENT, ConditionFailed, ConditionInvalid
from headgate_graphs.documents import Document, read_yaml, validate
from headgate_graphs.dot.reading import document_from_dot
from headgate_graphs.errors import GraphInvalid, UserError
from headgate_graphs.model import AgentGraph

LONG = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
GRAPH = """\
apiVersion: headgate/v1
kind: AgentGraph
metadata: {id: g, version: 1.0.0}
entry: p1
tasks: [{id: t1, type: work, config: {timeout: 5m, params: {x: [1, 2.5, null, "a: b"]}}}]
plans: [{id: p1, type: work}, {id: p2, type: rules, config: {rules: [{when: success, next: [end]}]}}]
edges:
  - {from: p1, to: t1}
  - {from: t1, to: p2, config: {when: "result.ok && iteration < 3"}}
  - {from: p2, to: end, type: final}
"""
DRAWING = 'digraph g { version="1.0.0"; p1 [kind=plan]; p1 -> t1 [when="success"]; t1 -> p1; p1 -> end; }'
CONDITION = "result.ok && size(upstream) > 1 || 'a' in metadata.names && lifetime.executions / 2 > iteration"
YAML_BITS = [
    "&a",
    "*a",
    "<<:",
    "!!int",
    "%YAML",
    "---",
    "...",
    "? ",
    "- ",
    ": ",
    "|",
    ">",
    "{",
    "}",
    "[",
    "]",
]
DOT_BITS = ["->", "--", "{", "}", "[", "]", ";", '"', "\\", "<", ">", "/*", "//", "subgraph", "strict", "="]
CEL_BITS = [
    *("(", ")", "[", "]", "{", "}", ".", "?", ":", "&&", "||", "!", "-", "/", "%", "in", "==", "<", "'", '"'),
    *(".all(x, ", ".map(x, ", ".exists(x, ", ".matches('(a*)*')", "has(", "size(", "__class__", "1e999"),
    "0u",
    *("9223372036854775807", "timestamp('x')", "duration('1h')", "type(", "dyn(", "null", "\x00", "\u202e"),
    *("r'", "b'"),
]  # fmt: skip
PLACED = re.compile(r"g(\.\w+)?:\d+:\d+: ", re.DOTALL)


def mutated(text: str, bits: list[str]) -> st.SearchStrategy[str]:
    """The text with parts cut out, doubled, replaced, and tokens of its language put in."""

    @st.composite
    def draw_one(draw: st.DrawFn) -> str:
        made = text
        for _ in range(draw(st.integers(0, 5))):
            at = draw(st.integers(0, len(made)))
            end = draw(st.integers(at, min(len(made), at + 30)))
            new = draw(st.sampled_from(bits) | st.text(max_size=5) | st.just(made[at:end] * 3))
            made = made[:at] + new * draw(st.sampled_from([1, 1, 1, 40])) + made[end:]
        return made

    return draw_one()


def soup(bits: list[str]) -> st.SearchStrategy[str]:
    pieces = (
        st.sampled_from(bits) | st.text(max_size=4) | st.sampled_from(["result", "success", "\n", "  ", "a"])
    )
    return st.lists(pieces, max_size=30).map("".join)


def assert_said_well(refused: UserError) -> None:
    """Every fault says where it is, in one line."""
    assert refused.faults
    assert all(PLACED.match(fault) for fault in refused.faults), refused.faults
    assert all(fault.isprintable() for fault in refused.faults), refused.faults


def assert_harmless(text: str) -> None:
    assert text.isprintable()
    assert text.isascii()


def loads_or_is_refused(read: Callable[[], Document]) -> None:
    began = time.thread_time()
    try:
        document = read()
        graph = validate(document, AgentGraph, GraphInvalid)
        assert all(str(fault).isprintable() for fault in faults(graph))
    except UserError as refused:
        assert_said_well(refused)
    assert time.thread_time() - began < 2.0


@LONG
@given(text=mutated(GRAPH, YAML_BITS) | soup(YAML_BITS))
@example(text="a: " + "[" * 100_000)
@example(text="? " * 5_000)
@example(text="- " * 50_000)
@example(text="a: |\n" + " " * 100_000)
def test_yaml_loads_or_is_refused_with_its_place(text: str) -> None:
    loads_or_is_refused(lambda: read_yaml(text, "g.yaml", GraphInvalid))


@LONG
@given(text=mutated(DRAWING, DOT_BITS) | soup(DOT_BITS))
@example(text="digraph " + "{" * 20_000)
@example(text="digraph { a [x=" + '"\\' * 20_000)
@example(text="digraph { a " + "-> {b c d} " * 200 + "}")
def test_dot_loads_or_is_refused_with_its_place(text: str) -> None:
    loads_or_is_refused(lambda: document_from_dot(text, "g.dot"))


FACTS: dict[str, Any] = {
    "result": {"ok": True, "n": 0, "list": [1, "a", None], "deep": {"a": [{"b": 1}]}},
    "success": True,
    "metadata": {"names": ["a"]},
    "error": {"code": "", "message": ""},
    "upstream": ["a", "b"],
    "lifetime": {"id": "x", "executions": 3},
    "node": {"id": "t", "type": "work"},
    "iteration": 1,
}


@LONG
@given(text=mutated(CONDITION, CEL_BITS) | soup(CEL_BITS))
@example(text="(" * 4_000)
@example(text="!" * 4_000 + "true")
@example(text="-" * 4_000 + "1 > 0")
@example(text="result" + ".a" * 2_000 + " == 1")
@example(text="[[" * 1_000 + "1" + "]]" * 1_000 + " == []")
@example(text="result.list.map(x, result.list.map(y, x)) == []")
@example(text="'" + "a" * 4_000 + "'.matches('(a+)+b')")
def test_a_condition_compiles_or_is_refused_and_holds_or_fails_closed(text: str) -> None:
    began = time.thread_time()
    try:
        condition = EDGE_ENVIRONMENT.compile(text)
    except ConditionInvalid as invalid:
        assert_harmless(invalid.message)
        place = (invalid.line, invalid.column)
        assert min(place) >= 1
    else:
        try:
            assert condition.holds(FACTS) in (True, False)
        except ConditionFailed as failed:
            assert_harmless(str(failed))
    assert time.thread_time() - began < 1.0
