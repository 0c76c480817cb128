"""The pages on graphs and policies say every field as the models have it, and their examples load."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from headgate_graphs.conditions import EDGE_ENVIRONMENT
from headgate_graphs.loading import load_graph
from headgate_graphs.model import AgentGraph
from headgate_guardrails.cases import PolicyCases, run_cases
from headgate_guardrails.fold import conditions
from headgate_guardrails.policy import Policy, Rule, RuleLimit, load_policy
from headgate_workers.ready.chat import ChatOptions
from headgate_workers.ready.http import HttpOptions
from headgate_workers.ready.subprocess import SubprocessOptions
from tests.house.pages import blocks, code, named, table_of, tables
from tests.house.tree import ROOT

ROUND = {2**53: "2^53", 2**31 - 1: "2^31-1"}
"""Bounds as the pages write them."""


# Every field of every definition -----------------------------------------------------------------------


def definitions_of(*roots: type[BaseModel]) -> list[type[BaseModel]]:
    """Return the models that a document of these roots can hold, their parents among them."""
    found: list[type[BaseModel]] = []
    todo: list[type[BaseModel]] = [*roots]
    while todo:
        model = todo.pop(0)
        if model in found:
            continue
        found.append(model)
        todo += [parent for parent in model.__mro__[1:] if issubclass(parent, BaseModel)]
        todo += [
            part
            for field in model.model_fields.values()
            for part in parts_of(field.annotation)
            if inspect.isclass(part) and issubclass(part, BaseModel)
        ]
    return [model for model in found if own_fields(model)]


def parts_of(annotation: Any) -> Iterator[Any]:
    """Yield an annotation and all that stands inside it."""
    yield annotation
    for inner in typing.get_args(annotation):
        yield from parts_of(inner)


def own_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields that a model itself declares, by the name that a document uses."""
    own = inspect.get_annotations(model)
    return {field.alias or name: field for name, field in model.model_fields.items() if name in own}


def dotted(model: type[BaseModel]) -> str:
    return f"{model.__module__}.{model.__name__}"


DOCUMENTED = {
    "docs/graphs.md": definitions_of(AgentGraph, ChatOptions, HttpOptions, SubprocessOptions),
    "docs/policies.md": definitions_of(Policy, PolicyCases),
}
MODELS = [pytest.param(page, m, id=m.__name__) for page, models in DOCUMENTED.items() for m in models]
FIELDS = [
    pytest.param(model, name, field, id=f"{model.__name__}.{name}")
    for models in DOCUMENTED.values()
    for model in models
    for name, field in own_fields(model).items()
]


@pytest.mark.parametrize(("page", "model"), MODELS)
def test_a_model_has_one_table_with_its_fields_and_no_others(page: str, model: type[BaseModel]) -> None:
    table = table_of("model", dotted(model))
    assert table.page == page
    assert table.first() == list(own_fields(model))


def test_no_table_is_about_a_model_that_no_document_holds() -> None:
    held = {dotted(model) for models in DOCUMENTED.values() for model in models}
    assert {table.subject for table in tables("model")} <= held


def row_of(model: type[BaseModel], name: str) -> dict[str, str]:
    rows = table_of("model", dotted(model)).rows
    return next(row for row in rows if code(row["field"])[0] == name)


