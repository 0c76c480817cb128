"""Where a command works: which log, whose tenant, in which form it answers. Every verb receives one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.client import Client
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
