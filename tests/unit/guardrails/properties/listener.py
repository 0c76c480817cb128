"""What the fold says, held against what is known: dispatches, control events, views.

Shares nothing with the fold.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, task_pb2
from tests.unit.guardrails.properties.accounts import LifeAccount, Sums, Work
from tests.unit.guardrails.properties.caps import Ruler
from tests.unit.guardrails.properties.lives import MOST_ATTEMPTS, Life, Seen, Violation, id_of
from tests.unit.guardrails.properties.routes import Definition, JoinShape

FOR_EVER = 2**62
RUNNING, PAUSED = pb.LIFETIME_STATUS_RUNNING, pb.LIFETIME_STATUS_PAUSED
COMPLETED = pb.LIFETIME_STATUS_COMPLETED
Key = tuple[str, str]


class Listener:
    """Hears the outputs of one partition; the `Oracle` tells it what the records meant."""

    def __init__(self, joins: dict[Key, dict[str, JoinShape] | None], *, capped: bool) -> None:
        self.joins = joins
        self.caps = Ruler(capped=capped)
        self.clock = 0
        self.steps = 0
        self.last_source = (-1, -1)
        self.graphs: dict[tuple[str, str, str], Definition] = {}
        self.versions: dict[Key, list[str]] = {}
        self.lives: dict[Key, Life] = {}
        self.awake: dict[Key, Life] = {}
        """Lifetimes that time can still change."""
        self.refused: set[Key] = set()
        self.frozen: set[Key] = set()
        """(tenant, graph id), or (tenant, "") for all of a tenant."""
        self.tenants: dict[str, Sums] = {}
        self.obeyed: set[Key] = set()
        """Commands and policy records that must not work twice."""
        self.execution_ids: set[str] = set()
        self.concluding: list[Life] = []
        """Lifetimes that a final result of this record must end."""
        self.settled_now: set[str] = set()
        """Lifetimes whose sums this record's own result has changed."""
        self.checks: Counter[str] = Counter()

    def need(self, invariant: str, holds: bool, what: str) -> None:
        """Raise a Violation unless it holds."""
        if not holds:
            raise Violation(f"{invariant} at step {self.steps}: {what}")

    def _life(self, key: Key, graph_id: str, version: str, start_input: str, parent: Life | None) -> Life:
        definition = self.graphs[key[0], graph_id, version]
        tenant = self.tenants.setdefault(key[0], Sums())

        def charge(tokens: int, cost: int, latency: int, extra: bool) -> None:
            self.caps.charged(key[0], account, tokens, cost, latency, extra)

        account = LifeAccount(key[1], tenant, parent.account if parent else None, charge)
        joins = self.joins.get((graph_id, version))
        life = Life(key[0], key[1], graph_id, definition, joins, start_input, account, parent)
        first = int(definition.entry not in definition.plans)
        life.visits[definition.entry] = first
        life.pending[definition.entry] = [(first, ())]
        life.due = self.clock + definition.deadline_ms
        self.lives[key] = self.awake[key] = life
        return life

    def _follow_task(self, life: Life, seen: Seen) -> None:
        life.follow_task(seen)
        self._conclude(life)

    def _conclude(self, life: Life) -> None:
        if life.final:
            self.concluding.append(life)

    # -- outputs -----------------------------------------------------------------------------------

    def _outputs(self, record: Any, outputs: list[Any]) -> None:
        for index, output in enumerate(outputs):
            message, source = output.message, output.message.source
            place = (source.offset, source.index)
            self.need("I11", place > self.last_source, f"source {place} after {self.last_source}")
            self.need("I11", place == (record.offset, index), f"source {place} for record {record.offset}")
            self.last_source = place
            if output.topic == "dead-letters":
                self.need("I13", message.value == (record.value or b""), "a letter without its bytes")
                continue
            self.need("I9", message.tenant_id == output.tenant_id, "another tenant's message")
            lifetime_id = lifetime_of(output)
            life = self.lives.get((output.tenant_id, lifetime_id))
            if output.topic == "lifetimes":
                self._view((output.tenant_id, lifetime_id), life, output)
            elif not lifetime_id:
                self._tenant_event(message)
            elif life is None:
                where = f"{output.topic} for {output.tenant_id}/{lifetime_id}"
                raise Violation(f"I7 at step {self.steps}: {where}, which never started")
            elif output.topic == "control-events":
                self._event(life, message)
            else:
                self._dispatch(life, output)

    def _tenant_event(self, event: control_pb2.ExecutionEvent) -> None:
        key = (event.tenant_id, event.graph_id)
        if event.type == control_pb2.CONTROL_TYPE_PAUSE_LIFETIME:
            self.frozen.add(key)
        else:
            self.frozen.remove(key)

    def _event(self, life: Life, event: control_pb2.ExecutionEvent) -> None:
        if event.shadow or event.type == control_pb2.CONTROL_TYPE_WARN:
            return
        self.need("I4", life.end is None, f"{life.where}: an event after the end: {event.reason}")
        if event.type in (control_pb2.CONTROL_TYPE_PAUSE_LIFETIME, control_pb2.CONTROL_TYPE_RESUME_LIFETIME):
            # A sub-graph is told of its parent's as well: its own status is in its views.
            expires = event.pause_expires_at
            life.pause_due = expires.seconds * 1000 + expires.nanos // 1_000_000
            return
        if event.type == control_pb2.CONTROL_TYPE_ABORT_LIFETIME:
            self.need("I4", not life.aborted, "aborted twice")
            life.aborted = True
        elif event.type == control_pb2.CONTROL_TYPE_THROTTLE_EXECUTION:
            life.loose = True
        elif event.execution_id not in life.seen:
            self._rejected(life, event)
        elif event.reason.startswith("CANCELLED"):
            life.loose = True
            work = life.account.open.get(event.execution_id)
            if work is not None:
                life.account.abandon(work, self.clock)
        elif life.seen[event.execution_id].result is not None:  # else it timed out
            life.withhold(life.seen[event.execution_id])

    def _rejected(self, life: Life, event: control_pb2.ExecutionEvent) -> None:
        """Rejected before dispatch: a task's failure goes on, a plan's ends the lifetime."""
        node = event.node_id
        if node in life.definition.plans:
            return
        iteration, attempt = life.identify(node, event.execution_id)
        before = life.last.get((node, iteration))
        upstream = life.upstream_of(node, iteration) if attempt == 1 else before and before.upstream
        self.need("I7", upstream is not None, f"{life.where}: a rejection at {node}, to which nothing leads")
        seen = Seen(event.execution_id, node, iteration, attempt, upstream or (), rejected=True)
        life.take(seen)
        life.deliver_failure(seen)

    # -- views -------------------------------------------------------------------------------------

    def _view(self, key: Key, life: Life | None, output: Any) -> None:
        view, is_end = output.message, output.key.endswith("/end")
        if view.status == pb.LIFETIME_STATUS_REJECTED:
            fresh = life is None and key not in self.refused
            self.need("I1", fresh or view.reason.startswith("STALE_START"), f"{key} rejected although known")
            self.refused.add(key)
            return
        if life is None and view.parent_lifetime_id:
            life = self._child(key, view)
        if life is None:
            raise Violation(f"I7 at step {self.steps}: a view of {key}, which never started")
        if life.end is not None:
            same = ("status", "reason", "ended_at", "outcome")
            changed = [name for name in same if getattr(view, name) != getattr(life.end, name)]
            self.need("I1", is_end and not changed, f"{key} has two ends: {changed}")
        elif is_end:
            self.need("I1", view.status not in (RUNNING, PAUSED), f"{key} ended but is {view.status}")
            self._end(life, view)
        else:
            self.need("I1", view.status in (RUNNING, PAUSED), f"{key} is over under the key of a live one")
            life.paused = view.status == PAUSED
            life.pause_due = life.pause_due if life.paused else 0
            self._show(life, view)
        life.view = view

    def _show(self, life: Life, view: Any) -> None:
        for waiting in view.waiting:
            if waiting.execution_id not in life.seen:
                due = waiting.deadline.seconds * 1000 + waiting.deadline.nanos // 1_000_000
                self._undispatched(life, waiting.node_id, waiting.execution_id, due)

    def _undispatched(self, life: Life, node: str, execution_id: str, due: int) -> Seen:
        """A task that no worker serves begins: a person is asked, or a sub-graph runs."""
        iteration, attempt = life.identify(node, execution_id)
        seen = Seen(execution_id, node, iteration, attempt, life.upstream_of(node, iteration) or ())
        self._may_go_on(life, f"{life.where}/{node}")
        self.need("I7", life.take(seen), f"{life.where}/{node} began, but nothing leads there")
        self._unique(execution_id)
        life.account.dispatch(Work(execution_id, node, due, 0, False, True, (0, 0)))
        return seen

    def _child(self, key: Key, view: Any) -> Life:
        parent = self.lives[key[0], view.parent_lifetime_id]
        node = next(
            node
            for node, graph_id in parent.definition.subgraphs.items()
            for iteration in range(1, parent.definition.max_iterations + 1)
            if id_of(key[0], parent.lifetime_id, node, iteration, 1) == view.parent_execution_id
        )
        self.need("I7", parent.definition.subgraphs[node] == view.graph_id, f"{key} runs {view.graph_id}")
        seen = self._undispatched(parent, node, view.parent_execution_id, FOR_EVER)
        child = self._life(key, view.graph_id, view.graph_version, parent.given_to(seen), parent)
        child.parent_execution_id = view.parent_execution_id
        self.checks["children"] += 1
        return child

    def _end(self, life: Life, view: Any) -> None:
        if view.status == COMPLETED and not life.final and not life.loose:
            self._check_dry(life)
        if view.reason.startswith("JOIN_STARVED") and life.joins is not None and not life.loose:
            plan = view.reason.split(" to ")[1].split(":")[0]
            full = [v for v in life.unfired() if v[0] == plan and life.full(*v)]
            self.need("I6", not full, f"{life.where}: {plan} starved although it was full")
        life.end = view
        life.account.end(self.clock)
        # What this record's result or the same moment's timers have closed may be after the view or before.
        busy = life.lifetime_id in self.settled_now or life.account.closed_at == self.clock
        agrees = busy or shown(view) == life.account.held
        self.need("I3", agrees, f"{life.where} ends with {shown(view)} held, counted {life.account.held}")
        self.checks[pb.LifetimeStatus.Name(view.status)[len("LIFETIME_STATUS_") :]] += 1
        parent = life.parent
        if parent is not None and parent.end is None and view.reason != "its branch lost":
            self._tell_parent(parent, life, view)

    def _tell_parent(self, parent: Life, life: Life, view: Any) -> None:
        work = parent.account.open.get(life.parent_execution_id)
        if work is None:
            return
        parent.account.close(work, self.clock)
        seen = parent.seen[life.parent_execution_id]
        if view.status == COMPLETED:
            seen.result = task_pb2.TaskResult(success=True, json_result=view.outcome.json or "null")
            self._follow_task(parent, seen)
        else:
            parent.deliver_failure(seen)

    def _check_dry(self, life: Life) -> None:
        """A lifetime that ran dry has left nothing undone."""
        for last in list(life.last.values()):
            life.deliver_failure(last)
        left = {node: queue for node, queue in life.pending.items() if queue}
        self.need("I1", not left, f"{life.where} completed, but {left} was never done")
        self.need("I1", not life.account.open, f"{life.where} ran dry with work in flight")
        self.need("I6", not life.unfired(), f"{life.where} completed, but {life.unfired()} never went on")

    # -- dispatch ----------------------------------------------------------------------------------

    def _unique(self, execution_id: str) -> None:
        self.need("I7", execution_id not in self.execution_ids, f"{execution_id} was dispatched twice")
        self.execution_ids.add(execution_id)

    def _may_go_on(self, life: Life, where: str) -> None:
        self.need("I4", not life.aborted, f"{where} was dispatched after the abort")
        self.need("I4", life.end is None, f"{where} was dispatched after the end")
        self.need("I4", not life.is_paused, f"{where} was dispatched while paused")
        frozen = (life.tenant, "") in self.frozen or (life.tenant, life.graph_id) in self.frozen
        self.need("I4", not frozen, f"{where} was dispatched while frozen")

    def _dispatch(self, life: Life, output: Any) -> None:
        message, headers, definition = output.message, output.message.headers, life.definition
        node, upstream = headers.node_id, tuple(headers.upstream_execution_ids)
        where = f"{life.where}/{node} iteration {headers.iteration} attempt {headers.attempt}"
        self._may_go_on(life, where)
        self._unique(headers.execution_id)
        own = id_of(life.tenant, life.lifetime_id, node, headers.iteration, headers.attempt)
        self.need("I7", headers.execution_id == own, f"{where}: its id is {headers.execution_id}")
        self.need("I7", node in definition.out, f"{where}: no such node")
        is_plan = output.topic == "plan-inputs"
        self.need("I7", (node in definition.plans) == is_plan, f"{where}: on {output.topic}")
        hold = (message.hold.tokens_used, message.hold.cost_nano_usd)
        self.need("I3", hold == definition.holds[node], f"{where}: holds {hold}")
        self.need("I5", headers.iteration <= definition.max_iterations, f"{where}: above the cap")
        seen = Seen(headers.execution_id, node, headers.iteration, headers.attempt, upstream)
        if seen.attempt == 1:
            self._first_attempt(life, seen, where)
        else:
            self._next_attempt(life, seen, headers.parent_execution_id, where)
        self._content(life, seen, message, is_plan, where)
        due, timeout = message.start_by if message.leased else headers.deadline, headers.timeout
        work = Work(
            seen.execution_id,
            node,
            due.seconds * 1000 + due.nanos // 1_000_000,
            timeout.seconds * 1000 + timeout.nanos // 1_000_000,
            message.leased,
            False,
            hold,
        )
        life.account.dispatch(work)
        self.caps.dispatched(life.tenant, life.account, seen.iteration, hold, where)
        self.checks["dispatched"] += 1

    def _first_attempt(self, life: Life, seen: Seen, where: str) -> None:
        types = life.definition.types
        for one in seen.upstream:
            known = life.seen.get(one)
            if known is None:
                raise Violation(f"I7 at step {self.steps}: {where}: upstream {one} does not exist")
            self.need("I7", (known.node, seen.node) in types, f"{where}: no edge from {known.node}")
            self.need("I2", one not in life.account.open, f"{where}: {one} has no result yet")
            life.deliver_failure(known)
        if seen.upstream and types[life.seen[seen.upstream[0]].node, seen.node] == "join":
            self.checks["joins"] += 1
            self.need("I7", (seen.node, seen.iteration) not in life.last, f"{where}: visited twice")
            life.note(seen)
            fault = life.join_fires(seen) if life.joins is not None else ""
            self.need("I6", not fault, f"{where}: {fault}")
        else:
            self.need("I2", life.take(seen), f"{where}: nothing that was accepted leads here")

    def _next_attempt(self, life: Life, seen: Seen, parent: str, where: str) -> None:
        before = life.last.get((seen.node, seen.iteration))
        if before is None:
            raise Violation(f"I7 at step {self.steps}: {where}: no attempt before it")
        self.need("I7", before.attempt == seen.attempt - 1, f"{where}: follows attempt {before.attempt}")
        self.need("I7", before.execution_id == parent, f"{where}: its parent is {parent}")
        self.need("I7", before.upstream == seen.upstream, f"{where}: its upstream changed")
        self.need("I2", before.execution_id not in life.account.open, f"{where}: the last try is still open")
        failures, most = life.failures[seen.node, seen.iteration], life.definition.max_retries[seen.node]
        self.need("I5", failures <= most, f"{where}: {failures} failures, {most} retries allowed")
        self.need("I5", seen.attempt <= MOST_ATTEMPTS, f"{where}: more than {MOST_ATTEMPTS} attempts")
        may = before.failed and not before.delivered
        if not before.failed and seen.node in life.definition.plans:
            may = life.definition.after_plan(seen.node, list(before.result.next_task_ids)).fault
        self.need("I2", may, f"{where}: the last try had its result, and it was followed")
        life.note(seen)

    def _content(self, life: Life, seen: Seen, message: Any, is_plan: bool, where: str) -> None:
        """What travels is what was accepted first."""
        self.need("I2", message.start_input.json == life.start_input, f"{where}: another start input")
        if not is_plan:
            self.need("I2", message.input_data.json == life.given_to(seen), f"{where}: not what was decided")
            return
        ids = tuple(one.headers.execution_id for one in message.upstream_task_executions)
        self.need("I7", ids == seen.upstream, f"{where}: carries {ids}")
        for one in message.upstream_task_executions:
            known = life.seen[one.headers.execution_id]
            if known.rejected:
                withheld = one.result.error.code == "REJECTED"
                self.need("I2", withheld, f"{where}: a withheld result came through")
            elif known.result is not None:
                self.need("I2", one.result == known.result, f"{where}: not the result that was accepted")


def shown(view: Any) -> tuple[int, int, int]:
    """Return the (open holds, tokens, cost) that a view shows as held."""
    return view.open_holds, view.held.tokens_used, view.held.cost_nano_usd


def lifetime_of(output: Any) -> str:
    """Return the lifetime an output is about."""
    message = output.message
    text: str = message.headers.lifetime_id if output.topic.endswith("inputs") else message.lifetime_id
    return text
