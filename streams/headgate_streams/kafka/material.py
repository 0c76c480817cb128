"""What clients show the broker, kept up to date: looks at the files again and says what has changed.

A changed password is given to the client there is; it is used from its next login on, and no connection is
broken. A changed certificate, key or authority is read by a new client alone, so whoever holds a client opens
another one at a moment that is safe for it, when the new files make one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from headgate_graphs.errors import HeadgateError, UserError
from headgate_streams.kafka.clients import OPEN, Troubles, metadata, open_client
from headgate_streams.security import KafkaSecurity

_logger = logging.getLogger(__name__)


_TRIAL_S: Final = 3.0
"""How long a new client may take to reach a broker; its owner does nothing else meanwhile."""

_LOST_S: Final = 5.0
"""How long a client that reaches no broker is left to find one by itself."""
_LOOK_MOST_S: Final = 60.0
"""The looks at whether another client finds one become this rare, as none does while the brokers are away."""
_GLANCE_S: Final = 1.5
"""How long either client may take to find a broker then."""


class _Client(Protocol):
    def set_sasl_credentials(self, username: str, password: str) -> None:
        """Replace what the next login uses."""

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Any:
        """Return the cluster's metadata."""

    def poll(self, timeout: float = -1) -> Any:
        """Serve callbacks."""


_C = TypeVar("_C", bound=_Client)


class Material:
    """The options of one log's clients. Threads share it."""

    def __init__(self, bootstrap: str, options: Mapping[str, str], security: KafkaSecurity = OPEN) -> None:
        """Take where the cluster is; `options` win over what `security` says.

        Raises:
            UserError: A file of `security` cannot be read.
        """
        self.bootstrap = bootstrap
        self.security = security
        self._given = dict(options)
        self._lock = threading.Lock()
        self.password = security.current_password() if security.has_sasl else ""
        """As it was read last."""
        self._secured = security.options()
        self.tls_version = 0
        """How often the files of TLS have changed."""
        self._seen = _stamps(security.tls_files)
        self._look_at_s = time.monotonic() + security.reload_s

    def options(self) -> dict[str, str]:
        """Return the options for a new client."""
        secured = self._secured | ({"sasl.password": self.password} if self.security.has_sasl else {})
        return {"bootstrap.servers": self.bootstrap, **secured, **self._given}

    def look(self) -> None:
        """Look at the files if that is due; costs nothing otherwise."""
        if time.monotonic() < self._look_at_s:
            return
        with self._lock:
            self._look_at_s = time.monotonic() + self.security.reload_s
            self._look_at_password()
            stamps = _stamps(self.security.tls_files)
            if stamps != self._seen:
                self._seen = stamps
                self.tls_version += 1

    def _look_at_password(self) -> None:
        if self.security.password_file is None or not self.security.has_sasl:
            return
        try:
            self.password = self.security.current_password()
        except UserError as error:
            _logger.warning("the password is kept as it was: %s", error)


def _stamps(paths: tuple[Path, ...]) -> tuple[object, ...]:
    """Return what tells a changed file from an unchanged one; a link is followed, as secrets are swapped."""
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError as error:
        return error.errno
    return found.st_mtime_ns, found.st_size, found.st_ino


class Held(Generic[_C]):
    """One client and the material it was opened with. One thread, the client's owner."""

    def __init__(self, kind: Callable[..., _C], configuration: Mapping[str, Any], material: Material) -> None:
        """Open the client; `configuration` is ours, what the material says wins."""
        material.look()
        self._kind = kind
        self._configuration = configuration
        self._material = material
        self.troubles = Troubles(material.bootstrap, material.security)
        self._password, self._version = material.password, material.tls_version
        self._try_at_s = 0.0
        self._heir_at_s, self._heir_pause_s = 0.0, _LOST_S
        self.client = self._open()

    def _open(self) -> _C:
        return open_client(self._kind, {**self._configuration, **self._material.options()}, self.troubles)

    def is_stale(self) -> bool:
        """Whether the client should be replaced now; hands a new password to the one there is."""
        self._material.look()
        if self._password != self._material.password:
            self._password = self._material.password
            self.client.set_sasl_credentials(self._material.security.username or "", self._password)
            _logger.info("the password has changed: the next login uses the new one")
        return self._version != self._material.tls_version and time.monotonic() >= self._try_at_s

    def successor(self) -> _C | None:
        """Return a client that has reached a broker with the files as they are now.

        None when there is none: the files do not fit together (yet), or no broker takes them. Then the old
        client goes on, and `is_stale` says when to try again. The caller puts the successor in its place.
        """
        version = self._material.tls_version
        try:
            made = self._open()
            metadata(made, self.troubles, "with the new TLS files", _TRIAL_S)
        except HeadgateError as error:
            self._try_at_s = time.monotonic() + self._material.security.reload_s
            _logger.warning(
                "the TLS files have changed and are of no use, so the old connection is kept: %s", error
            )
            return None
        self._version = version
        _logger.info("the TLS files have changed and are in use")
        return made

    def replacement(self) -> _C | None:
        """Return the client to go on with, be it an heir or a successor; None to stay with this one.

        For who may change at any moment. The caller puts it in the old one's place.
        """
        heir = self.heir()
        if heir is None and self.is_stale():
            return self.successor()
        return heir

    def heir(self, stuck_s: float | None = None) -> _C | None:
        """Return a client that reaches a broker where this one does not any more; None when all is well.

        A broker that is cut off from its cluster's controllers, as one is that has just started or was
        stopped for a while, tells of a cluster without brokers. The client then forgets those it knew, and
        may look for none ever again (librdkafka issue 5301): nothing is read, and a commit never ends.
        Costs nothing while the client has not said that it reaches nobody. The caller puts the heir in its
        place, and what was under way is as lost as in a crash.

        Args:
            stuck_s: How long a call has not come back, for a client that can be asked nothing meanwhile.
        """
        now = time.monotonic()
        since_s = self.troubles.down_since_s if stuck_s is None else now - stuck_s
        if since_s is None or now < max(since_s + _LOST_S, self._heir_at_s):
            return None
        if stuck_s is None and self._finds_brokers(self.client, _GLANCE_S):
            self._found()
            return None
        made = self._open()
        if not self._finds_brokers(made, _GLANCE_S):
            self._heir_at_s = time.monotonic() + self._heir_pause_s
            self._heir_pause_s = min(2 * self._heir_pause_s, _LOOK_MOST_S)
            return None
        _logger.warning(
            "a client of the Kafka library lost all brokers for good; another one takes its place"
        )
        self._found()
        return made

    def _finds_brokers(self, client: _C, within_s: float) -> bool:
        try:
            return bool(metadata(client, self.troubles, "to a look for brokers", within_s).brokers)
        except HeadgateError:
            return False

    def _found(self) -> None:
        self.troubles.down_since_s, self._heir_pause_s = None, _LOST_S
