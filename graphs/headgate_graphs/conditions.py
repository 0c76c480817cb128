"""Conditions of edges, routing rules and policies: CEL, type-checked when loaded. CEL is imported here alone.

A condition is pure and bounded: no clock, no randomness, 4 KiB of text, 500 terms, one level of `all`,
`exists`, `exists_one`, `map` or `filter`, 10,000 steps of these in one evaluation (the library's own bound),
and never over a map, whose order differs between processes. Source: https://cel.dev, language definition.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from cel_expr_python import cel

from headgate_graphs.errors import HeadgateError, UserError
from headgate_graphs.expressions import Anatomy, anatomy

MAX_TEXT_BYTES = 4096
"""Longest condition; a longer one belongs into a handler."""
MAX_TERMS = 500
"""Most nodes of a condition's tree, those of expanded macros included."""

Activation: TypeAlias = cel.Activation
"""Values bound once, for several conditions of one environment."""

_TYPES: Final[Mapping[str, cel.Type]] = {
    "int": cel.Type.INT,
    "double": cel.Type.DOUBLE,
    "string": cel.Type.STRING,
    "bool": cel.Type.BOOL,
    "dyn": cel.Type.DYN,
    "list<string>": cel.Type.List(cel.Type.STRING),
    "list<dyn>": cel.Type.List(cel.Type.DYN),
    "map<string,dyn>": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
}
_PYTHON_TYPES: Final = {"int": (int,), "double": (float, int), "string": (str,), "bool": (bool,)}
_BOUND: Any = cel.Activation
_PLACE = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_STATUS = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")
_MATCHES = cel.NewEnv(variables={"pattern": cel.Type.STRING}).compile("''.matches(pattern)")


class ConditionInvalid(UserError, ValueError):
    """A condition that does not compile, with its place in the text.

    A ValueError too, so that a pydantic validator may raise it and the document's place is added.
    """

    def __init__(self, line: int, column: int, message: str) -> None:
        self.line = line
        """From 1."""
        self.column = column
        """In characters, from 1."""
        self.message = message
        super().__init__(f"{line}:{column}: {message}")


class ConditionFailed(HeadgateError):
    """A condition that could not be evaluated: a missing key, types that do not fit, division by zero.

    Whoever asked does what it declares for this case (fails closed). The same values give the same message
    in every process.
    """


class Condition:
    """One compiled expression; immutable, pure, reusable by one thread at a time."""

    __slots__ = ("_expression", "_ranges", "_returns", "text")

    def __init__(self, text: str, returns: str, expression: cel.Expression, ranges: tuple[Any, ...]) -> None:
        self.text = text
        """As it was written."""
        self._returns = returns
        self._expression = expression
        self._ranges = ranges

    def holds(self, values: Mapping[str, Any] | Activation) -> bool:
        """Whether the condition holds for `values` (plain data by variable). Raises ConditionFailed."""
        return self.value(values) is True

    def value(self, values: Mapping[str, Any] | Activation) -> Any:
        """Return what the expression gives, of the type it was compiled for. Raises ConditionFailed."""
        try:
            if self._ranges:
                self._refuse_maps(values)
            found = _evaluate(self._expression, values)
        except ConditionFailed:
            raise
        except Exception as failure:  # the library has no error class of its own
            raise ConditionFailed(f"{self._shown()}: {_plain(str(failure))}") from None
        value = found.plain_value()
        if type(value) is bool and self._returns == "bool":
            return value
        return self._checked(found.type().name(), value)

    def _checked(self, type_name: str, value: Any) -> Any:
        if type_name in ("ERROR", "UNKNOWN"):
            raise ConditionFailed(f"{self._shown()}: {_plain(str(value))}")
        wanted = _PYTHON_TYPES.get(self._returns)
        if wanted is not None and type(value) not in wanted:
            raise ConditionFailed(f"{self._shown()}: gives {type_name.lower()[:40]}, not {self._returns}")
        return value

    def _refuse_maps(self, values: Mapping[str, Any] | Activation) -> None:
        for over in self._ranges:
            if _evaluate(over, values).type().name().startswith("MAP"):
                raise ConditionFailed(
                    f"{self._shown()}: all, exists, map and filter go over lists, not over maps"
                )

    def _shown(self) -> str:
        return f"condition {self.text[:80]!a}"


