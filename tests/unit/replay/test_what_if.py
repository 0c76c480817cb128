"""Runs are priced anew to the nano-dollar; what a table cannot price keeps its cost, and is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headgate.spending import charges_in
from headgate_catalog.happening import Happening
from headgate_catalog.spend import HOUR_MS, Charge, Period, Spend, SpendBy
from headgate_graphs.errors import UserError
from headgate_protos.v1.common_pb2 import ResourceUsage
from headgate_protos.v1.execution_pb2 import LifetimeView
from headgate_protos.v1.task_pb2 import TaskExecution
from headgate_replay.what_if import Kept, PriceTable, Side, WhatIf, load_prices, reprice
from headgate_replay.what_if.repricing import cost_of

HEAD = "apiVersion: headgate/v1\nkind: PriceTable\nmetadata: {name: summer, version: 2}\n"


def table(name: str = "summer", **models: Any) -> PriceTable:
    known = models or {"big": {"input": "2.00", "output": "8.00", "cached": "0.50"}}
    document = {"kind": "PriceTable", "metadata": {"name": name, "version": 2}, "models": known}
    return PriceTable.model_validate(document)


def charge(cost: int = 1_000, model: str = "big", when_ms: int = 0, **amounts: int) -> Charge:
    spend = Spend(cost, runs=1)._replace(**amounts)
    return Charge("acme", "g", "write", model, when_ms, spend)


def told(sent: int, written: int, cached: int = 0) -> dict[str, int]:
    return {
        "tokens_used": sent + written,
        "input_tokens": sent,
        "output_tokens": written,
        "cached_tokens": cached,
    }


def under(found: list[Charge], by: SpendBy = SpendBy.MODEL, given: PriceTable | None = None) -> WhatIf:
    return reprice(found, [given or table()], by, Period())


def side_of(*found: Charge) -> Side:
    (side,) = under([*found]).sides
    return side


# -- prices ----------------------------------------------------------------------------------------------


def test_a_run_costs_its_tokens_by_kind_to_the_nano_dollar() -> None:
    side = side_of(charge(7, **told(1_000, 100, cached=400)))
    # 600 · 2,000 + 400 · 500 + 100 · 8,000 nano-USD a token
    assert side.cost == {"big": 2_200_000}
    assert (side.repriced.runs, side.repriced.cost_nano_usd) == (1, 7)


def test_cached_tokens_cost_as_much_as_input_where_the_table_does_not_say() -> None:
    given = table(big={"input": "0.15", "output": "0.60"})
    assert under([charge(**told(1_000, 0, cached=900))], given=given).sides[0].cost == {"big": 150_000}


def test_more_cached_tokens_than_input_are_not_believed() -> None:
    assert side_of(charge(**told(10, 0, cached=99))).cost == {"big": 5_000}


@pytest.mark.parametrize(("tokens", "nano"), [(1, 0), (3, 2), (5, 2), (6, 3), (7, 4)])
def test_less_than_a_nano_dollar_is_rounded_half_to_even_once_a_run(tokens: int, nano: int) -> None:
    price = table(big={"input": "0.0005", "output": "0.0005"}).models["big"]
    assert cost_of(Spend(**told(tokens - 1, 1)), price) == nano


def test_the_largest_amounts_are_exact() -> None:
    price = table(big={"input": "999999.999999999", "output": 0}).models["big"]
    exact, rest = divmod((2**53 - 1) * 999_999_999_999_999, 1_000_000)
    assert cost_of(Spend(**told(2**53 - 1, 0)), price) == exact + (rest > 500_000)


# -- what is kept ----------------------------------------------------------------------------------------


def test_what_the_table_does_not_price_keeps_its_cost_and_is_counted_by_why() -> None:
    side = side_of(
        charge(1_000, **told(1, 0)),
        charge(20, "other", **told(5, 5)),
        charge(30, "other", **told(5, 5)),
        charge(50, "more", **told(5, 5)),
        charge(100, tokens_used=10),
        charge(200, tokens_used=10, input_tokens=4),
        charge(3, "", tokens_used=1),
        charge(-40, "", runs=0),
    )
    assert side.cost == {"big": 2_000 + 300, "other": 50, "more": 50, "": 3 - 40}
    assert {why: (one.runs, one.cost_nano_usd) for why, one in side.kept.items()} == {
        Kept.UNNAMED: (3, 100),
        Kept.NO_SPLIT: (2, 300),
        Kept.NO_MODEL: (1, 3),
        Kept.BEYOND: (0, -40),
    }
    assert {model: one.runs for model, one in side.unnamed.items()} == {"other": 2, "more": 1}


def test_a_run_without_tokens_and_without_cost_costs_nothing_by_any_table() -> None:
    side = side_of(charge(0))
    assert (side.repriced.runs, side.cost, side.kept) == (1, {"big": 0}, {})


def test_a_cost_without_any_token_is_kept() -> None:
    assert side_of(charge(5)).kept.keys() == {Kept.NO_SPLIT}


# -- sums ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "key"),
    [
        (SpendBy.TENANT, "acme"),
        (SpendBy.GRAPH, "g"),
        (SpendBy.NODE, "write"),
        (SpendBy.MODEL, "big"),
        (SpendBy.HOUR, HOUR_MS),
    ],
)
def test_sums_are_by_what_is_asked_for_within_the_range(by: SpendBy, key: str | int) -> None:
    charges = [charge(when_ms=when, **told(1, 0)) for when in (HOUR_MS - 1, HOUR_MS, HOUR_MS + 9)]
    found = reprice(charges, [table()], by, Period(HOUR_MS, HOUR_MS + 9))
    assert found.sides[0].cost == {key: 2_000}
    assert found.recorded == {key: charges[0].spend}


def test_two_tables_are_compared_on_the_same_runs() -> None:
    dear = table("dear", big={"input": 3, "output": 9}, other={"input": 1, "output": 1})
    charges = [charge(**told(10, 1)), charge(70, "other", **told(10, 0))]
    found = reprice(charges, [table(), dear], SpendBy.MODEL, Period())
    assert [side.cost for side in found.sides] == [
        {"big": 28_000, "other": 70},
        {"big": 39_000, "other": 10_000},
    ]
    assert [side.repriced.runs for side in found.sides] == [1, 2]
    assert {key: one.cost_nano_usd for key, one in found.recorded.items()} == {"big": 1_000, "other": 70}


def test_two_tables_of_one_name_and_version_are_refused() -> None:
    with pytest.raises(UserError, match=r"two tables are summer@2: give one of them another name"):
        reprice([], [table(), table(big={"input": 1, "output": 1})], SpendBy.GRAPH, Period())


def reported(run_id: str, offset: int, sent: int) -> Happening:
    done = TaskExecution(tenant_id="acme")
    done.headers.run_id, done.headers.node_id = run_id, "write"
    usage = {"cost_nano_usd": 9, "model": "big"} | told(sent, 0)
    done.resource_usage.CopyFrom(ResourceUsage(**usage))
    return Happening(offset, (offset, 0, 0), done, "run", tenant_id="acme")


def test_a_run_that_is_reported_twice_counts_once_with_what_it_said_first() -> None:
    view = LifetimeView(tenant_id="acme", lifetime_id="run", graph_id="g")
    happenings = [
        reported("one", 1, 10),
        reported("two", 2, 10),
        reported("one", 3, 99),
        Happening(4, (4, 1, 0), view, "run", tenant_id="acme"),
    ]
    found = under([*charges_in(happenings)], SpendBy.GRAPH)
    assert found.sides[0].cost == {"g": 2 * 20_000}
    assert (found.recorded["g"].runs, found.recorded["g"].cost_nano_usd) == (2, 18)


# -- tables ----------------------------------------------------------------------------------------------


def loaded(folder: Path, text: str) -> PriceTable:
    (folder / "prices.yaml").write_text(text)
    return load_prices(folder / "prices.yaml")


def test_prices_are_read_exactly_as_numbers_and_as_text(tmp_path: Path) -> None:
    small, large = '{input: 0.1, output: "0.000000001"}', "{input: 0, output: 999999.123456789}"
    given = loaded(tmp_path, HEAD + f"models:\n  a/b-1:free: {small}\n  x: {large}\n")
    assert given.label == "summer@2"
    assert (given.models["a/b-1:free"].input, given.models["a/b-1:free"].output) == (100_000_000, 1)
    assert (given.models["x"].input, given.models["x"].output) == (0, 999_999_123_456_789)


@pytest.mark.parametrize(
    ("models", "fault"),
    [
        ("models:\n  big: {input: -1, output: 2}", "5:16: models.big.input: -1 USD is not between 0"),
        ("models:\n  big: {input: 1, output: .nan}", "5:27: models.big.output: '.nan' is not an amount"),
        ("models:\n  big: {input: 1, output: Infinity}", "5:27: models.big.output: 'Infinity' USD is not"),
        ("models:\n  big: {input: 0.0000000001, output: 1}", "5:16: models.big.input: 1e-10 USD is not"),
        ("models:\n  big: {input: 1000001, output: 1}", "5:16: models.big.input: more than 1,000,000 USD"),
        ("models:\n  big: {input: true, output: 1}", "5:16: models.big.input: an amount in USD is a number"),
        ("models:\n  big: {input: 1}", "5:8: models.big.output: Field required"),
        ("models:\n  big: {input: 1, output: 1, in: 2}", "5:30: models.big.in: unknown key"),
        ("models:\n  big: {input: 1, output: 1}\n  big: {input: 2, output: 1}", "6:3: duplicate key 'big'"),
        ("models:\n  big: &a {input: 1, output: 1}\n  x: *a", "5:8: anchors are not allowed"),
        ("models: " + "[" * 40 + "]" * 40, "nested deeper than 32 levels"),
        ("models: {}", "4:9: models: Dictionary should have at least 1 item"),
    ],
)
def test_a_bad_table_is_refused_with_file_line_and_column(tmp_path: Path, models: str, fault: str) -> None:
    with pytest.raises(UserError) as refused:
        loaded(tmp_path, HEAD + models + "\n")
    assert str(refused.value).startswith(f"{tmp_path}/prices.yaml:")
    assert fault in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prices.yaml:2:7: kind: Input should be 'PriceTable'"):
        loaded(
            tmp_path, HEAD.replace("PriceTable", "GuardrailPolicy") + "models: {x: {input: 1, output: 1}}\n"
        )
