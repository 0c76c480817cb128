"""What a link does to what passes over it just now; set from any thread, asked for each piece."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

LOOK_AGAIN_S = 0.02


class Dropped(Exception):
    """The connection is to be reset."""


@dataclass
class Weather:
    """The state of one link, or of several that share it. Clear when made."""

    delay_s: float = 0.0
    """Every piece waits so long, in both directions."""
    is_cut_up: bool = False
    """Nothing passes from client to server. Held back, not lost: it goes on after healing, as TCP would."""
    is_cut_down: bool = False
    """Nothing passes from server to client."""
    is_refused: bool = False
    """Connections are reset and new ones refused."""
    resets_of_100: float = 0.0
    """How many of a hundred pieces reset their connection."""
    eaten: frozenset[str] = frozenset()
    """Requests ("produce", "commit", "put") that are passed on, and whose reply is eaten."""
    is_brokerless: bool = False
    """Brokers tell of a cluster without brokers, as one does that is cut off from the controllers."""
    answers: str = ""
    """What a blob store answers: "error" a 503 to everything; "truncated", "corrupt" for what is read."""
    meals: int = 0
    """Replies that were eaten."""
    spoiled: int = 0
    """Answers that were made up, cut or changed."""
    dice: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311

    def clear(self) -> None:
        """Heal."""
        self.delay_s = self.resets_of_100 = 0.0
        self.is_cut_up = self.is_cut_down = self.is_refused = self.is_brokerless = False
        self.eaten, self.answers = frozenset(), ""

    async def passing(self, *, up: bool) -> None:
        """Return when one piece may pass; raises Dropped when its connection is reset instead."""
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        while (self.is_cut_up if up else self.is_cut_down) and not self.is_refused:
            await asyncio.sleep(LOOK_AGAIN_S)
        if self.is_refused or (self.resets_of_100 and self.dice.uniform(0, 100) < self.resets_of_100):
            raise Dropped
