from __future__ import annotations

import pytest

from headgate.words import amount, control_word, execution_word, scope_word, status_word, usd, violation_line
from tests.unit.headgate.records import violation


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "$0.00"), (500_000_000, "$0.50"), (1_234_567_890, "$1.234568"), (600_000, "$0.0006"), (1, "$0.00")],
)
def test_money_shows_cents_and_more_decimals_only_where_they_say_something(nano: int, text: str) -> None:
    assert usd(nano) == text


def test_enums_read_as_words() -> None:
    assert (status_word(4), execution_word(3), control_word(2), scope_word(2)) == (
        "failed",
        "completed",
        "PAUSE_LIFETIME",
        "lifetime",
    )


def test_amounts_are_in_the_unit_people_write() -> None:
    assert amount("cost_usd", 1_500_000_000) == "$1.50"
    assert amount("tokens_used", 12_345) == "12,345"


def test_a_broken_limit_is_one_line_with_rule_measured_value_and_limit() -> None:
    line = violation_line(violation())
    assert line.startswith("rule run-dollars of policy tight v2 (lifetime scope)")
    assert "$0.60 against the limit $0.50" in line
    assert "\n" not in line
