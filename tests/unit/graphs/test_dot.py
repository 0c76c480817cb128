"""DOT: what is drawn reads back equal, drawings by hand mean what they show, hostile ones are refused."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate_graphs.checks import MAX_EDGES, MAX_NODES
from headgate_graphs.documents import validate
from headgate_graphs.dot import attributes
from headgate_graphs.dot.reading import document_from_dot
from headgate_graphs.dot.text import decoded, dot_id, quoted, unquoted
from headgate_graphs.dot.writing import to_dot
from headgate_graphs.errors import GraphInvalid
from headgate_graphs.loading import dump_yaml, load_graph
from headgate_graphs.model import AgentGraph
from tests.unit.graphs.random_graphs import TRICKY, graphs, texts
from tests.unit.graphs.test_checks import graph

REVIEW = """\
digraph review {
    version="1.2.0"; limits="{max_iterations: 5, deadline: 1h}"
    write [type=writer, config="{timeout: 1m, limits: {tokens_used: 2000}}"]
    check [kind=plan, type=rules, config="{rules: [{when: success, next: [end]}], default: [write]}"]
    write -> check -> write  // a loop
    check -> end
}
"""
REVIEW_YAML = """\
apiVersion: headgate/v1
kind: AgentGraph
metadata: {id: review, version: 1.2.0}
entry: write
limits: {max_iterations: 5, deadline: 1h}
tasks:
  - {id: write, type: writer, config: {timeout: 1m, limits: {tokens_used: 2000}}}
plans:
  - {id: check, type: rules, config: {rules: [{when: success, next: [end]}], default: [write]}}
edges:
  - {from: write, to: check}
  - {from: check, to: write}
  - {from: check, to: end, type: final}
