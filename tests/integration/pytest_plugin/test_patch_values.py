"""`patch` of URLs: replaced under every name, given back in their type, refused where they cannot be replaced."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from packaging.version import Version

from .conftest import Project

CONFIG = """
from dataclasses import dataclass
import pydantic
from pydantic import BaseModel, ConfigDict, PostgresDsn, SecretStr
from sqlalchemy import create_engine, make_url

TEXT = "postgresql+psycopg://me:hidden@127.0.0.1:1/precious"

class Settings(BaseModel):
    text: str = TEXT
    dsn: PostgresDsn = PostgresDsn(TEXT)
    short: PostgresDsn = PostgresDsn(TEXT.replace("postgresql+psycopg", "postgres"))
    secret: SecretStr = SecretStr(TEXT)
    if hasattr(pydantic, "Secret"):
        sealed: pydantic.Secret[PostgresDsn] = pydantic.Secret[PostgresDsn](PostgresDsn(TEXT))
    @property
    def computed(self): return self.text
    @property
    def engine(self): return create_engine(self.text)
    @property
    def broken(self): raise KeyError("no luck")

class Frozen(Settings):
    model_config = ConfigDict(frozen=True)

@dataclass(frozen=True)
class Plain:
    url: str = TEXT

settings, frozen, plain = Settings(), Frozen(), Plain()
"""

# Not asked of pydantic itself: what is imported here would be half there in the inner runs.
SEALED = pytest.param(
    "sealed",
    marks=pytest.mark.skipif(Version(version("pydantic")) < Version("2.8"), reason="pydantic has Secret from 2.8 on"),
)


@pytest.fixture
def app(project: Project) -> Project:
    """A project with settings of several kinds."""
    project.file("config.py", CONFIG)
    return project


@pytest.mark.parametrize("name", ["text", "dsn", "short", "secret", SEALED])
def test_a_value_keeps_its_type(app: Project, name: str) -> None:
    """What pydantic has is given back in the same type, with the same scheme."""
    app.configure(f'patch = ["config:settings.{name}"]')
    app.tests(
        "import config, pytest\n"
        f"BEFORE = config.settings.{name}\n"
        "def text(value):\n"
        "    while hasattr(value, 'get_secret_value'): value = value.get_secret_value()\n"
        "    return str(value)\n"
        "@pytest.mark.parametrize('n', range(2))\n"
        "def test_it(db, n):\n"
        f"    found = config.settings.{name}\n"
        "    assert type(found) is type(BEFORE) and 'hidden' not in text(found)\n"
        "    assert text(found).startswith(text(BEFORE).partition(':')[0] + '://')\n"
        "    assert config.make_url(text(found)).database == db.name\n"
        f"def test_after(): assert config.settings.{name} is BEFORE\n"
    )
    app.run().assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("settings.computed", "computed is a property of config.Settings that cannot be set. Name the engine *"),
        ("frozen.text", "config.Frozen is frozen, so its text cannot be set. *"),
        ("frozen.secret", "config.Frozen is frozen, so its secret cannot be set. *"),
        ("plain.url", "config.Plain does not let its url be set (FrozenInstanceError). *"),
        ("settings.engine", "returns another engine at each access; name the object that keeps one"),
        ("settings.broken", "reading config.settings.broken failed"),
        ("settings.model_config", "expected an Engine, *"),
    ],
)
def test_what_cannot_be_replaced_is_an_error_before_a_template_is_built(
    app: Project, target: str, message: str
) -> None:
    """It has the place in the file, no traceback of elefast's and no password."""
    app.configure(f'migrator = "callable"\ncallable.target = "build:build"\npatch = ["config:{target}"]')
    app.file("build.py", "def build(connection): open('built', 'w').close()\n")
    app.tests("def test_it(db): pass\ndef test_again(db): pass\n")
    result = app.run()
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines([f'*pyproject.toml:5  patch: "config:{target}": {message}'])
    for text in ("*hidden*", "*pytest_plugin*", "*Traceback*"):
        if not (target == "settings.broken" and text == "*Traceback*"):
            result.stdout.no_fnmatch_line(text)
    assert not (app.path / "built").exists()