def default_of(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    """Return a field's default as a document would say it."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None:
        return "none"
    if isinstance(default, BaseModel):
        return "`{}`"
    attribute = next(key for key, known in model.model_fields.items() if known is field)
    made = model.model_construct(**{attribute: default})
    shown = made.model_dump(mode="json", by_alias=True, include={attribute})[name]
    return f"`{shown}`" if isinstance(shown, str) and shown else f"`{json.dumps(shown)}`"


@pytest.mark.parametrize(("model", "name", "field"), FIELDS)
def test_a_row_says_the_default(model: type[BaseModel], name: str, field: FieldInfo) -> None:
    assert row_of(model, name)["default"] == default_of(model, name, field)


@pytest.mark.parametrize(("model", "name", "field"), FIELDS)
def test_a_row_says_every_value_that_may_be_chosen(
    model: type[BaseModel], name: str, field: FieldInfo
) -> None:
    choices: list[str] = []
    for part in parts_of(field.annotation):
        if typing.get_origin(part) is Literal:
            choices += map(str, typing.get_args(part))
        elif inspect.isclass(part) and issubclass(part, Enum):
            choices += [str(member.value) for member in part]
    if choices:
        assert code(row_of(model, name)["type"]) == choices


@pytest.mark.parametrize(("model", "name", "field"), FIELDS)
def test_a_row_says_the_bounds(model: type[BaseModel], name: str, field: FieldInfo) -> None:
    shown = row_of(model, name)["type"]
    assert [text for text in bounds_of(field) if text not in shown] == []


def bounds_of(field: FieldInfo) -> Iterator[str]:
    """Yield the bounds of a number or of a list's length, as a page writes them."""
    known: dict[type, int] = {}
    for part in (*field.metadata, *parts_of(field.annotation)):
        constraints = getattr(part, "metadata", None) or [part]
        known |= {
            type(one): _limit(one) for one in constraints if isinstance(one, Ge | Gt | Le | MinLen | MaxLen)
        }
    for low, high in ((Ge, Le), (MinLen, MaxLen)):
        if low in known and high in known:
            yield f"{_shown(known[low])}..{_shown(known[high])}"
        elif low in known:
            yield f"at least {_shown(known[low])}"
    if Gt in known:
        yield f"more than {_shown(known[Gt])}"


def _limit(constraint: Any) -> int:
    return next(
        getattr(constraint, name)
        for name in ("ge", "gt", "le", "min_length", "max_length")
        if hasattr(constraint, name)
    )


def _shown(number: int) -> str:
    return ROUND.get(number, f"{number:,}")


# What conditions may name ------------------------------------------------------------------------------


def test_every_variable_of_edges_and_rules_plans_is_explained() -> None:
    rows = table_of("variables", "EDGE_ENVIRONMENT").rows
    said = {code(row["variable"])[0]: code(row["type"])[0] for row in rows}
    assert said == EDGE_ENVIRONMENT.variables


def rule_variables() -> dict[str, str]:
    """Return what a policy's `when` may name and its type, aggregates as people write them."""
    written = {}
    for name, kind in conditions._ENVIRONMENT.variables.items():
        aggregate, _, measure = name.rstrip("_").partition("_")
        written[f"{aggregate}({measure})" if name.endswith("_") else name] = kind
    return written


def test_every_variable_of_policies_is_explained_with_the_moment_it_is_asked() -> None:
    rows = table_of("variables", "when").rows
    said = {code(row["variable"])[0]: (code(row["type"])[0], row["asked at"]) for row in rows}
    assert said == {name: (kind, _asked(name, kind)) for name, kind in rule_variables().items()}


def _asked(name: str, kind: str) -> str:
    """Return when a condition that names one variable is asked."""
    compared = {"bool": "{}", "string": "{} == ''", "int": "{} > 0", "double": "{} > 0.0"}
    rule = conditions.compile_rule(compared.get(kind, "size({}) > 0").format(name))
    moments = {"admission": rule.at_admission, "settlement": rule.at_settlement}
    return ", ".join(moment for moment, is_asked in moments.items() if is_asked)


def test_a_limit_is_taken_at_the_scopes_that_the_page_says() -> None:
    rows = table_of("scopes", "limit").rows
    assert [code(row["limit"])[0] for row in rows] == list(own_fields(RuleLimit))
    said = {(code(r["limit"])[0], s): r[s] for r in rows for s in ("execution", "lifetime", "tenant")}
    assert said == {(metric, scope): _taken(metric, scope) for metric, scope in said}


def _taken(metric: str, scope: str) -> str:
    rule = {"name": "r", "scope": scope, "limit": {metric: 1}, "action": "abort_lifetime"}
    try:
        Rule.model_validate(rule)
    except ValidationError:
        return "no"
    return "yes"


# Examples ----------------------------------------------------------------------------------------------


def examples(kind: str) -> list[Any]:
    """Return the YAML blocks of the pages that are whole documents of a kind."""
    pages = [ROOT / "README.md", *(ROOT / name for name in DOCUMENTED)]
    return [
        pytest.param(text, id=f"{page.stem}-{number}")
        for page in pages
        for number, text in enumerate(blocks(page, "yaml"))
        if f"kind: {kind}\n" in text
    ]


@pytest.mark.parametrize("text", examples("AgentGraph"))
def test_a_graph_on_a_page_loads(text: str, tmp_path: Path) -> None:
    (tmp_path / "graph.yaml").write_text(text)
    load_graph(tmp_path / "graph.yaml")


def test_the_graph_in_python_and_in_dot_equals_the_one_in_yaml(tmp_path: Path) -> None:
    page = ROOT / "docs/graphs.md"
    written = {}
    for language, name in (("yaml", "graph.yaml"), ("python", "graph.py"), ("dot", "graph.dot")):
        (tmp_path / name).write_text(blocks(page, language)[0])
        written[language] = load_graph(tmp_path / name)
    assert written["python"] == written["yaml"]
    assert written["dot"] == written["yaml"]


@pytest.mark.parametrize("text", examples("GuardrailPolicy"))
def test_a_policy_on_a_page_loads(text: str, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    load_policy(tmp_path / "policy.yaml")


@pytest.mark.parametrize("text", examples("PolicyCases"))
def test_cases_on_a_page_pass_for_the_policy_on_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(blocks(ROOT / "docs/policies.md", "yaml")[0])
    (tmp_path / "cases.yaml").write_text(text)
    results = run_cases(tmp_path / "cases.yaml")
    assert [result for result in results if not result.passed] == []


def test_a_part_of_a_definition_on_a_page_is_one() -> None:
    """A fragment names the model that reads it in its first line: `# headgate_graphs.model.Plan`."""
    import yaml

    for page in (ROOT / name for name in DOCUMENTED):
        for text in blocks(page, "yaml"):
            first = text.partition("\n")[0]
            if first.startswith("# headgate_"):
                value = yaml.safe_load(text)
                model = named(first.removeprefix("# ").strip())
                for one in value if isinstance(value, list) else [value]:
                    model.model_validate_json(json.dumps(one), strict=True)
