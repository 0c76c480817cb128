from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from headgate_workers.conversion import InputInvalid, ResultInvalid, call_of, metadata_json, to_json
from headgate_workers.outcome import one_line


class Model(BaseModel):
    at: datetime
    names: tuple[str, ...] = ()


@dataclass
class Pair:
    left: int
    right: Model | None = None


def takes_pair(ctx: object, data: Pair) -> None: ...
def takes_dict(ctx: object, data: dict[str, Any]) -> None: ...
def takes_anything(ctx: object, data) -> None: ...  # type: ignore[no-untyped-def]


def test_inputs_become_what_the_annotation_says() -> None:
    made = call_of(takes_pair).convert({"left": 1, "right": {"at": "2026-01-02T03:04:05Z", "names": ["a"]}})
    assert made == Pair(1, Model(at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), names=("a",)))
    assert call_of(takes_dict).convert([1]) == [1]
    assert call_of(takes_anything).convert("x") == "x"


def test_every_fault_of_an_input_is_named_and_its_values_are_not() -> None:
    with pytest.raises(InputInvalid) as caught:
        call_of(takes_pair).convert({"left": "s3cret", "right": {}})
    assert "left" in str(caught.value)
    assert "right.at" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_results_are_json_whatever_they_are_made_of() -> None:
    made = Pair(1, Model(at=datetime(2026, 1, 2, tzinfo=UTC)))
    assert json.loads(to_json([made])) == [{"left": 1, "right": {"at": "2026-01-02T00:00:00Z", "names": []}}]
    assert to_json(Path("/a/b")) == '"/a/b"'
    assert to_json({"ü": 1}) == '{"ü":1}'
    assert json.loads(to_json("\ud800")) == "\ud800"


@pytest.mark.parametrize("value", [float("inf"), [float("nan")], object(), {"a": {1: lambda: 0}}])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(ResultInvalid):
        to_json(value)


def test_values_without_an_end_are_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ResultInvalid):
        to_json(loop)


def test_metadata_is_a_small_object() -> None:
    assert metadata_json({}) == ""
    assert metadata_json({"a": 1}) == '{"a":1}'
    with pytest.raises(ResultInvalid, match="larger"):
        metadata_json({"a": "x" * 20_000})
    with pytest.raises(ResultInvalid, match="object"):
        metadata_json([1])  # type: ignore[arg-type]


@given(st.text(alphabet=st.characters()))
def test_messages_are_one_printable_line(text: str) -> None:
    line = one_line(text, 50)
    assert line.isprintable()
    assert len(line) <= 50 * 10
    line.encode()
