"""How ready handlers are told what to do: by parameters of the graph, completed by the input.

What the graph's author wrote wins: an input, which a model may have written, only fills in what the
parameters leave open, and never what is secret or says where secrets go. Texts in the parameters may name
values of the input as `{{path.to.value}}`; `{{input}}` is all of it and `{{start.path}}` looks into the
start input.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from headgate_workers.context import TaskContext
from headgate_workers.conversion import InputInvalid

_PLACE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_.-]*)\s*\}\}")
_MISSING = object()


class Options(BaseModel):
    """Parent of every ready handler's options."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


M = TypeVar("M", bound=Options)


def options(context: TaskContext, model: type[M], from_graph_only: frozenset[str] = frozenset()) -> M:
    """Return the options of one execution.

    Raises:
        InputInvalid: A parameter is unknown or wrong, or a text names a value that the input does not have.
    """
    given = context.input
    known = {field.alias or name for name, field in model.model_fields.items()} - from_graph_only
    completed = {k: v for k, v in given.items() if k in known} if isinstance(given, dict) else {}
    completed |= {name: fill(value, context) for name, value in context.params.items()}
    try:
        return model.model_validate(completed)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)]
        raise InputInvalid(f"task {context.node_id}: " + "; ".join(faults[:20])) from None


def fill(value: Any, context: TaskContext) -> Any:
    """Return `value` with the places in its texts filled in; a text that is one place keeps its type."""
    if isinstance(value, str):
        return _fill_text(value, context)
    if isinstance(value, list):
        return [fill(item, context) for item in value]
    if isinstance(value, dict):
        return {key: fill(item, context) for key, item in value.items()}
    return value


def _fill_text(text: str, context: TaskContext) -> Any:
    whole = _PLACE.fullmatch(text)
    if whole is not None:
        return _look_up(whole[1], context)
    return _PLACE.sub(lambda place: _as_text(_look_up(place[1], context)), text)


def _look_up(path: str, context: TaskContext) -> Any:
    first, *rest = path.split(".")
    if first == "input":
        value = context.input
    elif first == "start":
        value = context.start_input
    else:
        value, rest = context.input, [first, *rest]
    for key in rest:
        value = value.get(key, _MISSING) if isinstance(value, dict) else _MISSING
    if value is _MISSING:
        raise InputInvalid(f"task {context.node_id}: {{{{{path}}}}} names nothing in the input")
    return value


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
