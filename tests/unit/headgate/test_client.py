from __future__ import annotations

import pytest

from headgate import envelopes
from headgate.client import Client
from headgate.command.views.state import LifetimeState
from headgate.definitions import apply_new, policies_in_force, register_new, roll_back
from headgate_catalog.happening import Happening
from headgate_graphs.errors import UserError
from headgate_graphs.model import AgentGraph, Edge, EdgeKind, GraphMetadata, Plan, Task
from headgate_protos.v1.control_pb2 import ExecutionEvent
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope, LifetimeStart, LifetimeView, PolicySet
from headgate_protos.v1.task_pb2 import TaskExecution, TaskInput
from tests.unit.headgate import records
from tests.unit.headgate.test_caps import policy


def graph(version: str = "1.0.0", description: str = "") -> AgentGraph:
    return AgentGraph(
        metadata=GraphMetadata(id="demo", version=version, description=description),
        entry="write",
        tasks=(Task(id="write", type="write"),),
        plans=(Plan(id="review", type="review"),),
        edges=(
            Edge(source="write", target="review"),
            Edge(source="review", target="end", type=EdgeKind.FINAL),
        ),
    )


def publish_all(client: Client) -> None:
    """One lifetime, from start to end, as a gate and a worker would write it."""
    client.start("demo", {"n": 1}, tenant="default", lifetime_id="life")
    records.publish_view(client, records.view(records.RUNNING, 0))
    records.publish(client, records.task_input(offset=0), client.topics.task_inputs())
    offset = records.report(client, records.task_done())
    records.publish(client, records.event(offset=offset), client.topics.control_events)
    records.publish_view(client, records.view(records.COMPLETED, offset, 2))


def test_a_start_is_readable_back_and_names_the_lifetime(client: Client) -> None:
    lifetime = client.start("demo", {"n": 1}, tenant="default", version="1.0.0")
    [happening] = client.history("default", lifetime.lifetime_id)
    assert isinstance(happening.message, LifetimeStart)
    assert (lifetime.graph_id, lifetime.status) == ("demo", "running")
    assert happening.message.input.json == '{"n":1}'


@pytest.mark.parametrize("tenant", ["A", "../b", "a.b", "x" * 300, "a\u202eb", ""])
def test_a_wrong_tenant_is_refused_before_anything_is_written(client: Client, tenant: str) -> None:
    with pytest.raises(UserError, match="is not a tenant id"):
        client.start("demo", tenant=tenant)
    with pytest.raises(UserError, match="is not a tenant id"):
        client.resume(tenant, "life")


def test_a_wrong_lifetime_id_and_an_input_that_is_not_json_are_refused(client: Client) -> None:
    with pytest.raises(UserError, match="is not a lifetime id"):
        client.start("demo", tenant="default", lifetime_id="a/b")
    with pytest.raises(UserError, match="not JSON"):
        client.start("demo", object(), tenant="default")
    with pytest.raises(UserError, match="not JSON"):
        client.start("demo", float("nan"), tenant="default")


def test_a_log_without_topics_says_what_to_do() -> None:
    from pathlib import Path

    from headgate.settings import open_settings

    with (
        Client.open(open_settings({"local": Path(":memory:")})) as empty,
        pytest.raises(UserError, match="headgate topics create"),
    ):
        empty.start("demo", tenant="default")


def test_history_is_in_the_order_in_which_the_gate_saw_it(client: Client) -> None:
    publish_all(client)
    kinds = [type(one.message) for one in client.history("default", "life")]
    assert kinds == [LifetimeStart, LifetimeView, TaskExecution, ExecutionEvent, LifetimeView]


def test_progress_includes_what_is_still_being_worked_on(client: Client) -> None:
    client.start("demo", tenant="default", lifetime_id="life")
    records.publish(client, records.task_input(offset=0), client.topics.task_inputs())
    state = LifetimeState()
    for happening in client.progress("default", "life"):
        state.apply(happening)
    assert [one.node_id for one in state.in_flight] == ["write"]


def test_another_tenant_sees_nothing(client: Client) -> None:
    publish_all(client)
    assert client.history("acme", "life") == []
    assert client.lifetime("acme", "life") is None
    assert client.lifetimes("acme") == []


def test_following_ends_with_the_lifetime_and_includes_dispatches(client: Client) -> None:
    publish_all(client)
    state, seen = LifetimeState(), []
    for happening in client.follow("default", "life", timeout_s=20):
        assert isinstance(happening, Happening)
        state.apply(happening)
        seen.append(type(happening.message))
    assert TaskInput in seen
    assert (state.status, state.in_flight) == ("completed", [])


def test_waiting_gives_the_outcome(client: Client) -> None:
    publish_all(client)
    outcome = client.wait("default", "life", timeout_s=20)
    assert (outcome.status, outcome.completed()) == ("completed", None)
    assert client.wait("default", "none", timeout_s=0.2).status == "running"


def test_the_end_is_not_hidden_by_a_late_repeat(client: Client) -> None:
    publish_all(client)
    records.publish_view(client, records.view(records.RUNNING, 0))
    assert [view.status for view in client.lifetimes("default")] == [records.COMPLETED]


