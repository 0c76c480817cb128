"""How one run of a graph ended, as user code reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headgate.words import status_word
from headgate_graphs.errors import HeadgateError
from headgate_protos.v1.execution_pb2 import LifetimeView


class NotCompleted(HeadgateError):
    """A run that was expected to complete ended otherwise; the message says how and why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end, or the pause, of one lifetime."""

    lifetime_id: str
    status: str
    """completed, failed, aborted, rejected, paused, or running when the wait timed out."""
    reason: str
    """Why, for people; empty when all is well."""
    value: Any
    """What the run produced, from JSON; None when it produced nothing."""
    view: LifetimeView | None
    """Everything the gate publishes about it; None when no gate has answered."""

    @property
    def cost_usd(self) -> float:
        """Settled spend in USD."""
        return self.view.usage.cost_nano_usd / 1e9 if self.view else 0.0

    @property
    def tokens_used(self) -> int:
        """Settled tokens, input and output together."""
        return int(self.view.usage.tokens_used) if self.view else 0

    def completed(self) -> Any:
        """Return the value; raises NotCompleted unless the run completed."""
        if self.status != "completed":
            raise NotCompleted(
                f"lifetime {self.lifetime_id} is {self.status}: {self.reason or 'no reason given'}"
            )
        return self.value


def outcome_of(lifetime_id: str, view: LifetimeView | None, value: Any) -> Outcome:
    """Return what `view` says, with the outcome's value already fetched."""
    if view is None:
        return Outcome(lifetime_id, "running", "no gate has answered yet", None, None)
    return Outcome(lifetime_id, status_word(view.status), view.reason, value, view)
