"""I4 and I5: what the policies in the log allow, judged anew at every dispatch. Shares nothing with the fold.

The promise "no cap is passed by more than what was in flight" is checked where it is kept: at each dispatch,
what is settled, what is held and what the dispatch reserves must together be within every cap in force. So
whatever is spent beyond a cap was in flight when the cap was reached.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple

from headgate_resilience.check.facts import Dispatch
from headgate_resilience.check.findings import Findings
from headgate_resilience.check.model.ledger import Hold, Sums
from headgate_resilience.check.model.life import Life
from headgate_resilience.check.model.shape import duration_ms, nano_usd

EVERYBODY: Final = "*"
PARTS: Final = 60
"""Parts of a sliding window."""
_SUM: Final = re.compile(r"\s*sum\(\s*tokens_used\s*\)\s*>\s*([0-9]+)\s*")
_SUMMED: Final = ("tokens_used", "cost_nano_usd", "executions")


class Cap(NamedTuple):
    """One cap of one rule that must be obeyed."""

    book: str
    """The policy's name, with a "*" before it when it is the platform's."""
    rule: str
    scope: str
    metric: str
    value: int
    window: tuple[int, bool] | None
    """(length in ms, whether it slides)."""
    settled_only: bool

    @property
    def named(self) -> str:
        """policy/rule metric."""
        return f"{self.book}/{self.rule} {self.metric}"


class Window:
    """What a tenant was charged in one rule's window."""

    def __init__(self, length_ms: int, slides: bool) -> None:
        self.part_ms = -(-length_ms // PARTS) if slides else length_ms
        self.parts = PARTS if slides else 0
        self.spent: dict[int, Sums] = {}

    def charge(self, clock: int, tokens: int, cost: int, latency: int) -> None:
        """Add one run."""
        self.spent.setdefault(clock // self.part_ms, Sums()).charge(tokens, cost, latency)

    def counted(self, clock: int) -> Sums:
        """Return what counts now; forget what does not."""
        oldest = clock // self.part_ms - self.parts
        for part in [part for part in self.spent if part < oldest]:
            del self.spent[part]
        whole = Sums()
        for sums in self.spent.values():
            whole.tokens += sums.tokens
            whole.cost += sums.cost
            whole.executions += sums.executions
        return whole


class TenantSums(Sums):
    """What a tenant was charged, in all and in the windows of its rules."""

    __slots__ = ("caps", "windows")

    def __init__(self, caps: Caps) -> None:
        super().__init__()
        self.caps = caps
        self.windows: dict[tuple[str, str], Window] = {}

    def charge(self, tokens: int, cost: int, latency: int) -> None:
        """Add one run."""
        super().charge(tokens, cost, latency)
        for window in self.windows.values():
            window.charge(self.caps.clock, tokens, cost, latency)


class Caps:
    """The caps of every tenant of one partition."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.clock = 0
        self._caps: dict[str, dict[str, list[Cap]]] = {}
        """Tenant -> book -> its caps."""
        self._own: dict[tuple[str, str], tuple[str, list[Cap]]] = {}
        """(tenant, lifetime) -> the book and the caps of a policy that a fork has brought for itself."""
        self._versions: dict[tuple[str, str], int] = {}
        self._raised: dict[tuple[str, str, str, str, str], int] = {}
        """(tenant, lifetime or empty, book, rule, metric) -> the cap as an operator set it."""
        self._slack: Hold = (0, 0)
        self._slack_executions = 0
        self._tenants: dict[str, TenantSums] = {}
        self._records: set[tuple[str, str]] = set()

    def sums_of(self, tenant: str) -> TenantSums:
        """Return the account of a tenant, made when first asked for."""
        sums = self._tenants.get(tenant)
        if sums is None:
            sums = self._tenants[tenant] = TenantSums(self)
            self._make_windows(tenant, sums)
        return sums

    def tenants(self) -> list[tuple[str, Sums]]:
        """Return every tenant's account."""
        return list(self._tenants.items())

    def begin(self, clock: int) -> None:
        """Begin a record: what it adds itself may be added after its timers have dispatched something."""
        self.clock = clock
        self._slack = (0, 0)
        self._slack_executions = 0

    def added(self, before: tuple[int, int, int], after: tuple[int, int, int]) -> None:
        """Note what the record itself has added to what is spent and held: tokens, nano-USD, executions."""
        tokens, cost, executions = (max(b - a, 0) for a, b in zip(before, after, strict=True))
        self._slack = (self._slack[0] + tokens, self._slack[1] + cost)
        self._slack_executions += executions

    # -- what is in force --------------------------------------------------------------------------

    def set_policy(self, tenant: str, envelope_id: str, given: Any) -> None:
        """Put a policy in force; a repeated record changes nothing."""
        if (tenant, envelope_id) in self._records:
            return
        self._records.add((tenant, envelope_id))
        book = f"*{given.name}" if tenant == EVERYBODY else given.name
        if self._versions.get((tenant, book), given.version) != given.version:
            self._forget_raises(tenant, book)
        self._versions[tenant, book] = given.version
        self._caps.setdefault(tenant, {})[book] = caps_of(book, given.document_json)
        for name, sums in self._tenants.items():
            if tenant in (name, EVERYBODY):
                self._make_windows(name, sums)

    def bring_policy(self, tenant: str, lifetime: str, document_json: str) -> None:
        """Let a lifetime, and those below it, be judged by a policy in place of the one of its name."""
        try:
            book = str(json.loads(document_json)["metadata"]["name"])
        except (ValueError, KeyError, TypeError):
            return  # it is refused
        self._own[tenant, lifetime] = (book, caps_of(book, document_json))

    def _over(self, life: Life) -> list[Cap]:
        """Return the caps that a lifetime is held to."""
        tenant, owner = life.key[0], life
        while owner.key not in self._own and owner.parent is not None:
            owner = owner.parent
        if owner.key not in self._own:
            return self._of(tenant)
        book, caps = self._own[owner.key]
        return [*(cap for cap in self._of(tenant) if cap.book != book), *caps]

    def _forget_raises(self, tenant: str, book: str) -> None:
        """Another version is the last word on its caps."""
        concerned = [key for key in self._raised if key[2] == book and tenant in (key[0], EVERYBODY)]
        for key in concerned:
            del self._raised[key]

    def _make_windows(self, tenant: str, sums: TenantSums) -> None:
        wanted = {(cap.book, cap.rule): cap.window for cap in self._of(tenant) if cap.window}
        kept = {key: sums.windows.get(key) for key in wanted}
        for key, (length_ms, slides) in wanted.items():
            known, fresh = kept[key], Window(length_ms, slides)
            same = known is not None and (known.part_ms, known.parts) == (fresh.part_ms, fresh.parts)
            kept[key] = known if same else fresh
        sums.windows = {key: window for key, window in kept.items() if window is not None}

    def raise_budget(self, tenant: str, lifetime: str, order: Any) -> None:
        """Give a cap another value."""
        own = order.policy in self._caps.get(tenant, {})
        book = order.policy if own else f"*{order.policy.removeprefix('*')}"
        metric = "cost_nano_usd" if order.metric == "cost_usd" else order.metric
        self._raised[tenant, lifetime, book, order.rule, metric] = order.value

    def _of(self, tenant: str) -> list[Cap]:
        books = (*self._caps.get(EVERYBODY, {}).values(), *self._caps.get(tenant, {}).values())
        return [cap for caps in books for cap in caps]

    # -- judging -----------------------------------------------------------------------------------

    def dispatched(self, life: Life, given: Dispatch, where: str) -> None:
        """Check that there was room for a dispatch, its own hold included."""
        tenant = life.key[0]
        for cap in self._over(life):
            if cap.scope == "lifetime" and cap.metric in _SUMMED:
                owner: Life | None = life
                while owner is not None:
                    limit = self._limit(cap, tenant, owner.key[1])
                    self._room(cap, limit, owner.account.sums, owner.account.sums, given, where)
                    owner = owner.parent
            elif cap.scope == "tenant" and cap.metric in _SUMMED:
                sums = self.sums_of(tenant)
                window = sums.windows.get((cap.book, cap.rule)) if cap.window else None
                spent = window.counted(self.clock) if window is not None else sums
                self._room(cap, self._limit(cap, tenant, ""), spent, sums, given, where)
            elif cap.metric == "iterations":
                limit = self._limit(cap, tenant, life.key[1])
                what = f"iteration {given.iteration}, {cap.named} allows {limit}"
                self._findings.need("I5", given.iteration <= limit, where, what)
            elif cap.scope == "execution" and cap.metric in _SUMMED:
                asked = _asked(cap, given)
                limit = self._limit(cap, tenant, life.key[1])
                self._findings.need("I4", asked <= limit, where, f"reserves {asked}, {cap.named} is {limit}")

    def _limit(self, cap: Cap, tenant: str, lifetime: str) -> int:
        return self._raised.get((tenant, lifetime, cap.book, cap.rule, cap.metric), cap.value)

    def _room(self, cap: Cap, limit: int, spent: Sums, held: Sums, given: Dispatch, where: str) -> None:
        measured, slack = _measured(cap, spent, held), self._slack_of(cap)
        measured += 0 if cap.settled_only else _asked(cap, given)
        what = f"dispatched at {measured}, {cap.named} is {limit} ({cap.scope})"
        self._findings.need("I4", measured - slack <= limit, where, what)

    def _slack_of(self, cap: Cap) -> int:
        if cap.metric == "executions":
            return self._slack_executions
        return self._slack[0] if cap.metric == "tokens_used" else self._slack[1]


def _measured(cap: Cap, spent: Sums, held: Sums) -> int:
    if cap.metric == "tokens_used":
        return spent.tokens + (0 if cap.settled_only else held.held_tokens)
    if cap.metric == "cost_nano_usd":
        return spent.cost + held.held_cost
    return spent.executions + held.open_holds


def _asked(cap: Cap, given: Dispatch) -> int:
    if cap.metric == "executions":
        return 1 if cap.scope != "execution" else 0
    return given.hold[0] if cap.metric == "tokens_used" else given.hold[1]


def caps_of(book: str, document_json: str) -> list[Cap]:
    """Return the caps of a policy that must be obeyed; none of one in shadow mode, or that is no policy."""
    try:
        document = json.loads(document_json)
        if document.get("mode", "enforce") != "enforce":
            return []
        rules = [rule for rule in document["rules"] if rule["action"] != "warn"]
        return [cap for rule in rules for cap in _of_rule(book, rule)]
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
        return []


def _of_rule(book: str, rule: dict[str, Any]) -> list[Cap]:
    window = (duration_ms(rule["window"]), bool(rule.get("sliding"))) if "window" in rule else None
    name, scope = rule["name"], rule["scope"]
    when = _SUM.fullmatch(rule.get("when") or "")
    if when and scope != "execution":
        return [Cap(book, name, scope, "tokens_used", int(when[1]), None, True)]
    caps = []
    for metric, value in (rule.get("limit") or {}).items():
        metric_name, most = ("cost_nano_usd", nano_usd(value)) if metric == "cost_usd" else (metric, value)
        caps.append(Cap(book, name, scope, metric_name, most, window, False))
    return caps
