"""Headgate in one process: gate, task worker and plan worker as threads on the embedded log. No server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from headgate.client import Client
from headgate.embedding import Service, gate_service, stop_all, worker_service
from headgate.handlers import add_handlers, beside, check_handlers, queues_of
from headgate.outcome import Outcome
from headgate.running import Run, begin
from headgate.settings import HeadgateSettings, open_settings
from headgate.words import TERMINAL, status_word
from headgate_graphs.errors import HeadgateError
from headgate_graphs.loading import load_graph
from headgate_graphs.model import AgentGraph, NodeKind
from headgate_guardrails.policy import Policy, load_policy
from headgate_workers.handlers import HandlerRegistry

READY_S = 2.0
"""How long a run waits for its own gate to be up, so that what the gate refuses is told before it begins."""
STOP_DEADLINE_S = 15.0
"""How long gate and workers may take to end; what runs is cancelled or abandoned by then."""


class Headgate:
    """Runs graphs in this process.

        with Headgate(".headgate", handlers=[handlers]) as headgate:
            outcome = headgate.run("my_agent", {"question": "…"}, policy="my_agent/policy.yaml")
            print(outcome.completed(), outcome.cost_usd)

    The log is durable: a run that a crash or a pause stopped goes on when run again with its lifetime id.
    `":memory:"` keeps everything in this process, for tests. One thread at a time.
    """

    def __init__(
        self,
        local: Path | str = ".headgate",
        *,
        tenant: str | None = None,
        handlers: Iterable[Any] = (),
        settings: HeadgateSettings | None = None,
    ) -> None:
        self.settings = settings or open_settings({"local": Path(local), "tenant": tenant})
        self.client = Client.open(self.settings)
        self._registry = HandlerRegistry()
        add_handlers(self._registry, handlers)
        self._services: list[Service] = []
        self._queues: set[str] = set()
        self._stopping = threading.Lock()

    def __enter__(self) -> Self:
        """Create the topics and start the gate; workers start with the first run."""
        self.client.create_topics()
        self._start(gate_service(self.client, self.settings))
        return self

    def __exit__(self, *_: object) -> None:
        """Stop gate and workers gracefully, then close the log."""
        self.close()

    def close(self) -> None:
        """Stop everything, within STOP_DEADLINE_S; closing twice is allowed."""
        with self._stopping:
            services, self._services = self._services, []
            try:
                stop_all(services, STOP_DEADLINE_S)
            finally:
                self.client.close()

    def begin(
        self,
        graph: AgentGraph | Path | str,
        input: Any = None,
        *,
        policy: Policy | Path | str | Sequence[Policy | Path | str] = (),
        handlers: Iterable[Any] = (),
        lifetime_id: str | None = None,
        priority: int = 0,
    ) -> Run:
        """Ask for one run, having checked that every node has a handler; return at once.

        `graph` as a path brings the handlers beside it. Raises UserError for what is wrong with any of them.
        """
        definition = self._load(graph, handlers)
        policies = [one if isinstance(one, Policy) else load_policy(Path(one)) for one in _several(policy)]
        self.serve(definition, definition.metadata.id)
        return begin(
            self.client, definition, input, policies=policies, lifetime_id=lifetime_id, priority=priority
        )

    def run(
        self,
        graph: AgentGraph | Path | str,
        input: Any = None,
        *,
        policy: Policy | Path | str | Sequence[Policy | Path | str] = (),
        handlers: Iterable[Any] = (),
        lifetime_id: str | None = None,
        timeout_s: float = 300.0,
    ) -> Outcome:
        """Run a graph and return how it ended, or that it is paused, or where it stands after `timeout_s`."""
        run = self.begin(graph, input, policy=policy, handlers=handlers, lifetime_id=lifetime_id)
        return self.wait(run, timeout_s)

    def wait(self, run: Run, timeout_s: float = 300.0) -> Outcome:
        """Return the outcome of a run: its end, its pause, or where it stands after `timeout_s`."""
        view = None
        for happening in run.follow(self.client, timeout_s):
            self.check()
            seen = happening.view if happening is not None else None
            if seen is None or (view is not None and status_word(view.status) in TERMINAL):
                continue
            view = seen
            paused = status_word(view.status) == "paused" and view.source.offset >= run.offset
            if paused or status_word(view.status) in TERMINAL:
                break
        return self.client.outcome(run.tenant, run.lifetime_id, view)

    def check(self) -> None:
        """Raise what ended the gate or a worker, if something did."""
        for service in self._services:
            service.check()

    def _load(self, graph: AgentGraph | Path | str, handlers: Iterable[Any]) -> AgentGraph:
        add_handlers(self._registry, handlers)
        if isinstance(graph, AgentGraph):
            return graph.for_tenant(self.settings.tenant)
        definition = load_graph(Path(graph))
        add_handlers(self._registry, beside(Path(graph)))
        return definition.for_tenant(self.settings.tenant)

    def serve(self, graph: AgentGraph, where: str) -> None:
        """Start workers for the queues of a graph that are not served yet.

        Raises UserError, naming `where` the graph came from, when a node's type has no handler.
        """
        check_handlers(graph, self._registry, where)
        new = tuple(queue for queue in ("", *queues_of(graph)) if queue not in self._queues)
        if not self._services:
            raise HeadgateError("Headgate is not running: use it as `with Headgate(...) as headgate:`")
        if not new:
            return
        self.client.create_topics(tuple(queue for queue in new if queue))
        for kind in (NodeKind.TASK, NodeKind.PLAN):
            self._start(worker_service(self.client, self.settings, kind, self._registry, new))
        self._queues.update(new)
        self._wait_for_gate()

    def _wait_for_gate(self) -> None:
        give_up_at = time.monotonic() + READY_S
        while not self._services[0].ready.wait(0.02) and time.monotonic() < give_up_at:
            self.check()

    def _start(self, service: Service) -> None:
        service.start()
        self._services.append(service)


def _several(policy: Policy | Path | str | Sequence[Policy | Path | str]) -> Sequence[Policy | Path | str]:
    return [policy] if isinstance(policy, Policy | Path | str) else policy
