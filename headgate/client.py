"""Asks for runs and gives orders, from any process: what a platform's own code and the command both use.

Everything a client asks is one record on the executions log;
what comes of it is read in `observing` and `following`.
"""

from __future__ import annotations

import getpass
import json
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from headgate import envelopes, orders
from headgate.answering import ANSWER_S, Answer, wait_for_answer, wait_for_answers
from headgate.following import Happening, follow
from headgate.observing import Observer
from headgate.outcome import Outcome, outcome_of
from headgate.overview import Freeze, Overview, Waiting, freezes, overview, today, waiting_in
from headgate.quarantine import Quarantine
from headgate.versions import PolicyVersion
from headgate.words import TERMINAL, status_word
from headgate_catalog.spend import NOTHING, Charge, Period, Spend, SpendBy
from headgate_graphs.errors import UserError
from headgate_graphs.ids import EVERY_TENANT, is_name, is_tenant_id
from headgate_graphs.loading import graph_from_json
from headgate_graphs.model import AgentGraph, AgentLifetime
from headgate_guardrails.policy import Policy
from headgate_protos.v1.control_pb2 import OperatorCommand
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope, GraphRegistered, LifetimeView
from headgate_streams.blobs import BlobStore
from headgate_streams.limits import MAX_DEPTH, MAX_JSON_BYTES, is_too_deep
from headgate_streams.opening import open_blob_store, open_log
from headgate_streams.payloads import BlobManager
from headgate_streams.port import Delivery, Log, LogProducer
from headgate_streams.publisher import ExecutionPublisher
from headgate_streams.settings import StreamSettings

if TYPE_CHECKING:
    from headgate.standing import Standing
    from headgate_guardrails.explain import RuleStanding
    from headgate_streams.signing import SigningKey

DELIVERY_TIMEOUT_S = 15.0
"""How long one request may take to be durable in the log."""


