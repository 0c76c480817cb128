"""When another client takes the place of one that has lost all brokers for good (librdkafka issue 5301)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError

from headgate_graphs.errors import Disposition, LogUnavailable
from headgate_streams.kafka.bounded import BoundedCalls
from headgate_streams.kafka.material import Held, Material
from headgate_streams.kafka.producer import _failure

NOBODY = KafkaError(KafkaError._ALL_BROKERS_DOWN)


class Clock:
    """A clock that tests move, in place of the module's `time`."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


class Client:
    """Finds the brokers that its test says."""

    brokers_of_new: Mapping[int, str] | None = {1: "b"}

    def __init__(self, configuration: Mapping[str, Any], logger: logging.Logger) -> None:
        self.brokers = self.brokers_of_new
        self.asked = 0

    def set_sasl_credentials(self, username: str, password: str) -> None:
        raise AssertionError("nobody logs in here")

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Any:
        self.asked += 1
        if self.brokers is None:
            raise LogUnavailable("no answer")
        return SimpleNamespace(brokers=self.brokers, topics={})

    def poll(self, timeout: float = -1) -> int:
        return 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("headgate_streams.kafka.material.time", made)
    monkeypatch.setattr("headgate_streams.kafka.clients.time", made)
    monkeypatch.setattr("headgate_streams.kafka.material.metadata", lambda client, *_: client.list_topics())
    return made


@pytest.fixture
def held(clock: Clock) -> Held[Client]:
    return Held(Client, {}, Material("broker:1", {}))


def test_client_that_says_nothing_of_brokers_is_not_asked(held: Held[Client], clock: Clock) -> None:
    clock.now_s += 3600
    assert held.heir() is None
    assert held.client.asked == 0


def test_client_that_lost_its_brokers_gives_way_to_one_that_finds_some(
    held: Held[Client], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    held.troubles(NOBODY)
    held.client.brokers = None
    assert held.heir() is None  # it is given time to find one by itself
    clock.now_s += 5
    heir = held.heir()
    assert heir is not None
    assert heir is not held.client
    held.client = heir
    clock.now_s += 3600
    assert held.heir() is None


@pytest.mark.parametrize("brokers", [None, {}])
def test_client_stays_while_no_other_fares_better_and_that_is_looked_at_ever_less_often(
    held: Held[Client],
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    brokers: Mapping[int, str] | None,
) -> None:
    monkeypatch.setattr(Client, "brokers_of_new", brokers)
    held.troubles(NOBODY)
    held.client.brokers = None
    looks = []
    for _ in range(200):
        clock.now_s += 1
        before = held.client.asked
        assert held.heir() is None
        if held.client.asked > before:
            looks.append(clock.now_s - 100)
    assert looks == [5, 10, 20, 40, 80, 140, 200]
    monkeypatch.setattr(Client, "brokers_of_new", {1: "b"})
    clock.now_s += 60
    assert held.heir() is not None


def test_client_that_found_its_brokers_again_stays(held: Held[Client], clock: Clock) -> None:
    held.troubles(NOBODY)
    clock.now_s += 5
    assert held.heir() is None
    asked = held.client.asked
    clock.now_s += 3600
    assert held.heir() is None
    assert held.client.asked == asked  # it is not suspected any more


def test_client_with_a_call_that_does_not_come_back_is_not_asked(held: Held[Client], clock: Clock) -> None:
    assert held.heir(stuck_s=4.0) is None
    assert held.heir(stuck_s=6.0) is not None
    assert held.client.asked == 0


def test_what_ends_the_calls_waits_for_the_one_under_way() -> None:
    calls, done, over = BoundedCalls("test"), threading.Event(), threading.Event()
    assert calls.late_s == 0.0
    with pytest.raises(TimeoutError):
        calls.call(lambda: done.wait(20), 0.01)
    assert calls.late_s >= 0.0
    calls.end_with(over.set)
    assert not over.wait(0.1)
    done.set()
    assert over.wait(20)


@pytest.mark.parametrize(
    ("code", "again"),
    [
        (KafkaError._MSG_TIMED_OUT, True),
        (KafkaError._PURGE_INFLIGHT, True),
        (KafkaError.MSG_SIZE_TOO_LARGE, False),
        (KafkaError._UNKNOWN_TOPIC, False),
    ],
)
def test_an_append_of_which_nobody_tells_is_done_again_by_a_new_service(code: int, again: bool) -> None:
    failed = _failure("t", 3, KafkaError(code))
    assert (failed.disposition is Disposition.RETRY) is again
    assert str(failed).startswith("t[3]: ")
