"""What a tenant spent in the windows of its rules. Called when a run is paid and when a rule is asked."""

from __future__ import annotations

from collections.abc import ItemsView, Mapping, Sequence
from math import inf
from typing import ClassVar

from headgate_guardrails.fold.ledger import Spend

RuleKey = tuple[str, str]
"""(book, rule)."""


class Window:
    """A tenant's spend in the window of one rule: the tumbling one of now, or a sliding one's last parts."""

    __slots__ = ("buckets", "index", "length_ms", "part_ms", "sliding", "spend", "until")

    PARTS: ClassVar = 60
    """Parts of a sliding window: it forgets in steps of a sixtieth of its length."""

    def __init__(self, length_ms: int, sliding: bool) -> None:
        self.length_ms = length_ms
        self.sliding = sliding
        self.part_ms = -(-length_ms // self.PARTS) if sliding else length_ms
        """Length of one part: the window itself when it is tumbling."""
        self.index = -1
        self.until = 0
        """Log time at which something is forgotten next, 0 for at once."""
        self.spend = Spend()
        """What counts as of the last `at`."""
        self.buckets: dict[int, Spend] = {}
        """For a sliding window, the spend of each part, oldest first."""

    def at(self, clock_ms: int) -> Spend:
        """Return what counts at `clock_ms`; what is too old is dropped."""
        if clock_ms < self.until:
            return self.spend
        self.index = index = clock_ms // self.part_ms
        self.until = (index + 1) * self.part_ms
        if not self.sliding:
            self.spend = Spend()
        else:
            self._forget(index - self.PARTS)
        return self.spend

    def _forget(self, oldest: int) -> None:
        """Drop the parts before `oldest`, which counts whole until its last moment is out."""
        gone = [index for index in self.buckets if index < oldest]
        if not gone:
            return
        dropped = [self.buckets.pop(index) for index in gone]
        before, self.spend = self.spend, Spend()
        if before.is_near_the_end:
            for part in self.buckets.values():
                self.spend.add(part)
        else:
            self.spend.add_difference(before, dropped)

    def add(self, settled: Spend) -> None:
        """Add what was settled since the window was last moved."""
        self.spend.settle(settled)
        if not self.sliding:
            return
        part = self.buckets.get(self.index)
        if part is None:
            part = self.buckets[self.index] = Spend()
        part.settle(settled)


class Windows:
    """All windows of a tenant.

    What is settled is kept once, in `fresh`, and told to each of them only when one has to move on, or when
    somebody looks: so a run costs the same however many windows there are.
    """

    __slots__ = ("_by_rule", "each", "fresh", "until")

    def __init__(self, by_rule: Mapping[RuleKey, Window]) -> None:
        self._by_rule = dict(by_rule)
        self.each: Sequence[Window] = tuple(self._by_rule.values())
        """In the order in which the evaluator asks them. Each counts without what is fresh."""
        self.fresh = Spend()
        """What was settled since they were last told; it counts in all of them."""
        self.until: float = 0 if by_rule else inf
        """Log time from which on one of them must move before anything is settled or asked."""

    def __getitem__(self, key: RuleKey) -> Window:
        """Return the window of a rule, told of everything."""
        self.tell()
        return self._by_rule[key]

    def items(self) -> ItemsView[RuleKey, Window]:
        """Return all windows by rule, told of everything."""
        self.tell()
        return self._by_rule.items()

    def tell(self) -> None:
        """Let each window count what is fresh."""
        fresh = self.fresh
        if fresh.executions:
            self.fresh = Spend()
            for window in self.each:
                window.add(fresh)

    def move(self, clock_ms: int) -> None:
        """Let each window forget what is too old at `clock_ms`."""
        self.tell()
        for window in self.each:
            window.at(clock_ms)
        self.until = min([window.until for window in self.each], default=inf)
