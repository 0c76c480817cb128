"""How fast what runs is stopped and what waits is held back, over two workers, and what is left alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from headgate.words import status_word
from headgate_guardrails.policy import Policy
from headgate_protos.v1.control_pb2 import ControlType, PauseLifetime, ResumeLifetime
from headgate_protos.v1.execution_pb2 import LifetimeView
from headgate_streams.settings import StreamSettings
from tests.e2e.stopping import Key, Site, graph, shown, site

COUNT = 20
PARTITIONS = 8
BOUND_S = 1.0
"""What DESIGN promises; measured is a small part of it."""
STALL_S = 10.0
"""A machine that stands still for a second (its disk does, when many share it) is no fault of the product."""
ABORT = ControlType.CONTROL_TYPE_ABORT_LIFETIME
PAUSE = ControlType.CONTROL_TYPE_PAUSE_LIFETIME


@pytest.fixture(params=["local", pytest.param("kafka", marks=pytest.mark.kafka)])
def build(
    request: pytest.FixtureRequest, tmp_path: Path, topic_prefix: str
) -> Iterator[Callable[[int], Site]]:
    """Return a function that begins a site whose workers run so many handlers at once."""
    where: dict[str, Any] = {"local": tmp_path / "log"}
    if request.param == "kafka":
        where["kafka"] = request.getfixturevalue("kafka_bootstrap")
    settings = StreamSettings.read(**where, partitions=PARTITIONS, topic_prefix=topic_prefix)
    with ExitStack() as stack:
        yield lambda concurrency: stack.enter_context(site(settings, concurrency))


def views(made: Site, keys: list[Key]) -> list[LifetimeView]:
    """Return the gate's views of lifetimes of one tenant."""
    known = {view.lifetime_id: view for view in made.client.lifetimes(keys[0][0])}
    return [known[lifetime] for _, lifetime in keys if lifetime in known]


def all_are(made: Site, keys: list[Key], word: str) -> None:
    """Wait until these lifetimes of one tenant stand there, with every hold closed."""

    def are() -> bool:
        found = views(made, keys)
        words = [status_word(view.status) for view in found if not view.open_holds]
        return words == [word] * len(keys)

    made.wait(are, 0.1)


