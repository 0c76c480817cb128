"""Holds what the gate said against what is known: dispatches, control events, views (I1, I2, I4 to I7)."""

from __future__ import annotations

from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2
from headgate_resilience.check.facts import Dispatch, Event, Given, View
from headgate_resilience.check.model import joins
from headgate_resilience.check.model.caps import Caps
from headgate_resilience.check.model.forks import repeat_history
from headgate_resilience.check.model.ledger import Work
from headgate_resilience.check.model.life import Life, Lineage, Visit, id_of
from headgate_resilience.check.model.partition import HORIZON_MS, Partition
from headgate_resilience.check.outputs import Said

MOST_ATTEMPTS = 1_010
"""Tries of one visit: 100 retries, those lost with their workers, those given back because of pauses."""
TERMINAL = frozenset(
    {
        pb.LIFETIME_STATUS_COMPLETED,
        pb.LIFETIME_STATUS_FAILED,
        pb.LIFETIME_STATUS_ABORTED,
        pb.LIFETIME_STATUS_REJECTED,
    }
)


class Hearing:
    """Hears the outputs of one partition in source order."""

    def __init__(self, partition: Partition, caps: Caps) -> None:
        self._all = partition
        self._findings = partition.findings
        self._caps = caps

    def hear(self, said: Said) -> None:
        """Take one output."""
        fact = said.fact
        where = self._all.outputs.where(said)
        if isinstance(fact, Dispatch):
            self._dispatch(fact, where, (said.topic, said.partition, said.at))
        elif isinstance(fact, Event):
            self._event(fact, where)
        elif isinstance(fact, View):
            self._view(fact, where)

    # -- lifetimes ---------------------------------------------------------------------------------

    def _life(self, fact: Dispatch | Event | View, where: str) -> Life | None:
        """Return the lifetime an output is about; one that never started is a violation."""
        key = (fact.tenant, fact.lifetime)
        life = self._all.lives.get(key) or self._all.leaving.get(key)
        if life is not None:
            return life
        if key in self._all.closed:
            closed = self._all.closed[key]
            again = self._all.clock - closed.ended_ms >= HORIZON_MS
            if not again:
                self._findings.fail("I1", where, f"lifetime {'/'.join(key)} goes on after its end")
                return None
        if isinstance(fact, View) and fact.parent:
            return self._child(fact, where)
        if key not in self._all.started:
            self._stranger(key, where)
            return None
        graph = fact.graph if isinstance(fact, Dispatch | View) else ("", "")
        return self._begun(self._all.begin(key, graph, None))

    def _stranger(self, key: tuple[str, str], where: str) -> None:
        """What is said of a lifetime that never started may be meant for another tenant's."""
        owners = sorted(tenant for tenant, lifetime in self._all.lives if lifetime == key[1])
        if owners:
            self._findings.fail("I9", where, f"{key[0]} is given lifetime {key[1]}, which is {owners[0]}'s")
        self._findings.fail("I7", where, f"lifetime {'/'.join(key)} was never started")

    def _begun(self, life: Life) -> Life:
        if life.shape is not None:
            life.expect(life.shape.entry, (), ())
        fork = self._all.forks.get(life.key)
        if fork is not None:
            repeat_history(life, fork)
        return life

    def _child(self, view: View, where: str) -> Life | None:
        key = (view.tenant, view.lifetime)
        parent = self._all.lives.get((view.tenant, view.parent))
        visit = parent.by_id.get(view.parent_execution) if parent is not None else None
        fits = visit is not None and view.lifetime == f"sub-{view.parent_execution}"
        if parent is None or (parent.shape is not None and not fits):
            self._findings.fail("I7", where, f"sub-graph of {view.parent[:64]}, which has no such execution")
            return None
        if visit is not None and parent.shape is not None:
            is_graph = parent.shape.types.get(visit.node) == "graph"
            self._findings.need("I7", is_graph, where, f"{visit.node} is no task of type graph")
        if view.status not in TERMINAL:
            self._may_go_on(parent, where, "a sub-graph was begun")
        return self._begun(self._all.begin(key, view.graph, parent))

    # -- dispatch ----------------------------------------------------------------------------------

    def _dispatch(self, given: Dispatch, where: str, place: tuple[int, int, int]) -> None:
        self._findings.counts["executions dispatched"] += 1
        life = self._life(given, where)
        if life is None:
            return
        need = self._findings.need
        self._may_go_on(life, where, f"{given.node} was dispatched")
        own = id_of(life.key, given.node, given.iteration, given.attempt)
        need("I7", given.execution_id == own, where, "its execution id is not the hash of what it is")
        twice = given.execution_id in life.account.works
        need("I2", not twice, where, f"execution {given.execution_id} was dispatched before")
        need("I7", given.graph == life.graph or not life.graph[0], where, f"{given.graph} is another graph")
        if twice:
            return
        visit = self._visit(life, given, where)
        visit.attempt, visit.tried = given.attempt, given.execution_id
        life.by_id[given.execution_id] = visit
        self._content(life, given, visit, where)
        self._caps.dispatched(life, given, where)
        if life.shape is not None:
            self._bounds(life, given, where)
        life.account.dispatch(Work(given, place))

    def _may_go_on(self, life: Life, where: str, what: str) -> None:
        """I4: nothing is dispatched after the end or while something holds the lifetime back."""
        frozen = self._all.frozen
        held = frozen and ((life.key[0], "") in frozen or (life.key[0], life.graph[0]) in frozen)
        why = (
            "after the abort" if life.abort_told
            else "after the end" if life.end is not None
            else "in a pause" if life.is_paused
            else "in a freeze" if held
            else ""
        )  # fmt: skip
        self._findings.need("I4", not why, where, f"{what} {why} of {life.where}")

    def _bounds(self, life: Life, given: Dispatch, where: str) -> None:
        shape, findings = life.shape, self._findings
        assert shape is not None  # noqa: S101 - asked by the caller
        most = shape.max_iterations
        findings.need("I5", given.iteration <= most, where, f"iteration {given.iteration} of {most}")
        findings.need("I5", given.attempt <= MOST_ATTEMPTS, where, f"attempt {given.attempt}")
        findings.highest("highest iteration", given.iteration)
        findings.highest("highest attempt", given.attempt)
        kind = (given.node in shape.plans) == given.is_plan and shape.is_served(given.node)
        findings.need("I7", given.node in shape.types and kind, where, f"{given.node} is no such node")
        hold = shape.holds.get(given.node, given.hold)
        findings.need("I3", given.hold == hold, where, f"holds {given.hold}, its node's limits are {hold}")

    def _visit(self, life: Life, given: Dispatch, where: str) -> Visit:
        """Return the visit that the dispatch is a try of."""
        visit = life.visits.get((given.node, given.iteration))
        if given.attempt > 1:
            return self._next_try(life, visit, given, where)
        if visit is None and (given.is_plan or life.shape is None):
            visit = self._plan_visit(life, given, where)
        if visit is None:
            self._findings.fail("I2", where, f"nothing that was accepted leads to this visit of {given.node}")
            visit = Visit(given.node, given.iteration, given.upstream, ())
            life.visits[given.node, given.iteration] = visit
        same = visit.upstream == given.upstream
        self._findings.need("I2", same, where, f"follows from {given.upstream}, not {visit.upstream}")
        fresh = (given.node, given.upstream) not in life.upstreams
        self._findings.need("I2", fresh, where, f"{given.node} was led to by {given.upstream} before")
        life.upstreams.add((given.node, given.upstream))
        return visit

    def _plan_visit(self, life: Life, given: Dispatch, where: str) -> Visit | None:
        """Return the visit to a plan, to which results lead: at once, or through a join."""
        lineage: Lineage = ()
        known = [life.by_id.get(one) for one in given.upstream]
        for one, visit in zip(given.upstream, known, strict=True):
            exists = visit is not None or life.shape is None
            self._findings.need("I7", exists, where, f"upstream {one} does not exist")
            if visit is not None and life.shape is not None:
                edge = (visit.node, given.node) in life.shape.edges
                self._findings.need("I7", edge, where, f"there is no edge from {visit.node} to {given.node}")
        if not given.upstream and life.shape is not None:
            self._findings.fail("I7", where, "nothing leads to it")
        if None not in known and known and life.shape is not None:
            if joins.is_join(life, given):
                lineage, fault = joins.go_on(life, given)
                self._findings.need("I6", not fault, where, f"{life.where}: join {given.node}: {fault}")
            elif known[0] is not None:
                lineage = life.lineage_beyond(known[0], given.upstream[0], given.node)
        self._in_order(life, given, where)
        visit = Visit(given.node, given.iteration, given.upstream, lineage)
        life.visits[given.node, given.iteration] = visit
        return visit

    def _in_order(self, life: Life, given: Dispatch, where: str) -> None:
        """I7: visits are counted up, one by one; what was put off may come later than its successor."""
        highest = life.counts.get(given.node, 0)
        life.counts[given.node] = max(highest, given.iteration)
        if life.loose or life.shape is None or life.shape.has_room_caps:
            return
        rises = given.iteration > highest
        self._findings.need("I7", rises, where, f"iteration {given.iteration} comes after {highest}")

    def _next_try(self, life: Life, visit: Visit | None, given: Dispatch, where: str) -> Visit:
        need = self._findings.need
        if visit is None:
            self._findings.fail("I7", where, f"attempt {given.attempt} of a visit without a first one")
            visit = Visit(given.node, given.iteration, given.upstream, ())
            life.visits[given.node, given.iteration] = visit
            return visit
        follows = visit.attempt == given.attempt - 1 and visit.tried == given.parent
        need("I7", follows, where, f"attempt {given.attempt} follows attempt {visit.attempt}")
        need("I7", visit.upstream == given.upstream, where, "its upstream differs from the first try's")
        before = life.account.works.get(visit.tried)
        need("I2", before is None or not before.is_open, where, "the try before it is still open")
        followed = visit.tried in life.decisions
        need("I2", not followed, where, "the try before it was accepted and followed")
        if life.shape is not None:
            most = life.shape.max_retries.get(given.node, 100)
            need("I5", visit.failures <= most, where, f"{visit.failures} failures, {most} retries allowed")
        return visit

    # -- what travels ------------------------------------------------------------------------------

    def _content(self, life: Life, given: Dispatch, visit: Visit, where: str) -> None:
        """I2: what travels on is what was accepted first, and nothing else."""
        if not given.is_plan:
            same = not visit.input_digest or visit.input_digest == given.input_digest
            self._findings.need("I2", same, where, "is not given what was decided")
            return
        ids = tuple(one.execution_id for one in given.given)
        self._findings.need("I7", ids == given.upstream, where, f"carries the results of {ids}")
        for one in given.given:
            fault = self._given(life, one)
            self._findings.need("I2", not fault, where, f"the result of {one.execution_id} {fault}")

    def _given(self, life: Life, one: Given) -> str:
        """Return what is wrong with a result that a plan is given, empty when nothing is."""
        work = life.account.works.get(one.execution_id)
        if work is not None and work.is_open:
            return "is acted on before there is one"
        if one.execution_id in life.withheld:
            return "comes through although a rule withheld it" if one.success else ""
        accepted = life.accepted.get(one.execution_id)
        if accepted is not None:
            return "" if accepted == one.digest else "is not the one that was accepted first"
        if work is not None and one.success:
            return "comes through although none was accepted"
        return ""

    # -- control events ----------------------------------------------------------------------------

    def _event(self, event: Event, where: str) -> None:
        kind = event.type
        if event.shadow or kind == control_pb2.CONTROL_TYPE_WARN:
            return
        if not event.lifetime:
            self._tenant_event(event)
            return
        life = self._life(event, where)
        if life is None:
            return
        if kind == control_pb2.CONTROL_TYPE_PAUSE_LIFETIME:
            life.is_paused = True
        elif kind == control_pb2.CONTROL_TYPE_RESUME_LIFETIME:
            life.is_paused = False
        elif kind == control_pb2.CONTROL_TYPE_ABORT_LIFETIME:
            self._findings.need("I1", not life.abort_told, where, f"{life.where} is aborted twice")
            life.abort_told = True
            self._over(life, event.reason, where)
        elif kind == control_pb2.CONTROL_TYPE_THROTTLE_EXECUTION:
            life.loose = True
        elif event.reason.startswith("CANCELLED"):
            self._cancelled(life, event.execution_id)
        elif not event.reason.startswith("TIMEOUT"):
            life.rejected(event.node, event.execution_id)

    def _tenant_event(self, event: Event) -> None:
        place = (event.tenant, event.graph_id)
        if event.type == control_pb2.CONTROL_TYPE_PAUSE_LIFETIME:
            self._all.frozen.add(place)
        elif event.type == control_pb2.CONTROL_TYPE_RESUME_LIFETIME:
            self._all.frozen.discard(place)

    def _cancelled(self, life: Life, execution_id: str) -> None:
        life.loose = True
        work = life.account.works.get(execution_id)
        if work is not None and work.is_open:
            life.account.abandon(work, self._all.clock)

    # -- views -------------------------------------------------------------------------------------

    def _view(self, view: View, where: str) -> None:
        key = (view.tenant, view.lifetime)
        if view.status == pb.LIFETIME_STATUS_REJECTED:
            stale = view.reason.startswith("STALE_START")
            fresh = stale or not (key in self._all.lives or key in self._all.refused)
            self._findings.need("I1", fresh, where, f"{'/'.join(key)} is rejected although it is known")
            self._all.refused.add(key)
            self._findings.counts["lifetimes rejected"] += 1
            return
        life = self._life(view, where)
        if life is None:
            return
        if life.end is not None:
            self._ended_again(life, view, where)
        elif view.is_end:
            self._ended(life, view, where)
        else:
            live = view.status not in TERMINAL
            self._findings.need("I1", live, where, f"{life.where} is over under the key of one that runs")
        life.view = view
        for execution_id, node in view.waiting:
            known = execution_id in life.by_id or life.shape is None
            self._findings.need("I7", known, where, f"a person is asked at {node}, to which nothing leads")

    def _ended(self, life: Life, view: View, where: str) -> None:
        self._findings.need("I1", view.status in TERMINAL, where, f"{life.where} ended with no final status")
        status = pb.LifetimeStatus.Name(view.status).removeprefix("LIFETIME_STATUS_").lower()
        self._findings.counts[f"lifetimes {status}"] += 1
        self._over(life, view.reason, where)
        life.end = view
        if life.shape is not None:
            for node, visits in view.visits:
                most = life.shape.max_iterations
                self._findings.need("I5", visits <= most, where, f"{visits} visits to {node}, at most {most}")

    def _over(self, life: Life, reason: str, where: str) -> None:
        """Nothing of the lifetime goes on; the first word of it counts."""
        if not life.account.ended:
            fault = joins.starved_too_early(life, reason)
            self._findings.need("I6", not fault, where, f"{life.where}: {fault}")
            life.account.end(self._all.clock)

    def _ended_again(self, life: Life, view: View, where: str) -> None:
        end = life.end
        assert end is not None  # noqa: S101 - asked by the caller
        same = (end.status, end.ended_ms, end.outcome, end.reason) == (
            view.status, view.ended_ms, view.outcome, view.reason,
        )  # fmt: skip
        self._findings.need("I1", view.is_end and same, where, f"{life.where} has two different ends")
