import pytest
from tally import format_cents, parse_cents


@pytest.mark.parametrize(("text", "cents"), [("12.60", 1260), ("3", 300), ("0.05", 5)])
def test_an_amount_is_read_and_written(text, cents):
    assert parse_cents(text) == cents


def test_cents_are_written_with_two_digits():
    assert format_cents(1205) == "12.05"


def test_what_is_not_an_amount_is_refused():
    with pytest.raises(ValueError, match="not an amount"):
        parse_cents("a lot")
