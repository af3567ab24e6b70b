"""The schema and elefast give the same verdict on a document; where elefast knows more, the table says so."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import fastjsonschema
import jsonschema
import pytest

from elefast import load_settings
from elefast.config.keys import all_keys
from elefast.config.schema import get_schema
from elefast.config.toml_writer import toml_value
from elefast.errors import ConfigurationError

VALID = """
migrator = "none"
provider = "local"
provider = "docker"
isolation = "transaction"
keep = "failed"
leaks = "ignore"
postgres = ">=15,<19"
extensions = ["pg_trgm", "postgis"]
seed = ["a.sql", "tests.seeding:load"]
export_env = ["DATABASE_URL", "APP=postgresql", "OTHER=postgresql+asyncpg"]
patch = ["app.db:engine"]
engine.driver = "psycopg2"
engine.driver = ""
engine.async_driver = "asyncpg"
engine.pool_size = 0
engine.max_overflow = -1
engine.echo = true
engine.echo = "debug"
engine.connect_args = { connect_timeout = 5, options = "-c a=b" }
engine.options.pool_timeout = 5
engine.allow_remote = true
docker.image = "registry.example:5000/postgres:18@sha256:0123"
docker.name = "my_app-1.tests"
docker.port = 65535
docker.reuse = "auto"
docker.reuse = false
docker.pull = "never"
docker.tmpfs = "512m"
docker.tmpfs = false
docker.shm_size = ""
local.reuse = true
local.run_as = "postgres"
tuning.fsync = true
tuning.wal_level = "logical"
tuning.shared_buffers = "1GB"
tuning.shared_buffers = ""
tuning.checkpoint_timeout = "30s"
tuning.max_connections = 1
tuning.settings = { random_page_cost = 1.1, search_path = "a", geqo = false, n = 1 }
template.cache = false
template.watch = ["db/**/*.sql"]
template.strategy = "wal_log"
template.keep = 0
pool.size = 0
pool.max = 1
profiles.ci.keep = "always"
profiles.ci.docker.reuse = false
profiles = {}
"""

INVALID = """
provider = "Docker"
provider = true
migrators = "none"
isolation = ""
keep = true
leaks = "warning"
postgres = 15
extensions = "pg_trgm"
extensions = [1]
extensions = [""]
seed = [[]]
export_env = ["1DATABASE"]
export_env = ["A B"]
patch = ["app.db"]
patch = "app.db:engine"
engine = "postgresql://"
engine.driver = "asyncpg"
engine.async_driver = "psycopg2"
engine.pool_size = -1
engine.pool_size = "5"
engine.pool_size = 1.5
engine.max_overflow = -2
engine.echo = "yes"
engine.connect_args = []
engine.allow-remote = true
docker.prot = 5432
docker.port = 65536
docker.port = -1
docker.port = "5432"
docker.reuse = "never"
docker.pull = "Always"
docker.tmpfs = 512
docker.tmpfs = "a lot"
docker.name = "-x"
local.reuse = "yes"
tuning.fsync = "off"
tuning.wal_level = "hot_standby"
tuning.shared_buffers = 128
tuning.shared_buffers = "128 megabytes"
tuning.max_connections = 0
tuning.settings = { a = [] }
tuning.settings = "a=b"
template.cache = "no"
template.watch = "x"
template.strategy = "FILE_COPY"
template.keep = -1
engine.url = "mysql://localhost/x"
pool = 4
pool.size = -1
pool.max = 0
profiles = []
profiles.ci = 1
profiles.ci.kepe = "never"
profiles.ci.profiles = {}
profiles.ci.docker.port = "x"
profiles."".keep = "always"
"""

# What a schema cannot say: rules over several keys, over files, or of a language within a string.
BEYOND = {
    'migrator = "sql"': "another key is needed",
    'migrator = "metadata"': "another key is needed",
    'provider = "url"': "another key is needed",
    'engine.url = "postgresql://db.example.com/x"': "the host of a URL",
    'postgres = "fifteen"': "a version specifier",
    'sql.files = ["a.sql"]\ncommand.run = ["make"]': "two migrators",
    "tuning.settings = { jit = true }": "a key of elefast's own in an open table",
}


def lines(text: str) -> list[str]:
    """One document a line."""
    return [line for line in text.splitlines() if line]


@cache
def by_schema() -> list[Callable[[Any], Any]]:
    """Validators of two libraries, which differ in what they overlook."""
    schema = get_schema()
    return [fastjsonschema.compile(schema), jsonschema.Draft7Validator(schema).validate]


def schema_accepts(document: str) -> bool:
    """What both libraries say."""
    data = tomllib.loads(document)
    verdicts: set[bool] = set()
    for validate in by_schema():
        try:
            validate(data)
        except (fastjsonschema.JsonSchemaException, jsonschema.ValidationError):
            verdicts.add(False)
        else:
            verdicts.add(True)
    (verdict,) = verdicts
    return verdict


def elefast_accepts(document: str, directory: Path) -> bool:
    """What elefast says; profiles that are not in force count."""
    (directory / "elefast.toml").write_text(document, encoding="utf-8")
    try:
        load_settings(directory, env={})
    except ConfigurationError:
        return False
    return True


@pytest.mark.parametrize("document", lines(VALID))
def test_both_accept(document: str, tmp_path: Path) -> None:
    """A document that is right."""
    assert schema_accepts(document)
    assert elefast_accepts(document, tmp_path)


@pytest.mark.parametrize("document", lines(INVALID))
def test_both_reject(document: str, tmp_path: Path) -> None:
    """A document that is wrong."""
    assert not schema_accepts(document)
    assert not elefast_accepts(document, tmp_path)


@pytest.mark.parametrize("document", BEYOND)
def test_only_elefast_rejects(document: str, tmp_path: Path) -> None:
    """What no schema could say."""
    assert schema_accepts(document)
    assert not elefast_accepts(document, tmp_path)


@pytest.mark.parametrize("key", all_keys(), ids=lambda key: key.name)
def test_wrong_types_and_defaults(key: Any, tmp_path: Path) -> None:
    """Each key's default is right, and a value of a type that it does not have is wrong, for both."""
    # A date is a type that no key has; JSON has no word for it, so the schema's side is asked with a list of tables.
    assert schema_accepts(f"{key.name} = {toml_value(key.default)}")
    wrong = f"{key.name} = [{{ a = 1 }}]"
    assert not schema_accepts(wrong)
    assert not elefast_accepts(wrong, tmp_path)


def test_the_schema_tells_all_that_an_editor_shows() -> None:
    """A description and a default for each key, a text for each choice, nothing besides what is known."""
    schema = get_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    tables = [schema, *(one for one in schema["properties"].values() if one.get("properties"))]
    for table in tables:
        assert table["additionalProperties"] is False
        for name, key in table["properties"].items():
            assert key["description"].endswith("."), name
            assert "default" in key or "properties" in key or name == "profiles"
            for choice in key.get("oneOf", ()):
                assert "const" not in choice or choice["const"] == "" or choice["description"], (name, choice)


def test_nothing_in_it_is_not_json() -> None:
    """It survives the way through a file."""
    assert json.loads(json.dumps(get_schema())) == get_schema()
