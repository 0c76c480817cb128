"""Where questions about the past are asked: the log itself, or a catalog of it, with the same answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from headgate.family import Family, depths_of
from headgate.observing import history_of, in_order
from headgate.overview import Freeze, Overview, freezes, overview, today
from headgate.quarantine import Quarantine, quarantine_in
from headgate_catalog.happening import Happening
from headgate_catalog.spend import NOTHING, Period, Spend, SpendBy
from headgate_graphs.errors import LogUnavailable
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope, GraphRegistered, LifetimeView

if TYPE_CHECKING:
    from headgate.client import Client
    from headgate_catalog.database import Database


class Lookup(Protocol):
    """Answers from the past; see `Client`, whose methods these are."""

    def lifetimes(self, tenant: str) -> list[LifetimeView]:
        """Return the gate's view of every lifetime of a tenant, oldest first."""

    def history(self, tenant: str, lifetime_id: str, *, below: bool = False) -> list[Happening]:
        """Return all that has happened to one lifetime, in the order in which the gate saw it."""

    def progress(self, tenant: str, lifetime_id: str, *, below: bool = False) -> list[Happening]:
        """As `history`, and what was dispatched."""

    def between(self, tenant: str, since_ms: int, until_ms: int) -> list[Happening]:
        """Return all that happened to a tenant in a range of log time, dispatches among it."""

    def graphs(self, tenant: str) -> list[GraphRegistered]:
        """Return every graph version registered for a tenant, first registration first."""

    def overview(self, tenant: str) -> Overview:
        """Return what a tenant's work looks like now."""

    def frozen(self, tenant: str) -> list[Freeze]:
        """Return the freezes of graphs and of the whole tenant that are in force, oldest first."""

    def quarantine(self, tenant: str) -> Quarantine | None:
        """Return why and since when a tenant's records wait; None when they do not."""

    def spend(self, by: SpendBy, within: Period, tenant: str | None = None) -> dict[str | int, Spend]:
        """Return what was spent, by key, by one tenant or by all."""

    def running(self) -> dict[str, int | None]:
        """Return how many processes serve the log, by what they are."""


class Behind(NamedTuple):
    """How far a catalog is behind its log."""

    records: int | None
    """None when the log does not answer."""
    as_of_ms: int
    """Log time of the newest record that was projected, 0 for none."""


@contextmanager
def catalog_lookup(client: Client, url: str) -> Iterator[CatalogLookup]:
    """Yield answers from the catalog at `url`.

    Raises UserError when there is none, or it is of another log; CatalogUnavailable when it does not answer.
    """
    # Loading SQLAlchemy costs a tenth of a second, which who reads the log need not pay.
    from headgate_catalog.database import Database

    database = Database(url)
    try:
        database.check(client.topics.prefix)
        yield CatalogLookup(client, database)
    finally:
        database.close()


class CatalogLookup:
    """A catalog's answers; who runs now is asked of the log."""

    def __init__(self, client: Client, database: Database) -> None:
        self._client = client
        self._database = database

    def behind(self) -> Behind:
        """Return how far the answers are behind the log."""
        from headgate_catalog.positions import positions_in

        with self._database.reading() as connection:
            positions = positions_in(connection)
        as_of_ms = max((one.as_of_ms for one in positions.values()), default=0)
        try:
            ends = self._client.log.offsets(positions)
        except LogUnavailable:
            return Behind(None, as_of_ms)
        left = (ends[place][1] - one.next_offset for place, one in positions.items())
        return Behind(sum(max(0, records) for records in left), as_of_ms)

    def lifetimes(self, tenant: str) -> list[LifetimeView]:
        """See `Lookup`."""
        from headgate_catalog.repositories import LifetimeRepository

        with self._database.reading() as connection:
            return LifetimeRepository(connection).of_tenant(tenant)

    def history(self, tenant: str, lifetime_id: str, *, below: bool = False) -> list[Happening]:
        """See `Lookup`; what users put into messages is left out, but for the newest views."""
        found = self.progress(tenant, lifetime_id, below=below)
        return [one for one in found if one.dispatch is None]

    def progress(self, tenant: str, lifetime_id: str, *, below: bool = False) -> list[Happening]:
        """See `Lookup`; what users put into messages is left out, but for the newest views."""
        from headgate_catalog.repositories import ExecutionRepository, LifetimeRepository

        with self._database.reading() as connection:
            views = LifetimeRepository(connection).family(tenant, lifetime_id, below=below)
            whose = {"", lifetime_id, *(view.lifetime_id for view in views)}
            found = list(ExecutionRepository(connection).happenings(tenant, whose))
        newest = {(view.lifetime_id, view.source.offset, 1, view.source.index): view for view in views}
        whole = (
            replace(one, message=newest.get((one.lifetime_id, *one.order), one.message)) for one in found
        )
        return history_of(Family(lifetime_id, views, below=below), whole)

    def between(self, tenant: str, since_ms: int, until_ms: int) -> list[Happening]:
        """See `Lookup`; what users put into messages is left out."""
        from headgate_catalog.repositories import ExecutionRepository, LifetimeRepository

        with self._database.reading() as connection:
            depths = depths_of(LifetimeRepository(connection).of_tenant(tenant))
            found = ExecutionRepository(connection).between(tenant, since_ms, until_ms)
            return in_order(found, depths, tenant)

    def graphs(self, tenant: str) -> list[GraphRegistered]:
        """See `Lookup`."""
        from headgate_catalog.repositories import ExecutionRepository

        with self._database.reading() as connection:
            return ExecutionRepository(connection).graphs(tenant)

    def overview(self, tenant: str) -> Overview:
        """See `Lookup`."""
        spent = self.spend(SpendBy.TENANT, today(int(time.time() * 1000)), tenant).get(tenant, NOTHING)
        made = overview(tenant, self.lifetimes(tenant), spent, self.frozen(tenant))
        made.quarantine = self.quarantine(tenant)
        return made

    def frozen(self, tenant: str) -> list[Freeze]:
        """See `Lookup`; a freeze that no gate has acted on yet is not in force."""
        from headgate_catalog.repositories import ExecutionRepository

        with self._database.reading() as connection:
            orders = ExecutionRepository(connection).orders(tenant)
        return freezes((when, ExecutionEnvelope(tenant_id=tenant, command=order)) for when, order in orders)

    def quarantine(self, tenant: str) -> Quarantine | None:
        """See `Lookup`."""
        from headgate_catalog.repositories import ExecutionRepository

        with self._database.reading() as connection:
            found = list(ExecutionRepository(connection).happenings(tenant, [""]))
        return quarantine_in(one.event for one in found if one.event is not None)

    def spend(self, by: SpendBy, within: Period, tenant: str | None = None) -> dict[str | int, Spend]:
        """See `Lookup`."""
        from headgate_catalog.spending import spend

        with self._database.reading() as connection:
            return spend(connection, by, within, tenant)

    def running(self) -> dict[str, int | None]:
        """See `Lookup`."""
        return self._client.running()
