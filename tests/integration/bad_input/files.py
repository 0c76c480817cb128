"""Files and arguments that people give: graphs and policies in YAML and DOT, inputs in JSON."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from tests.integration.bad_input.rows import Hand, row

GRAPH = """\
apiVersion: headgate/v1
kind: AgentGraph
metadata: {id: g, version: 1.0.0}
entry: p1
tasks: [{id: t1, type: work}]
plans: [{id: p1, type: work}, {id: p2, type: work}]
edges:
  - {from: p1, to: t1}
  - {from: t1, to: p2}
  - {from: p2, to: end, type: final}
"""
POLICY = """\
apiVersion: headgate/v1
kind: GuardrailPolicy
metadata: {name: caps, version: 1}
rules:
  - {name: r, scope: lifetime, limit: {tokens_used: 10}, action: abort_lifetime}
"""
PLACE = re.compile(r"(?:headgate: )?(?:[\w.]+: \d+ faults: )?([\w.]+):(\d+):(\d+): ")


def refused(hand: Hand, kind: str, text: str | bytes, *words: str, line: int | None = None) -> str:
    """Validate a file; it must be refused with exit code 2 and one line that says where. Return the line."""
    file = hand.folder / ("graph.yaml" if kind == "graph" else "policy.yaml")
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    began = time.thread_time()  # what it costs, whatever else runs here
    code, out, err = hand.shell(kind, "validate", file.name)
    assert (code, out) == (2, ""), err
    assert time.thread_time() - began < 3.0
    first = err.splitlines()[0]
    assert all(one.isprintable() for one in err.splitlines())
    assert len(err) < 20_000
    place = PLACE.match(first)
    assert place, first
    if line is not None:
        assert int(place[2]) == line, first
    for word in words:
        assert word in err, err
    return err


SURPRISES = {
    "alias": ("tasks: &x [1]\nplans: *x\n", "anchors are not allowed"),
    "billion-laughs": ("".join(f"a{n}: &a{n} [{f'*a{n - 1},' * 9}]\n" for n in range(9)), "anchors"),
    "merge-key": ("tasks: {<<: {a: 1}}\n", ""),
    "duplicate-key": (None, "duplicate key"),
    "tag": ("tasks: !!python/object/apply:os.system ['true']\n", "tags are not allowed"),
    "directive": ("%YAML 1.1\n---\na: 1\n", "directives are not allowed"),
    "depth": ("a: " + "[" * 40 + "]" * 40 + "\n", "nested deeper than 32"),
    "deep-depth": ("a: " + "[" * 100_000 + "\n", "nested deeper than 32"),
    "ten-megabytes": ("# " + "x" * 10_000_000 + "\n", "longer than 1048576 bytes"),
    "two-documents": (None, "second document"),
    "unknown-key": (None, "unknown key"),
    "nul": ("a: \x00\n", "is not allowed"),
    "escape": ("a: \x1b[31m\n", "is not allowed"),
    "not-utf-8": (b"a: \xff\xfe\n", "not UTF-8"),
    "not-yaml": ("a: [1, 2\nb: {", "not YAML"),
    "empty": ("", "empty"),
    "a-list": ("- 1\n- 2\n", ""),
    "a-word": ("hello\n", ""),
    "huge-number": (None, ""),
}  # fmt: skip
for kind, whole in (("graph", GRAPH), ("policy", POLICY)):
    for name, (text, words) in SURPRISES.items():

        @row(f"{kind}-yaml-{name}")
        def surprise(
            hand: Hand,
            kind: str = kind,
            whole: str = whole,
            name: str = name,
            text: str | bytes | None = text,
            words: str = words,
        ) -> None:
            if name == "duplicate-key":
                text = whole + "kind: again\n"
            elif name == "two-documents":
                text = whole + "---\n" + whole
            elif name == "unknown-key":
                text = whole + "surprise: 1\n"
            elif name == "huge-number":
                text = whole.replace("version: 1", "version: 1" + "0" * 5_000)
            assert text is not None
            refused(hand, kind, text, words)


@row("graph-yaml-words-that-mean-something-else")
def yaml_1_1(hand: Hand) -> None:
    for wrong, words in (
        ("timeout: no", "duration"),
        ("timeout: 12:30", "duration"),
        ("leased: yes", "leased"),
        ("leased: off", "leased"),
        ("leased: 1", "leased"),
        ("max_retries: '3'", "max_retries"),
        ("max_retries: 0x10", "max_retries"),
        ("max_retries: 1_000", "max_retries"),
        ("max_retries: .inf", "max_retries"),
        ("max_retries: 1e400", "finite"),
    ):
        text = GRAPH.replace("type: work}]\nplans", f"type: work, config: {{{wrong}}}}}]\nplans")
        refused(hand, "graph", text, words, line=5)


@row("policy-yaml-keeps-the-last-good-one")
def last_good_one(hand: Hand) -> None:
    yard = hand.yard
    tenant = yard.tenant()
    here = ["--tenant", tenant, *yard.place(hand.environment)]
    (hand.folder / "policy.yaml").write_text(POLICY)
    assert hand.shell("policy", "apply", "policy.yaml", *here)[0] == 0
    (hand.folder / "policy.yaml").write_text(POLICY.replace("version: 1", "version: 2") + "surprise: 1\n")
    code, out, err = hand.shell("policy", "apply", "policy.yaml", *here)
    assert (code, out) == (2, "")
    assert "policy.yaml:6:1" in err
    shown = json.loads(hand.shell("policy", "list", *here, "--json")[1])
    assert [(one["version"], one["in_force"]) for one in shown] == [(1, True)]


EXPRESSIONS = {
    "ten-thousand-terms": ("size([1" + ",1" * 2_000 + "]) > 0", "terms"),
    "huge-string": (f"result == '{'x' * 10_000}'", "longer than 4096 bytes"),
    "unknown-variable": ("nowhere == 1", "undeclared reference"),
    "type-mix": ("iteration == 'a'", "no matching overload"),
    "not-a-condition": ("1 + 1", "not bool"),
    "comprehension-bomb": ("[1].all(a, [1].all(b, [1].all(c, true)))", "inside one another"),
    "over-a-map": ("{'a': 1}.all(k, true)", "over lists, not over maps"),
    "broken": ("result.a ==", ""),
    "assignment": ("result = 1", ""),
    "import": ("__import__('os').system('true')", ""),
    "lambda": ("(lambda: 1)()", ""),
    "pattern-from-data": ("'a'.matches(result.pattern)", "literal regular expression"),
    "bad-pattern": ("'a'.matches('((((')", ""),
    "nested-parentheses": ("(" * 1_000 + "true" + ")" * 1_000, ""),
    "escape": ("'\\x1b[31m' == result.\x1b", ""),
}
for name, (when, words) in EXPRESSIONS.items():

    @row(f"graph-condition-{name}")
    def bad_condition(hand: Hand, when: str = when, words: str = words) -> None:
        edge = f"{{from: t1, to: p2, config: {{when: {json.dumps(when)}}}}}"
        refused(hand, "graph", GRAPH.replace("{from: t1, to: p2}", edge), words, line=9)

    @row(f"policy-condition-{name}")
    def bad_rule(hand: Hand, when: str = when, words: str = words) -> None:
        if "result" in when:
            words = ""  # a policy does not know it at all
        text = POLICY.replace("limit: {tokens_used: 10}", f"when: {json.dumps(when)}")
        refused(hand, "policy", text, words, line=5)


def edges(text: str) -> str:
    return GRAPH.partition("edges:")[0] + "edges:\n" + text


GRAPHS = {
    "task-to-task": (
        GRAPH.replace("[{id: t1, type: work}]", "[{id: t1, type: work}, {id: t2, type: work}]")
        + "  - {from: t1, to: t2}\n",
        ("a task leads to a plan", "t2"),
    ),
    "no-exit": (edges("  - {from: p1, to: t1}\n  - {from: t1, to: p1}\n"), ("no way", "p2")),
    "unfillable-join": (
        GRAPH.replace("{from: t1, to: p2}", "{from: t1, to: p2, type: join}").replace(
            "id: p2, type: work", "id: p2, type: work, config: {join: {strategy: quorum, min_inputs: 5}}"
        ),
        ("can never fill",),
    ),
    "self-loop": (GRAPH + "  - {from: t1, to: t1}\n", ("task 't1' leads to task 't1'",)),
    "duplicates": (
        GRAPH.replace("{id: p2, type: work}", "{id: p2, type: work}, {id: t1, type: work}")
        + "  - {from: p1, to: t1}\n",
        ("duplicate id", "second edge"),
    ),
    "unknown-nodes": (GRAPH + "  - {from: nowhere, to: t1}\n  - {from: p1, to: gone}\n", ("nowhere", "gone")),
    "entry-nowhere": (GRAPH.replace("entry: p1", "entry: nowhere"), ("nowhere",)),
    "ten-thousand-nodes": (
        GRAPH.replace(
            "tasks: [{id: t1, type: work}]",
            "tasks: [{id: t1, type: work}"
            + "".join(f", {{id: n{n}, type: w}}" for n in range(10_000))
            + "]",
        ),
        ("10003 nodes",),
    ),
    "huge-params": (
        GRAPH.replace("type: work}]", f"type: work, config: {{params: {{x: {'y' * 100_000}}}}}}}]"),
        ("65536 are allowed",),
    ),
    "names-with-escapes": (
        GRAPH.replace("id: t1", 'id: "t\\x1b[31m\\n%s"'),
        ("tasks[0].id",),
    ),
}  # fmt: skip
for name, (text, graph_words) in GRAPHS.items():

    @row(f"graph-{name}")
    def bad_graph(hand: Hand, text: str = text, graph_words: tuple[str, ...] = graph_words) -> None:
        refused(hand, "graph", text, *graph_words)


@row("graph-with-many-faults-shows-all-at-once")
def all_at_once(hand: Hand) -> None:
    text = GRAPH.replace("entry: p1", "entry: nowhere") + "  - {from: t1, to: t1}\n  - {from: p1, to: gone}\n"
    err = refused(hand, "graph", text)
    for words in ("nowhere", "gone", "task 't1' leads to task 't1'"):
        assert words in err
    code, out, _ = hand.shell("graph", "validate", "graph.yaml", "--json")
    assert code == 2
    assert len(json.loads(out)["faults"]) >= 3


DRAWINGS = {
    "broken": "digraph { a -> ",
    "unclosed": 'digraph { a [label="',
    "deep": "digraph " + "{" * 5_000 + "}" * 5_000,
    "long": "digraph { " + "a -> b; " * 200_000 + "}",
    "not-directed": "graph { a -- b }",
    "html": "digraph { a [timeout=<<b>1</b>>] }",
    "no-utf-8": b"digraph { \xff }",
    "empty": "",
    "ten-thousand-edges": "digraph { " + "".join(f"p{n} -> t{n}; " for n in range(10_000)) + "}",
}
for name, drawing in DRAWINGS.items():

    @row(f"dot-{name}")
    def bad_drawing(hand: Hand, drawing: str | bytes = drawing) -> None:
        (hand.folder / "g.dot").write_bytes(drawing if isinstance(drawing, bytes) else drawing.encode())
        began = time.thread_time()  # what it costs, whatever else runs here
        code, out, err = hand.shell("graph", "validate", "g.dot")
        assert (code, out) == (2, ""), err
        assert PLACE.match(err), err
        assert all(one.isprintable() for one in err.splitlines())
        assert time.thread_time() - began < 3.0


INPUTS = {
    "broken": '{"a": ',
    "nan": "[NaN]",
    "infinite": "[1e999]",
    "deep": "[" * 100_000 + "]" * 100_000,
    "too-deep": "[" * 101 + "1" + "]" * 101,
    "missing-file": "@missing.json",
    "a-directory": "@.",
    "device": "@/dev/zero",
}
for name, given in INPUTS.items():

    @row(f"input-{name}")
    def bad_start(hand: Hand, given: str = given) -> None:
        yard = hand.yard
        code, out, err = hand.shell(
            "start", "g", "--input", given, "--tenant", yard.canary, *yard.place(hand.environment)
        )
        assert (code, out) == (2, ""), err
        assert err.count("\n") == 1
        assert err.rstrip("\n").isprintable()
        assert len(err) < 1_000


@row("files-without-end")
def endless_files(hand: Hand) -> None:
    for name, verb in (("graph.yaml", "graph"), ("policy.yaml", "policy")):
        Path(hand.folder / name).symlink_to("/dev/zero")
        code, out, err = hand.shell(verb, "validate", name)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert len(err) < 1_000


@row("arguments-with-escapes")
def escapes(hand: Hand) -> None:
    nasty = "x\x1b[31m\nsecond %s \u202e"
    yard = hand.yard
    here = ["--tenant", yard.canary, *yard.place(hand.environment)]
    for arguments in (
        ["status", nasty],
        ["timeline", nasty],
        ["start", nasty],
        ["control", "abort", nasty],
        ["dlq", "show", nasty],
        ["dlq", "list", "--since", nasty],
        ["policy", "explain", nasty],
        [nasty],
    ):
        code, out, err = hand.shell(*arguments, *(here if arguments != [nasty] else []))
        assert (code, out) == (2, ""), arguments
        assert err.count("\n") == 1
        assert err.rstrip("\n").isprintable(), err
