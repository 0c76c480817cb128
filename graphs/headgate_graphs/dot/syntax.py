"""The DOT language: text becomes statements that know where they stood. Called by `reading`. Pure.

Source: https://graphviz.org/doc/info/lang.html. Parsing takes time in proportion to the text and needs no
recursion, whatever the nesting.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, cast

from lark import Lark, Token, Transformer, UnexpectedInput, UnexpectedToken, v_args

from headgate_graphs.documents import MAX_DOCUMENT_BYTES
from headgate_graphs.dot.text import unquoted
from headgate_graphs.errors import GraphInvalid

MAX_NESTING = 16
"""Levels of braces; a picture needs two or three."""

_GRAMMAR = r"""
start: _STRICT? (GRAPH | DIGRAPH) id? body
body: "{" (_statement | ";")* "}"
_statement: assignment | defaults | chain
assignment: id "=" id
defaults: (GRAPH | NODE | EDGE) attributes+
chain: _point ("->" _point)* attributes*
_point: point | subgraph
point: id (":" id (":" id)?)?
subgraph: (_SUBGRAPH id?)? body
attributes: "[" (attribute ("," | ";")?)* "]"
attribute: id ("=" id)?
id: WORD | NUMBER | STRING ("+" STRING)* | HTML

_STRICT.2: /strict(?!\w)/i
DIGRAPH.2: /digraph(?!\w)/i
GRAPH.2: /graph(?!\w)/i
_SUBGRAPH.2: /subgraph(?!\w)/i
NODE.2: /node(?!\w)/i
EDGE.2: /edge(?!\w)/i
WORD: /(?:[A-Za-z_]|[^\x00-\x7f\ufeff])(?:\w|[^\x00-\x7f\ufeff])*/
NUMBER: /-?(\.[0-9]+|[0-9]+(\.[0-9]*)?)(?![\w.])/
STRING: /"[^"\\]*(\\[\s\S][^"\\]*)*"/
HTML: /<([^<>]|<[^<>]*>)*>/
%ignore /[ \t\r\n\f\v\ufeff]+/
%ignore /\/\/[^\n]*|\/\*[\s\S]*?\*\/|(?m:^)#[^\n]*/
"""


_HINTS = {
    '"': "the text has no closing quote",
    "<": "the HTML has no end",
    "/": "the comment has no end",
    "-": "an edge is written ->, and a name with a hyphen needs quotes",
}
"""What a character that fits nowhere most likely means."""


class Id(NamedTuple):
    """One name or value as Graphviz reads it, and where it begins; lines and columns count from 1."""

    text: str
    line: int
    column: int
    is_html: bool = False


class Attribute(NamedTuple):
    """One `name=value`; a bare name means `name=true`."""

    name: Id
    value: Id


@dataclass(frozen=True, slots=True)
class Defaults:
    """Attributes of the graph itself, or of each node or edge that follows in the same braces."""

    of: str
    """graph, node or edge."""
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, slots=True)
class Body:
    """What stands between two braces."""

    statements: tuple[Defaults | Chain, ...]
    nesting: int
    """Levels of braces, these included."""


@dataclass(frozen=True, slots=True)
class Chain:
    """One node or subgraph; or several, with an edge between each two neighbours."""

    points: tuple[Id | Body, ...]
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """One graph."""

    is_directed: bool
    name: Id | None
    body: Body


def read_dot(text: str, where: str) -> Drawing:
    """Return the one graph in `text`; raises GraphInvalid with file, line and column."""
    if len(text.encode(errors="replace")) > MAX_DOCUMENT_BYTES:
        raise GraphInvalid(where, [f"{where}:1:1: longer than {MAX_DOCUMENT_BYTES} bytes"])
    try:
        drawing = cast(Drawing, _parser().parse(text))
    except UnexpectedInput as unexpected:
        raise GraphInvalid(where, [f"{where}:{_complaint(unexpected, text)}"]) from None
    if drawing.body.nesting > MAX_NESTING:
        raise GraphInvalid(where, [f"{where}:1:1: nested deeper than {MAX_NESTING} levels"])
    return drawing


def _complaint(unexpected: UnexpectedInput, text: str) -> str:
    """Return "line:column: message"."""
    if isinstance(unexpected, UnexpectedToken) and unexpected.token.type == "$END":
        lines = text.split("\n")
        return f"{len(lines)}:{len(lines[-1]) + 1}: the text ends before the graph does"
    if isinstance(unexpected, UnexpectedToken):
        found, hint = str(unexpected.token), ""
    else:
        found = text[unexpected.pos_in_stream or 0]
        hint = "; " + _HINTS.get(found, "text with other characters than letters, digits and _ needs quotes")
    return f"{unexpected.line}:{unexpected.column}: not DOT: unexpected {found[:32]!a}{hint}"


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", transformer=_Statements())


@v_args(inline=True)
class _Statements(Transformer[Token, Drawing]):
    """Makes each rule's value while the parser goes."""

    def start(self, kind: Token, *rest: Any) -> Drawing:
        name = rest[0] if len(rest) > 1 else None
        return Drawing(kind.type == "DIGRAPH", name, rest[-1])

    def body(self, *statements: Defaults | Chain) -> Body:
        points = itertools.chain.from_iterable(s.points for s in statements if isinstance(s, Chain))
        return Body(statements, 1 + max((p.nesting for p in points if isinstance(p, Body)), default=0))

    def assignment(self, name: Id, value: Id) -> Defaults:
        return Defaults("graph", (Attribute(name, value),))

    def defaults(self, of: Token, *lists: tuple[Attribute, ...]) -> Defaults:
        return Defaults(of.lower(), tuple(itertools.chain(*lists)))

    def chain(self, *parts: Any) -> Chain:
        points = tuple(part for part in parts if isinstance(part, Id | Body))
        return Chain(points, tuple(itertools.chain(*parts[len(points) :])))

    def point(self, name: Id, *_port: Id) -> Id:
        return name

    def subgraph(self, *parts: Id | Body) -> Id | Body:
        return parts[-1]

    def attributes(self, *attributes: Attribute) -> tuple[Attribute, ...]:
        return attributes

    def attribute(self, name: Id, value: Id | None = None) -> Attribute:
        return Attribute(name, value or name._replace(text="true"))

    def id(self, *tokens: Token) -> Id:
        first = tokens[0]
        line, column = first.line or 1, first.column or 1
        if first.type == "STRING":
            return Id("".join(unquoted(token[1:-1]) for token in tokens), line, column)
        return Id(str(first), line, column, is_html=first.type == "HTML")
