"""The JSON Schema of the table `[tool.elefast]`, and of `elefast.toml`, made from the model.

Draft 7, because SchemaStore, validate-pyproject and most editors go no further.
"""

from __future__ import annotations

from typing import Any

from elefast.config.keys import Key, TableOfKeys, all_tables, named_tables

__all__ = ["ID", "get_schema"]

ID = "https://json.schemastore.org/elefast.json"

_TYPES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


def get_schema(tool_name: str = "elefast") -> dict[str, Any]:
    """The schema; also the entry point `validate_pyproject.tool_schema`.

    Args:
        tool_name: The name of the table; only "elefast" has a schema.

    Raises:
        ValueError: Another tool's schema was asked for.
    """
    if tool_name != "elefast":
        raise ValueError(f'no schema for "{tool_name}", only for "elefast"')
    top, *tables = all_tables()
    properties = _properties(top) | {table.name: _table(table) for table in tables}
    properties |= {table.name: _named_table(table) for table in named_tables()}
    profile = {
        "type": "object",
        "description": "Any of the other keys.",
        "additionalProperties": False,
        "properties": {name: {"$ref": f"#/properties/{name}"} for name in properties},
    }
    profiles = {
        "type": "object",
        "description": "Named sets of keys, of which one is put in force by name.",
        "propertyNames": {"minLength": 1},
        "additionalProperties": {"$ref": "#/definitions/profile"},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": ID,
        "title": "elefast",
        "description": top.description,
        "type": "object",
        "additionalProperties": False,
        "properties": properties | {"profiles": profiles},
        "definitions": {"profile": profile},
    }


def _table(table: TableOfKeys) -> dict[str, Any]:
    return {
        "type": "object",
        "description": table.description,
        "additionalProperties": False,
        "properties": _properties(table),
    }


def _named_table(table: TableOfKeys) -> dict[str, Any]:
    return {
        "type": "object",
        "description": f"Tables with names of the project's choice. {table.description}",
        "default": {},
        "propertyNames": {"minLength": 1},
        "additionalProperties": _table(table),
    }


def _properties(table: TableOfKeys) -> dict[str, Any]:
    return {key.path[-1]: _property(key) for key in table.keys}


def _property(key: Key) -> dict[str, Any]:
    alternatives = [_plain(key, accepted) for accepted in key.types]
    alternatives += [_choice(choice, meaning) for choice, meaning in key.choices.items()]
    schema: dict[str, Any] = {"description": key.description, "default": key.default}
    if key.examples:
        schema["examples"] = list(key.examples)
    return schema | (alternatives[0] if len(alternatives) == 1 else {"oneOf": alternatives})


def _plain(key: Key, accepted: type) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": _TYPES[accepted]}
    limits = {"minimum": key.minimum, "maximum": key.maximum} if accepted is int else {}
    schema |= {name: limit for name, limit in limits.items() if limit is not None}
    text = {"type": "string"} | ({"pattern": key.pattern} if key.pattern else {})
    if accepted is str:
        return text
    if accepted is list:
        schema["items"] = text
    if accepted is dict and key.value_types:
        schema["additionalProperties"] = {"type": [_TYPES[inner] for inner in key.value_types]}
    return schema


def _choice(choice: str, meaning: str) -> dict[str, Any]:
    return {"const": choice} | ({"description": meaning} if meaning else {})
