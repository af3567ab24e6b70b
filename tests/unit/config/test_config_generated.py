"""What is made from the model is as the model is now, and is right."""

from __future__ import annotations

import json
import tomllib
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from elefast.config import Settings
from elefast.config.keys import all_keys, all_tables
from elefast.config.schema import get_schema
from elefast.config.toml_writer import toml_key, toml_value
from tools.example_file import example
from tools.generate import COMMAND, generated

if TYPE_CHECKING:
    from tests.unit.config.conftest import Project

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize("path", generated())
def test_stored_files_are_up_to_date(path: str) -> None:
    """A change of the model changes these files."""
    assert (REPOSITORY / path).read_text(encoding="utf-8") == generated()[path], f"run: {COMMAND}"


def test_the_example_has_every_key_with_its_default() -> None:
    """Nothing is missing, and nothing is said twice."""
    assert tomllib.loads(example()) == Settings().model_dump()


def test_the_example_is_a_configuration(project: Project) -> None:
    """Whoever copies all of it gets the defaults."""
    project.write("elefast.toml", example())
    settings = project.load().settings
    assert settings.model_dump(exclude={"alembic"}) == Settings().model_dump(exclude={"alembic"})


def test_the_examples_are_valid(project: Project) -> None:
    """What the comments show can be written."""
    lines = [line.removeprefix("# Example: ") for line in example().splitlines()]
    text = "\n".join(line for line in lines if (not line.startswith("#") and "=" in line) or line.startswith("["))
    seen: set[str] = set()
    kept: list[str] = []
    table = ""
    for line in text.splitlines():
        table = line if line.startswith("[") else table
        name = f"{table}{line.partition('=')[0]}"
        if name not in seen:
            kept.append(line)
        seen.add(name)
    project.write("elefast.toml", "\n".join(["migrator = 'none'", *(k for k in kept if "migrator =" not in k)]))
    assert project.load().settings.extensions == ["pg_trgm"]


def test_the_schema_line_comes_first() -> None:
    """Editors look for it at the top, with an empty line after it."""
    assert example().splitlines()[:2] == ["#:schema ./schemas/elefast.schema.json", ""]


def test_every_key_is_described() -> None:
    """A key without a meaning is not finished."""
    assert [key.name for key in all_keys() if not key.description.endswith(".")] == []
    assert [table.name for table in all_tables() if not table.description.endswith(".")] == []


def test_the_schema_knows_what_the_model_knows() -> None:
    """Draft 7 with an id, closed tables, and the keys, defaults and descriptions of the model."""
    schema = get_schema()
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert schema["$id"]
    assert schema["additionalProperties"] is False
    for key in all_keys():
        table: Any = schema
        for part in key.path[:-1]:
            table = table["properties"][part]
            assert table["additionalProperties"] is False
        entry = table["properties"][key.path[-1]]
        assert (entry["default"], entry["description"]) == (key.default, key.description)
    profile = schema["definitions"]["profile"]["properties"]
    assert set(schema["properties"]) - set(profile) == {"profiles"}


def test_the_schema_is_for_one_tool() -> None:
    """The entry point is asked by name."""
    with pytest.raises(ValueError, match='no schema for "other"'):
        get_schema("other")


VALID: list[dict[str, Any]] = [
    {},
    tomllib.loads(example()),
    {"docker": {"tmpfs": "512m", "reuse": False}},
    {"metadata": {"target": ["a:b"]}, "tuning": {"settings": {"a": 1.5, "b": "x", "c": True}}},
    {"engine": {"driver": "psycopg2", "options": {"a": {"b": 1}}}},
    {"profiles": {"ci": {"docker": {"port": 3}}}},
]
INVALID: list[dict[str, Any]] = [
    {"unknown": 1},
    {"provider": "dokcer"},
    {"extensions": [3]},
    {"export_env": ["A B"]},
    {"docker": {"prot": 1}},
    {"docker": {"port": 70000}},
    {"docker": {"tmpfs": 3}},
    {"docker": {"tmpfs": "lots"}},
    {"engine": {"driver": "asyncpg"}},
    {"engine": {"url": "mysql://localhost/x"}},
    {"tuning": {"shared_buffers": "128mb"}},
    {"tuning": {"settings": {"a": []}}},
    {"profiles": {"ci": {"dokcer": {}}}},
    {"profiles": {"ci": {"profiles": {}}}},
]


def _accepts(document: dict[str, Any]) -> bool:
    fastjsonschema: Any = import_module("fastjsonschema")
    try:
        fastjsonschema.validate(json.loads(generated()["schemas/elefast.schema.json"]), document)
    except fastjsonschema.JsonSchemaValueException:
        return False
    return True


@pytest.mark.parametrize("document", VALID)
def test_the_schema_accepts(document: dict[str, Any]) -> None:
    """What elefast accepts, an editor accepts."""
    assert _accepts(document)


@pytest.mark.parametrize("document", INVALID)
def test_the_schema_refuses(document: dict[str, Any], project: Project) -> None:
    """What an editor marks, elefast refuses, and the other way round."""
    assert not _accepts(document)
    assert project.problems(**document) if "profiles" not in document else True


WRITTEN: list[Any] = [
    True,
    -3,
    1.5,
    'quotes " and \\ and \n and \x7f and ä',
    ["a", ["b", 1]],
    {"a b": {"c": []}, "d": "e"},
    {},
    [],
]


@pytest.mark.parametrize("value", WRITTEN)
def test_values_survive_toml(value: Any) -> None:
    """What is written can be read again."""
    assert tomllib.loads(f"{toml_key('a.b')} = {toml_value(value)}") == {"a.b": value}
