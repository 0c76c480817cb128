"""What policies in force allow, judged anew from their documents. Shares nothing with the fold."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from headgate_protos.v1 import control_pb2, execution_pb2
from tests.unit.guardrails.properties.accounts import Hold, LifeAccount, Sums
from tests.unit.guardrails.properties.lives import Violation
from tests.unit.guardrails.properties.routes import milliseconds, nano_usd

METRICS = {"tokens_used": "tokens", "cost_nano_usd": "cost", "executions": "executions"}


class Window(NamedTuple):
    """Which window of log time: whose, and how it goes on."""

    policy: str
    rule: str
    length_ms: int
    sliding: bool

    @property
    def part_ms(self) -> int:
        """Steps in which it goes on: itself, or a sixtieth of itself."""
        return max(1, self.length_ms // 60) if self.sliding else self.length_ms


@dataclass(slots=True)
class Cap:
    """One cap of one limit rule that must be obeyed."""

    policy: str
    rule: str
    scope: str
    metric: str
    value: int
    window: Window | None


@dataclass(slots=True)
class Book:
    """What one tenant's rules come to."""

    versions: dict[str, int] = field(default_factory=dict)
    caps: dict[str, list[Cap]] = field(default_factory=dict)
    """By policy; shadow policies and warnings have none."""
    windowed: dict[str, list[Window]] = field(default_factory=dict)
    """Windows of each policy, shadow or not."""
    windows: dict[Window, dict[int, Sums]] = field(default_factory=dict)
    """What was spent in each part of a window."""
    budgets: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    """By (lifetime or empty, policy, rule, metric)."""
    highest: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    """The highest value a cap ever had, by the same key."""