class Environment:
    """The closed set of variables that a condition may name, each with its type."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Make it from names and types.

        Types: int, double, string, bool, dyn, list<string>, list<dyn>, map<string,dyn>. A double is
        compared with doubles only (`cost > 1.0`), a dyn number with any number.
        """
        self.variables = dict(variables)
        self._env = cel.NewEnv(variables={name: _TYPES[kind] for name, kind in variables.items()})

    def compile(self, text: str, *, returns: str = "bool") -> Condition:
        """Return the compiled condition; raises ConditionInvalid with line and column."""
        if len(text.encode(errors="replace")) > MAX_TEXT_BYTES:
            raise ConditionInvalid(1, 1, f"longer than {MAX_TEXT_BYTES} bytes")
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise ConditionInvalid(1, 1, "half of a surrogate pair is not text")
        try:
            expression = self._env.compile(text)
        except Exception as failure:  # the library has no error class of its own
            raise self._invalid(str(failure)) from None
        given = expression.return_type()
        if returns != "dyn" and given not in (_TYPES[returns], cel.Type.DYN):
            raise ConditionInvalid(1, 1, f"gives {given.name().lower()[:40]}, not {returns}")
        parts = anatomy(expression.serialize())
        _refuse(text, parts)
        unknown = [loop.range_expression for loop in parts.loops if not loop.is_over_list]
        return Condition(text, returns, expression, tuple(self._env.deserialize(part) for part in unknown))

    def bind(self, values: Mapping[str, Any]) -> Activation:
        """Return `values` made ready for several conditions of this environment."""
        bound: Activation = self._env.Activation(values)
        return bound

    def _invalid(self, report: str) -> ConditionInvalid:
        place = _PLACE.search(report)
        if place is None:
            return ConditionInvalid(1, 1, _plain(report))
        line, column, message = int(place[1]), int(place[2]), _plain(place[3])
        message = message.removeprefix("Syntax error: ").replace(" (in container '')", "")
        if message.startswith("undeclared reference"):
            message += f"; known are {', '.join(self.variables)}"
        return ConditionInvalid(max(line, 1), max(column, 1), message)


def _evaluate(expression: cel.Expression, values: Mapping[str, Any] | Activation) -> cel.Value:
    return expression.eval(values) if isinstance(values, _BOUND) else expression.eval(data=values)


def _refuse(text: str, parts: Anatomy) -> None:
    if parts.terms > MAX_TERMS:
        raise ConditionInvalid(1, 1, f"{parts.terms} terms; {MAX_TERMS} are allowed")
    for loop in parts.loops:
        if loop.is_nested:
            raise _invalid_at(
                text, loop.offset, "all, exists, map and filter inside one another are not allowed"
            )
        if loop.is_over_map:
            raise _invalid_at(text, loop.offset, "all, exists, map and filter go over lists, not over maps")
    for offset, pattern in parts.patterns:
        if pattern is None:
            raise _invalid_at(text, offset, "matches needs a literal regular expression")
        tried = _MATCHES.eval(data={"pattern": pattern})
        if tried.type().name() == "ERROR":
            raise _invalid_at(text, offset, _plain(str(tried.plain_value())))


def _invalid_at(text: str, offset: int, message: str) -> ConditionInvalid:
    before = text[:offset]
    return ConditionInvalid(before.count("\n") + 1, offset - before.rfind("\n"), message)


def _plain(report: str) -> str:
    """Return the first line of the library's words, without status codes, escaped and capped."""
    return ascii(_STATUS.sub("", report.split("\n")[0]))[1:-1].replace("\\'", "'")[:200]


EDGE_ENVIRONMENT = Environment(
    {
        "result": "dyn",
        "success": "bool",
        "metadata": "dyn",
        "error": "dyn",
        "upstream": "list<dyn>",
        "lifetime": "dyn",
        "node": "dyn",
        "iteration": "int",
    }
)
"""What edges and routing rules may look at."""
