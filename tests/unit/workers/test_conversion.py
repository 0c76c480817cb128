from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from headgate_workers.conversion import (
    InputInvalid,
    ResultInvalid,
    ResultTooLarge,
    call_of,
    from_json,
    metadata_json,
    to_json,
)
from headgate_workers.outcome import failed, one_line
from headgate_workers.secrets import remember_secret


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


def test_json_is_said_and_read_as_the_standard_library_does() -> None:
    parts: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.text()
    parts |= st.floats(allow_nan=False, allow_infinity=False)
    keys = st.text() | st.integers() | st.booleans() | st.none()
    values = st.recursive(parts, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=20)

    @given(values)
    def as_the_library_does(value: Any) -> None:
        expected = repr(json.loads(json.dumps(value)))
        assert repr(json.loads(to_json(value))) == expected
        assert repr(from_json(to_json(value))) == expected

    as_the_library_does()


@pytest.mark.parametrize("text", ['"\\ud800"', '{"a":"\\ud83d\\ude00"}', "NaN", "[1,2", "", "1e400"])
def test_odd_json_is_read_as_the_standard_library_does(text: str) -> None:
    def told(read: Callable[[str], Any]) -> str:
        try:
            return repr(read(text))
        except json.JSONDecodeError as error:
            return str(error)

    assert told(from_json) == told(json.loads)


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
    assert len(line) <= 50
    line.encode()


def test_a_gigabyte_is_refused_before_any_of_it_is_copied() -> None:
    begun = tracemalloc.start() or time.monotonic()
    try:
        megabyte = "x" * 2**20
        doubled: list[Any] = [megabyte]
        for _ in range(60):
            doubled = [doubled, doubled]
        for giant in ([megabyte] * 1024, {"a": (megabyte,) * 1024}, [{megabyte: [1]}] * 1024, doubled):
            with pytest.raises(ResultTooLarge):
                to_json(giant)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4 * 2**20
    assert time.monotonic() - begun < 1.0


def test_what_holds_itself_or_is_nested_too_deep_is_refused() -> None:
    own: list[Any] = [1]
    own.append(own)
    deep: Any = 1
    for _ in range(101):
        deep = [deep]
    for value in (own, deep, {"a": deep}):
        with pytest.raises(ResultInvalid):
            to_json(value)
    assert to_json(deep[0]) == "[" * 100 + "1" + "]" * 100


def test_a_failure_does_not_say_what_the_worker_keeps_secret() -> None:
    remember_secret("Bearer sk-verysecretindeed")
    remember_secret("short")
    remember_secret(None)
    said = failed("X", "401 for 'Bearer sk-verysecretindeed' (sk-verysecretindeed), short", retryable=False)
    assert said.error is not None
    assert said.error.message == "401 for '***' (***), short"
