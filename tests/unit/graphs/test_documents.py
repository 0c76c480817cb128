"""Strict YAML: what is read, what is refused, and where each value stood."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from headgate_graphs.documents import MAX_DOCUMENT_BYTES, plain_scalar, read_yaml, validate
from headgate_graphs.errors import GraphInvalid, PolicyInvalid, UserError


def refused(text: str) -> str:
    with pytest.raises(PolicyInvalid) as caught:
        read_yaml(text, "p.yaml", PolicyInvalid)
    assert len(caught.value.faults) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("off", "off"),
        ("Yes", "Yes"),
        ("12:30", "12:30"),
        ("2020-01-01", "2020-01-01"),
        ("1_000", "1_000"),
        ("0x1f", "0x1f"),
        ("0o17", "0o17"),
        ("007", "007"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("=", "="),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("-12", -12),
        ("9223372036854775807", 2**63 - 1),
        ("0.50", 0.5),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("'1'", "1"),
        ('"true"', "true"),
        ("|\n  a\n  b\n", "a\nb\n"),
        ('"\\0 \\x1b"', "\0 \x1b"),
    ],
)
def test_scalars_mean_what_they_look_like(text: str, value: object) -> None:
    found = read_yaml(f"key: {text}", "p.yaml", PolicyInvalid).value["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("a: &x 1\nb: 2", "1:4", "anchors"),
        ("a: 1\nb: *x", "2:4", "aliases"),
        ("a: !!python/object:os.system x", "1:4", "tags"),
        ("a: ! x", "1:4", "tags"),
        ("a: !!map {}", "1:4", "tags"),
        ("a: 1\nb: 2\na: 3", "3:1", "duplicate key 'a', first at line 1"),
        ("x: {b: 1, 'b': 2}", "1:11", "duplicate key 'b'"),
        ("a: 1\n---\nb: 2", "2:1", "second document"),
        ("a: 1\n...\n---\n", "3:1", "second document"),
        ("%YAML 1.1\n---\na: 1", "1:1", "directives"),
        ("%TAG ! tag:x,2000:\n---\na: 1", "1:1", "directives"),
        ("", "1:1", "empty"),
        ("# nothing\n", "1:1", "empty"),
        ("[" * 100_000, "1:33", "deeper than 32"),
        ("{a: " * 40, "1:", "deeper than 32"),
        ("- " * 33 + "x", "1:65", "deeper than 32"),
        ("1: x", "1:1", "a key must be text"),
        ("? [a]\n: b", "1:3", "a key must be text"),
        ("~: x", "1:1", "a key must be text"),
        ("a: [1", "2:1", "not YAML"),
        ("a:\n\tb: 1", "2:1", "not YAML"),
        ("a: b: c", "1:5", "not YAML"),
        ("a: x\x00y", "1:5", "'\\x00' is not allowed"),
        ("a: 1\nb: \x1b[31m", "2:4", "'\\x1b' is not allowed"),
        ("a: \ud800", "1:4", "'\\ud800' is not allowed"),
        ('a: "\\ud800"', "1:7", "not YAML"),
        ("a: 9223372036854775808", "1:4", "64 bits"),
        ("a: " + "9" * 10_000, "1:4", "64 bits"),
        ("a: 1e999", "1:4", "finite"),
    ],
)
def test_what_surprises_or_costs_is_refused_with_its_place(text: str, place: str, says: str) -> None:
    message = refused(text)
    assert message.startswith(f"p.yaml:{place}")
    assert says in message
    assert "\n" not in message
    assert message.isprintable()


@pytest.mark.parametrize("text", ["x" * 10_000_000, "é" * (MAX_DOCUMENT_BYTES // 2 + 1), "- a\n" * 2_500_000])
def test_ten_megabytes_are_refused_at_once(text: str) -> None:
    began = time.perf_counter()
    assert "longer than 1048576 bytes" in refused(text)
    assert time.perf_counter() - began < 0.5


def test_one_fault_names_its_file_once() -> None:
    with pytest.raises(GraphInvalid) as caught:
        read_yaml("", "g.yaml", GraphInvalid)
    assert caught.value.faults == ("g.yaml:1:1: the document is empty",)
    assert str(caught.value) == "g.yaml:1:1: the document is empty"


def test_values_and_their_nearest_parents_are_located() -> None:
    document = read_yaml("a:\n  - b: 1\n    c: [x, yy]\n", "p.yaml", PolicyInvalid)
    assert document.locate(()) == "p.yaml:1:1"
    assert document.locate(("a", 0, "b")) == "p.yaml:2:8"
    assert document.locate(("a", 0, "c", 1)) == "p.yaml:3:12"
    assert document.locate(("a", 0, "missing", 7)) == "p.yaml:2:5"
    assert str(document.mark_of_key(("a", 0, "c"))) == "p.yaml:3:5"
    assert str(document.mark_of_key(("a", 0))) == "p.yaml:2:5"


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: int = 0
    flag: bool = False


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    number: float = 0
    inner: Inner = Inner()
    many: tuple[Inner, ...] = Field(default=(), alias="list")


def test_all_faults_are_reported_at_once_in_document_order() -> None:
    text = 'number: 1\nnope: 1\ninner: {count: "5", flag: no}\nlist:\n  - {count: 1.5}\n  - {"\\e[31m": 1}\n'
    with pytest.raises(PolicyInvalid) as caught:
        validate(read_yaml(text, "p.yaml", PolicyInvalid), Outer, PolicyInvalid)
    assert [fault.split(": ")[0] + " " + fault.split(": ")[1] for fault in caught.value.faults] == [
        "p.yaml:1:1 name",
        "p.yaml:2:1 nope",
        "p.yaml:3:16 inner.count",
        "p.yaml:3:27 inner.flag",
        "p.yaml:5:13 list[0].count",
        "p.yaml:6:6 list[1].'\\x1b[31m'",
    ]
    assert "unknown key" in caught.value.faults[1]
    assert str(caught.value).startswith("p.yaml: 6 faults: ")
    assert str(caught.value).isprintable()


def test_a_document_that_fits_becomes_the_model() -> None:
    document = read_yaml("name: x\nnumber: 2\nlist: [{count: 3}]", "p.yaml", PolicyInvalid)
    assert validate(document, Outer, PolicyInvalid) == Outer(name="x", number=2, list=(Inner(count=3),))


def test_a_document_of_the_wrong_shape_is_refused_at_its_beginning() -> None:
    with pytest.raises(PolicyInvalid, match=r"p\.yaml:1:1: Input should be an object"):
        validate(read_yaml("- a", "p.yaml", PolicyInvalid), Outer, PolicyInvalid)


def test_one_line_names_twenty_faults_and_counts_the_rest() -> None:
    error = UserError.from_faults("p.yaml", [f"fault {i}" for i in range(25)])
    assert "fault 19; and 5 more" in str(error)
    assert len(error.faults) == 25


@given(st.text())
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    with contextlib.suppress(PolicyInvalid):
        assert read_yaml(text, "p.yaml", PolicyInvalid).mark.line >= 1


@given(st.text(alphabet="0123456789+-.eE_xoXnulTtrRueFfasé~", max_size=12))
def test_a_plain_scalar_never_changes_silently(text: str) -> None:
    try:
        value = plain_scalar(text)
    except ValueError:
        return
    if isinstance(value, float):
        assert value == float(text)
    elif isinstance(value, int) and not isinstance(value, bool):
        assert str(value) == text.lstrip("+") or text in ("-0", "+0")


def test_a_list_is_not_called_too_short_because_its_items_are_wrong() -> None:
    class Several(BaseModel):
        items: tuple[Inner, ...] = Field(min_length=1)

    with pytest.raises(PolicyInvalid) as caught:
        validate(read_yaml("items: [{count: x}]", "p.yaml", PolicyInvalid), Several, PolicyInvalid)
    assert [fault.split(": ")[1] for fault in caught.value.faults] == ["items[0].count"]
    with pytest.raises(PolicyInvalid, match="at least 1 item"):
        validate(read_yaml("items: []", "p.yaml", PolicyInvalid), Several, PolicyInvalid)
