"""Loading: files, directories and modules; all faults with their places; YAML and JSON round trips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings

from headgate_graphs.errors import GraphInvalid
from headgate_graphs.loading import dump_yaml, graph_from_json, load_graph
from headgate_graphs.model import AgentGraph
from tests.unit.graphs.random_graphs import graphs

GRAPH = """\
apiVersion: headgate/v1
kind: AgentGraph
metadata: {id: loop, version: 1.0.0}
entry: work
tasks:
  - {id: work, type: work, config: {timeout: 2m, limits: {cost_usd: 0.05}}}
plans:
  - id: decide
    type: rules
    config:
      rules:
        - {when: "success && iteration < 3", next: [work]}
      default: [end]
edges:
  - {from: work, to: decide}
  - {from: decide, to: work}
  - {from: decide, to: end, type: final}
"""


NO_DURATION = "is not a duration such as 500ms, 30s, 5m, 1h30m or 7d"
NO_AMOUNT = "is not between 0 and 4e9 with at most 9 decimals"


def written(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        path = directory / name.replace("__", "/").replace("_yaml", ".yaml").replace("_py", ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def faults_of(path: Path) -> list[str]:
    with pytest.raises(GraphInvalid) as caught:
        load_graph(path)
    assert str(caught.value).isprintable()
    return [
        fault.replace(str(path if path.is_dir() else path.parent) + "/", "") for fault in caught.value.faults
    ]


def test_a_yaml_file_is_a_graph(tmp_path: Path) -> None:
    graph = load_graph(written(tmp_path, graph_yaml=GRAPH) / "graph.yaml")
    task = graph.nodes["work"]
    assert task.config.timeout_ms == 120_000
    assert task.config.limits.cost_nano_usd == 50_000_000
    assert graph.tenant_id == "default"


def test_a_directory_gathers_the_nodes_beside_the_graph(tmp_path: Path) -> None:
    head, _, edges = GRAPH.partition("tasks:")
    edges = "edges:" + edges.partition("edges:")[2]
    plan = "type: rules\nconfig: {default: [end]}\n"
    written(
        tmp_path, graph_yaml=head + edges, tasks__work_yaml="type: work", plans__1_yaml="id: decide\n" + plan
    )
    graph = load_graph(tmp_path)
    assert list(graph.nodes) == ["work", "decide"]


def test_faults_in_files_beside_the_graph_are_located_there(tmp_path: Path) -> None:
    more = "id: work\ntype: work\n"
    written(tmp_path, graph_yaml=GRAPH, tasks__b_yaml=more, tasks__a_yaml="type: x\nconfig:\n  timeout: 0s\n")
    assert faults_of(tmp_path) == [
        "tasks/a.yaml:3:12: tasks[1].config.timeout: Input should be greater than 0",
    ]
    written(tmp_path, tasks__a_yaml="type: x\n")
    assert faults_of(tmp_path) == [
        "tasks/a.yaml:1:1: tasks[1]: no way from the entry 'work' to 'a'",
        "tasks/b.yaml:1:5: tasks[2].id: duplicate id 'work', first at tasks[0]",
    ]


def test_model_faults_come_all_at_once_with_places(tmp_path: Path) -> None:
    text = GRAPH.replace("version: 1.0.0", "version: 1.0").replace("2m", "12:30").replace("0.05", "-1")
    text = text.replace("from: work, to: decide", "from: work, into: decide") + "extra: 1\n"
    assert faults_of(written(tmp_path, graph_yaml=text) / "graph.yaml") == [
        "graph.yaml:3:31: metadata.version: Input should be a valid string",
        f"graph.yaml:6:46: tasks[0].config.timeout: '12:30' {NO_DURATION}",
        f"graph.yaml:6:72: tasks[0].config.limits.cost_usd: -1 USD {NO_AMOUNT}",
        "graph.yaml:15:5: edges[0].to: Field required",
        "graph.yaml:15:18: edges[0].into: unknown key",
        "graph.yaml:18:1: extra: unknown key",
    ]


def test_graph_faults_come_all_at_once_with_places(tmp_path: Path) -> None:
    text = (
        GRAPH.replace("success &&", "foo &&").replace("[end]", "[nope]").replace("entry: work", "entry: wrok")
    )
    lines = faults_of(written(tmp_path, graph_yaml=text) / "graph.yaml")
    assert [line.split(": ")[0] for line in lines] == [
        "graph.yaml:4:8",
        "graph.yaml:12:18",
        "graph.yaml:13:17",
    ]
    assert "no node is called 'wrok'" in lines[0]
    assert "at 1:1 of the condition: undeclared reference to 'foo'" in lines[1]
    assert "plan 'decide' has no edge to 'nope'" in lines[2]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &x 1\nb: *x", "graph.yaml:1:4: anchors"),
        ("a: 1\na: 2", "graph.yaml:2:1: duplicate key"),
        ("a: !!python/name:os.system", "graph.yaml:1:4: tags"),
        ("---\na: 1\n---\n", "graph.yaml:3:1: a second document"),
        ("[" * 50_000, "graph.yaml:1:33: nested deeper"),
        ("x" * 10_000_000, "graph.yaml:1:1: longer than 1048576 bytes"),
        ("- a", "graph.yaml:1:1: Input should be an object"),
        (GRAPH.replace("work, type: work,", "work, type: work, leased: no,"), "unknown key"),
        (
            GRAPH.replace("timeout: 2m", "leased: no"),
            "tasks[0].config.leased: Input should be a valid boolean",
        ),
        (GRAPH.replace("timeout: 2m", "timeout_ms: 5"), "tasks[0].config.timeout_ms: unknown key"),
        (GRAPH.replace("timeout: 2m", "params: {a: .nan, b: 1e999}"), "a number must be finite"),
        (GRAPH.replace("timeout: 2m", "params: " + "[" * 20 + "]" * 20), "params"),
    ],
)
def test_bad_yaml_is_refused_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    lines = faults_of(written(tmp_path, graph_yaml=text) / "graph.yaml")
    assert says in lines[0]
    assert lines[0].startswith("graph.yaml:")


def test_bytes_that_are_no_text_are_refused_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "graph.yaml").write_bytes(b"a: 1\nb: \xff\xfe")
    assert faults_of(tmp_path) == ["graph.yaml:2:1: not UTF-8 text"]


def test_what_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    assert faults_of(tmp_path / "graph.yaml") == ["No such file or directory"]
    assert faults_of(tmp_path / "graph.py") == ["No such file or directory"]
    assert faults_of(tmp_path) == ["the directory has none of graph.yaml, graph.yml, graph.py, graph.dot"]
    (tmp_path / "graph.txt").touch()
    assert "a graph is a .yaml file" in faults_of(tmp_path / "graph.txt")[0]


MODULE = """\
from __future__ import annotations
from dataclasses import dataclass
from headgate_graphs import AgentGraph, Edge, EdgeKind, GraphMetadata, Task

