"""Names, partitioning and configuration of topics; nothing else builds or parses a topic name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final
from zlib import crc32

from headgate_graphs.errors import UserError
from headgate_graphs.ids import is_name, is_tenant_id
from headgate_streams.port import TopicDescription

_DAY_MS: Final = 86_400_000
_APPEND_TIME: Final = {"message.timestamp.type": "LogAppendTime"}
"""Time is the log's: no client's clock may reach a decision."""


def _deleted_after(days: int) -> Mapping[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(days * _DAY_MS), **_APPEND_TIME}


_COMPACTED: Final[Mapping[str, str]] = {"cleanup.policy": "compact", **_APPEND_TIME}
_LOG: Final = _deleted_after(365)
"""Every decision is recomputed from the log, so it is kept long; it must outlive the oldest checkpoint."""
_WORK: Final = _deleted_after(30)
_LETTERS: Final = _deleted_after(90)


SHARED: Final = "shared"
"""The placement of every tenant that has no topics of its own."""
_TAKEN: Final = frozenset(
    {"executions", "task-inputs", "plan-inputs", "control-events", "lifetimes", "checkpoints", "dead-letters"}
    | {"gate", "task-workers", "plan-workers", SHARED}
)
"""A tenant of such a name would have topics or groups among those of the shared placement."""


class Topics:
    """The topics and consumer groups of one placement: the shared ones, or those of one dedicated tenant."""

    def __init__(self, prefix: str = "headgate", placement: str = SHARED) -> None:
        if placement != SHARED:
            _check_placement(placement)
        self.prefix = prefix if placement == SHARED else f"{prefix}.{placement}"
        """What every name of the placement begins with; a dot follows."""
        self.executions = f"{self.prefix}.executions"
        """The log: ExecutionEnvelope, keyed by tenant."""
        self.control_events = f"{self.prefix}.control-events"
        """Verdicts: ExecutionEvent, keyed by tenant."""
        self.lifetimes = f"{self.prefix}.lifetimes"
        """Compacted LifetimeViews, keyed tenant/lifetime and tenant/lifetime/end."""
        self.checkpoints = f"{self.prefix}.checkpoints"
        """Compacted pointers to the gate's checkpoints; one partition."""
        self.dead_letters = f"{self.prefix}.dead-letters"
        """DeadLetter, keyed by tenant."""
        self.gate_group = f"{self.prefix}.gate"
        """The group of the gates, whose offsets say what they have acted on."""

    def workers_group(self, kind: str, queue: str = "") -> str:
        """Return the group of the workers of a kind (task or plan) on a named queue, or the default one."""
        return f"{self.prefix}.{kind}-workers{f'.{queue}' if queue else ''}"

    def of_named_queues(self) -> tuple[str, str]:
        """Return what the inputs of every named queue begin with: a task's, a plan's."""
        return f"{self.prefix}.task-inputs.", f"{self.prefix}.plan-inputs."

    def groups_of_named_queues(self) -> tuple[str, str]:
        """Return what the groups of the workers of every named queue begin with: task's, plan's."""
        return f"{self.prefix}.task-workers.", f"{self.prefix}.plan-workers."

    def task_inputs(self, queue: str = "") -> str:
        """Return the topic of TaskInputs of a named queue, or of the default one."""
        return self._inputs("task-inputs", queue)

    def plan_inputs(self, queue: str = "") -> str:
        """Return the topic of PlanInputs of a named queue, or of the default one."""
        return self._inputs("plan-inputs", queue)

    def _inputs(self, kind: str, queue: str) -> str:
        if not queue:
            return f"{self.prefix}.{kind}"
        if not is_name(queue):
            raise UserError(f"{queue[:64]!a} is not a queue name: 1-128 letters, digits, '.', '_' or '-'")
        return f"{self.prefix}.{kind}.{queue}"

    def own(self, names: Iterable[str]) -> list[str]:
        """Return those of `names` that are topics of this placement, those of named queues among them."""
        fixed = {one.name for one in self.descriptions(1)}
        return [name for name in names if name in fixed or name.startswith(self.of_named_queues())]

    def groups(self, names: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield (group, topic) for the gates, and for the workers of each input topic among `names`."""
        yield self.gate_group, self.executions
        fixed = {self.task_inputs(): "task", self.plan_inputs(): "plan"}
        for name in names:
            if name in fixed:
                yield self.workers_group(fixed[name]), name
            for prefix, kind in zip(self.of_named_queues(), ("task", "plan"), strict=True):
                if name.startswith(prefix):
                    yield self.workers_group(kind, name.removeprefix(prefix)), name

    def descriptions(self, partitions: int, queues: Iterable[str] = ()) -> list[TopicDescription]:
        """Return every topic with its partitions and configuration, those of `queues` among them."""
        inputs = [make(queue) for queue in ("", *queues) for make in (self.task_inputs, self.plan_inputs)]
        return [
            TopicDescription(self.executions, partitions, _LOG),
            *(TopicDescription(name, partitions, _WORK) for name in dict.fromkeys(inputs)),
            TopicDescription(self.control_events, partitions, _WORK),
            TopicDescription(self.lifetimes, partitions, _COMPACTED),
            TopicDescription(self.checkpoints, 1, _COMPACTED),
            TopicDescription(self.dead_letters, partitions, _LETTERS),
        ]


def _check_placement(placement: str) -> None:
    if not is_tenant_id(placement):
        raise UserError(f"placement: {placement[:64]!a} is neither {SHARED} nor a tenant id")
    if placement in _TAKEN:
        raise UserError(
            f"placement: a tenant called {placement} cannot have topics of its own: the name is taken"
        )


def check_partitions(topic: TopicDescription, existing: int | None) -> None:
    """Raise UserError when a topic exists with another partition count: keys would change their partition."""
    if existing is not None and existing != topic.partitions:
        raise UserError(
            f"topic {topic.name} exists with {existing} partitions, not {topic.partitions}: set the number of"
            " partitions to what the topics were made with, or use another prefix"
        )


@lru_cache(maxsize=65_536)
def partition_for(key: str | bytes, partitions: int) -> int:
    """Return the partition of `key` as Java's partitioner chooses it: murmur2, made positive, modulo.

    For tenants, which are few and come again: an answer is kept, and a new one takes 6 µs.
    """
    return (murmur2(key if isinstance(key, bytes) else key.encode()) & 0x7FFFFFFF) % partitions


def spread(execution_id: str, partitions: int) -> int:
    """Return the partition of an execution's input: any will do, and no other program asks which.

    Every id is new, so nothing can be kept, and CRC-32 in C takes a fortieth of murmur2 in Python.
    """
    return crc32(execution_id.encode()) % partitions


def murmur2(key: bytes) -> int:
    """Return the 32-bit murmur2 hash with Kafka's seed, unsigned."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(key)
    whole = len(key) & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(key[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    if whole < len(key):
        h = (h ^ int.from_bytes(key[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