def test_other_names_of_a_url_follow(app: Project) -> None:
    """Names in other modules and classes, those bound during a test, and engines that were made from it."""
    app.configure('patch = ["config:TEXT"]')
    app.file(
        "names.py",
        "from config import TEXT, create_engine\n"
        "from config import TEXT as OTHER\n"
        "class Config:\n    SQLALCHEMY_DATABASE_URI = TEXT\n",
    )
    app.file("engines.py", "from config import TEXT, create_engine\nengine = create_engine(TEXT)\n")
    app.tests(
        "import config, engines, pytest\n"
        "from config import TEXT\n"
        "from elefast.errors import RefusedError\n"
        "from sqlalchemy import text\n"
        "@pytest.mark.parametrize('n', range(2))\n"
        "def test_it(db, n):\n"
        "    import names\n"
        "    for found in TEXT, names.TEXT, names.OTHER, names.Config.SQLALCHEMY_DATABASE_URI:\n"
        "        assert config.make_url(found).database == db.name\n"
        "    with engines.engine.connect() as connection:\n"
        "        assert connection.scalar(text('SELECT current_database()')) == db.name\n"
        "def test_after():\n"
        "    import names\n"
        "    assert TEXT == names.TEXT == names.OTHER == names.Config.SQLALCHEMY_DATABASE_URI == config.TEXT\n"
        "    assert 'request-the-db-fixture.elefast.invalid' in TEXT\n"
        "    with pytest.raises(RefusedError): engines.engine.connect()\n"
    )
    app.run().assert_outcomes(passed=3)


def test_outside_of_a_test_a_url_leads_nowhere(app: Project) -> None:
    """Neither a conftest, nor a test without a database, nor a reload gives the developer's URL to anybody."""
    app.configure('patch = ["config:settings.text", "config:settings.secret"]')
    app.file("engines.py", "from config import create_engine, settings\nengine = create_engine(settings.text)\n")
    app.file(
        "conftest.py", "import config\nEARLY = [config.settings.text, config.settings.secret.get_secret_value()]\n"
    )
    app.tests(
        "import config, engines, importlib, pytest\n"
        "from conftest import EARLY\n"
        "from sqlalchemy import text\n"
        "HOST = 'request-the-db-fixture.elefast.invalid'\n"
        "def hosts(values): return {config.make_url(value).host for value in values}\n"
        "def now(): return config.settings.text, config.settings.secret.get_secret_value()\n"
        "def test_before():\n"
        "    assert hosts(EARLY) == hosts(now()) == {HOST}\n"
        # psycopg 3.1 does not name the host that it does not find.
        "    expected = 'while no test has it|Name or service not known|' + HOST\n"
        "    with pytest.raises(Exception, match=expected): engines.engine.connect()\n"
        "def test_it(db):\n"
        "    assert {config.make_url(value).database for value in now()} == {db.name}\n"
        "    with engines.engine.connect() as connection:\n"
        "        assert connection.scalar(text('SELECT current_database()')) == db.name\n"
        "    importlib.reload(config)\n"
        "    assert {config.make_url(value).database for value in now()} == {db.name}\n"
        "def test_after(): assert hosts(now()) == {HOST}\n"
    )
    app.run().assert_outcomes(passed=3)


def test_all_that_is_wrong_is_told_at_once(app: Project) -> None:
    """One error for every target, and not one after the other."""
    app.configure('patch = ["config:frozen.text", "config:Settings", "confg:x"]')
    app.tests("def test_it(db): pass\n")
    result = app.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            '*"config:frozen.text": config.Frozen is frozen*',
            '*"config:Settings": expected an Engine, *',
            "*\"confg:x\": there is no module 'confg'*",
            "3 problems in elefast's configuration",
        ]
    )
