"""Opens the catalog's database, SQLite or PostgreSQL, and refuses what is not this catalog."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError

from headgate_catalog.tables import CATALOG, METADATA, SCHEMA_VERSION
from headgate_graphs.errors import CatalogUnavailable, UserError

DRIVERS: Final = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
"""The databases that a catalog can be in, and the driver that each is spoken to with."""
_WAIT_S: Final = 10
"""How long connecting, or a lock of SQLite, is waited for."""


class Database:
    """One catalog's database. Safe to share between threads."""

    def __init__(self, url: str) -> None:
        """Open nothing yet; raises UserError for a URL that cannot be one."""
        self._url = _parsed(url)
        self.name = self._url.render_as_string(hide_password=True)
        """The URL as it may be shown."""
        self._engine = _engine(self._url)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection in a transaction, which is committed at the end. Raises CatalogUnavailable."""
        with self._answering(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection that sees one moment of the catalog. Raises CatalogUnavailable, UserError."""
        with self._answering(), self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    def check(self, log: str) -> None:
        """Raise UserError unless this is a catalog of the log whose topics begin with `log`, as of today."""
        with self._answering(), self._engine.connect() as connection:
            if not inspect(connection).has_table(CATALOG.name):
                raise UserError(f"there is no catalog in {self.name} yet: run `headgate catalog`")
            known = {row.name: row.value for row in connection.execute(select(CATALOG))}
        version = known.get("schema_version", "none")
        if version != str(SCHEMA_VERSION):
            raise UserError(
                f"the catalog in {self.name} has schema version {version[:32]!a}, this headgate works with "
                f"{SCHEMA_VERSION}: make it anew with `headgate catalog --rebuild`"
            )
        if known.get("log") != log:
            raise UserError(
                f"the catalog in {self.name} is of the log {known.get('log', '')[:160]!a}, not of {log!a}: "
                "name another database, or make it anew with `headgate catalog --rebuild`"
            )

    def prepare(self, log: str, *, anew: bool = False) -> None:
        """Make the tables where there are none, after dropping what is there when it is to be made `anew`.

        Raises UserError as `check` does.
        """
        with self._answering(), self._engine.begin() as connection:
            if anew:
                METADATA.drop_all(connection)
            if not inspect(connection).has_table(CATALOG.name):
                METADATA.create_all(connection)
                said = {"schema_version": str(SCHEMA_VERSION), "log": log}
                rows = [{"name": name, "value": value} for name, value in said.items()]
                connection.execute(CATALOG.insert(), rows)
        self.check(log)

    def close(self) -> None:
        """Release the connections."""
        self._engine.dispose()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise CatalogUnavailable(f"the catalog in {self.name}: {_first_line(error)}") from error


def _parsed(url: str) -> URL:
    kinds = "sqlite:///FILE or postgresql://USER@HOST/DATABASE"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise UserError(f"catalog_url: not a database's URL, such as {kinds}") from None
    name = parsed.get_backend_name()
    if name not in DRIVERS or parsed.drivername not in (name, DRIVERS[name]):
        raise UserError(f"catalog_url: {parsed.drivername[:64]!a} is not supported: give {kinds}")
    if name == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise UserError(f"catalog_url: a catalog lives in a file: give {kinds}")
    return parsed.set(drivername=DRIVERS[name])


def _engine(url: URL) -> Engine:
    is_sqlite = url.get_backend_name() == "sqlite"
    arguments = {"timeout": _WAIT_S} if is_sqlite else {"connect_timeout": _WAIT_S}
    try:
        # What people wrote is a parameter of a statement: no error shows it.
        engine = create_engine(url, hide_parameters=True, connect_args=arguments)
    except ModuleNotFoundError:
        raise UserError("a catalog in PostgreSQL needs its driver: pip install 'headgate[catalog]'") from None
    if is_sqlite:
        Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
        event.listen(engine, "connect", _tune_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _tune_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin a transaction late, and not for everything
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "cache_size=-65536"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _first_line(error: DBAPIError) -> str:
    return (str(error.orig).strip().splitlines() or [type(error).__name__])[0]
