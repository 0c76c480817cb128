"""Sums: what a charge adds to every scope, where they stop, and what a sliding window forgets."""

from __future__ import annotations

import random
from dataclasses import asdict, fields

import pytest

from headgate_guardrails.fold.ledger import (
    MAX_AMOUNT,
    MAX_USAGE,
    Amount,
    Charge,
    Spend,
    priced,
    reading,
    settle,
    unreported,
)
from headgate_guardrails.fold.windows import Window, Windows
from headgate_protos.v1 import common_pb2 as pb


def sums(spend: Spend) -> list[int]:
    return [getattr(spend, name) for name in Spend.FIELDS]


def charge(rng: random.Random, most: int) -> Charge:
    return Charge(*(rng.choice([0, rng.randint(0, most)]) for _ in fields(Charge)))


def one_by_one(spend: Spend, given: Charge) -> None:
    """Add a charge as it is defined: each sum stops at the end."""
    spend.executions += 1
    for name, number in asdict(given).items():
        setattr(spend, name, min(getattr(spend, name) + number, MAX_AMOUNT))
    spend.max_tokens = max(spend.max_tokens, given.tokens)
    spend.max_cost = max(spend.max_cost, given.cost)
    spend.max_latency_ms = max(spend.max_latency_ms, given.latency_ms)


def test_every_scope_adds_up_and_stops_at_the_end() -> None:
    rng = random.Random(5)
    for most in (1_000, MAX_USAGE):
        whole, part = Spend(), Spend()
        same_whole, same_part = Spend(), Spend()
        for number in range(4_000):
            given = charge(rng, most)
            parts = [part] if number % 2 else []
            settle(whole, parts, given)
            one_by_one(same_whole, given)
            if parts:
                one_by_one(same_part, given)
            assert sums(whole) == sums(same_whole)
            assert sums(part) == sums(same_part)
        assert (whole.tokens == MAX_AMOUNT) is (most == MAX_USAGE)


RULE = ("book", "rule")


@pytest.mark.parametrize("most", [1_000, MAX_USAGE])
def test_a_sliding_window_is_the_sum_of_its_parts(most: int) -> None:
    rng, window, clock = random.Random(6), Window(60_000, True), 0
    whole, windows = Spend(), Windows({RULE: window, ("book", "other"): Window(7_000, False)})
    seen: list[tuple[int, Charge]] = []
    highest = 0
    for number in range(20_000):
        clock += rng.choice([1_000, 1_001, 20_000]) if number % 499 == 0 else number % 2
        given = charge(rng, most)
        if clock >= windows.until:
            windows.move(clock)
        if settle(whole, [windows.fresh], given):
            windows.tell()
        seen.append((clock // window.part_ms, given))
        if number % 101 == 0:
            counted = [one for index, one in seen if index >= window.index - Window.PARTS]
            for name in ("tokens", "cost", "latency_ms", "payload_bytes"):
                total = min(sum(getattr(one, name) for one in counted), MAX_AMOUNT)
                assert getattr(windows[RULE].at(clock), name) == total
            assert windows[RULE].at(clock).executions == len(counted)
            highest = max(highest, windows[RULE].at(clock).tokens)
    assert (highest == MAX_AMOUNT) is (most == MAX_USAGE)
    assert windows[RULE].at(clock).executions < len(seen), "nothing was ever forgotten"


def test_a_usage_is_believed_up_to_its_bound_and_not_beyond() -> None:
    for field in ("tokens_used", "cost_nano_usd", "latency_ms", "input_tokens", "cached_tokens"):
        for number, is_believed in ((0, True), (MAX_USAGE, True), (MAX_USAGE + 1, False), (-1, False)):
            usage = pb.ResourceUsage(output_tokens=7, **{field: number})  # type: ignore[arg-type]
            assert (reading(usage, 3) is not None) is is_believed


def test_what_is_missing_is_charged_at_the_hold() -> None:
    hold = Amount(100, 2_000)
    assert unreported(hold, 3) == Charge(100, 2_000, 0, 0, 0, 0, 3)
    silent, cheap = Charge(0, 0, 5, 0, 0, 0, 3), Charge(7, 5_000, 5, 0, 0, 0, 3)
    assert priced(silent, hold) == Charge(100, 2_000, 5, 0, 0, 0, 3)
    assert priced(cheap, hold) == cheap
