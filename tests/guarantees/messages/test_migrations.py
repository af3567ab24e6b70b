"""Ways to be wrong in how the schema gets into the template."""

from __future__ import annotations

import sys
import textwrap
from dataclasses import dataclass, field

import pytest

from tests.guarantees.messages.conftest import Same, error_of, messages
from tests.integration.pytest_plugin.conftest import Project

MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase): pass

class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
"""
INI = "[alembic]\nscript_location = migrations\n"
ENV = """
from alembic import context
from sqlalchemy import create_engine

engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""


def revision(name: str, before: str | None, body: str) -> str:
    """A migration of Alembic."""
    indented = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    head = f"from alembic import op\n\nrevision = {name!r}\ndown_revision = {before!r}\n"
    return f"{head}\n\ndef upgrade():\n{indented}\n"


@dataclass(frozen=True)
class Case:
    """A project whose template cannot be built.

    Args:
        elefast: What stands in `[tool.elefast]`, from the third line on; the second names the server.
        files: What it has.
    """

    elefast: str
    files: dict[str, str] = field(default_factory=dict[str, str])


def alembic(**versions: str) -> dict[str, str]:
    """The files of a project with these revisions."""
    named = {f"migrations/versions/{name}.py": text for name, text in versions.items()}
    return {"alembic.ini": INI, "migrations/env.py": ENV, **named}


CASES = {
    # Names of the project's own code
    "module that is not there": Case('metadata.target = "modles:Base"', {"models.py": MODELS}),
    "attribute that is not there": Case('metadata.target = "models:Bsae"', {"models.py": MODELS}),
    "module that cannot be imported": Case(
        'metadata.target = "models:Base"', {"models.py": "import no_such_package\n"}
    ),
    "module with an error": Case('metadata.target = "models:Base"', {"models.py": "\n\nlimit = 1 / 0\n"}),
    "target without a colon": Case('metadata.target = "models.Base"', {"models.py": MODELS}),
    "no metadata": Case('metadata.target = "models:User.__tablename__"', {"models.py": MODELS}),
    "metadata without tables": Case(
        'metadata.target = "base:Base"',
        {"base.py": "from sqlalchemy.orm import DeclarativeBase\nclass Base(DeclarativeBase): pass\n"},
    ),
    "function that takes nothing": Case('callable.target = "build:build"', {"build.py": "def build(): pass\n"}),
    "no function": Case('callable.target = "build:build"', {"build.py": "build = 3\n"}),
    "function that fails": Case(
        'callable.target = "build:build"',
        {"build.py": "def build(connection):\n    connection.exec_driver_sql('create tabel users ()')\n"},
    ),
    "seed that is not there": Case(
        'migrator = "none"\nseed = "seeds:users"', {"seeds.py": "def user(connection): pass"}
    ),
    "patch that is not there": Case('migrator = "none"\npatch = ["app.db:engin"]', {"app/db.py": "engine = None\n"}),
    "patch of something else": Case('migrator = "none"\npatch = ["app:limit"]', {"app.py": "limit = 3\n"}),
    "patch of a property": Case(
        'migrator = "none"\npatch = ["app:settings.url"]',
        {
            "app.py": "class Settings:\n"
            "    @property\n"
            "    def url(self): return 'postgresql://app:hidden@localhost/app'\n"
            "settings = Settings()\n"
        },
    ),
    # Alembic
    "no alembic.ini": Case('migrator = "alembic"\nalembic.config = "alembic.ini"'),
    "no script_location": Case('migrator = "alembic"', {"alembic.ini": "[alembic]\n"}),
    "no env.py": Case('migrator = "alembic"', {"alembic.ini": INI}),
    "migration that fails": Case(
        'migrator = "alembic"',
        alembic(one=revision("one", None, "op.execute('select 1')\nraise ValueError('no luck')")),
    ),
    "migration with wrong SQL": Case(
        'migrator = "alembic"', alembic(one=revision("one", None, "op.execute('create tabel users ()')"))
    ),
    "two heads": Case(
        'migrator = "alembic"\nalembic.revision = "head"',
        alembic(one=revision("one", None, "pass"), a=revision("a", "one", "pass"), b=revision("b", "one", "pass")),
    ),
    "revision that is gone": Case('migrator = "alembic"', alembic(two=revision("two", "one", "pass"))),
    "env.py that connects elsewhere": Case(
        'migrator = "alembic"',
        {
            **alembic(one=revision("one", None, "pass")),
            "migrations/env.py": ENV.replace(
                'context.config.get_main_option("sqlalchemy.url")', '"postgresql+psycopg://app@127.0.0.1:5999/app"'
            ),
        },
    ),
    "env.py that does not commit": Case(
        'migrator = "alembic"',
        {
            **alembic(one=revision("one", None, "pass")),
            "migrations/env.py": ENV.replace("with context.begin_transaction():", "if True:"),
        },
    ),
    "env.py without migrations": Case(
        'migrator = "alembic"',
        {**alembic(one=revision("one", None, "pass")), "migrations/env.py": "from alembic import context\n"},
    ),
    # SQL files
    "SQL file that is not there": Case('sql.files = ["schema.sql", "data/*.sql"]'),
    "statement that fails": Case(
        'sql.files = ["schema.sql"]',
        {"schema.sql": "create table a (id int);\n\ncreate table b (\n  id int references c\n);\n"},
    ),
    "commands of psql": Case('sql.files = ["schema.sql"]', {"schema.sql": "select 1;\n\\i other.sql\n"}),
    "transaction that stays open": Case('sql.files = ["schema.sql"]', {"schema.sql": "begin;\nselect 1;\n"}),
    # Commands
    "command that is not there": Case('command.run = ["no-such-tool", "up"]'),
    "command that fails": Case('command.run = ["sh", "-c", "echo connecting; echo no such table >&2; exit 3"]'),
    "one string with spaces": Case('command.run = ["dbmate up"]'),
    # Extensions
    "extension that is not there": Case('migrator = "none"\nextensions = ["pgvector"]'),
}


@pytest.mark.parametrize("name", CASES)
def test_pytest_says(project: Project, same: Same, name: str) -> None:
    """The error of the test that wanted a database, from its headline to the next."""
    case = CASES[name]
    project.configure(case.elefast)
    for file, text in case.files.items():
        project.file(file, text)
    result = project.run()
    result.assert_outcomes(errors=1)
    same(name, error_of(result))


@pytest.mark.parametrize("package", ["alembic", "psycopg2"])
def test_a_package_that_is_not_installed(
    project: Project, same: Same, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """The message has the line that installs it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    project.configure(
        'migrator = "none"\nengine.driver = "psycopg2"' if package == "psycopg2" else 'migrator = "alembic"'
    )
    project.file("alembic.ini", INI)
    project.tests("def test_it(db_session): pass")
    same(f"no {package}", error_of(project.run()))


def test_no_greenlet(project: Project, same: Same) -> None:
    """SQLAlchemy 2.1 does not bring it."""
    project.tests("def test_it(async_db): pass")
    project.file("conftest.py", "import sys\nsys.modules['greenlet'] = None\n")
    same("no greenlet", error_of(project.run_apart()))


def test_every_message_is_of_a_case() -> None:
    """What is written is compared."""
    assert messages("migrations").keys() == {*CASES, "no alembic", "no psycopg2", "no greenlet"}
