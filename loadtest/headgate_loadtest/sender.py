"""Asks for runs at the planned moments, whatever comes back: the open end of the loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from headgate_graphs.errors import HeadgateError
from headgate_loadtest.arrivals import Arrivals
from headgate_loadtest.installation import FLUSH_S, Installation, start_of
from headgate_loadtest.samples import Nanos
from headgate_streams.port import Delivery

_LONGEST_WAIT_S = 0.05
"""So that progress is shown and a stop is noticed."""


@dataclass
class Sent:
    """What was asked for, and when."""

    lifetimes: list[str]
    """Ids, in the order of the plan."""
    tenants: list[str]
    """Whose each is."""
    begin_ns: int
    """When the load began, by the monotonic clock."""
    due_ns: Nanos
    """Intended moments, by the monotonic clock."""
    lag_ns: Nanos
    """How much later than intended each was handed to the log's client; -1 for what was never sent."""
    acknowledged: set[str] = field(default_factory=set)
    """Ids of which the log has said that it keeps them."""
    errors: list[HeadgateError] = field(default_factory=list)
    """Why others were not taken."""


class Sender:
    """Sends one plan. One thread; `sent` may be looked at from others."""

    def __init__(
        self, installation: Installation, arrivals: Arrivals, tenants: list[str], graph_id: str
    ) -> None:
        prefix = f"{installation.run_prefix}-{graph_id[-4:]}-{time.monotonic_ns() % 10**9:x}"
        count = len(arrivals)
        self._installation = installation
        self._graph_id = graph_id
        self._at_ns = arrivals.at_ns
        self.sent = Sent(
            [f"{prefix}-{number}" for number in range(count)],
            [tenants[number] for number in arrivals.tenant],
            0,
            np.zeros(count, dtype=np.int64),
            np.full(count, -1, dtype=np.int64),
        )

    def begin(self, delay_s: float = 0.05) -> Sent:
        """Fix when the load begins; it is a moment away."""
        self.sent.begin_ns = time.monotonic_ns() + int(delay_s * 1e9)
        self.sent.due_ns = self._at_ns + self.sent.begin_ns
        return self.sent

    def run(self, tick: Callable[[int], bool]) -> Sent:
        """Send everything; `tick` gets how many were sent and says whether to go on."""
        producer, publisher = self._installation.producer(), self._installation.publisher()
        sent, number, due = self.sent, 0, self.sent.due_ns
        while number < len(due) and tick(number):
            now = time.monotonic_ns()
            while number < len(due) and due[number] <= now:
                sent.lag_ns[number] = time.monotonic_ns() - int(due[number])
                lifetime = sent.lifetimes[number]
                envelope = start_of(sent.tenants[number], lifetime, self._graph_id)
                publisher.publish(envelope, self._noting(lifetime))
                number += 1
            self._wait(producer.push, int(due[number]) if number < len(due) else 0)
        producer.flush(FLUSH_S)
        return sent

    def _wait(self, push: Callable[[float], int], until_ns: int) -> None:
        """Send what is queued, and wait until the next is due."""
        left_s = max(0.0, min(_LONGEST_WAIT_S, (until_ns - time.monotonic_ns()) / 1e9))
        push(left_s)
        left_s = max(0.0, min(_LONGEST_WAIT_S, (until_ns - time.monotonic_ns()) / 1e9))
        if left_s > 0:
            time.sleep(left_s)

    def _noting(self, lifetime: str) -> Callable[[Delivery], None]:
        def note(delivery: Delivery) -> None:
            if delivery.error is None:
                self.sent.acknowledged.add(lifetime)
            else:
                self.sent.errors.append(delivery.error)

        return note
