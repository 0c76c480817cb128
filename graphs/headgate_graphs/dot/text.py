r"""How values are quoted in DOT, both ways. Used by `reading` and `writing`. Pure.

Graphviz knows one escape in a quoted string, `\"`; every other backslash stays as it is. What is written
here never holds a backslash before a quote or another backslash, so that Graphviz, its tools and this reader
agree on every value, and a value survives a pass through any of them.
"""

from __future__ import annotations

import json
import re

from headgate_graphs.documents import plain_scalar

KEYWORDS = frozenset(("node", "edge", "graph", "digraph", "subgraph", "strict"))
"""Words that are no ids unless they are quoted, in any case."""

_PLAIN_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN_FLOW = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_LEXICAL = re.compile(r'\\(\\|"|\r?\n)')
_CODE = re.compile(r"\\\\|\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})")
_JSON_ESCAPE = re.compile(r'\\(["\\])')
_LONG_KEY = 1_000
"""YAML reads a key of more than 1024 characters only after a question mark."""


def dot_id(text: str) -> str:
    """Return `text` as a DOT id: bare when that is safe, else in quotes."""
    if _PLAIN_ID.fullmatch(text) and text.lower() not in KEYWORDS:
        return text
    return quoted(text)


def quoted(text: str) -> str:
    r"""Return `text` in quotes; a backslash and what cannot be printed become \uXXXX or \UXXXXXXXX."""
    escaped = "".join(c if c.isprintable() and c != "\\" else _code(c) for c in text)
    return '"' + escaped.replace('"', '\\"') + '"'


def drawn_text(text: str) -> str:
    r"""Return `text` in quotes for a label, where Graphviz reads `\\\\` as one backslash; on one line."""
    escaped = "".join(c if c.isprintable() else " " for c in text).replace("\\", "\\\\")
    return '"' + escaped.replace('"', '\\"') + '"'


def quoted_flow(value: object) -> str:
    """Return plain data (dict, list, scalars) in quotes, as YAML on one line."""
    return '"' + _flow(value).replace('"', '\\"') + '"'


def unquoted(inner: str) -> str:
    r"""Return what Graphviz reads between two quotes: `\"` is a quote, `\` at a line's end joins lines."""
    return _LEXICAL.sub(lambda found: {'"': '"', "\\": "\\\\"}.get(found[1], ""), inner)


def decoded(text: str) -> str:
    r"""Return unquoted text with \uXXXX and \UXXXXXXXX as the characters they name; the rest as it is."""
    return _CODE.sub(lambda found: _character(found[1] or found[2] or "") or found[0], text)


def _flow(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow_key(key)}: {_flow(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(part) for part in value) + "]"
    return _flow_text(value) if isinstance(value, str) else json.dumps(value, allow_nan=False)


def _flow_key(key: str) -> str:
    text = _flow_text(key)
    return text if len(text) < _LONG_KEY else f"? {text} "


def _flow_text(text: str) -> str:
    if _PLAIN_FLOW.fullmatch(text) and _means_itself(text):
        return text
    json_text = _JSON_ESCAPE.sub(lambda found: _code(found[1]), json.dumps(text, ensure_ascii=False))
    return "".join(c if c.isprintable() else _code(c) for c in json_text)


def _means_itself(text: str) -> bool:
    try:
        return plain_scalar(text) is text
    except ValueError:
        return False


def _code(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _character(digits: str) -> str:
    """Return the character with this number; nothing for no digits or a number that stands for none."""
    number = int(digits, 16) if digits else 0xD800
    return chr(number) if number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF else ""
