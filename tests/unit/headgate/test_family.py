"""Which happenings concern a lifetime and its sub-graphs, in whatever order the topics are read."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from headgate import family
from headgate.client import Client
from headgate.family import Family
from headgate_catalog.happening import Happening
from headgate_protos.v1.control_pb2 import ExecutionEvent
from headgate_protos.v1.execution_pb2 import LifetimeView
from tests.unit.headgate import records


def happened(message: Any, whose: str, offset: int = 0) -> Happening:
    return Happening(0, (offset, 0, 0), message, whose)


def below(name: str, parent: str, graph: str = "shard", offset: int = 0) -> LifetimeView:
    return records.view(records.RUNNING, offset, lifetime_id=name, parent_lifetime_id=parent, graph_id=graph)


def frozen(graph: str = "") -> Happening:
    event = ExecutionEvent(tenant_id="default", type="CONTROL_TYPE_PAUSE_LIFETIME", graph_id=graph)
    return happened(event, "")


ALL = [
    happened(records.view(records.RUNNING), "life", 0),
    happened(below("sub-a", "life"), "sub-a", 1),
    happened(below("sub-b", "sub-a"), "sub-b", 2),
    happened(records.task_done(), "sub-b", 3),
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_sub_graphs_are_found_whatever_is_read_first(order: tuple[int, ...]) -> None:
    known = Family("life")
    found = [one for number in order for one in known.take(ALL[number])]
    assert sorted((one.lifetime_id, one.depth) for one in found) == [
        ("life", 0), ("sub-a", 1), ("sub-b", 2), ("sub-b", 2),
    ]  # fmt: skip


def test_views_that_are_known_before_tell_all_levels() -> None:
    known = Family("life", [below("sub-b", "sub-a"), below("sub-a", "life")])
    assert [one.depth for one in known.take(ALL[3])] == [2]


def test_strangers_and_their_sub_graphs_are_left_out() -> None:
    known = Family("life")
    assert known.take(happened(records.task_done(), "other")) == []
    assert known.take(happened(below("sub-c", "other"), "sub-c")) == []
    assert known.take(happened(records.task_done(), "sub-c")) == []
    assert Family("life", [below("sub-a", "life")], below=False).take(ALL[1]) == []


def test_what_waits_for_its_parent_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family, "MAX_EARLY", 2)
    known = Family("life")
    for name in ("sub-x", "sub-y", "sub-a"):
        known.take(happened(records.task_done(), name))
    assert len(known.take(ALL[1])) == 2
    assert len(known.take(happened(below("sub-x", "life"), "sub-x"))) == 1


def test_a_freeze_concerns_the_graphs_of_the_family() -> None:
    known = Family("life", [records.view(records.RUNNING), below("sub-a", "life")])
    taken = [graph for graph in ("", "demo", "shard", "other") if known.take(frozen(graph))]
    assert taken == ["", "demo", "shard"]


def test_a_history_holds_what_is_below_and_freezes_in_its_time_alone(client: Client) -> None:
    before = frozen().message
    before.source.offset = -1
    records.publish(client, before, client.topics.control_events)
    client.start("demo", tenant="default", lifetime_id="life")
    records.publish_view(client, records.view(records.RUNNING, 0))
    records.publish_view(client, below("sub-a", "life", offset=0))
    freeze = frozen("shard").message
    freeze.source.offset = 0
    freeze.source.index = 7
    records.publish(client, freeze, client.topics.control_events)
    done = records.report(client, records.task_done())
    records.publish_view(client, records.view(records.COMPLETED, done))
    later = frozen().message
    later.source.offset = done + 5
    records.publish(client, later, client.topics.control_events)
    whole = client.history("default", "life", below=True)
    assert [one.lifetime_id for one in whole] == ["life", "life", "sub-a", "", "life", "life"]
    assert [one.depth for one in whole] == [0, 0, 1, 0, 0, 0]
    own = client.history("default", "life")
    assert {one.depth for one in own} == {0}
    followed = client.follow("default", "life", timeout_s=20, below=True)
    assert "sub-a" in {one.lifetime_id for one in followed}