def test_registering_again_changes_nothing_and_other_content_is_refused(client: Client) -> None:
    assert register_new(client, graph())
    assert not register_new(client, graph())
    assert register_new(client, graph("1.0.1", "new"))
    with pytest.raises(UserError, match=r"raise metadata\.version"):
        register_new(client, graph(description="changed"))
    assert [one.version for one in client.observer.graphs("default")] == ["1.0.0", "1.0.1"]


def test_a_policy_in_force_is_not_applied_again(client: Client) -> None:
    assert apply_new(client, policy(), "default")
    assert not apply_new(client, policy(), "default")
    assert [one.name for one in policies_in_force(client, "default")] == ["tight"]
    assert policies_in_force(client, "acme") == []
    assert apply_new(client, policy(2), "default")
    assert apply_new(client, policy(1), "default")
    assert [one.version for one in policies_in_force(client, "default")] == [1]


def test_a_policy_version_never_changes(client: Client) -> None:
    apply_new(client, policy(), "default")
    with pytest.raises(UserError, match=r"raise metadata\.version"):
        apply_new(client, policy(rules=2), "default")
    client.apply_policy(policy(rules=2), "default")  # the gate refuses it, and so it is not in force
    assert [len(one.rules) for one in policies_in_force(client, "default")] == [7]


def test_every_version_that_was_set_is_known_and_which_is_in_force(client: Client) -> None:
    for version in (1, 2, 1):
        apply_new(client, policy(version), "default")
    apply_new(client, policy(3), "*")
    versions = client.policy_versions("default")
    assert [(one.owner, one.policy.version, one.is_in_force) for one in versions] == [
        ("default", 1, True),
        ("default", 2, False),
        ("*", 3, True),
    ]
    assert versions[0].in_force_since_ms is not None
    assert versions[0].in_force_since_ms >= versions[1].first_set_ms >= versions[0].first_set_ms


def test_what_a_gate_refuses_is_no_version(client: Client) -> None:
    wrong = envelopes.policy_set(policy(), "default")
    wrong.policy_set.sha256 = "0" * 64
    client.submit(wrong)
    client.submit(ExecutionEnvelope(tenant_id="default", policy_set=PolicySet(name="x", document_json="{}")))
    assert client.policy_versions("default") == []
    assert client.observer.policies("default") == []


def test_rolling_back_sends_the_very_document_again(client: Client) -> None:
    for version in (1, 2):
        apply_new(client, policy(version), "default")
    assert roll_back(client, "default", "tight", 1) is not None
    assert roll_back(client, "default", "tight", 1) is None
    assert [one.version for one in policies_in_force(client, "default")] == [1]
    with pytest.raises(UserError, match=r"its versions: v1, v2"):
        roll_back(client, "default", "tight", 9)
    with pytest.raises(UserError, match=r"policies that were set: tight"):
        roll_back(client, "default", "loose", 1)


def test_a_platform_policy_reaches_every_tenant(client: Client) -> None:
    client.apply_policy(policy(), "*")
    assert [one.name for one in policies_in_force(client, "acme")] == ["tight"]
    assert [one.name for one in policies_in_force(client, "another")] == ["tight"]


def test_orders_carry_an_id_and_who_gave_them(client: Client) -> None:
    client.start("demo", tenant="default", lifetime_id="life")
    ids = [
        client.pause("default", "life", "odd", ttl_ms=1500),
        client.resume("default", "life"),
        client.abort("default", "life"),
        client.raise_budget("default", "life", policy="p", rule="r", metric="cost_usd", value=5),
        client.complete("default", "life", "e1", 1, {"yes": True}),
    ]
    orders = [one.message for one in client.history("default", "life")][1:]
    assert [order.command_id for order in orders] == ids
    assert len(set(ids)) == 5
    assert all(order.issued_by for order in orders)
    assert orders[0].pause.ttl.ToMilliseconds() == 1500
    assert orders[4].complete.json_answer == '{"yes":true}'


def test_a_freeze_names_a_graph_or_all_of_the_tenant(client: Client) -> None:
    client.freeze("default", "demo", "bad release")
    client.freeze("default")
    client.thaw("default", "demo")
    found = [one.command for _, one in client.observer.records("default") if not one.lifetime_id]
    assert [(one.pause.graph_id, one.pause.reason) for one in found[:2]] == [
        ("demo", "bad release"),
        ("", ""),
    ]
    assert found[2].resume.graph_id == "demo"


def test_a_start_carries_its_priority(client: Client) -> None:
    client.start("demo", tenant="default", lifetime_id="life", priority=7)
    [start] = [one.message for one in client.history("default", "life")]
    assert start.priority == 7


def test_a_large_input_travels_as_a_reference(client: Client) -> None:
    client.start("demo", "x" * 100_000, tenant="default", lifetime_id="life")
    [start] = [one.message for one in client.history("default", "life")]
    assert start.input.WhichOneof("content") == "blob"
    assert len(client.payloads.unpack("default", start.input)) == 100_002
