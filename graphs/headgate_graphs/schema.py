"""The JSON Schema of `graph.yaml`, for editors that complete and check while one types. Pure."""

from __future__ import annotations

from typing import Any

from headgate_graphs.model import AgentGraph
from headgate_graphs.units import DURATION_PATTERN, format_duration


def graph_json_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12) of one graph document.

    It says what each key may hold; what holds between keys is said by `checks` alone.
    """
    schema = AgentGraph.model_json_schema(by_alias=True, mode="validation")
    for definition in (schema, *schema["$defs"].values()):
        for field in definition.get("properties", {}).values():
            _write_default_as_people_do(field)
    return schema | {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Headgate agent graph",
    }


def _write_default_as_people_do(field: dict[str, Any]) -> None:
    """Write a default duration as text, since a bare number is seconds; an object's default says nothing."""
    default = field.get("default")
    if isinstance(default, dict) or default is None:
        field.pop("default", None)
    elif any(choice.get("pattern") == DURATION_PATTERN for choice in field.get("anyOf", ())):
        field["default"] = format_duration(default)