class Ruler:
    """Knows every tenant's caps; `capped` says that workers respect limits and policies never change."""

    def __init__(self, *, capped: bool) -> None:
        self.capped = capped
        self.books: dict[str, Book] = {}
        self.platform = Book()
        """Policies that hold for every tenant; its windows and budgets are unused."""
        self.clock = 0
        self.slack: dict[str, int] = {}
        """What this record's own settlement may have added after its timers dispatched something."""
        self.is_settling = False

    def begin(self, clock: int) -> None:
        self.clock = clock
        self.slack = {}
        self.is_settling = False

    def set_policy(self, tenant: str, given: execution_pb2.PolicySet) -> None:
        book = self.platform if tenant == "*" else self.books.setdefault(tenant, Book())
        name = f"*{given.name}" if tenant == "*" else given.name
        if book.versions.get(name, given.version) != given.version:
            # Another version is the last word: what was raised under the one before no longer holds.
            book.budgets = {key: value for key, value in book.budgets.items() if key[1] != name}
        book.versions[name] = given.version
        document = json.loads(given.document_json)
        rules = [rule for rule in document["rules"] if "limit" in rule]
        enforced = document.get("mode", "enforce") == "enforce"
        obeyed = [rule for rule in rules if enforced and rule["action"] != "warn"]
        book.caps[name] = [cap for rule in obeyed for cap in _caps(name, rule)]
        book.windowed[name] = [_window(name, rule) for rule in rules if "window" in rule]

    def set_budget(self, tenant: str, lifetime: str, order: control_pb2.RaiseBudget) -> None:
        metric = "cost_nano_usd" if order.metric == "cost_usd" else order.metric
        key = (lifetime, order.policy, order.rule, metric)
        book = self.books[tenant]
        book.budgets[key] = order.value
        book.highest[key] = max(book.highest.get(key, 0), order.value)

    def charged(
        self, tenant: str, account: LifeAccount, tokens: int, cost: int, latency: int, extra: bool
    ) -> None:
        """Take note of a charge in the tenant's windows; where caps are strict, see that none is passed."""
        book = self.books.setdefault(tenant, Book())
        for policies in (self.platform.windowed, book.windowed):
            for windows in policies.values():
                for window in windows:
                    parts = book.windows.setdefault(window, {})
                    part = parts.setdefault(self.clock // window.part_ms, Sums())
                    part.charge(tokens, cost, latency, extra=extra)
        if self.is_settling:
            self.slack = {"tokens": tokens, "cost": cost, "executions": 1}
        if self.capped:
            for owner in account.owners():
                self._never_passed(book, owner)

    def _spent(self, book: Book, window: Window) -> Sums:
        """Add up what still counts in a window, and forget what does not."""
        parts = book.windows.get(window, {})
        oldest = self.clock // window.part_ms - (60 if window.sliding else 1)
        for index in [index for index in parts if index <= oldest]:
            del parts[index]
        spent = Sums()
        for part in parts.values():
            for name in METRICS.values():
                setattr(spent, name, getattr(spent, name) + getattr(part, name))
                setattr(
                    spent, f"extra_{name}", getattr(spent, f"extra_{name}") + getattr(part, f"extra_{name}")
                )
        return spent

    def _never_passed(self, book: Book, account: LifeAccount) -> None:
        for cap, sums in self._scopes(book, account):
            name = METRICS[cap.metric]
            spent = getattr(sums, name) - getattr(sums, f"extra_{name}")
            most = self._raised(book, cap, account.lifetime_id)
            where = (account.lifetime_id if cap.scope == "lifetime" else "", cap.policy, cap.rule, cap.metric)
            highest = book.highest[where] = max(book.highest.get(where, 0), most, cap.value)
            if spent > highest:
                raise Violation(f"I4: {account.lifetime_id} spent {spent} {name} of {highest} ({cap})")

    def _scopes(self, book: Book, account: LifeAccount) -> list[tuple[Cap, Sums]]:
        found = []
        for cap in self._all(book):
            if cap.metric not in METRICS or cap.scope == "execution":
                continue
            sums = account.sums if cap.scope == "lifetime" else account.tenant
            if cap.window is not None:
                sums = self._spent(book, cap.window)
            found.append((cap, sums))
        return found

    def _all(self, book: Book) -> list[Cap]:
        return [cap for caps in (*self.platform.caps.values(), *book.caps.values()) for cap in caps]

    def _raised(self, book: Book, cap: Cap, lifetime: str) -> int:
        where = lifetime if cap.scope == "lifetime" else ""
        return book.budgets.get((where, cap.policy, cap.rule, cap.metric), cap.value)

    def dispatched(self, tenant: str, account: LifeAccount, iteration: int, hold: Hold, where: str) -> None:
        """Nothing is dispatched for which there was no room, its own hold included."""
        book = self.books.setdefault(tenant, Book())
        for owner in account.owners():
            self._room(book, owner, where)
        for cap in self._all(book):
            most = self._raised(book, cap, account.lifetime_id)
            if cap.metric == "iterations" and iteration > most:
                raise Violation(f"I5: {where} was dispatched beyond {cap}")
            if cap.scope == "execution" and cap.metric in ("tokens_used", "cost_nano_usd"):
                asked = hold[0] if cap.metric == "tokens_used" else hold[1]
                if asked > cap.value:
                    raise Violation(f"I4: {where} reserves {asked}, {cap}")

    def _room(self, book: Book, account: LifeAccount, where: str) -> None:
        for cap, sums in self._scopes(book, account):
            held = account.sums if cap.scope == "lifetime" else account.tenant
            name = METRICS[cap.metric]
            reserved = held.open_holds if name == "executions" else getattr(held, f"held_{name}")
            most = self._raised(book, cap, account.lifetime_id)
            measured = getattr(sums, name) + reserved - self.slack.get(name, 0)
            if measured > most:
                raise Violation(f"I4: {where} was dispatched at {measured} {name} of {most} ({cap})")


def _window(policy: str, rule: dict[str, Any]) -> Window:
    return Window(policy, rule["name"], milliseconds(rule["window"]), rule.get("sliding", False))


def _caps(policy: str, rule: dict[str, Any]) -> list[Cap]:
    window = _window(policy, rule) if "window" in rule else None
    caps = []
    for metric, value in rule["limit"].items():
        name, most = ("cost_nano_usd", nano_usd(value)) if metric == "cost_usd" else (metric, value)
        caps.append(Cap(policy, rule["name"], rule["scope"], name, most, window))
    return caps