@dataclass
class Mine:
    text: str

graph = AgentGraph(
    metadata=GraphMetadata(id="one", version="1.0.0"),
    entry="work",
    tasks=(Task(id="work", type="work"),),
    edges=(Edge(source="work", target="end", type=EdgeKind.FINAL),),
)
"""


def test_a_python_module_is_a_graph(tmp_path: Path) -> None:
    assert load_graph(written(tmp_path, graph_py=MODULE)).metadata.id == "one"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1", "no variable `graph`; the module must hold"),
        ("graph = 5", "`graph` is of the class int"),
        ("x = 1\ny = 1 / 0", "graph.py:2:1: ZeroDivisionError: division by zero"),
        ("x = (", "graph.py:1:1: SyntaxError"),
        (
            MODULE.replace('version="1.0.0"', 'version="1"'),
            "GraphMetadata.version: String should match pattern",
        ),
        (MODULE.replace('entry="work"', 'entry="nope"'), "entry: no node is called 'nope'"),
        (MODULE.replace('type="work"', 'type="work", config={"timeout_ms": 5}'), "Task.config.timeout_ms"),
    ],
)
def test_a_module_that_holds_no_graph_is_refused(tmp_path: Path, text: str, says: str) -> None:
    assert says in faults_of(written(tmp_path, graph_py=text) / "graph.py")[0]


@given(graphs())
@settings(max_examples=150, deadline=None)
def test_yaml_round_trip(tmp_path_factory: pytest.TempPathFactory, graph: AgentGraph) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    path.write_text(dump_yaml(graph), encoding="utf-8")
    again = load_graph(path)
    assert again == graph
    assert again.canonical_json() == graph.canonical_json()


@given(graphs())
@settings(max_examples=100, deadline=None)
def test_json_round_trip(graph: AgentGraph) -> None:
    text = graph.canonical_json()
    assert graph_from_json(text) == graph
    assert graph_from_json(text).canonical_json() == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Invalid JSON"),
        ("[]", "should be an object"),
        ("{}", "metadata: Field required"),
        ("[" * 100_000, "Invalid JSON"),
        ('{"a": "\ud800"}', "unable to parse"),
        ('{"metadata": 1, "entry": "a", "nope": 1}', "2 faults"),
        (
            json.dumps({"metadata": {"id": "g", "version": "1.0.0"}, "entry": "a"}),
            "entry: no node is called 'a'",
        ),
    ],
)
def test_bad_json_is_refused(text: str, says: str) -> None:
    with pytest.raises(GraphInvalid) as caught:
        graph_from_json(text)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 500
