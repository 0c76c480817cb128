"""F17, F19: what administrators do to topics and offsets, done to a small installation beside the run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from headgate_graphs.errors import HeadgateError
from headgate_protos.v1.common_pb2 import Payload
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope, GraphRegistered, LifetimeStart
from headgate_resilience.chaos.faults.fault import fault
from headgate_resilience.chaos.fleet import Fleet, Place
from headgate_resilience.chaos.stage import Stage
from headgate_resilience.chaos.workload.graphs import loop
from headgate_streams.kafka.damage import KafkaDamage
from headgate_streams.port import TopicPartition
from headgate_streams.publisher import ExecutionPublisher
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import Topics

PARTITIONS = 2
TENANT = "aside"
SEEN_S = 30.0
LOADED = 10
"""How often lifetimes are started while a topic is changed."""
FEW_ENDS = 3
"""How often a gate may end before it gets over a topic that was deleted: more is a crash loop."""


@dataclass
class Side:
    """A small installation of one gate beside the run, whose topics nobody else needs."""

    stage: Stage
    settings: StreamSettings
    fleet: Fleet
    place: Place
    damage: KafkaDamage
    started: int = 0

    @property
    def topics(self) -> Topics:
        """Its topics."""
        return Topics(self.settings.topic_prefix)

    def make_topics(self) -> None:
        """Make what is missing."""
        self.stage.log.create_topics(self.topics.descriptions(self.settings.partitions))

    def starts(self, count: int) -> None:
        """Start lifetimes of one graph, which is registered each time."""
        owned = loop().for_tenant(TENANT)
        registered = GraphRegistered(
            graph_id="loop", version=owned.metadata.version, definition_json=owned.canonical_json()
        )
        producer = self.stage.log.producer()
        publisher = ExecutionPublisher(producer, self.topics, self.settings.partitions)
        publisher.publish(ExecutionEnvelope(tenant_id=TENANT, graph_registered=registered))
        for _ in range(count):
            self.started += 1
            start = LifetimeStart(graph_id="loop", input=Payload(json="{}"))
            start.issued_at.GetCurrentTime()
            name = f"aside-{self.started}"
            publisher.publish(ExecutionEnvelope(tenant_id=TENANT, lifetime_id=name, lifetime_start=start))
        producer.close()

    def inputs(self) -> int:
        """Return how many records of inputs there are."""
        return self.ends(self.topics.plan_inputs())

    def checkpoints(self) -> int:
        """Return how many checkpoints were saved."""
        place = TopicPartition(self.topics.checkpoints, 0)
        return self.stage.log.offsets([place])[place][1]

    def ends(self, topic: str) -> int:
        """Return how many records were ever appended to a topic."""
        places = [TopicPartition(topic, n) for n in range(self.settings.partitions)]
        return sum(end for _, end in self.stage.log.offsets(places).values())

    def goes_on(self, topic: str) -> None:
        """Expect that what is missing is named, and that work is dispatched again."""
        known = topic.encode()
        self.stage.expect(lambda: known in self.place.log.read_bytes(), f"{topic} is named", SEEN_S)
        before = self.inputs_now()
        self.starts(5)
        self.stage.expect(lambda: self.inputs_now() > before, "work is dispatched again", SEEN_S * 2)

    def inputs_now(self) -> int:
        """Return how many records of inputs there are, 0 while their topic is missing."""
        try:
            return self.inputs()
        except HeadgateError:
            return 0

    def is_refused(self, words: bytes, why: str) -> None:
        """Expect that the gate ends and says why."""
        self.stage.expect(lambda: words in self.place.said() and self.place.pid is None, why, SEEN_S)


@contextmanager
def _aside(stage: Stage, name: str) -> Iterator[Side]:
    """Give an installation with a gate that has worked and saved a checkpoint."""
    settings = stage.settings.model_copy(
        update={"topic_prefix": f"{stage.settings.topic_prefix}-{name}", "partitions": PARTITIONS}
    )
    env = stage.env | {"HEADGATE_TOPIC_PREFIX": settings.topic_prefix, "HEADGATE_PARTITIONS": str(PARTITIONS)}
    fleet = Fleet(stage.home / "processes" / name)
    side = Side(stage, settings, fleet, Place("", "", (), {}, stage.home, stage.home), KafkaDamage(settings))
    side.make_topics()
    try:
        side.starts(5)
        side.place = fleet.add("gate", "gate", env, ("--checkpoint-every", "0.5"))
        stage.expect(lambda: side.inputs() >= 5 and side.checkpoints() > 0, f"{name}: the gate works", SEEN_S)
        yield side
    finally:
        fleet.close()


def _aside_fault(
    name: str, text: str, id: str = "F19"
) -> Callable[[Callable[[Side], str]], Callable[[Side], str]]:
    def register(act: Callable[[Side], str]) -> Callable[[Side], str]:
        def whole(stage: Stage, dice: random.Random) -> str:
            # A long run draws the same fault again: its topics of the time before are still there.
            with _aside(stage, f"{id.lower()}-{name}-{dice.randrange(1_000_000)}") as side:
                return act(side)

        fault(id, name, text, weight=1, is_alone=True)(whole)
        return act

    return register


@_aside_fault("deleted", "A topic of another installation is deleted under load: named, made again.", "F17")
def topic_deleted(side: Side) -> str:
    """Delete the inputs while the gate writes them; it may end once or twice, and then goes on."""
    topic = side.topics.plan_inputs()
    side.damage.delete_topic(topic)
    before = len(side.fleet.exits)
    for _ in range(LOADED):
        side.starts(5)
        side.stage.hold(0.2)
    side.goes_on(topic)
    ended = len(side.fleet.exits) - before
    side.stage.expect(lambda: ended <= FEW_ENDS, f"no crash loop: the gate ended {ended} times", 0.1)
    return f"the gate ended {ended} times"


@_aside_fault("added", "Partitions are added to another installation's log under load: it is refused.", "F17")
def partitions_added_under_load(side: Side) -> str:
    """Add partitions while the gate reads; whoever starts then is refused in one line."""
    side.damage.add_partitions(side.topics.executions, PARTITIONS * 2)
    for _ in range(LOADED):
        side.starts(5)
        side.stage.hold(0.2)
    side.fleet.stop(side.place)
    side.is_refused(b"exists with 4 partitions", "a log with other partitions is refused")
    return "refused"


@_aside_fault("partitions", "Partitions are added to the log of another installation: its gate refuses them.")
def partitions_added(side: Side) -> str:
    """Add partitions while the gate is down."""
    side.fleet.hold_down(side.place)
    side.damage.add_partitions(side.topics.executions, PARTITIONS * 2)
    side.fleet.let_up(side.place)
    side.is_refused(b"exists with 4 partitions", "a log with other partitions is refused")
    return "refused"


@_aside_fault("remade", "The log of another installation is deleted and made again: its gate refuses it.")
def topic_remade(side: Side) -> str:
    """Delete the log and make it anew, with something in it."""
    side.fleet.hold_down(side.place)
    side.damage.delete_topic(side.topics.executions)
    side.make_topics()
    side.starts(3)
    side.fleet.let_up(side.place)
    side.is_refused(b"headgate:", "a log that was made again is refused")
    return side.place.said().decode(errors="replace").strip().splitlines()[-1][:160]


@_aside_fault("expired", "The committed offsets of another installation's gate expire: nothing is lost.")
def offsets_expired(side: Side) -> str:
    """Delete the gate's group while it is down; what is started then must be dispatched."""
    side.fleet.hold_down(side.place)
    side.damage.forget_group(side.topics.gate_group)
    before = side.inputs()
    side.starts(5)
    side.fleet.let_up(side.place)
    side.stage.expect(lambda: side.inputs() >= before + 5, "a gate without offsets goes on", SEEN_S)
    return f"{side.inputs() - before} inputs"


@_aside_fault("retention", "Another installation's log loses records its gate still needs: it is refused.")
def retention_passed(side: Side) -> str:
    """Damage every checkpoint by making the log begin after it."""
    side.fleet.hold_down(side.place)
    side.starts(5)
    places = [TopicPartition(side.topics.executions, n) for n in range(PARTITIONS)]
    ends = {place: end for place, (_, end) in side.stage.log.offsets(places).items() if end}
    side.stage.log.delete_before(ends)
    side.fleet.let_up(side.place)
    side.is_refused(b"are gone", "a log that has lost what is needed is refused")
    return "refused"
