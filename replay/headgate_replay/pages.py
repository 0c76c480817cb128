"""Pages of HTML that need nothing beside them, with tables; used by timelines and by every report.

Whatever is put in is escaped, and the page's own policy lets no script run but the one given here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --ink: #1d232b; --soft: #667080; --line: #d9dde2;
  --card: #fff; --shade: #f1f3f5; --good: #18794e; --bad: #c02b2b }
@media (prefers-color-scheme: dark) { :root { --page: #14171c; --ink: #e3e6ea; --soft: #98a2b0;
  --line: #333a44; --card: #1b2027; --shade: #222830; --good: #4cc38a; --bad: #ff7b72 } }
body { font: 14px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; background: var(--page);
  color: var(--ink); max-width: 1240px; margin: 2em auto; padding: 0 1.2em }
h1 { font-size: 1.5em; margin: .2em 0 } h2 { font-size: 1.1em; margin: 1.8em 0 .5em }
small, .soft { color: var(--soft) } a { color: inherit }
table { border-collapse: collapse; margin: .6em 0; font-variant-numeric: tabular-nums }
td, th { padding: .25em .9em .25em 0; text-align: right; vertical-align: top }
td:first-child, th:first-child { text-align: left }
th { border-bottom: 1px solid var(--line); color: var(--soft); font-weight: 600 }
pre { background: var(--shade); padding: .8em; overflow: auto; font-size: 12px; border-radius: 6px }
.good { color: var(--good) } .bad { color: var(--bad) } svg { max-width: 100%; height: auto }
"""


def page(title: str, body: Iterable[str], *, style: str = "", script: str = "") -> str:
    """Return a whole page; `body` is HTML, made of escaped parts, and `script` the only one that may run."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scripts = f"'sha256-{digest}'" if script else "'none'"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {scripts}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>\n"
        f"<body>{''.join(body)}{f'<script>{script}</script>' if script else ''}</body></html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; everything in it is escaped, and numbers are written to be read."""
    top = "".join(f"<th>{escape(one)}</th>" for one in head)
    lines = ("".join(f"<td>{escape(_text(cell))}</td>" for cell in row) for row in rows)
    return f"<table><tr>{top}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.3g}" if abs(cell) < 1000 else f"{cell:,.0f}"
    return str(cell)
