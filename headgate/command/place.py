"""Where a command works: which log, whose tenant, in which form it answers. Every verb receives one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.client import Client
    from headgate.lookup import Lookup
    from headgate.settings import HeadgateSettings


@dataclass(frozen=True, slots=True)
class Place:
    """The options that every verb has, as they were given."""

    local: Path | None = None
    kafka: str | None = None
    archive: str | None = None
    tenant: str | None = None
    placement: str | None = None
    json: bool = False
    debug: bool = False

    def settings(self) -> HeadgateSettings:
        """Return the settings: the options win over the environment."""
        from headgate.settings import open_settings

        where = {"local": self.local, "kafka": self.kafka, "archive": self.archive}
        return open_settings({**where, "placement": self.placement, "tenant": self.tenant})

    def client(self, settings: HeadgateSettings | None = None, queues: tuple[str, ...] = ()) -> Client:
        """Return a client of the log; a local log gets its topics now, Kafka's by `topics create`."""
        from headgate.client import Client

        settings = settings or self.settings()
        client = Client.open(settings)
        if settings.is_embedded:
            client.create_topics(queues)
        return client

    @contextmanager
    def lookup(self, settings: HeadgateSettings) -> Iterator[Lookup]:
        """Yield who answers questions about the past: the catalog where the settings name one, else the log.

        A catalog that is behind the log says so on stderr, and as of when it answers.
        """
        with self.client(settings) as client:
            if settings.catalog_url is None:
                yield client
                return
            from headgate.command.faults import complain
            from headgate.lookup import catalog_lookup
            from headgate.words import moment

            with catalog_lookup(client, settings.catalog_url.get_secret_value()) as found:
                behind = found.behind()
                if behind.records != 0:
                    left = (
                        "the log does not answer" if behind.records is None else f"{behind.records:,} records"
                    )
                    complain(f"the catalog answers as of {moment(behind.as_of_ms)}, behind the log: {left}")
                yield found

    def as_options(self) -> str:
        """Return what to append to a suggested command so that it means the same place."""
        parts = [
            f"--local {self.local}" if self.local is not None else "",
            f"--kafka {self.kafka}" if self.kafka is not None else "",
            f"--archive {self.archive}" if self.archive is not None else "",
            f"--tenant {self.tenant}" if self.tenant is not None else "",
            f"--placement {self.placement}" if self.placement is not None else "",
        ]
        return "".join(f" {part}" for part in parts if part)
