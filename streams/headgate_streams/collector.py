"""The garbage collector, for processes that handle records one after the other."""

from __future__ import annotations

import gc
from typing import Final

_COLLECT_AFTER: Final = 10_000
"""Objects made and not dropped before the youngest are looked at; Python's own 700 is less than one batch."""


def spare_the_collector() -> None:
    """Let the garbage collector look at what is new, more rarely, and never again at what is here now.

    A loop makes and drops many objects for each record, and hardly a cycle among them; modules stay.
    """
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
