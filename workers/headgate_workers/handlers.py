"""Handlers: user functions registered by task or plan type, with the decorators that make them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, TypeVar, overload

from headgate_graphs.errors import UserError
from headgate_graphs.ids import is_name
from headgate_graphs.model import NodeKind
from headgate_graphs.units import parse_duration
from headgate_workers.conversion import Call, call_of

Function = TypeVar("Function", bound=Callable[..., Any])
ATTRIBUTE = "__headgate_handler__"
NEVER_DISPATCHED = frozenset({"human", "graph"})
"""Types that the gate serves itself; a handler for them would never be called."""


@dataclass(frozen=True)
class Handler:
    """A function that serves one type of node."""

    kind: NodeKind
    type: str
    function: Callable[..., Any]
    timeout_ms: int | None = None
    """How long a run may take; the node's own timeout holds when it is shorter."""
    reads_values: bool = True
    """Whether large inputs are fetched before an async function begins, so that it never waits for them."""

    @cached_property
    def call(self) -> Call:
        """How the function is called; raises UserError when its annotations do not resolve."""
        return call_of(self.function)


@overload
def task(type: Function, /) -> Function: ...
@overload
def task(
    type: str | None = None, /, *, timeout: str | float | None = None
) -> Callable[[Function], Function]: ...
def task(
    type: Function | str | None = None, /, *, timeout: str | float | None = None
) -> Function | Callable[[Function], Function]:
    """Make a function the handler of a task type: `@task`, `@task("run_tests")`, `@task(timeout="2m")`.

    The type is the function's name when it is not given. The function takes `(ctx)` or `(ctx, input)`, is
    async or not (then it runs in a thread), and stays callable. Raises UserError for a bad name or timeout.
    """
    made: Function | Callable[[Function], Function] = _decorate(NodeKind.TASK, type, timeout)
    return made


@overload
def plan(type: Function, /) -> Function: ...
@overload
def plan(
    type: str | None = None, /, *, timeout: str | float | None = None
) -> Callable[[Function], Function]: ...
def plan(
    type: Function | str | None = None, /, *, timeout: str | float | None = None
) -> Function | Callable[[Function], Function]:
    """Make a function the handler of a plan type, as `task` does; it takes `(ctx)` and returns a Decision."""
    made: Function | Callable[[Function], Function] = _decorate(NodeKind.PLAN, type, timeout)
    return made


def _decorate(kind: NodeKind, type: Any, timeout: str | float | None) -> Any:
    if callable(type):
        return _attach(kind, type, None, None)
    return lambda function: _attach(kind, function, type, timeout)


def _attach(kind: NodeKind, function: Any, type: str | None, timeout: str | float | None) -> Any:
    name = type if type is not None else getattr(function, "__name__", "")
    where = f"@{kind.value} {name[:64]!a}"
    if not is_name(name):
        raise UserError(f"{where}: a type is 1-128 letters, digits, '.', '_' or '-'")
    if name in NEVER_DISPATCHED:
        raise UserError(f"{where}: nodes of type {name} are served by the gate; use another name")
    try:
        timeout_ms = parse_duration(timeout) if timeout is not None else None
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    _check_parameters(kind, function, where)
    setattr(function, ATTRIBUTE, Handler(kind, name, function, timeout_ms))
    return function


def _check_parameters(kind: NodeKind, function: Any, where: str) -> None:
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise UserError(f"{where}: the function returns a value; it may not be a generator")
    most = 2 if kind is NodeKind.TASK else 1
    try:
        inspect.signature(function).bind(*range(most))
    except TypeError:
        if most == 2 and _takes_context_alone(function):
            return
        form = "(ctx) or (ctx, input)" if most == 2 else "(ctx)"
        raise UserError(f"{where}: the function takes {form}") from None


def _takes_context_alone(function: Any) -> bool:
    try:
        inspect.signature(function).bind(0)
    except TypeError:
        return False
    return True


class HandlerRegistry:
    """Handlers by kind and type. The ready ones are always there; a user's handler of the same type wins."""

    def __init__(self, handlers: Iterable[Handler] = ()) -> None:
        self._own: dict[tuple[NodeKind, str], Handler] = {}
        for handler in handlers:
            self.add(handler)

    @classmethod
    def from_modules(cls, modules: Iterable[ModuleType]) -> HandlerRegistry:
        """Collect every decorated function of the modules; raises UserError for two of one type."""
        registry = cls()
        for module in modules:
            for handler in handlers_in(module):
                registry.add(handler)
        return registry

    def add(self, handler: Handler | Callable[..., Any]) -> None:
        """Add a handler or a decorated function; adding the same one again changes nothing."""
        found = handler if isinstance(handler, Handler) else getattr(handler, ATTRIBUTE, None)
        if not isinstance(found, Handler):
            raise UserError(f"{handler!r:.100} is not a handler; decorate it with @task or @plan")
        known = self._own.setdefault((found.kind, found.type), found)
        if known.function is not found.function:
            raise UserError(
                f"{found.kind.value} type {found.type!a} has two handlers: "
                f"{_place(known.function)} and {_place(found.function)}"
            )

    def get(self, kind: NodeKind, type: str) -> Handler | None:
        """Return the handler of a type, or None."""
        return self._own.get((kind, type)) or _ready().get((kind, type))

    def check(self) -> None:
        """Resolve every annotation of the user's handlers; raises UserError for the first that does not."""
        for handler in self._own.values():
            _ = handler.call

    def types(self, kind: NodeKind) -> list[str]:
        """Return every type that is served, sorted."""
        return sorted({name for k, name in (*self._own, *_ready()) if k is kind})


def handlers_in(module: ModuleType) -> Iterator[Handler]:
    """Yield the handlers of a module in the order of their definition."""
    for value in list(vars(module).values()):
        handler = getattr(value, ATTRIBUTE, None) if callable(value) else None
        if isinstance(handler, Handler):
            yield handler


def _ready() -> dict[tuple[NodeKind, str], Handler]:
    # Imported late: the ready handlers are made with the decorators of this module.
    from headgate_workers.ready import READY

    return READY


def _place(function: Any) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)[:100]
