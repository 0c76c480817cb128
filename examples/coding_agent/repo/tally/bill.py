"""A bill: what was ordered, what it costs, who pays how much."""

from dataclasses import dataclass

from tally.money import format_cents, parse_cents
from tally.split import split_evenly


@dataclass(frozen=True)
class Bill:
    """The items of one bill, in cents."""

    items: tuple[int, ...]

    @classmethod
    def of(cls, *amounts: str) -> "Bill":
        """Make a bill from amounts such as "12.60"."""
        return cls(tuple(parse_cents(amount) for amount in amounts))

    @property
    def total(self) -> int:
        """Return what the whole bill costs."""
        return sum(self.items)

    def shares(self, people: int) -> list[int]:
        """Return what each person pays."""
        return split_evenly(self.total, people)

    def summary(self, people: int) -> str:
        """Return one line for people."""
        shares = ", ".join(format_cents(share) for share in self.shares(people))
        return f"{format_cents(self.total)} shared by {people}: {shares}"
