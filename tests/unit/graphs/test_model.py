"""Definitions: units, money, names; what cannot be written by mistake."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headgate_graphs.errors import BadRecord
from headgate_graphs.ids import END, execution_id, is_tenant_id, tenant_id
from headgate_graphs.model import (
    AgentGraph,
    Edge,
    EdgeConfiguration,
    GraphMetadata,
    NodeLimits,
    Task,
    TaskConfiguration,
)
from headgate_graphs.units import MAX_DURATION_MS, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("500ms", 500),
        ("30s", 30_000),
        ("1h30m", 5_400_000),
        ("7d", 604_800_000),
        (2, 2_000),
        (0.5, 500),
        ("0s", 0),
    ],
)
def test_durations_are_read_as_people_write_them(text: object, ms: int) -> None:
    assert parse_duration(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "12:30",
        "5",
        "5x",
        "",
        "-1s",
        -1,
        True,
        None,
        [],
        "1e3s",
        "99999d",
        1e300,
        float("nan"),
        "\u0663s",
        "1s\n",
    ],
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.integers(0, MAX_DURATION_MS))
def test_durations_round_trip(ms: int) -> None:
    assert parse_duration(format_duration(ms)) == ms


@pytest.mark.parametrize(
    ("usd", "nano"),
    [(0.5, 500_000_000), ("0.000000001", 1), (25, 25_000_000_000), (0.1, 100_000_000), (1e-9, 1)],
)
def test_money_is_read_in_usd_and_kept_in_nano_usd(usd: object, nano: int) -> None:
    assert NodeLimits.model_validate({"cost_usd": usd}).cost_nano_usd == nano


@pytest.mark.parametrize("usd", [-1, "1e-10", "x", True, float("inf"), float("nan"), 1e300, [], "5e9"])
def test_what_is_no_amount_is_refused(usd: object) -> None:
    with pytest.raises(ValidationError, match="USD"):
        NodeLimits.model_validate({"cost_usd": usd})


@given(st.integers(0, 2**62))
def test_money_round_trips_to_the_nano_dollar(nano: int) -> None:
    usd = f"{nano // 10**9}.{nano % 10**9:09}"
    limits = NodeLimits.model_validate({"cost_usd": usd})
    assert limits.cost_nano_usd == nano
    assert NodeLimits.model_validate(limits.model_dump(mode="json", by_alias=True)) == limits


@pytest.mark.parametrize(
    ("model", "document"),
    [
        (TaskConfiguration, {"timeout_ms": 500}),
        (TaskConfiguration, {"timeout": "0s"}),
        (TaskConfiguration, {"max_retries": 101}),
        (NodeLimits, {"cost_nano_usd": 5}),
        (NodeLimits, {"tokens_used": -1}),
        (EdgeConfiguration, {"unknown": 1}),
        (Task, {"id": "a b", "type": "x"}),
        (Task, {"id": "../x", "type": "x"}),
        (Task, {"id": "x" * 129, "type": "x"}),
        (Task, {"id": "\u0445", "type": "x"}),
        (GraphMetadata, {"id": "g", "version": "1.0"}),
        (GraphMetadata, {"id": "g", "version": "\u0661.\u0660.\u0660"}),
        (GraphMetadata, {"id": "g", "version": "1.0.0", "tenant_id": "A"}),
    ],
)
def test_what_could_be_mistaken_is_refused(model: Any, document: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(document)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**64, object(), {1: 2}, {"a": "\ud800"}])
def test_params_are_json_that_everyone_reads_alike(value: object) -> None:
    with pytest.raises(ValidationError):
        TaskConfiguration.model_validate({"params": {"x": value}})


def test_params_are_not_deeper_than_sixteen_levels() -> None:
    value: Any = 1
    for _ in range(15):
        value = [value]
    TaskConfiguration(params={"x": value})
    with pytest.raises(ValidationError, match="deeper than 16"):
        TaskConfiguration(params={"x": [value]})


def test_definitions_do_not_change() -> None:
    task = Task(id="a", type="x")
    with pytest.raises(ValidationError):
        task.id = "b"  # type: ignore[misc]


def test_outgoing_edges_come_by_priority_then_by_place() -> None:
    graph = AgentGraph(
        metadata=GraphMetadata(id="g", version="1.0.0"),
        entry="a",
        edges=tuple(
            Edge(source="a", target=target, config=EdgeConfiguration(priority=priority))
            for target, priority in (("b", 0), ("c", 5), ("d", 0), ("e", 9))
        ),
    )
    assert [edge.target for edge in graph.outgoing["a"]] == ["e", "c", "b", "d"]


def test_a_graph_is_given_to_another_tenant() -> None:
    graph = AgentGraph(metadata=GraphMetadata(id="g", version="1.0.0"), entry="a")
    assert graph.tenant_id == "default"
    assert graph.for_tenant("acme").tenant_id == "acme"
    assert graph.tenant_id == "default"
    with pytest.raises(ValueError, match="tenant id"):
        graph.for_tenant("../b")


@pytest.mark.parametrize(
    "text", ["../b", "a.b", "A", "x" * 300, "\u0430cme", "a\x00b", "acme\u202e", "ab", "-ab", "acme\n"]
)
def test_what_is_no_tenant_id_is_refused_and_escaped(text: str) -> None:
    assert not is_tenant_id(text)
    with pytest.raises(BadRecord, match="BAD_TENANT_ID") as caught:
        tenant_id(text)
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()


def test_execution_ids_are_the_same_for_the_same_attempt_alone() -> None:
    first = execution_id("acme", "l1", "a", 1, 1)
    assert first == execution_id("acme", "l1", "a", 1, 1)
    assert len(first) == 32
    others = [
        ("acme", "l1", "a", 1, 2),
        ("acme", "l1", "a", 2, 1),
        ("acme", "l2", "a", 1, 1),
        ("acm", "el1", "a", 1, 1),
    ]
    assert len({first, *(execution_id(*other) for other in others)}) == 5
    assert END == "end"
