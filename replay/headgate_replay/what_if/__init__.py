"""`headgate replay what-if`: what the runs of a range would have cost under another price table."""

from headgate_replay.what_if.prices import PriceTable, load_prices
from headgate_replay.what_if.repricing import Kept, Side, WhatIf, reprice

__all__ = ["Kept", "PriceTable", "Side", "WhatIf", "load_prices", "reprice"]
