"""Graphs from where people keep them (a directory, a YAML file, a Python module) and back to YAML.

Called by the command, the client and, for graphs that come from the log, by the gate.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from headgate_graphs.checks import faults
from headgate_graphs.documents import (
    Document,
    Mark,
    in_document_order,
    lines_of,
    plain_scalar,
    read_file,
    read_yaml,
    validate,
)
from headgate_graphs.errors import GraphInvalid, UserError
from headgate_graphs.model import AgentGraph

GRAPH_FILES = ("graph.yaml", "graph.yml", "graph.py", "graph.dot")
"""What a graph's directory holds, in the order in which they are looked for."""
_YAML = (".yaml", ".yml", ".json")
_DOT = (".dot", ".gv")


def load_graph(path: Path) -> AgentGraph:
    """Return the checked graph at `path`. Raises GraphInvalid with all faults and their places.

    `path` is a YAML file; a DOT file; a Python module with a variable `graph`; or a directory with one of
    them. Beside its `graph.yaml`, `tasks/*.yaml` and `plans/*.yaml` may hold one node each (in the order of
    their names, after the nodes in `graph.yaml`; the id is the file's name when it gives none).
    """
    if not _exists(path):
        raise GraphInvalid(_shown(path), ["No such file or directory"])
    file = _graph_file(path) if path.is_dir() else path
    if file.suffix == ".py":
        return _from_module(file)
    if file.suffix in _DOT:
        return _from_document(_read_dot(file))
    if file.suffix not in _YAML:
        kinds = "a .yaml file, a .dot file, a .py module or a directory with one"
        raise GraphInvalid(_shown(path), [f"a graph is {kinds}"])
    document = _read(file)
    return _from_document(_with_nodes_beside(document, path) if path.is_dir() else document)


def _from_document(document: Document) -> AgentGraph:
    graph = validate(document, AgentGraph, GraphInvalid)
    found = [(document.mark_of(fault.path), fault.path, fault.message) for fault in faults(graph)]
    if found:
        raise GraphInvalid(document.where, in_document_order(found))
    return graph


def graph_from_json(text: str) -> AgentGraph:
    """Return the checked graph in canonical JSON, as it travels; pure. Raises GraphInvalid."""
    try:
        graph = AgentGraph.model_validate_json(text, strict=True)
    except ValidationError as invalid:
        raise GraphInvalid("graph", lines_of(invalid)) from None
    except ValueError:
        raise GraphInvalid("graph", ["not text"]) from None
    return checked(graph, "graph")


def checked(graph: AgentGraph, where: str) -> AgentGraph:
    """Return `graph` itself when it has no faults; raises GraphInvalid with all of them, without places."""
    found = faults(graph)
    if found:
        raise GraphInvalid(where, [str(fault) for fault in found])
    return graph


def dump_yaml(graph: AgentGraph) -> str:
    """Return `graph` as YAML that reads back as an equal graph; defaults are left out. Pure."""
    document = {"apiVersion": graph.api_version, "kind": graph.kind}
    document |= graph.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # no file can have this name
        return False


def _graph_file(directory: Path) -> Path:
    for name in GRAPH_FILES:
        if (directory / name).is_file():
            return directory / name
    raise GraphInvalid(_shown(directory), [f"the directory has none of {', '.join(GRAPH_FILES)}"])


def _read(file: Path) -> Document:
    return read_yaml(_text(file), _shown(file), GraphInvalid)


def _read_dot(file: Path) -> Document:
    from headgate_graphs.dot.reading import document_from_dot  # few read DOT; the others pay for no parser

    return document_from_dot(_text(file), _shown(file))


def _text(file: Path) -> str:
    return read_file(file, _shown(file), GraphInvalid)


def _with_nodes_beside(document: Document, directory: Path) -> Document:
    """Return `document` with the nodes of `tasks/*.yaml` and `plans/*.yaml` at the end of its lists."""
    if not isinstance(document.value, dict):
        return document
    value, parts, keys = dict(document.value), dict(document.mark.parts), dict(document.mark.keys)
    for kind in ("tasks", "plans"):
        beside = [_read(file) for file in _files(directory / kind)]
        listed = value.get(kind, [])
        if not beside or not isinstance(listed, list):
            continue
        value[kind] = [*listed, *(_named(node) for node in beside)]
        here = parts.get(kind, beside[0].mark)
        marks = dict(here.parts if isinstance(document.value.get(kind), list) else {})
        marks |= {len(listed) + i: node.mark for i, node in enumerate(beside)}
        parts[kind] = Mark(here.where, here.line, here.column, marks, {})
    mark = Mark(document.where, document.mark.line, document.mark.column, parts, keys)
    return Document(document.where, value, mark)


def _files(directory: Path) -> list[Path]:
    return sorted(file for file in directory.glob("*") if file.suffix in _YAML and file.is_file())


def _named(node: Document) -> Any:
    if isinstance(node.value, dict) and "id" not in node.value:
        return {"id": Path(node.where).stem, **node.value}
    return node.value


def _from_module(file: Path) -> AgentGraph:
    where = _shown(file)
    found = _variables(file, where).get("graph")
    if not isinstance(found, AgentGraph):
        got = "no variable `graph`" if found is None else f"`graph` is of the class {type(found).__name__}"
        raise GraphInvalid(where, [f"{got}; the module must hold `graph = AgentGraph(...)`"])
    return checked(found, where)


def _variables(file: Path, where: str) -> dict[str, Any]:
    """Run the module, which is the user's own code, and return its variables."""
    if not file.is_file():
        raise GraphInvalid(where, ["No such file or directory"])
    spec = importlib.util.spec_from_file_location(f"headgate_graph_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise GraphInvalid(where, ["not a Python module"])
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses and pydantic look up the names in annotations
    try:
        spec.loader.exec_module(module)
    except ValidationError as invalid:
        found = [f"{invalid.title}.{line}" for line in lines_of(invalid)]
        raise GraphInvalid(where, _placed(found, invalid, file)) from invalid
    except UserError as wrong:
        raise GraphInvalid(where, _placed(wrong.faults or [str(wrong)], wrong, file)) from wrong
    except Exception as failure:
        found = [f"{type(failure).__name__}: {ascii(str(failure))[1:-1][:200]}"]
        raise GraphInvalid(where, _placed(found, failure, file)) from failure
    return vars(module)


def _placed(lines: Sequence[str], failure: Exception, file: Path) -> list[str]:
    """Return the lines, each with "file:line:1" of the line in `file` that failed."""
    if isinstance(failure, SyntaxError):
        at = failure.lineno or 1
    else:
        frames = traceback.extract_tb(failure.__traceback__)
        at = next((f.lineno or 1 for f in reversed(frames) if Path(f.filename) == file), 1)
    return [f"{_shown(file)}:{at}:1: {line}" for line in lines]


def _shown(path: Path) -> str:
    text = str(path)
    return text if text.isprintable() else ascii(text)


class _Dumper(yaml.SafeDumper):
    """Writes text so that `read_yaml` reads the same text: in quotes when unquoted it would mean a number."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True

    def write_text(self, text: str) -> yaml.Node:
        style = None
        if not text.replace("\n", "").isprintable():
            style = '"'
        elif "\n" in text:
            style = "|"
        elif not _is_text(text):
            style = "'"
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _is_text(text: str) -> bool:
    try:
        return plain_scalar(text) is text
    except ValueError:
        return False


_Dumper.add_representer(str, _Dumper.write_text)
