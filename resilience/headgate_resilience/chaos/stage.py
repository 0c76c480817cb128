"""What a fault may touch: processes, network, log, blob store, clients. One for each run."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from headgate_graphs.errors import HeadgateError
from headgate_protos.v1.control_pb2 import OperatorCommand
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_resilience.chaos.fleet import Fleet, Place
from headgate_resilience.chaos.proxy.network import Network
from headgate_resilience.chaos.watching.quiet import Quiet
from headgate_resilience.chaos.watching.timeline import Timeline
from headgate_resilience.chaos.workload.driver import Driver
from headgate_streams.blobs import BlobStore
from headgate_streams.port import Log
from headgate_streams.publisher import ExecutionPublisher
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import Topics


class NotHere(HeadgateError):
    """A fault could not be injected; the message says what it lacks."""


class Servers(Protocol):
    """The brokers, for a harness that may end and start them."""

    def names(self) -> list[str]:
        """Return the brokers."""

    def stop(self, name: str, *, hard: bool) -> None:
        """End one, by SIGKILL when `hard`, else by SIGTERM; returns when it has ended."""

    def start(self, name: str) -> None:
        """Start it again; returns when it answers."""


@dataclass
class Stage:
    """Handed to every fault. `hold` is how a fault waits: it ends early when the run does."""

    log: Log
    """Straight to the brokers, not over the network of the run."""
    blobs: BlobStore
    """Likewise."""
    settings: StreamSettings
    topics: Topics
    fleet: Fleet
    timeline: Timeline
    driver: Driver
    quiet: Quiet
    home: Path
    env: dict[str, str]
    """Environment of processes that reach everything directly."""
    seed: int
    network: Network | None = None
    servers: Servers | None = None
    over: threading.Event = field(default_factory=threading.Event)
    broken: list[str] = field(default_factory=list)
    """What a fault itself saw that was promised otherwise."""
    _busy: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self, seconds: float) -> None:
        """Wait, or less when the run is over."""
        self.over.wait(seconds)

    def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Return whether the condition came to hold within the time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline or self.over.is_set():
                return False
            self.over.wait(0.02)
        return True

    def expect(self, condition: Callable[[], bool], promise: str, timeout_s: float = 20.0) -> None:
        """Note a broken promise unless the condition comes to hold within the time."""
        if not self.until(condition, timeout_s) and not self.over.is_set():
            self.broken.append(f"not within {timeout_s:.0f} s: {promise}")

    def order(self, tenant: str, lifetime_id: str, command: OperatorCommand) -> None:
        """Append a signed order; returns when the log has it."""
        command.command_id = command.command_id or secrets.token_hex(8)
        command.issued_at.GetCurrentTime()
        envelope = ExecutionEnvelope(tenant_id=tenant, lifetime_id=lifetime_id, command=command)
        self._publish(envelope, lambda publisher: publisher.publish(envelope))

    def publish_everywhere(self, envelope: ExecutionEnvelope) -> None:
        """Append a signed envelope to every partition; returns when the log has it."""
        self._publish(envelope, lambda publisher: publisher.publish_everywhere(envelope))

    def _publish(self, envelope: ExecutionEnvelope, send: Callable[[ExecutionPublisher], None]) -> None:
        envelope.envelope_id = secrets.token_hex(8)
        self.driver.key.sign(envelope)
        producer = self.log.producer()
        send(ExecutionPublisher(producer, self.topics, self.settings.partitions))
        producer.close()

    def forget_exits(self, place: Place) -> None:
        """Do not report how a place's processes have ended: it was meant so."""
        self.fleet.exits[:] = [one for one in self.fleet.exits if one.place != place.name]

    @contextmanager
    def one_of(self, dice: random.Random, *kinds: str) -> Iterator[Place]:
        """Give one ready process that no other fault works on just now; it is free again at the end."""
        place = self._taken(dice, kinds)
        try:
            yield place
        finally:
            with self._lock:
                self._busy.discard(place.name)

    def _taken(self, dice: random.Random, kinds: tuple[str, ...]) -> Place:
        def free() -> list[Place]:
            return [p for p in self.fleet.of_kind(*kinds) if p.name not in self._busy and p.is_ready]

        self.until(lambda: bool(free()), 30.0)
        with self._lock:
            candidates = free()
            if not candidates:
                raise NotHere(f"no {' or '.join(kinds)} was ready within 30 s")
            place = dice.choice(candidates)
            self._busy.add(place.name)
            return place

    def wait_back(self, place: Place, timeout_s: float = 60.0) -> None:
        """Return when the place's process is ready again; NotHere when it is not in time."""
        if not self.until(lambda: place.is_ready, timeout_s) and not self.over.is_set():
            raise NotHere(f"{place.name} was not ready again within {timeout_s:.0f} s")
