"""Logs full of everything that can happen, made by the fold under random traffic, with a gate's repeats."""

from __future__ import annotations

import random
from typing import Any

from headgate_guardrails.fold.turn import CONTROL_EVENTS, LIFETIMES, TASK_INPUTS, Output
from headgate_streams.codec import headers_of
from headgate_streams.local_log import LocalLog
from headgate_streams.port import LogProducer
from headgate_streams.topics import Topics
from tests.unit.guardrails.properties.traffic import TENANTS, Traffic
from tests.unit.guardrails.properties.workers import Temper

TOPICS = Topics("world")
REPEATED = 40
"""Outputs that a gate which takes over writes again."""
__all__ = ["TENANTS", "TOPICS", "World", "world"]


class World(Traffic):
    """Random traffic whose outputs are kept."""

    def __init__(self, rng: random.Random, temper: Temper) -> None:
        self.outputs: list[Output] = []
        super().__init__(rng, temper)

    def _hear(self, output: Any) -> None:
        self.outputs.append(output)
        super()._hear(output)

    def keep(self, log: LocalLog) -> None:
        """Write everything into a log of one partition; now and then outputs come once more."""
        log.create_topics(TOPICS.descriptions(1))
        producer = log.producer()
        for record in self.records:
            producer.append(TOPICS.executions, 0, key=record.key, value=record.value, headers=record.headers)
        for number, output in enumerate(self.outputs):
            _append(producer, output)
            if number % 97 == 96:
                for again in self.outputs[number - REPEATED : number + 1]:
                    _append(producer, again)
        producer.close()


def _append(producer: LogProducer, output: Output) -> None:
    inputs = TOPICS.task_inputs() if output.topic == TASK_INPUTS else TOPICS.plan_inputs()
    names = {CONTROL_EVENTS: TOPICS.control_events, LIFETIMES: TOPICS.lifetimes}
    if output.topic in names or output.topic.endswith("inputs"):
        headers = headers_of(output.kind.__name__, output.tenant_id)
        key = output.key.encode()
        producer.append(names.get(output.topic, inputs), 0, key=key, value=output.value, headers=headers)


def world(seed: int, steps: int, *, is_at_rest: bool) -> World:
    """Return the world of a seed, brought to rest if wanted: then every lifetime has its last view."""
    made = World(random.Random(seed), Temper(hurry=2.0 if seed % 2 else 1.0))
    while len(made.records) < steps:
        made.step()
    if is_at_rest:
        made.drain()
    return made
