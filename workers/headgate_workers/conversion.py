"""Between JSON and what handlers take and return: dicts, pydantic models, dataclasses, plain values."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python
from pydantic_core import from_json as parse_quickly
from pydantic_core import to_json as say_quickly

from headgate_graphs.errors import NonRetryable, UserError
from headgate_streams.limits import MAX_DEPTH, is_too_deep

MAX_VALUE_BYTES = 256 * 1024 * 1024
"""A value above this is not turned into JSON at all, which would need several times its memory."""
MAX_METADATA_BYTES = 16 * 1024
"""Metadata travels in the log and is looked at by every condition: it stays small."""

_TEXTS: Final = (str, bytes, bytearray)
_HOLDERS: Final = (dict, list, tuple)
_ATOMS: Final = frozenset({int, float, bool, type(None)})
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_ESCAPING_ENCODER: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


class InputInvalid(NonRetryable):
    """An input that does not fit the handler's annotation; the same input fails the same way again."""

    code = "INPUT_INVALID"


class ResultInvalid(NonRetryable):
    """A return value that cannot be reported."""


class ResultTooLarge(ResultInvalid):
    """A return value that is larger than anything that is stored."""

    code = "RESULT_TOO_LARGE"


@dataclass(frozen=True, slots=True)
class Call:
    """How a handler is called."""

    is_async: bool
    takes_input: bool
    adapter: TypeAdapter[Any] | None
    """Makes the annotated type from plain data; None when plain data is what the handler wants."""

    def convert(self, value: Any) -> Any:
        """Return `value` as the annotated type; raises InputInvalid with every fault in one line."""
        if self.adapter is None:
            return value
        try:
            return self.adapter.validate_python(value)
        except ValidationError as error:
            raise InputInvalid(_faults(error)) from None


def call_of(function: Callable[..., Any]) -> Call:
    """Return how to call a handler; raises UserError when its annotation cannot be resolved."""
    target = inspect.unwrap(function)
    is_async = inspect.iscoroutinefunction(target)
    names = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    if len(names) < 2:
        return Call(is_async, takes_input=False, adapter=None)
    try:
        hint = typing.get_type_hints(target).get(names[1], Any)
        adapter = None if hint in (Any, dict, dict[str, Any], object) else TypeAdapter(hint)
    except (NameError, PydanticUserError) as error:
        name = getattr(target, "__qualname__", repr(target))
        raise UserError(
            f"handler {name}: the annotation of {names[1]!a} does not resolve: {error}"
        ) from error
    return Call(is_async, takes_input=True, adapter=adapter)


def to_json(value: Any) -> str:
    """Return the JSON text of a handler's value.

    NaN and infinities are refused: other readers of the log do not know them.

    Raises:
        ResultTooLarge: It is above MAX_VALUE_BYTES; found out before any of it is copied.
        ResultInvalid: JSON cannot say it, or it is nested deeper than records may be.
    """
    text = _text_of(value)
    if is_too_deep(text):
        raise ResultInvalid(f"the returned value is nested deeper than {MAX_DEPTH} levels")
    return text


def from_json(text: str) -> Any:
    """Return the value of JSON text; raises JSONDecodeError."""
    try:
        return parse_quickly(text)
    except ValueError:  # lone surrogates, which the quick parser does not know; or no JSON at all
        return json.loads(text)


def _text_of(value: Any) -> str:
    _refuse_giants(value)
    text = _quickly(value)
    return text if text is not None else _exactly(value)


def _quickly(value: Any) -> str | None:
    """Return what `_exactly` returns in a fifth of its time; None where the two may differ, or it fails."""
    try:
        content = say_quickly(value, by_alias=True, inf_nan_mode="constants")
    except (ValueError, TypeError, RecursionError):
        return None
    if len(content) > MAX_VALUE_BYTES:
        raise ResultTooLarge(f"the returned value is above {MAX_VALUE_BYTES} bytes")
    return None if b"NaN" in content or b"Infinity" in content or b'"None":' in content else content.decode()


def _exactly(value: Any) -> str:
    try:
        return _dumps(value)
    except TypeError:
        pass  # not plain data: pydantic knows models, dataclasses, dates, sets, paths
    except (ValueError, RecursionError) as error:
        raise ResultInvalid(f"the returned value is not JSON: {error}") from None
    try:
        plain = to_jsonable_python(value, by_alias=True)
        _refuse_giants(plain)
        return _dumps(plain)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        raise ResultInvalid(f"the returned {type(value).__name__} is not JSON: {error}") from None


def _refuse_giants(value: Any) -> None:
    """Raise ResultTooLarge for plain data whose JSON is certainly too large, before any of it is copied."""
    if _weight(value, {}, 0) > MAX_VALUE_BYTES:
        raise ResultTooLarge(f"the returned value is above {MAX_VALUE_BYTES} bytes")


def _weight(value: Any, known: dict[int, int], depth: int) -> int:
    """Return about how long the JSON of plain data is; what is there many times is looked at once."""
    if not isinstance(value, _HOLDERS):
        return len(value) if isinstance(value, _TEXTS) else 1
    if depth > MAX_DEPTH:
        raise ResultInvalid(f"the returned value is nested deeper than {MAX_DEPTH} levels")
    weight = known.get(id(value))
    if weight is None:
        known[id(value)] = 0  # of what holds itself; the encoder refuses it
        weight = 2 + len(value) + _weight_of_all(value, known, depth + 1)
        if isinstance(value, dict):
            weight += _weight_of_all(value.values(), known, depth + 1)
        known[id(value)] = weight
    return weight


def _weight_of_all(parts: Iterable[Any], known: dict[int, int], depth: int) -> int:
    weight = 0
    for part in parts:
        if type(part) is str:
            weight += len(part)
        else:
            weight += 1 if type(part) in _ATOMS else _weight(part, known, depth)
    return weight


def metadata_json(metadata: Mapping[str, Any]) -> str:
    """Return the JSON object of a result's metadata, "" for an empty one; raises ResultInvalid."""
    if not metadata:
        return ""
    if not isinstance(metadata, Mapping):
        raise ResultInvalid(f"metadata is a JSON object, not {type(metadata).__name__}")
    text = to_json(dict(metadata))
    if len(text.encode()) > MAX_METADATA_BYTES:
        raise ResultInvalid(f"metadata is larger than {MAX_METADATA_BYTES} bytes; put it into the value")
    return text


def _dumps(value: Any) -> str:
    text = _ENCODER.encode(value)
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates travel as escapes
        text = _ESCAPING_ENCODER.encode(value)
    return text


def _faults(error: ValidationError) -> str:
    lines = [
        f"{'.'.join(str(part) for part in fault['loc']) or 'input'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return "the input does not fit the handler: " + "; ".join(lines[:20])
