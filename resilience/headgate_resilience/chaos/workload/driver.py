"""Starts lifetimes at a rate, pauses, resumes and aborts some; remembers which starts were acknowledged.

All that it does follows from its seed; when exactly it happens does not.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import logging
import queue
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from headgate_graphs.errors import HeadgateError
from headgate_protos.v1.common_pb2 import Payload
from headgate_protos.v1.control_pb2 import AbortLifetime, OperatorCommand, PauseLifetime, ResumeLifetime
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope, GraphRegistered, LifetimeStart, PolicySet
from headgate_resilience.chaos.workload.graphs import GRAPHS, STARTED, policy
from headgate_streams.port import Delivery, Log
from headgate_streams.publisher import ExecutionPublisher
from headgate_streams.signing import SigningKey
from headgate_streams.topics import Topics

logger = logging.getLogger(__name__)

PAUSED_OF_100 = 3
ABORTED_OF_100 = 1
FLAKY_OF_100 = 10
"""How many of a hundred visits to a node fail at first."""
LARGE_BYTES = 48_000
"""Above the inline limit, so that one value in ten goes to the blob store."""
ENOUGH_S = 30.0


@dataclass(frozen=True, order=True)
class Started:
    """One start that the log has acknowledged."""

    tenant: str
    lifetime_id: str


@dataclass(order=True)
class _Order:
    due_s: float
    number: int
    tenant: str = field(compare=False)
    lifetime_id: str = field(compare=False)
    command: OperatorCommand = field(compare=False)


class Driver(threading.Thread):
    """The clients of the run, on a thread of their own; `finish` ends it."""

    def __init__(
        self,
        log: Log,
        topics: Topics,
        partitions: int,
        *,
        seed: int,
        tenants: int,
        rate: float,
        most_open: int,
        open_now: Callable[[], int],
    ) -> None:
        """Take what to do; `open_now` says how many acknowledged lifetimes have not ended."""
        super().__init__(name="chaos-driver", daemon=True)
        self.tenants = [f"tenant-{number:02d}" for number in range(1, tenants + 1)]
        self.canaries: Mapping[str, str] = {t: _canary(seed, t) for t in self.tenants}
        self.acknowledged: list[Started] = []
        self.refused: list[str] = []
        """Starts that the log did not take: nobody was told that they would run."""
        self.log_ahead_ms: float = 0.0
        """How far the log's clock is ahead of this machine's, from the last delivery."""
        self.error: BaseException | None = None
        self.rate = rate
        self.is_over = threading.Event()
        self.key = SigningKey.new()
        """Signs what the clients send; nobody asks for it until the key is registered."""
        self._seed, self._most_open, self._open_now = seed, most_open, open_now
        self._asked: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._random = random.Random(f"{seed}/driver")  # noqa: S311 - repeatable, not secret
        self._producer = log.producer()
        self._publisher = ExecutionPublisher(self._producer, topics, partitions)
        self._orders: list[_Order] = []
        self._number = 0

    def prepare(self) -> None:
        """Register the graphs and the policy of every tenant; returns when the log has them."""
        for tenant in self.tenants:
            for envelope in _definitions(tenant):
                self._send(envelope)
        self._producer.flush(ENOUGH_S)

    @property
    def asked_left(self) -> int:
        """How many starts were asked for and not made yet."""
        return self._asked.qsize()

    def ask(self, tenant: str, graph: str) -> None:
        """Have a lifetime started beside the others, as soon as can be. Any thread."""
        self._asked.put((tenant, graph))

    def run(self) -> None:
        """Start lifetimes until `is_over`; what goes wrong is kept in `error`."""
        try:
            self._work()
        except HeadgateError as error:
            self.error = error
            logger.warning("the clients ended: %s", error)

    def finish(self) -> None:
        """Send what is ordered still and wait until every start is acknowledged or refused."""
        self.is_over.set()
        self.join(ENOUGH_S)
        while self._orders:
            self._order(heapq.heappop(self._orders))
        self._producer.flush(150.0)  # as long as a delivery may take

    def close(self) -> None:
        """Release the producer."""
        self._producer.close()

    def _work(self) -> None:
        due = time.monotonic()
        while not self.is_over.is_set():
            self._producer.poll(0.0)
            now = time.monotonic()
            while self._orders and self._orders[0].due_s <= now:
                self._order(heapq.heappop(self._orders))
            while not self._asked.empty():
                self._start(now, *self._asked.get())
            if now >= due and self._open_now() < self._most_open:
                self._start(now, *self._drawn())
                due = max(due + 1 / self.rate, now - 1.0)  # a stall is made up for by one second's starts
            self.is_over.wait(min(0.02, max(0.001, due - now)))

    def _drawn(self) -> tuple[str, str]:
        graph = self._random.choices(list(STARTED), list(STARTED.values()))[0]
        return self._random.choice(self.tenants), graph

    def _start(self, now: float, tenant: str, graph: str) -> None:
        self._number += 1
        draw = self._random
        started = Started(tenant, f"{graph}-{self._number}")
        start = LifetimeStart(graph_id=graph, input=Payload(json=json.dumps(self._input(tenant))))
        start.issued_at.GetCurrentTime()
        envelope = ExecutionEnvelope(tenant_id=tenant, lifetime_id=started.lifetime_id, lifetime_start=start)
        self._send(envelope, lambda delivery: self._delivered(started, delivery))
        self._orders_for(started, now, draw.randrange(100), draw.uniform(0.0, 1.0))

    def _input(self, tenant: str) -> dict[str, object]:
        return {
            "seed": self._seed,
            "canary": self.canaries[tenant],
            "turns": self._random.randint(1, 8),
            "size": LARGE_BYTES,
            "flaky": FLAKY_OF_100,
        }

    def _orders_for(self, started: Started, now: float, fate: int, after_s: float) -> None:
        if fate < PAUSED_OF_100:
            self._later(now + after_s, started, OperatorCommand(pause=PauseLifetime(reason="drawn")))
            self._later(now + after_s + 2.0, started, OperatorCommand(resume=ResumeLifetime()))
        elif fate < PAUSED_OF_100 + ABORTED_OF_100:
            self._later(now + after_s, started, OperatorCommand(abort=AbortLifetime(reason="drawn")))

    def _later(self, due_s: float, started: Started, command: OperatorCommand) -> None:
        number = len(self._orders)
        command.command_id = f"{started.lifetime_id}-{command.WhichOneof('command')}"
        heapq.heappush(self._orders, _Order(due_s, number, started.tenant, started.lifetime_id, command))

    def _order(self, order: _Order) -> None:
        order.command.issued_at.GetCurrentTime()
        self._send(
            ExecutionEnvelope(tenant_id=order.tenant, lifetime_id=order.lifetime_id, command=order.command),
            lambda _delivery: None,
        )

    def _send(
        self, envelope: ExecutionEnvelope, on_delivery: Callable[[Delivery], None] | None = None
    ) -> None:
        if envelope.WhichOneof("payload") != "lifetime_start":
            envelope.envelope_id = secrets.token_hex(8)  # what is signed does not change any more
            self.key.sign(envelope)
        self._publisher.publish(envelope, on_delivery)

    def _delivered(self, started: Started, delivery: Delivery) -> None:
        if delivery.error is not None:
            self.refused.append(f"{started.tenant}/{started.lifetime_id}: {delivery.error}")
            return
        self.log_ahead_ms = delivery.timestamp_ms - time.time() * 1000
        self.acknowledged.append(started)


def _canary(seed: int, tenant: str) -> str:
    drawn = random.Random(f"{seed}/{tenant}")  # noqa: S311 - repeatable, not secret
    return f"canary-{tenant}-{drawn.getrandbits(64):016x}"


def _definitions(tenant: str) -> Iterator[ExecutionEnvelope]:
    for make in GRAPHS:
        owned = make().for_tenant(tenant)
        text = owned.canonical_json()
        registered = GraphRegistered(
            graph_id=owned.metadata.id,
            version=owned.metadata.version,
            definition_json=text,
            sha256=_sha256(text),
        )
        yield ExecutionEnvelope(tenant_id=tenant, graph_registered=registered)
    caps = policy()
    text = caps.canonical_json()
    document = PolicySet(name=caps.name, version=caps.version, document_json=text, sha256=_sha256(text))
    yield ExecutionEnvelope(tenant_id=tenant, policy_set=document)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
