"""A tenant at a glance: pure over views and records."""

from __future__ import annotations

from typing import Any

import pytest

from headgate import envelopes, orders
from headgate.command.place import Place
from headgate.command.views.tenant import latency_lines, overview_data, overview_lines
from headgate.overview import DAY_MS, Latencies, freezes, overview, today
from headgate_catalog.spend import NOTHING
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope, LifetimeView, WaitingView
from tests.unit.headgate import records

NOW_MS = 40 * DAY_MS + 5_000


def command(order: Any, lifetime_id: str = "") -> ExecutionEnvelope:
    return envelopes.operator_command("default", lifetime_id, order, "me")


def view(status: int, name: str, **more: Any) -> LifetimeView:
    return records.view(status, lifetime_id=name, **more)


def stopped(name: str, latency_ms: int) -> LifetimeView:
    made = view(records.COMPLETED, name)
    made.stop_latency.FromMilliseconds(latency_ms)
    return made


def test_a_freeze_holds_until_the_same_is_resumed() -> None:
    said = [
        command(orders.pause("bad release", graph_id="demo")),
        command(orders.pause("again", graph_id="demo")),
        command(orders.pause("all")),
        command(orders.pause("one"), "life"),
        command(orders.resume(), "life"),
        command(orders.resume(graph_id="other")),
    ]
    found = freezes(enumerate(said))
    assert [(one.graph_id, one.reason, one.since_ms, one.by) for one in found] == [
        ("demo", "bad release", 0, "me"),
        ("", "all", 2, "me"),
    ]
    assert [one.graph_id for one in freezes(enumerate([*said, command(orders.resume())]))] == ["demo"]


def test_a_repeated_order_freezes_once() -> None:
    pause = command(orders.pause())
    assert freezes(enumerate([pause, command(orders.resume()), pause])) == []


def test_today_is_the_day_in_utc() -> None:
    day = today(NOW_MS)
    assert day.holds(NOW_MS)
    assert (day.from_ms, day.to_ms) == (40 * DAY_MS, 41 * DAY_MS)


def test_lifetimes_people_and_pauses_are_found() -> None:
    late, soon = WaitingView(execution_id="e1", node_id="ask"), WaitingView(execution_id="e2", node_id="ask")
    late.deadline.FromSeconds(200)
    soon.deadline.FromSeconds(100)
    views = [
        view(records.RUNNING, "one", waiting=[late]),
        view(records.PAUSED, "two", waiting=[soon], reason="cap"),
        view(records.COMPLETED, "three", waiting=[late]),
        view(records.RUNNING, "sub-1", parent_lifetime_id="one"),
    ]
    made = overview("default", views, NOTHING, [])
    assert made.statuses == {"running": 2, "paused": 1, "completed": 1}
    assert made.below == 1
    assert [one.waiting.execution_id for one in made.waiting] == ["e2", "e1"]
    assert [one.lifetime_id for one in made.paused] == ["two"]


@pytest.mark.parametrize(
    ("values", "figures"), [([5], (5, 5, 5)), (list(range(1, 101)), (50, 99, 100)), ([1, 9], (1, 9, 9))]
)
def test_percentiles_are_values_that_were_measured(values: list[int], figures: tuple[int, ...]) -> None:
    latencies = Latencies(values)
    assert tuple(latencies.percentile(percent) for percent in (50, 99, 100)) == figures


def test_stop_latencies_are_shown_with_a_small_histogram() -> None:
    views = [stopped(f"life-{number}", ms) for number, ms in enumerate((3, 10, 11, 90_000))]
    made = overview("default", views, NOTHING, [])
    assert made.latencies.histogram()[0] == (10, 2)
    assert made.latencies.histogram()[-1] == (None, 1)
    lines = list(latency_lines(made.latencies))
    assert lines[0] == "stop latency of 4 lifetimes: p50 10 ms, p99 90,000 ms, max 90,000 ms"
    assert lines[1].split() == ["≤", "10", "ms", "█" * 30, "2"]
    assert lines[-1].split()[0] == "longer"
    assert list(latency_lines(Latencies([]))) == []


def test_the_overview_tells_what_to_type() -> None:
    waiting = [WaitingView(execution_id="e1", node_id="ask", json_input='"ship it?"')]
    views = [view(records.PAUSED, "two", reason="cap"), view(records.RUNNING, "one", waiting=waiting)]
    said = [(0, command(orders.pause("odd", graph_id="demo"))), (1, command(orders.pause("all")))]
    made = overview("default", views, NOTHING, freezes(said))
    text = "\n".join(overview_lines(Place(tenant="acme"), made, {"gates": 1, "task workers": None}))
    for part in (
        "1 paused, 1 running",
        "running: 1 gates\n",
        "headgate control resume --graph demo --tenant acme",
        "headgate control resume --everything --tenant acme",
        "headgate control complete one e1 --approve --tenant acme",
        "headgate status two --tenant acme",
    ):
        assert part in text
    data = overview_data(made, {"gates": 1})
    assert [one["graph_id"] for one in data["frozen"]] == ["demo", ""]
    assert data["waiting"][0]["execution_id"] == "e1"
    assert data["stop_latency_ms"]["count"] == 0
