"""What the product logs, as the command shows it: one escaped line on stderr, the same thing seldom."""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO

from headgate.command.faults import one_line

CLIENT_LOGGER = "headgate.kafka"
"""Logger of the Kafka client's own messages: many lines for one cause."""
SELDOM_S = 30.0
"""The same message of the same logger is shown once in this time."""
_REMEMBERED = 256
_NOTHING = logging.CRITICAL + 1
"""Even what the client calls fatal: the command's own line says it."""


class Seldom(logging.Filter):
    """Passes a message that was not passed for SELDOM_S; numbers in it do not make it another one."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show the record."""
        text = "".join(char for char in record.getMessage() if not char.isdigit())
        key, now = (record.name, text), time.monotonic()
        if now - self._passed.get(key, -SELDOM_S) < SELDOM_S:
            return False
        if len(self._passed) >= _REMEMBERED:
            self._passed.clear()
        self._passed[key] = now
        return True


class OneLine(logging.Formatter):
    """One line for one record; a trace, when there is one, follows with --debug alone."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        when = time.strftime("%H:%M:%S", time.localtime(record.created))
        return one_line(f"{when} {record.levelname.lower()} {record.name}: {record.getMessage()}")


class ToStderr(logging.StreamHandler[TextIO]):
    """Writes to whatever stderr is now: the live view puts its own in place while it draws."""

    @property
    def stream(self) -> TextIO:
        """The stderr of this moment."""
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        """Nothing to remember."""


def show_logs(*, debug: bool) -> None:
    """Send warnings to stderr, everything with `debug`; the Kafka client's own words only with `debug`."""
    handler = ToStderr()
    if debug:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    else:
        handler.setFormatter(OneLine())
        handler.addFilter(Seldom())
    logging.basicConfig(level=logging.INFO if debug else logging.WARNING, handlers=[handler])
    logging.getLogger(CLIENT_LOGGER).setLevel(logging.INFO if debug else _NOTHING)


def show_client_logs() -> None:
    """Show what the Kafka client complains about too: a long-lived process that is up wants to know."""
    logging.getLogger(CLIENT_LOGGER).setLevel(logging.WARNING)