"""


def read(text: str) -> AgentGraph:
    """The graph that a drawing holds, not checked as a whole."""
    return validate(document_from_dot(text, "g.dot"), AgentGraph, GraphInvalid)


def drawn(body: str) -> AgentGraph:
    return read(f'digraph g {{ version="1.0.0"\n{body}\n}}')


def faults_of(text: str) -> list[str]:
    with pytest.raises(GraphInvalid) as caught:
        read(text)
    assert str(caught.value).isprintable()
    return [fault.removeprefix("g.dot:") for fault in caught.value.faults]


def shape_of(read_back: AgentGraph) -> str:
    arrows = {"normal": ">", "parallel": "=>", "join": ".>", "final": "!"}
    return " ".join(
        f"{e.source}{arrows[e.type.value]}{'' if e.target == 'end' else e.target}" for e in read_back.edges
    )


@given(graphs())
@settings(max_examples=100, deadline=None)
def test_a_drawing_reads_back_as_an_equal_graph(original: AgentGraph) -> None:
    assert read(to_dot(original)) == original


@given(graphs())
@settings(max_examples=30, deadline=None)
def test_every_node_and_edge_is_drawn_on_one_line(original: AgentGraph) -> None:
    assert len(to_dot(original).splitlines()) == len(original.nodes) + len(original.edges) + 6


@given(texts | st.text(st.sampled_from("\\\"u0041U\n\r '{}[]:#é\x00🙂")))
def test_any_text_survives_quoting(text: str) -> None:
    line = quoted(text)
    assert line[1:-1].isprintable()
    assert decoded(unquoted(line[1:-1])) == text


@pytest.mark.parametrize("text", [*TRICKY, "node", "Graph", "a b", "a-b", "1.0", "é"])
def test_only_plain_words_go_without_quotes(text: str) -> None:
    assert dot_id(text).startswith('"') or text in ("no", "null", "True")


def test_kinds_of_nodes_and_edges_are_drawn() -> None:
    lines = to_dot(graph("a>P P=>b P=>c b.>Q c.>Q Q!")).splitlines()
    assert lines[0] == "digraph g {"
    assert '    P [shape=diamond, label="P: decide", type=decide];' in lines
    assert "    P -> b [penwidth=2.5, type=parallel];" in lines
    assert "    b -> Q [style=dashed, type=join];" in lines
    assert "    Q -> end;" in lines
    assert lines[-1] == "}"


def test_a_condition_cannot_break_out_of_its_label() -> None:
    hostile = 'success && "]; n9[<script>|x\\" != `a`\n#'
    edges = [
        {"from": "a", "to": "P", "config": {"when": hostile}},
        {"from": "P", "to": "end", "type": "final"},
    ]
    original = graph("a>P P!", edges=edges)
    assert '[label="success && \\"]; n9[<script>|x\\\\\\" != `a` #", when=' in to_dot(original)
    assert read(to_dot(original)) == original


def test_a_drawing_by_hand_equals_the_same_graph_in_yaml(tmp_path: Path) -> None:
    (tmp_path / "review.dot").write_text(REVIEW)
    (tmp_path / "review.yaml").write_text(REVIEW_YAML)
    assert load_graph(tmp_path / "review.dot") == load_graph(tmp_path / "review.yaml")


def test_a_directory_may_hold_a_drawing(tmp_path: Path) -> None:
    (tmp_path / "graph.dot").write_text(REVIEW)
    assert dump_yaml(load_graph(tmp_path)).startswith("apiVersion: headgate/v1")


def test_faults_of_the_whole_graph_have_their_place(tmp_path: Path) -> None:
    (tmp_path / "g.gv").write_text(
        REVIEW.replace("default: [write]", "default: [gone]").replace("-> write", "")
    )
    with pytest.raises(GraphInvalid) as caught:
        load_graph(tmp_path / "g.gv")
    assert [fault.partition("g.gv:")[2] for fault in caught.value.faults] == [
        "4:42: plans[0].config.default[0]: plan 'check' has no edge to 'gone'"
    ]


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("a -> P; P -> end; P [kind=plan]", "a>P P!"),
        ("a -> P -> end\nP [shape=diamond]", "a>P P!"),
        ("node [shape=diamond]; P; node [shape=box] a -> P", "a>P"),
        ("a -> {P Q} [type=parallel]", "a=>P a=>Q"),
        ("a -> {b c} -> d", "a>b a>c b>d c>d"),
        ("subgraph cluster_x { label=x; a -> b }\n b -> end", "a>b b!"),
        ("{ edge [type=join] a -> b } c -> d", "a.>b c>d"),
        ("edge [type=join]; a -> b [type=normal]; a -> c", "a>b a.>c"),
        ("s [kind=start]; a; b; s -> b; b -> a", "b>a"),
        ("a:port -> b:x:sw", "a>b"),
        ('a -> "b" /* x */ -> "c" + "d" \n# y', "a>b b>cd"),
        ('a [label=<<b>A</b>>, style="filled", _draw_="x"] -> b'.replace("] ->", "]; a ->"), "a>b"),
        ("strict_a -> nodes -> edge1 -> subgraphs", "strict_a>nodes nodes>edge1 edge1>subgraphs"),
    ],
)
def test_statements_mean_what_they_mean_to_graphviz(body: str, shape: str) -> None:
    assert shape_of(drawn(body)) == shape


def test_a_diamond_is_a_plan_unless_its_kind_says_otherwise() -> None:
    made = drawn("a [shape=diamond]; b; c [shape=diamond, kind=task]; d [kind=plan, shape=box]")
    assert [task.id for task in made.tasks] == ["b", "c"]
    assert [plan.id for plan in made.plans] == ["a", "d"]


def test_the_entry_is_the_marked_node_else_the_first() -> None:
    assert drawn("end; b; a").entry == "b"
    assert drawn('b; a; "*" [kind=start]; "*" -> a').entry == "a"


def test_configs_may_be_json_too() -> None:
    made = drawn(r'a [config="{\"timeout\": \"2m\", \"params\": {\"x\": [1, null, \"line\n\"]}}"]')
    assert made.tasks[0].config.timeout_ms == 120_000
    assert made.tasks[0].config.params == {"x": [1, None, "line\n"]}


def test_ours_are_not_graphvizs() -> None:
    ours = attributes.GRAPH | attributes.NODE | attributes.EDGE
    assert ours & attributes.GRAPHVIZ == {attributes.SHAPE}
    assert ours >= attributes.TEXT


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "1:1: the text ends before the graph does"),
        ("digraph g {\n a ->", "2:6: the text ends before the graph does"),
        ("digraph g {} digraph h {}", "1:14: not DOT: unexpected 'digraph'"),
        ("graph g { a }", "1:1: a graph without directions; an agent graph is a digraph"),
        ("digraph g { a -- b }", "1:15: not DOT: unexpected '-'; an edge is written ->"),
        ("digraph g {\n my-agent -> b }", "2:4: not DOT: unexpected '-'; an edge is written ->, and a name"),
        ("digraph g { version=1.0.0 }", "1:21: not DOT: unexpected '1'; text with other characters"),
        ('digraph g { a [type="x] }', "1:21: not DOT: unexpected '\"'; the text has no closing quote"),
        ("digraph g { /* }", "1:13: not DOT: unexpected '/'; the comment has no end"),
        ("digraph g { a [label=<b] }", "1:22: not DOT: unexpected '<'; the HTML has no end"),
        ("digraph g { \x1b[31m }", "1:13: not DOT: unexpected '\\x1b'"),
        ("digraph g {" + "{" * 30 + "}" * 30 + "}", "1:1: nested deeper than 16 levels"),
        ("digraph { a }", "1:1: metadata.id: Field required"),
        ("digraph g { a }", "1:9: metadata.version: Field required"),
        ('digraph "../g" { version="1.0.0"; a }', "1:9: metadata.id: '../g' is not a name"),
        ('digraph g { version="1.0.0" }', "1:9: entry: Field required"),
        ('digraph g { version="1.0.0"; "a b" }', "1:30: entry: 'a b' is not a name"),
    ],
)
def test_text_that_is_no_graph_is_refused_with_its_place(text: str, fault: str) -> None:
    assert faults_of(text)[0].startswith(fault), faults_of(text)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (
            "a [tpye=x]",
            "2:4: unknown attribute 'tpye'; beside Graphviz's own, nodes have config, description",
        ),
        ("limts=x", "2:1: unknown attribute 'limts'; beside Graphviz's own, graphs have apiVersion"),
        ("a -> b [wen=x]", "2:9: unknown attribute 'wen'; beside Graphviz's own, edges have prio"),
        (
            "subgraph x { limits=y }",
            "2:14: unknown attribute 'limits'; beside Graphviz's own, graphs have nothing",
        ),
        ("a [kind=job]", "2:9: the kind is task, plan or start, not 'job'"),
        ("end [type=x]", "2:6: the exit only marks a place; type means nothing there"),
        ("s [kind=start, type=x]", "2:16: the start mark only marks a place; type means nothing there"),
        (
            "s [kind=start] s -> {a b}",
            "2:16: entry: a second edge out of a start mark; a graph has one entry",
        ),
        ("s [kind=start] s -> a -> s", "2:26: edges[0]: no edge leads to the start mark"),
        ("s [kind=start] s -> a [when=x]", "2:24: the edge out of the start mark only marks a place"),
        ('a [config="{timeout: 1m"]', "2:11: tasks[0].config: at 2:1 of the value: not YAML"),
        ('a [config="{x: 1, x: 2}"]', "2:11: tasks[0].config: at 1:8 of the value: duplicate key 'x'"),
        ('a [config="&a {}"]', "2:11: tasks[0].config: at 1:1 of the value: anchors are not allowed"),
        ('a [config="{timeout: soon}"]', "2:11: tasks[0].config.timeout: 'soon' is not a duration"),
        ('a [config="{tiemout: 1m}"]', "2:11: tasks[0].config.tiemout: unknown key"),
        ("a [config=<b>]", "2:11: tasks[0].config: HTML is for labels; this value needs quotes"),
        ("a [config]", "2:4: tasks[0].config: Input should be an object"),
        ("a -> b [type=sideways]", "2:14: edges[0].type: Input should be"),
        ("a -> b [priority=high]", "2:18: edges[0].config.priority: Input should be a valid integer"),
        ('a -> "x/y"', "2:6: edges[0].to: 'x/y' is not a name"),
    ],
)
def test_what_means_nothing_is_refused_with_its_place(body: str, fault: str) -> None:
    lines = faults_of(f'digraph g {{ version="1.0.0"\n{body}\n}}')
    assert any(line.startswith(fault) for line in lines), lines


def test_all_faults_of_a_drawing_are_found_at_once() -> None:
    lines = faults_of('digraph g {\n a [kind=x]\n b [tpye=y]\n c [config="{"]\n}')
    assert [line.partition(":")[0] for line in lines] == ["2", "3", "4"]


def test_products_of_subgraphs_cannot_grow_without_bound() -> None:
    many = " ".join(f"n{i}" for i in range(200))
    began = time.perf_counter()
    assert f"more edges than {MAX_EDGES}" in faults_of(f"digraph g {{ {{{many}}} -> {{{many}}} }}")[0]
    many = " ".join(f"n{i}" for i in range(MAX_NODES + 3))
    assert f"more nodes than {MAX_NODES}" in faults_of(f"digraph g {{ {many} }}")[0]
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    "body",
    [
        "{" * 20_000,
        "a -> " * 20_000,
        "a [" * 20_000,
        "a[x=1]" * 5_000,
        "<" * 100_000,
        '"\\"' * 50_000,
        "a:" * 20_000,
    ],
)
def test_endless_text_is_answered_soon(body: str) -> None:
    began = time.perf_counter()
    with pytest.raises(GraphInvalid):
        read("digraph g {" + body)
    assert time.perf_counter() - began < 5  # measured: 0.3 s


def test_a_long_text_is_not_read() -> None:
    assert faults_of("digraph g {" + " " * 2_000_000) == ["1:1: longer than 1048576 bytes"]
