"""`when` rules: CEL over one execution and over sums of its scope, against a closed set of variables.

`sum(tokens_used) > 10000` is not CEL, whose functions see values and not columns. So `sum(x)`, `max(x)`,
`avg(x)` and `count()` are rewritten to variables of the same length before CEL sees them: columns in
errors stay right. A comparison of one sum with one number is so common that it is not left to CEL at all:
`as_cap` says which cap it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from headgate_graphs.conditions import Condition, Environment

MEASURES = (
    "tokens_used",
    "cost_usd",
    "latency_ms",
    "input_tokens",
    "output_tokens",
    "payload_bytes",
    "model",
)
"""What one execution used; known only when it is settled."""
SUMMED = ("tokens_used", "cost_usd", "latency_ms")
"""Measures that aggregates may be asked of."""

_VARIABLES = {
    "tokens_used": "int",
    "cost_usd": "double",
    "latency_ms": "int",
    "input_tokens": "int",
    "output_tokens": "int",
    "payload_bytes": "int",
    "model": "string",
    "success": "bool",
    "iteration": "int",
    "attempt": "int",
    "node": "map<string,dyn>",
    "graph": "map<string,dyn>",
    "lifetime_id": "string",
    "tenant_id": "string",
    "count__": "int",
}
for _name in SUMMED:
    _VARIABLES[f"sum_{_name}_"] = _VARIABLES[_name]
    _VARIABLES[f"max_{_name}_"] = _VARIABLES[_name]
    _VARIABLES[f"avg_{_name}_"] = "double"

_STATIC = frozenset({"node", "graph", "tenant_id"})
"""Variables that are the same in every visit to a node."""
_ENVIRONMENT = Environment(_VARIABLES)
_TEXT = re.compile(
    r'"""(?:\\.|[^\\])*?"""|\'\'\'(?:\\.|[^\\])*?\'\'\'|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'', re.S
)
_AGGREGATE = re.compile(r"(?<![\w.])(sum|max|avg)\(\s*(" + "|".join(SUMMED) + r")\s*\)")
_COUNT = re.compile(r"(?<![\w.])count\(\s*\)")
_WORD = re.compile(r"(?<![\w.])[A-Za-z_]\w*")
_CAP = re.compile(
    r"\s*(sum_(tokens_used|cost_usd|latency_ms)_|count__)\s*(>=?)\s*(\d{1,15}(?:\.\d{1,9})?)\s*"
)
_METRIC = {"tokens_used": "tokens_used", "cost_usd": "cost_nano_usd", "latency_ms": "latency_ms"}


@dataclass(frozen=True, slots=True)
class RuleCondition:
    """A compiled `when` and what it has to be given."""

    text: str
    """As the user wrote it."""
    condition: Condition
    needs: tuple[str, ...]
    """Variables it names, sorted."""
    at_settlement: bool
    """Whether it looks at what an execution used, so that it is asked when one is settled."""
    at_admission: bool
    """Whether it can be asked before dispatch: it looks at no single execution's use."""
    is_static: bool
    """Whether its answer is the same in every visit to a node."""
    as_cap: tuple[str, int] | None
    """(metric, highest value that does not break the rule) when it only compares one sum with a number."""


@lru_cache(maxsize=4096)
def compile_rule(text: str) -> RuleCondition:
    """Return the compiled condition; raises ConditionInvalid with line, column and what is wrong."""
    rewritten = _outside_strings(text)
    condition = _ENVIRONMENT.compile(rewritten)
    words = set(_WORD.findall(_TEXT.sub("", rewritten)))
    needs = tuple(sorted(words & _VARIABLES.keys()))
    measured = any(word in MEASURES or word == "success" for word in needs)
    aggregated = any(word.endswith("_") for word in needs)
    return RuleCondition(
        text,
        condition,
        needs,
        at_settlement=measured or aggregated,
        at_admission=not measured,
        is_static=set(needs) <= _STATIC,
        as_cap=_as_cap(rewritten),
    )


def _as_cap(rewritten: str) -> tuple[str, int] | None:
    match = _CAP.fullmatch(rewritten)
    if match is None:
        return None
    metric = _METRIC[match[2]] if match[2] else "executions"
    bound = Decimal(match[4]) * (1_000_000_000 if metric == "cost_nano_usd" else 1)
    if bound != int(bound):
        return None
    return metric, int(bound) - (1 if match[3] == ">=" else 0)


def _outside_strings(text: str) -> str:
    """Rewrite aggregates everywhere but inside string literals."""
    parts: list[str] = []
    end = 0
    for literal in _TEXT.finditer(text):
        parts += [_rewrite(text[end : literal.start()]), literal.group()]
        end = literal.end()
    return "".join([*parts, _rewrite(text[end:])])


def _rewrite(code: str) -> str:
    code = _AGGREGATE.sub(lambda m: f"{m[1]}_{m[2]}_".ljust(len(m[0])), code)
    return _COUNT.sub(lambda m: "count__".ljust(len(m[0])), code)
