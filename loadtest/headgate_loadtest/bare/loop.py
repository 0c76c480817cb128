"""The hand-written Kafka loop that the product is compared with: a planner and a worker, JSON, at least once.

The planner reads results, decides by a counter, and writes inputs; the worker reads inputs and writes
results. Each runs in a process of its own and, like any honest loop, reads a batch, writes what follows,
waits until it is durable, and then commits. A step is one executed node: a result in the log before the next
input.
`python -m headgate_loadtest.bare.loop planner|worker JSON` is one of the two.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer


@dataclass(frozen=True)
class Loop:
    """One pair of topics and how records are written to them."""

    bootstrap: str
    name: str
    """First part of the names of topics and groups."""
    partitions: int = 4
    payload_bytes: int = 300
    linger_ms: float = 2.0
    batch: int = 500
    options: dict[str, str] = field(default_factory=dict)
    """Further options of the client, such as security.protocol."""

    @property
    def inputs(self) -> str:
        """Topic of what is to be done."""
        return f"{self.name}.inputs"

    @property
    def results(self) -> str:
        """Topic of what was done."""
        return f"{self.name}.results"


def message(loop: Loop, lifetime: int, step: int) -> bytes:
    """Return one record's value, of `payload_bytes` bytes."""
    head = {"lifetime": lifetime, "step": step, "pad": ""}
    head["pad"] = "x" * (loop.payload_bytes - len(json.dumps(head)))
    return json.dumps(head).encode()


class Planner:
    """Decides what comes next of each lifetime: one more step, for ever."""

    def __init__(self) -> None:
        self.steps: dict[int, int] = {}

    def __call__(self, loop: Loop, read: dict[str, Any]) -> tuple[int, bytes]:
        """Return the lifetime, and its next input."""
        lifetime, step = read["lifetime"], read["step"]
        if step <= self.steps.get(lifetime, -1):
            raise SystemExit(f"lifetime {lifetime}: step {step} came twice")
        self.steps[lifetime] = step
        return lifetime, message(loop, lifetime, step + 1)


def work(loop: Loop, read: dict[str, Any]) -> tuple[int, bytes]:
    """Return the lifetime, and its result."""
    return read["lifetime"], message(loop, read["lifetime"], read["step"])


def serve(
    loop: Loop, source: str, target: str, answer: Callable[[Loop, dict[str, Any]], tuple[int, bytes]]
) -> None:
    """Read, answer, deliver, commit, until the process is told to end."""
    consumer = Consumer(reading(loop, f"{loop.name}.{source}-group"))
    producer = Producer(writing(loop))
    consumer.subscribe([source])
    wanted = [True]
    signal.signal(signal.SIGTERM, lambda *_: wanted.clear())
    while wanted:
        first = consumer.poll(0.05)
        if first is None:
            continue
        for record in (first, *consumer.consume(loop.batch - 1, 0)):
            if record.error() is not None:
                raise KafkaException(record.error())
            lifetime, value = answer(loop, json.loads(record.value() or b""))
            producer.produce(target, value, str(lifetime), lifetime % loop.partitions, delivered)
        producer.flush()
        consumer.commit(asynchronous=True)
    consumer.close()


def delivered(error: object, _record: object) -> None:
    """Stop at the first record that is not delivered: what is not written must not be committed."""
    if error is not None:
        raise SystemExit(f"not delivered: {error}")


def reading(loop: Loop, group: str) -> dict[str, Any]:
    """Return the settings of a consumer."""
    return {
        "bootstrap.servers": loop.bootstrap,
        "group.id": group,
        "group.protocol": "consumer",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 100,
        **loop.options,
    }


def writing(loop: Loop) -> dict[str, Any]:
    """Return the settings of a producer."""
    return {
        "bootstrap.servers": loop.bootstrap,
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": loop.linger_ms,
        "socket.nagle.disable": True,
        **loop.options,
    }


def command(loop: Loop, role: str) -> list[str]:
    """Return the command line of one of the two processes."""
    return [sys.executable, "-m", __spec__.name, role, json.dumps(asdict(loop))]


def main() -> None:
    """Serve as the role that the command line names."""
    role, loop = sys.argv[1], Loop(**json.loads(sys.argv[2]))
    if role == "planner":
        serve(loop, loop.results, loop.inputs, Planner())
    else:
        serve(loop, loop.inputs, loop.results, work)


if __name__ == "__main__":
    main()
