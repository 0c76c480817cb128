"""Makes what a tenant on topics of its own needs: topics, users, ACLs, quotas. What `headgate tenant` calls.

Everything is looked at first, so that doing it again changes nothing and a dry run tells all.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headgate_graphs.errors import UserError
from headgate_streams.port import Log
from headgate_streams.roles import Grant, Role, grants_of, user_of
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import Topics

if TYPE_CHECKING:
    from headgate_streams.kafka.accounts import KafkaAccounts

PASSWORD_BYTES: Final = 32
"""Random bytes of a password that is made here."""
PRODUCE: Final = "producer_byte_rate"
CONSUME: Final = "consumer_byte_rate"
DEFAULT_RATES: Final[Mapping[str, float]] = {PRODUCE: 10 * 1024 * 1024.0, CONSUME: 20 * 1024 * 1024.0}
"""What a new user may send and read in a second, in bytes; each broker counts for itself."""


@dataclass(frozen=True, slots=True)
class Account:
    """One role's user as it is, beside what it should be."""

    role: Role
    user: str
    exists: bool
    missing: frozenset[Grant]
    surplus: frozenset[Grant]
    """Allowed, and not needed: nothing here takes it away."""
    quotas: Mapping[str, float]
    """Bytes per second and broker, by Kafka's names."""

    def changes(self, rates: Mapping[str, float]) -> dict[str, float | None]:
        """Return the quotas to set: those of `rates` (0 removes one), a new user's defaults otherwise."""
        given = {name: rate or None for name, rate in rates.items()}
        wanted = given if self.exists else {**DEFAULT_RATES, **given}
        return {name: rate for name, rate in wanted.items() if self.quotas.get(name) != rate}


@dataclass(frozen=True, slots=True)
class Tenancy:
    """All that a placement has, and lacks."""

    topics: Topics
    existing: tuple[str, ...]
    missing: tuple[str, ...]
    accounts: tuple[Account, ...]


@dataclass(frozen=True, slots=True)
class Issued:
    """A password that was just set; kept nowhere else."""

    user: str
    password: str | None
    """None when it was written to `file`."""
    file: Path | None


def look(log: Log, accounts: KafkaAccounts, settings: StreamSettings, queues: Sequence[str] = ()) -> Tenancy:
    """Return what the placement of `settings` has; changes nothing."""
    accounts.check()
    topics = settings.topics()
    wanted = [one.name for one in topics.descriptions(settings.partitions, queues)]
    existing = log.describe(wanted)
    users = [user_of(topics, role) for role in Role]
    there, quotas = accounts.users(users), accounts.quotas(users)
    found = []
    for role, user in zip(Role, users, strict=True):
        needed, allowed = grants_of(topics, role), accounts.grants(user)
        found.append(Account(role, user, user in there, needed - allowed, allowed - needed, quotas[user]))
    missing = tuple(name for name in wanted if name not in existing)
    return Tenancy(topics, tuple(existing), missing, tuple(found))


def make(
    log: Log,
    accounts: KafkaAccounts,
    settings: StreamSettings,
    seen: Tenancy,
    rates: Mapping[str, float],
    queues: Sequence[str] = (),
) -> None:
    """Make the topics, ACLs and quotas that are missing; a user's password is `issue`'s."""
    log.create_topics(seen.topics.descriptions(settings.partitions, queues))
    for account in seen.accounts:
        accounts.allow(account.user, account.missing)
    changes = {one.user: changed for one in seen.accounts if (changed := one.changes(rates))}
    if changes:
        accounts.set_quotas(changes)


def issue(
    accounts: KafkaAccounts, settings: StreamSettings, users: Iterable[str], folder: Path | None = None
) -> Iterator[Issued]:
    """Set a new password for each user and yield it; with `folder` it goes to a file there instead.

    The file is `<user>.password`, mode 0600, put in place in one step once the broker has taken the password.
    Raises UserError when it cannot be written.
    """
    mechanism = settings.kafka_sasl_mechanism if settings.security.has_sasl else "SCRAM-SHA-512"
    for user in users:
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        file = None if folder is None else folder / f"{user}.password"
        kept = None if file is None else _kept_beside(file, password)
        accounts.set_password(user, password, mechanism)
        if kept is None or file is None:
            yield Issued(user, password, None)
        else:
            kept.replace(file)
            yield Issued(user, None, file)


def _kept_beside(file: Path, password: str) -> Path:
    beside = file.with_name(f".{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside.unlink(missing_ok=True)
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(f"{password}\n")
    except OSError as error:
        raise UserError(f"{beside}: cannot write a password: {error.strerror}") from None
    return beside
