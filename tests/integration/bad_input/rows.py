"""How the rows of the table are written down: one case each, with the row it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headgate_protos.v1.execution_pb2 import DeadLetter
from headgate_streams.letters import LETTER_VALUE_BYTES, SECURITY_REASONS
from headgate_streams.port import Headers
from tests.integration.bad_input.yard import HOME, Yard

Shell = Callable[..., tuple[int, str, str]]
"""Runs the command in a directory of its own: (exit code, stdout, stderr)."""


@dataclass(frozen=True)
class Hand:
    """What a case has at hand."""

    yard: Yard
    shell: Shell
    folder: Path
    log: pytest.LogCaptureFixture
    environment: pytest.MonkeyPatch


Case = Callable[[Hand], None]
ROWS: list[Any] = []
"""Every case, as pytest takes it."""


def row(name: str) -> Callable[[Case], Case]:
    """Add a case."""

    def add(case: Case) -> Case:
        ROWS.append(pytest.param(case, id=name))
        return case

    return add


def bad_record(
    name: str,
    reasons: str,
    make: Callable[[str], tuple[bytes | None, Headers, bytes | None]],
    topic: str = "executions",
) -> None:
    """Add a case: the record that `make` gives for a tenant becomes a letter with one of these reasons."""

    def case(hand: Hand) -> None:
        yard = hand.yard
        tenant = yard.tenant()
        value, headers, key = make(tenant)
        before = yard.others_go_on()
        place = yard.raw(topic_of(yard, topic), value, headers, key)
        letter = yard.letter(place)
        assert letter.reason in reasons.split("|"), letter
        assert_kept(letter, place, value, headers, key)
        after = yard.others_go_on()
        assert after < 2 * before + 5.0, "the partition has not stalled"
        assert len(yard.letters_about(place)) == 1
        assert yard.inputs(tenant) == []
        assert yard.handlers.calls[tenant] == 0
        assert yard.view(tenant) is None
        if letter.reason in SECURITY_REASONS:
            assert_told(hand, letter)

    ROWS.append(pytest.param(case, id=f"{name}-{topic}"))


def topic_of(yard: Yard, name: str) -> str:
    topics = yard.client.topics
    return {
        "executions": topics.executions,
        "task-inputs": topics.task_inputs(),
        "plan-inputs": topics.plan_inputs(),
    }[name]


def assert_kept(
    letter: DeadLetter,
    place: tuple[str, int, int],
    value: bytes | None,
    headers: Headers,
    key: bytes | None,
) -> None:
    """The letter has the record's bytes, as far as the cap, and where it stood; its words are harmless."""
    assert (letter.topic, letter.partition, letter.offset) == place
    assert place[1] == HOME
    assert letter.value == (value or b"")[:LETTER_VALUE_BYTES]
    assert letter.value_size_bytes == len(value or b"")
    assert letter.key == (key or b"")[:1024]
    assert (letter.has_no_key, letter.has_no_value) == (key is None, value is None)
    assert [(one.name, one.value) for one in letter.headers] == [*headers][: len(letter.headers)]
    assert letter.detail.isascii()
    assert letter.detail.isprintable()


def assert_told(hand: Hand, letter: DeadLetter) -> None:
    """Whoever watches over security has been told, in one line."""
    said = [one.getMessage() for one in hand.log.records if one.name == "headgate.security"]
    about = [text for text in said if f"[{letter.partition}]@{letter.offset}," in text]
    assert about, said
    assert all(text.isprintable() for text in about)
