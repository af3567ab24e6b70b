"""Passwords are hidden where people look, and plain where programs do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from elefast.config.tables import Docker, Engine, Table
from elefast.runtime.redaction import redact

if TYPE_CHECKING:
    from tests.unit.config.conftest import Project

URLS = {
    "postgresql://me:secret@localhost/x": "postgresql://me:***@localhost/x",
    "postgresql+asyncpg://me:secret@[::1]:5432/x": "postgresql+asyncpg://me:***@[::1]:5432/x",
    "postgresql://me:se:cr@et/secret@localhost/x": "postgresql://me:***@localhost/x",
    "postgresql://:secret@localhost/x": "postgresql://:***@localhost/x",
    "postgresql://me:secret": "postgresql://me:***",
    "postgres:/me:secret@localhost": "postgres:***@localhost",
    "me:secret@localhost": "me:***@localhost",
    "postgresql://localhost/x?user=me&password=secret": "postgresql://localhost/x?user=me&password=***",
    "postgresql://localhost/x?oauth_client_secret=secret&port=1": "postgresql://localhost/x?oauth_client_secret=***&port=1",
    "host=localhost password='sec ret' user=me": "host=localhost password=*** user=me",
    "postgresql://me@localhost:5432/x": "postgresql://me@localhost:5432/x",
    "postgresql://localhost:5432/x": "postgresql://localhost:5432/x",
    "postgresql://[::1]:5432/x": "postgresql://[::1]:5432/x",
    "postgresql:///x?host=/tmp": "postgresql:///x?host=/tmp",
    "": "",
}


@pytest.mark.parametrize(("url", "shown"), URLS.items())
def test_urls(url: str, shown: str) -> None:
    """A password is hidden in right and in broken URLs; what is none stays readable."""
    assert redact("engine.url", url) == shown


VALUES: list[tuple[str, Any, Any]] = [
    ("docker.password", "secret", "***"),
    ("docker.password", "", ""),
    ("docker.password", 123, "***"),
    ("docker.password", ["secret"], ["***"]),
    ("docker", '{"port": 1, "password": "se\\"cret"', '{"port": 1, "password": ***'),
    ("docker", "{'sslpassword' : 'secret', 'x': 1}", "{'sslpassword' : ***, 'x': 1}"),
    ("patch", ["app.password:load"], ["app.password:load"]),
    ("connect_args", {"password": "secret", "user": "me"}, {"password": "***", "user": "me"}),
    ("connect_args", {"sslpassword": "secret", "passfile": "/x"}, {"sslpassword": "***", "passfile": "/x"}),
    ("run", ["psql", "postgresql://me:secret@localhost/x"], ["psql", "postgresql://me:***@localhost/x"]),
    ("run", ["tool", "--password=secret"], ["tool", "--password=***"]),
    ("seed", ["tests.seeding:load"], ["tests.seeding:load"]),
    ("port", 5432, 5432),
    ("config", "/here/postgresql:/me:secret@localhost", "/here/postgresql:/me:***@localhost"),
    ("image", "registry:5000/postgres:18@sha256:1234", "registry:5000/postgres:18@sha256:1234"),
]


@pytest.mark.parametrize(("key", "value", "shown"), VALUES)
def test_other_values(key: str, value: Any, shown: Any) -> None:
    """Keys that hold passwords, and URLs anywhere."""
    assert redact(key, value) == shown


def test_a_long_value_is_looked_at_once() -> None:
    """Whatever the value: a search for its end at every place of it would take minutes for this one."""
    value = "@" + "//x:" * 200_000
    assert redact("engine.url", value) == value


def test_settings_hide_passwords_in_text_only(project: Project) -> None:
    """`repr` and `str` hide what `model_dump()` and the attributes have."""
    project.write("elefast.toml", "")
    settings = project.load(
        engine={"url": "postgresql://me:secret@localhost/x", "connect_args": {"password": "secret"}},
        docker__password="secret",
        extensions=["postgresql://me:secret@localhost/x"],  # of all places
    ).settings
    for text in (repr(settings), str(settings), repr(settings.engine), str(settings.docker)):
        assert "secret" not in text
        assert "***" in text
    assert settings.model_dump()["engine"]["url"] == "postgresql://me:secret@localhost/x"
    assert settings.docker.password == "secret"


def test_what_is_loaded_hides_passwords(project: Project) -> None:
    """Also the object that `load_settings()` returns can be logged."""
    project.write("elefast.toml", "docker.password = 'secret'\n")
    assert "secret" not in repr(project.load({"ELEFAST_URL": "postgresql://me:secret@localhost/x"}))


@pytest.mark.parametrize(
    ("table", "values"),
    [(Engine, {"url": "mysql://me:secret@localhost/x"}), (Docker, {"password": "secret", "port": -1})],
)
def test_pydantics_own_errors_hide_passwords(table: type[Table], values: dict[str, Any]) -> None:
    """Whoever builds a table by hand gets pydantic's text."""
    with pytest.raises(ValidationError) as caught:
        table(**values)
    assert "secret" not in str(caught.value)