def report(made: Site, what: str, keys: list[Key], breach: dict[Key, float]) -> None:
    """Print the figures; hold most of them against the bound, and all of them where there is no stall."""
    readable = [made.watch.when(key[0], ABORT, key[1]) - breach[key] for key in keys]
    stopped = [made.diary.stopped[key] - breach[key] for key in keys]
    ended = views(made, keys)
    assert all(view.HasField("stop_latency") for view in ended)
    told = [view.stop_latency.ToMilliseconds() / 1000 for view in ended]
    figures = [shown("control event readable", readable), shown("handler stopped", stopped)]
    figures.append(shown("told by the gate, from end to report", told))
    print(f"\n{what}, {len(keys)} lifetimes: {'; '.join(figures)}")
    for seconds in (stopped, told):
        assert sorted(seconds)[len(seconds) * 3 // 4] < BOUND_S
        assert max(seconds) < STALL_S


def test_an_operators_abort_stops_every_handler_within_a_second(
    build: Callable[[int], Site], tenant: str
) -> None:
    made = build(COUNT)
    made.client.register_graph(graph(tenant))
    keys = made.start(tenant, COUNT)
    made.wait(lambda: len(made.begun(tenant)) == COUNT)
    breach = {}
    for key in keys:
        breach[key] = time.monotonic()
        made.client.abort(*key)
        time.sleep(0.02)  # one after the other, as people do
    made.wait(lambda: len(made.diary.stopped) == COUNT)
    all_are(made, keys, "aborted")
    report(made, "operator's abort", keys, breach)
    assert made.diary.done == []


def test_a_cap_that_a_running_handler_passes_stops_it_within_a_second(
    build: Callable[[int], Site], tenant: str
) -> None:
    made = build(COUNT)
    made.client.register_graph(graph(tenant, tokens_used=100))
    cap = {"name": "run-tokens", "scope": "lifetime", "limit": {"tokens_used": made.diary.budget}}
    document = {
        "kind": "GuardrailPolicy",
        "metadata": {"name": "caps", "version": 1},
        "rules": [{**cap, "action": "abort_lifetime"}],
    }
    made.client.apply_policy(Policy.model_validate(document), tenant)
    keys = made.start(tenant, COUNT)
    made.wait(lambda: len(made.begun(tenant)) == COUNT)
    spenders, others = keys[: COUNT - 5], keys[COUNT - 5 :]
    for key in spenders:
        made.diary.spending.add(key)
        time.sleep(0.02)
    made.wait(lambda: len(made.diary.stopped) == len(spenders))
    all_are(made, spenders, "aborted")
    report(made, "cap passed by a running handler", spenders, made.diary.over)
    [view] = views(made, spenders[:1])
    assert view.violations[0].rule == "run-tokens"
    assert view.usage.tokens_used > made.diary.budget, "what was spent is settled"
    made.diary.let_go.update(others)
    all_are(made, others, "completed")


def test_a_frozen_tenant_begins_nothing_and_goes_on_with_no_call_repeated(
    build: Callable[[int], Site], tenant: str
) -> None:
    made, neighbour = build(4), f"{tenant}-b"
    for one in (tenant, neighbour):
        made.client.register_graph(graph(one))
    keys = made.start(tenant, 2 * COUNT)
    made.wait(lambda: len(made.begun(tenant)) == 8)  # both workers are full, the rest waits
    made.wait(lambda: len(made.inputs(tenant)) == len(keys), 0.1)
    running = made.begun(tenant)
    given_s = made.order(tenant, pause=PauseLifetime(reason="freeze"))
    readable_s = made.watch.when(tenant, PAUSE) - given_s
    others = made.start(neighbour, 5, seconds=0.05)
    time.sleep(BOUND_S)
    assert made.diary.stopped == {}, "a pause stops nothing that runs"
    made.diary.let_go.update(keys)
    all_are(made, others, "completed")
    made.wait(lambda: set(running) <= set(made.diary.done))
    assert sorted(made.begun(tenant)) == sorted(running), "what waited has begun although it is frozen"
    assert {status_word(view.status) for view in views(made, keys)} == {"running"}
    print(f"\nfreeze of a tenant: control event readable {readable_s * 1000:.0f} ms")
    made.order(tenant, resume=ResumeLifetime())
    all_are(made, keys, "completed")
    assert sorted(made.begun(tenant)) == sorted(keys), "each handler is called once"
    attempts = [one.headers.attempt for one in made.inputs(tenant)]
    assert (attempts.count(1), attempts.count(2)) == (len(keys), len(keys) - len(running)), (
        "what waited is given back"
    )


def test_a_freeze_reaches_workers_that_are_beginning_one_handler_after_the_other(
    build: Callable[[int], Site], tenant: str
) -> None:
    made = build(2)
    made.client.register_graph(graph(tenant, timeout="30s"))
    keys = made.start(tenant, 3 * COUNT, seconds=0.1)
    made.wait(lambda: len(made.begun(tenant)) >= COUNT // 2, 0.005)
    given_s = made.order(tenant, pause=PauseLifetime())
    readable_s = made.watch.when(tenant, PAUSE) - given_s
    time.sleep(2 * BOUND_S)
    last_s = max(at for at, _ in made.diary.begun) - given_s
    begun = len(made.begun(tenant))
    print(f"\nfreeze in full swing: readable {readable_s * 1000:.0f} ms, last begin {last_s * 1000:.0f} ms")
    assert last_s - readable_s < BOUND_S
    assert readable_s < STALL_S
    assert begun < len(keys), "nothing was left to hold back"
    made.order(tenant, resume=ResumeLifetime())
    all_are(made, keys, "completed")
    assert sorted(made.begun(tenant)) == sorted(keys), "each handler is called once"