class Client:
    """A client of one log. Safe to share between threads; `close` releases what it opened."""

    def __init__(self, log: Log, blobs: BlobStore, settings: StreamSettings) -> None:
        self.log = log
        self.blobs = blobs
        self.settings = settings
        self.topics = settings.topics()
        self._seals = settings.seal_values
        self.payloads = BlobManager(blobs, settings.inline_limit_bytes, settings.max_blob_bytes)
        self.observer = Observer(log, self.topics)
        self.issued_by = _who()
        self._lock = threading.Lock()
        self._producer: LogProducer | None = None
        self._publisher: ExecutionPublisher | None = None
        self._signing_key: SigningKey | None = None

    @classmethod
    def open(cls, settings: StreamSettings) -> Self:
        """Return a client of the log and the blob store that `settings` name."""
        return cls(open_log(settings), open_blob_store(settings), settings)

    def __enter__(self) -> Self:
        """Nothing to do: the log is open already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Release the producer and the log."""
        with self._lock:
            if self._producer is not None:
                self._producer.close()
                self._producer = self._publisher = None
        self.log.close()

    def create_topics(self, queues: tuple[str, ...] = ()) -> list[str]:
        """Create the topics that are missing, those of `queues` too; return the names that were created."""
        return self.log.create_topics(self.topics.descriptions(self.settings.partitions, queues))

    def register_graph(self, graph: AgentGraph) -> Delivery:
        """Register a graph version for its tenant; the same content again changes nothing."""
        return self.submit(envelopes.graph_registered(graph))

    def apply_policy(self, policy: Policy, tenant: str) -> Delivery:
        """Put a policy in force for `tenant`, or for every tenant when it is "*"."""
        return self.submit(envelopes.policy_set(policy, tenant))

    def start(
        self,
        graph_id: str,
        input: Any = None,
        *,
        tenant: str,
        version: str = "",
        lifetime_id: str | None = None,
        priority: int = 0,
    ) -> AgentLifetime:
        """Ask for one run of a registered graph; the same `lifetime_id` twice is one run.

        `input` is any JSON value; a large one goes to the blob store. A higher `priority` goes first where
        the graph caps what is in flight.
        """
        lifetime = lifetime_id or envelopes.new_lifetime_id(graph_id)
        self.submit(
            self.start_envelope(
                graph_id, input, tenant=tenant, version=version, lifetime_id=lifetime, priority=priority
            )
        )
        return AgentLifetime(tenant_id=tenant, lifetime_id=lifetime, graph_id=graph_id, graph_version=version)

    def start_envelope(
        self, graph_id: str, input: Any, *, tenant: str, version: str, lifetime_id: str, priority: int = 0
    ) -> ExecutionEnvelope:
        """Return the record that `start` appends; its input is sealed when the settings say so.

        Raises UserError for ids and inputs that cannot be, and for a tenant that has no data key.
        """
        _check_tenant(tenant)
        _check_name("lifetime id", lifetime_id)
        key_id = self.payloads.keys.new_key(tenant) if self._seals else ""
        payload = self.payloads.pack(tenant, _json_text(input), key_id)
        return envelopes.lifetime_start(
            tenant, lifetime_id, graph_id, version, payload, self.issued_by, priority
        )

    def pause(self, tenant: str, lifetime_id: str, reason: str = "", ttl_ms: int | None = None) -> str:
        """Order that nothing more of a lifetime is dispatched; return the command id."""
        return self.command(tenant, lifetime_id, orders.pause(reason, ttl_ms))

    def resume(self, tenant: str, lifetime_id: str, pause_generation: int = 0) -> str:
        """Order that a paused lifetime goes on; generation 0 means the pause in force."""
        return self.command(tenant, lifetime_id, orders.resume(pause_generation))

    def freeze(self, tenant: str, graph_id: str = "", reason: str = "") -> str:
        """Order that nothing more of a graph, or of the whole tenant, is dispatched until it is thawed."""
        return self.command(tenant, "", orders.pause(reason, graph_id=graph_id))

    def thaw(self, tenant: str, graph_id: str = "") -> str:
        """Order that a frozen graph, or the frozen tenant, goes on."""
        return self.command(tenant, "", orders.resume(graph_id=graph_id))

    def abort(self, tenant: str, lifetime_id: str, reason: str = "") -> str:
        """Order that a lifetime ends now and what runs is cancelled."""
        return self.command(tenant, lifetime_id, orders.abort(reason))

    def raise_budget(
        self, tenant: str, lifetime_id: str | None, *, policy: str, rule: str, metric: str, value: int
    ) -> str:
        """Give one cap of one rule a new absolute value (cost in nano-USD), for a lifetime or the tenant.

        What that rule had paused goes on.
        """
        return self.command(tenant, lifetime_id or "", orders.raise_budget(policy, rule, metric, value))

    def complete(
        self, tenant: str, lifetime_id: str, execution_id: str, outcome: int, answer: Any = None
    ) -> str:
        """Answer a human task; `outcome` is a HumanOutcome, `answer` any JSON value."""
        text = "" if answer is None else _json_text(answer)
        if len(text.encode(errors="replace")) > MAX_JSON_BYTES:
            raise UserError(f"an answer has at most {MAX_JSON_BYTES} bytes as JSON")
        return self.command(tenant, lifetime_id, orders.complete(execution_id, outcome, text))

    def command(self, tenant: str, lifetime_id: str, command: OperatorCommand) -> str:
        """Append an operator's order; return its command id. A repeat with the same id is ignored."""
        self.order(tenant, lifetime_id, command)
        return str(command.command_id)

    def order(self, tenant: str, lifetime_id: str, command: OperatorCommand) -> Delivery:
        """As `command`, and return where it landed, for `answer`. Fills the command's id."""
        _check_tenant(tenant)
        return self.submit(envelopes.operator_command(tenant, lifetime_id, command, self.issued_by))

    def answer(
        self, tenant: str, delivery: Delivery, command_id: str = "", timeout_s: float = ANSWER_S
    ) -> Answer:
        """Return what a gate says to a record that was appended, waiting for up to `timeout_s`."""
        return wait_for_answer(self.log, self.topics, tenant, delivery, command_id, timeout_s)

    def answers(
        self, tenant: str, deliveries: Sequence[Delivery], timeout_s: float = ANSWER_S
    ) -> list[Answer]:
        """Return what gates say to several records of one tenant, or to one in every partition of "*"."""
        return wait_for_answers(self.log, self.topics, tenant, deliveries, timeout_s)

    def lifetime(self, tenant: str, lifetime_id: str) -> LifetimeView | None:
        """Return the gate's view of one lifetime; None when there is none (yet)."""
        return self.observer.lifetime(tenant, lifetime_id)

    def lifetimes(self, tenant: str) -> list[LifetimeView]:
        """Return the gate's view of every lifetime of a tenant, oldest first."""
        return self.observer.lifetimes(tenant)

    def overview(self, tenant: str) -> Overview:
        """Return what a tenant's work looks like now; reads all that the log holds of it."""
        spent = self.spend(SpendBy.TENANT, today(int(time.time() * 1000)), tenant).get(tenant, NOTHING)
        made = overview(tenant, self.lifetimes(tenant), spent, self.frozen(tenant))
        made.quarantine = self.quarantine(tenant)
        return made

    def spend(self, by: SpendBy, within: Period, tenant: str | None = None) -> dict[str | int, Spend]:
        """Return what was spent, by key, by one tenant or by all; an hour's key is its beginning in Unix ms.

        Reads all that the log holds of it; what counts as spent is said in `headgate_catalog.spend`.
        """
        return self.observer.spend(by, within, tenant)

    def charges(self, tenant: str | None = None) -> Iterator[Charge]:
        """Return each amount that counts as spent, by one tenant or by all: what `spend` sums."""
        return self.observer.charges(tenant)

    def graphs(self, tenant: str) -> list[GraphRegistered]:
        """Return every graph version registered for a tenant, first registration first."""
        return self.observer.graphs(tenant)

    def running(self) -> dict[str, int | None]:
        """Return how many processes serve the log, by what they are; None where the log does not tell.

        Workers are those of the default queue.
        """
        groups = {"gates": self.topics.gate_group}
        groups |= {f"{kind} workers": self.topics.workers_group(kind) for kind in ("task", "plan")}
        return {what: self.log.members(name) for what, name in groups.items()}

    def frozen(self, tenant: str) -> list[Freeze]:
        """Return the freezes of graphs and of the whole tenant that are in force, oldest first."""
        return freezes(self.observer.records(tenant))

    def quarantine(self, tenant: str) -> Quarantine | None:
        """Return why and since when a tenant's records wait; None when they do not."""
        return self.observer.quarantine(tenant)

    def standings(self) -> list[Standing]:
        """Return each partition's logic version and keys at the end of the log; changes nothing."""
        from headgate.standing import standings  # the whole fold, which nothing else here needs

        return standings(self)

    def waiting(self, tenant: str) -> list[Waiting]:
        """Return the human tasks that wait, the nearest deadline first."""
        return waiting_in(self.lifetimes(tenant))

    def policy_versions(self, tenant: str) -> list[PolicyVersion]:
        """Return every policy version that was set for a tenant or for every tenant, first set first."""
        return self.observer.policy_versions(tenant)

    def explain(self, tenant: str, lifetime_id: str) -> list[RuleStanding]:
        """Return where each rule stands for a lifetime at the end of the log; changes nothing.

        Raises UserError for a lifetime that the gate does not know (any more).
        """
        from headgate_guardrails.explain import explain  # the whole fold, which nothing else here needs

        settings = self.settings.model_copy(update={"partitions": self.observer.partitions()})
        return explain(self.log, self.blobs, settings, tenant, lifetime_id)

    def history(self, tenant: str, lifetime_id: str, *, below: bool = False) -> list[Happening]:
        """Return all that has happened to one lifetime, in the order in which the gate saw it.

        With `below`, to its sub-graphs too.
        """
        return self.observer.history(tenant, lifetime_id, below=below)

    def progress(self, tenant: str, lifetime_id: str, *, below: bool = False) -> list[Happening]:
        """As `history`, and what was dispatched, on whichever queue of the tenant's graphs."""
        queues = self._queues(tenant)
        return self.observer.history(tenant, lifetime_id, below=below, dispatches_of=queues)

    def between(self, tenant: str, since_ms: int, until_ms: int) -> list[Happening]:
        """Return all that happened to a tenant in a range of log time, dispatches among it.

        Raises UserError when it is too much to be looked at.
        """
        return self.observer.between(tenant, since_ms, until_ms, dispatches_of=self._queues(tenant))

    def _queues(self, tenant: str) -> list[str]:
        """Return the names of all queues of the tenant's graphs."""
        graphs = (graph_from_json(one.definition_json) for one in self.observer.graphs(tenant))
        queues = {node.config.queue for graph in graphs for node in graph.nodes.values()}
        return sorted(name for name in queues if name)

    def follow(
        self, tenant: str, lifetime_id: str, timeout_s: float | None = None, *, below: bool = False
    ) -> Iterator[Happening]:
        """Yield what has happened and what happens to one lifetime, until it has ended or time is up.

        With `below`, to its sub-graphs too.
        """
        happenings = follow(self.log, self.topics, tenant, lifetime_id, timeout_s=timeout_s, below=below)
        yield from (one for one in happenings if one is not None)

    def wait(self, tenant: str, lifetime_id: str, timeout_s: float = 300.0) -> Outcome:
        """Return how a lifetime ended, or where it stands when `timeout_s` is over."""
        for happening in self.follow(tenant, lifetime_id, timeout_s):
            view = happening.view
            if view is not None and status_word(view.status) in TERMINAL:
                return self.outcome(tenant, lifetime_id, view)
        return self.outcome(tenant, lifetime_id, self.lifetime(tenant, lifetime_id))

    def outcome(self, tenant: str, lifetime_id: str, view: LifetimeView | None) -> Outcome:
        """Return the outcome in `view`, its value fetched from the blob store when it is large."""
        value = None
        if view is not None and view.outcome.WhichOneof("content"):
            value = json.loads(self.payloads.unpack(tenant, view.outcome))
        return outcome_of(lifetime_id, view, value)

    def submit(self, envelope: ExecutionEnvelope) -> Delivery:
        """Append one envelope to the log; return where it (first) landed once it is durable.

        Raises LogUnavailable when the log does not answer, UserError when the topics do not exist, or when
        the signing key of the settings cannot be read.
        """
        return self.submit_everywhere(envelope)[0]

    def submit_everywhere(self, envelope: ExecutionEnvelope) -> list[Delivery]:
        """As `submit`, and return every place: of what concerns every tenant there is one per partition."""
        _check_tenant(envelope.tenant_id, every=True)
        self._sign(envelope)
        delivered: list[Delivery] = []
        with self._lock:
            producer, publisher = self._open_publisher()
            if envelope.tenant_id == EVERY_TENANT:
                publisher.publish_everywhere(envelope, delivered.append)
            else:
                publisher.publish(envelope, delivered.append)
            producer.flush(DELIVERY_TIMEOUT_S)
        for delivery in delivered:
            if delivery.error is not None:
                raise delivery.error
        return delivered

    def _sign(self, envelope: ExecutionEnvelope) -> None:
        """Sign what needs it once keys are registered, if the settings name a key."""
        path = self.settings.signing_key
        if path is None:
            return
        from headgate_guardrails.fold.authority import (  # few clients need it, nor the library behind
            SIGNED,
            is_fork,
        )
        from headgate_streams.signing import SigningKey

        if envelope.WhichOneof("payload") not in SIGNED and not is_fork(envelope):
            return
        if self._signing_key is None:
            self._signing_key = SigningKey.load(path)
        # The id is signed too, so the publisher must not be the one who gives it.
        envelope.envelope_id = envelope.envelope_id or uuid.uuid4().hex
        self._signing_key.sign(envelope)

    def _open_publisher(self) -> tuple[LogProducer, ExecutionPublisher]:
        if self._producer is None or self._publisher is None:
            partitions = self.observer.partitions()
            self._producer = self.log.producer()
            self._publisher = ExecutionPublisher(self._producer, self.topics, partitions)
        return self._producer, self._publisher


def _json_text(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"the input is not JSON: {error}") from None
    if is_too_deep(text):
        raise UserError(f"the input is nested deeper than {MAX_DEPTH} levels")
    return text


def _check_tenant(tenant: str, *, every: bool = False) -> None:
    if not (is_tenant_id(tenant) or (every and tenant == EVERY_TENANT)):
        raise UserError(
            f"{tenant[:64]!a} is not a tenant id: 3-40 lower-case letters, digits and inner hyphens"
        )


def _check_name(what: str, text: str) -> None:
    if not is_name(text):
        raise UserError(f"{text[:64]!a} is not a {what}: 1-128 letters, digits, '.', '_' or '-'")


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
