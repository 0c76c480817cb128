"""Shares a bill between friends, in whole cents."""

from tally.bill import Bill
from tally.money import format_cents, parse_cents
from tally.split import split_evenly

__all__ = ["Bill", "format_cents", "parse_cents", "split_evenly"]
