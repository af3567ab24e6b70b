"""What environment variables mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from elefast.config.keys import all_keys, variable

if TYPE_CHECKING:
    from tests.unit.config.conftest import Project


@pytest.fixture(autouse=True)
def _a_configuration(project: Project) -> None:
    project.write("pyproject.toml", "[tool.elefast]\n")


CONVERSIONS: list[tuple[str, str, Any]] = [
    ("ELEFAST_PROVIDER", "local", "local"),
    ("ELEFAST_DOCKER__PORT", " 5433 ", 5433),
    ("ELEFAST_TUNING__FSYNC", "ON", True),
    ("ELEFAST_TUNING__FSYNC", "1", True),
    ("ELEFAST_TUNING__FSYNC", "yes", True),
    ("ELEFAST_TEMPLATE__CACHE", "false", False),
    ("ELEFAST_TEMPLATE__CACHE", "0", False),
    ("ELEFAST_DOCKER__REUSE", "auto", "auto"),
    ("ELEFAST_DOCKER__REUSE", "no", False),
    ("ELEFAST_DOCKER__TMPFS", "512m", "512m"),
    ("ELEFAST_DOCKER__TMPFS", "off", False),
    ("ELEFAST_EXTENSIONS", "pg_trgm, hstore,", ["pg_trgm", "hstore"]),
    ("ELEFAST_EXTENSIONS", '["pg_trgm", "hstore"]', ["pg_trgm", "hstore"]),
    ("ELEFAST_EXTENSIONS", "[]", []),
    ("ELEFAST_METADATA__TARGET", "app.models:Base", "app.models:Base"),
    ("ELEFAST_METADATA__TARGET", "app:A,app:B", ["app:A", "app:B"]),
    ("ELEFAST_ENGINE__OPTIONS", '{"Upper": {"x": 1}}', {"Upper": {"x": 1}}),
    ("ELEFAST_ENGINE__OPTIONS__POOL_TIMEOUT", "5", {"pool_timeout": 5}),
    ("ELEFAST_ENGINE__OPTIONS__POOL_PRE_PING", "true", {"pool_pre_ping": True}),
    ("ELEFAST_ENGINE__CONNECT_ARGS__SERVER_SETTINGS__JIT", "off", {"server_settings": {"jit": "off"}}),
    ("ELEFAST_TUNING__SETTINGS__LOG_MIN_MESSAGES", "debug1", {"log_min_messages": "debug1"}),
    ("ELEFAST_TUNING__SETTINGS__SEED", "NaN", {"seed": "NaN"}),
]


@pytest.mark.parametrize(("name", "text", "value"), CONVERSIONS)
def test_text_becomes_what_the_key_wants(project: Project, name: str, text: str, value: Any) -> None:
    """Words, numbers, lists and tables can all be said in one variable."""
    path = name.removeprefix("ELEFAST_").lower().split("__")[:2]
    found: Any = project.load({name: text}).settings
    for part in path:
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize("key", all_keys(), ids=lambda key: key.name)
def test_every_key_has_a_variable(project: Project, key: Any) -> None:
    """A variable that holds the default, or JSON for it, is accepted for every key there is."""
    import json

    text = key.default if isinstance(key.default, str) else json.dumps(key.default)
    loaded = project.load({"ELEFAST_MIGRATOR": "none", variable(key.path): text})
    assert key.default == "" or key.is_open or str(loaded.provenance[key.name]) == f"env {variable(key.path)}"


def test_empty_variables_count_as_unset(project: Project) -> None:
    """CI systems set variables to nothing all the time, also mistyped ones."""
    project.write("elefast.toml", "docker.port = 1\n")
    env = {"ELEFAST_DOCKER__PORT": "", "ELEFAST_NOTHING": "", "ELEFAST_PROFILE": "", "TESTING_DB_URL": ""}
    loaded = project.load(env)
    assert loaded.settings.docker.port == 1
    assert loaded.settings.engine.url == ""


URL_VARIABLES = ["ELEFAST_ENGINE__URL", "ELEFAST_ENGINE", "ELEFAST_URL", "TESTING_DB_URL"]


@pytest.mark.parametrize("first", range(len(URL_VARIABLES)))
def test_the_order_of_the_names_of_the_url(project: Project, first: int) -> None:
    """The key's own variable wins over the table's JSON, and both over the aliases."""
    env = {name: f"postgresql://localhost/{name}" for name in URL_VARIABLES[first:]}
    if "ELEFAST_ENGINE" in env:
        env["ELEFAST_ENGINE"] = '{"url": "postgresql://localhost/ELEFAST_ENGINE"}'
    loaded = project.load(env)
    assert loaded.settings.engine.url == f"postgresql://localhost/{URL_VARIABLES[first]}"
    assert str(loaded.provenance["engine.url"]) == f"env {URL_VARIABLES[first]}"


def test_the_old_name_of_the_port(project: Project) -> None:
    """`ELEFAST_HOST_PORT` is `docker.port`."""
    assert project.load({"ELEFAST_HOST_PORT": "5433"}).settings.docker.port == 5433


def test_a_table_in_one_variable(project: Project) -> None:
    """A JSON object sets several keys, and single variables change some of them."""
    docker = project.load({"ELEFAST_DOCKER": '{"port": 1, "image": "x"}', "ELEFAST_DOCKER__PORT": "2"}).settings.docker
    assert (docker.port, docker.image) == (2, "x")


def test_the_applications_own_url_is_never_read(project: Project) -> None:
    """`DATABASE_URL` is what tests must be kept away from."""
    assert project.load({"DATABASE_URL": "postgresql://localhost/production"}).settings.engine.url == ""


def test_a_table_by_variable_means_its_migrator(project: Project) -> None:
    """With "auto", a table that only the environment wrote is written."""
    assert project.load({"ELEFAST_SQL__FILES": "a.sql"}).migrator.migrator == "sql"
