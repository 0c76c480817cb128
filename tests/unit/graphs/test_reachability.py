"""Which fork a join belongs to: the fast answer is the plain one's, in every shape of graph."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate_graphs.model import AgentGraph, EdgeKind
from headgate_graphs.reachability import Reachability, joins
from tests.unit.graphs.test_checks import graph


def reached(within: AgentGraph, start: str, without: Collection[str]) -> set[str]:
    """Every node that `start` leads to, itself included, never passing through `without`."""
    seen, todo = {start}, [start]
    while todo:
        for edge in within.outgoing[todo.pop()]:
            if edge.target in within.nodes and edge.target not in seen and edge.target not in without:
                seen.add(edge.target)
                todo.append(edge.target)
    return seen


def plain_fork_of(within: AgentGraph, plan_id: str) -> tuple[str, frozenset[str]]:
    """The same as `fork_of`, by walking from every branch of every candidate."""
    sources = {edge.source for _, edge in joins(within)[plan_id]}
    frontier, seen = sorted(sources), sources | {plan_id}
    while frontier:
        before = sorted({edge.source for edge in within.edges if edge.target in frontier} - seen)
        for fork_id in before:
            branches = [e.target for e in within.outgoing[fork_id] if e.type is EdgeKind.PARALLEL]
            through = {b: reached(within, b, (fork_id, plan_id)) & sources for b in branches}
            feeders = frozenset(branch for branch, fed in through.items() if fed)
            if feeders and sources <= set().union(*through.values()):
                return fork_id, feeders
        seen |= set(before)
        frontier = before
    return "", frozenset()


@st.composite
def tangles(draw: st.DrawFn) -> AgentGraph:
    """Tasks a-f and plans A-F with any edges between them, at least one of them a join."""
    pairs = st.tuples(st.sampled_from("abcdef"), st.sampled_from("ABCDEF"))
    out = draw(st.lists(st.tuples(pairs, st.sampled_from([">", "=>", ".>"])), min_size=1, max_size=14))
    back = draw(st.lists(st.tuples(pairs, st.sampled_from([">", "=>"])), max_size=14))
    edges = [f"{task}{arrow}{plan}" for (task, plan), arrow in out]
    edges += [f"{plan}{arrow}{task}" for (task, plan), arrow in back]
    return graph(" ".join([*dict.fromkeys(edges), "a.>A"]))


@given(tangles())
@settings(max_examples=500, deadline=None)
def test_the_fork_of_a_join_is_the_plain_answers(tangle: AgentGraph) -> None:
    ways = Reachability(tangle)
    for plan_id in joins(tangle):
        assert ways.fork_of(plan_id) == plain_fork_of(tangle, plan_id)


@pytest.mark.parametrize(
    ("edges", "fork", "feeders"),
    [
        ("a>P P=>b P=>c b.>Q c.>Q", "P", "bc"),
        ("a>P P=>b P=>c P=>d b.>Q c.>Q d>R", "P", "bc"),
        ("a=>P a=>Q P>b Q>c b.>R c.>R", "a", "PQ"),
        ("A=>a A=>b a>P b>P P=>c P=>d c.>Q d.>Q", "P", "cd"),
        ("A=>a A=>b a>B b>C B=>c B=>d c.>D d.>D D>e e.>E C>f f.>E", "A", "ab"),
        ("a>P P>b P>c b.>Q c.>Q", "", ""),
        ("a.>P", "", ""),
    ],
)
def test_a_join_belongs_to_the_innermost_fork_that_feeds_all_of_it(
    edges: str, fork: str, feeders: str
) -> None:
    known = graph(edges)
    plan_id = list(joins(known))[-1]
    assert Reachability(known).fork_of(plan_id) == (fork, frozenset(feeders))
