"""Where a load runs: an installation of its own with processes started for it, or one that runs already."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from headgate_loadtest.checking import check
from headgate_loadtest.installation import Installation
from headgate_loadtest.load import Bounds, Progress, run_load
from headgate_loadtest.processes import Crew, Serving, embedded, started
from headgate_loadtest.result import LoadResult
from headgate_loadtest.scenario import Scenario
from headgate_streams.settings import StreamSettings


@dataclass(frozen=True)
class How:
    """How the load is served and judged."""

    crew: Crew = field(default_factory=Crew)
    attach: bool = False
    """Load what runs already, on the topics that the settings name, and start nothing."""
    embedded: bool = False
    """Run gate and workers as threads of this process."""
    check: bool = True
    """Ask the checker of the raw topics at the end."""
    bounds: Bounds = field(default_factory=Bounds)
    logs: Path = Path(".headgate/load")
    """Where the processes' own lines go."""


class Lab:
    """One installation, and what serves it, for as many loads as one likes."""

    def __init__(self, installation: Installation, serving: Serving, how: How, progress: Progress) -> None:
        self.installation = installation
        self.serving = serving
        self._how = how
        self._progress = progress

    def run(self, scenario: Scenario, *, checked: bool = False) -> LoadResult:
        """Return one load; the checker is asked only when `checked`, as it reads the whole log."""
        result, acknowledged = run_load(
            self.installation, self.serving, scenario, self._how.bounds, self._progress
        )
        if checked and self._how.check:
            self._progress("checking the raw topics")
            check(self.installation, result, acknowledged)
        return result


@contextmanager
def opened(settings: StreamSettings, how: How, progress: Progress, *, synced: bool = False) -> Iterator[Lab]:
    """Yield a lab; its topics have a prefix of their own unless what runs already is loaded."""
    with ExitStack() as stack:
        if not how.attach:
            settings = settings.model_copy(update={"topic_prefix": f"load-{secrets.token_hex(3)}"})
        installation = stack.enter_context(Installation(settings))
        if how.attach:
            serving = Serving({}, lambda: None)
        else:
            installation.create_topics(synced=synced)
            serves = (
                embedded(installation, how.crew.concurrency)
                if how.embedded or settings.in_memory
                else started(settings, how.crew, how.logs)
            )
            progress("starting gate and workers")
            serving = stack.enter_context(serves)
        yield Lab(installation, serving, how, progress)
