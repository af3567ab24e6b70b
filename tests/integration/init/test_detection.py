"""What `elefast init` proposes for projects of the kinds that there are, each as its developers would have it."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from elefast.cli.init.project import Project, read_project
from elefast.cli.init.proposal import InitOptions, Proposal, propose

BASE = """\
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
class Base(DeclarativeBase): ...
"""
MODEL = """\
from {source} import {base}
from sqlalchemy.orm import Mapped, mapped_column
class {name}({base}):
    __tablename__ = "{table}"
    id: Mapped[int] = mapped_column(primary_key=True)
"""
REVISION = """\
from alembic import op
import sqlalchemy as sa
revision = "{name}"
down_revision = {before}
def upgrade():
    {body}
"""


def write(root: Path, files: dict[str, str]) -> None:
    """Files by their paths."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def seen(root: Path, files: dict[str, str]) -> Project:
    """A look at a project with these files."""
    write(root, files)
    return read_project(root)


def proposed(root: Path, files: dict[str, str]) -> dict[str, object]:
    """The proposal by its keys."""
    made = propose(seen(root, files), InitOptions())
    return {".".join(part for part in (line.table, line.key) if part): line.value for line in made.lines}


def notes(root: Path, files: dict[str, str]) -> list[str]:
    """What the user is told."""
    made: Proposal = propose(seen(root, files), InitOptions())
    return made.notes


def model(name: str, source: str = "shop.base", base: str = "Base") -> str:
    """A module with one model."""
    return MODEL.format(name=name.title(), table=name, source=source, base=base)


def revision(body: str, name: str = "0001", before: str = "None") -> str:
    """One revision of Alembic."""
    return REVISION.format(name=name, before=before, body=body)


# Models


def test_abstract_classes_are_followed_to_any_depth(tmp_path: Path) -> None:
    """Over modules, aliases of modules and a further class between them."""
    files = {
        "shop/__init__.py": "",
        "shop/db.py": BASE
        + "class Model(Base):\n    __abstract__ = True\nclass Timed(Model):\n    __abstract__ = True\n",
        "shop/tea.py": "from shop import db\nclass Tea(db.Timed):\n    __tablename__ = 'tea'\n    # sqlalchemy\n",
        "shop/flag.py": model("flag", "shop.db"),
        "shop/cup.py": "from .db import Model as Parent\nclass Cup(Parent):\n    __tablename__ = 'cup'\n",
    }
    found = seen(tmp_path, files)
    assert {one.name for one in found.sources.declared.models} == {"Tea", "Flag", "Cup"}
    assert found.sources.declared.tables == {"tea", "flag", "cup"}
    assert {one.partition(":")[0] for one in found.sources.declared.targets} == {"shop.tea", "shop.flag", "shop.cup"}


def test_a_package_that_imports_all_models_is_the_only_target(tmp_path: Path) -> None:
    """Instead of one entry for each of its modules, also where it does not have the base."""
    files = {
        "shop/__init__.py": "",
        "shop/base.py": BASE,
        "shop/models/__init__.py": "from shop.models.cup import Cup\nfrom .tea import Tea\n",
        "shop/models/cup.py": model("cup"),
        "shop/models/tea.py": model("tea"),
    }
    assert proposed(tmp_path, files)["metadata.target"] == "shop.models:Cup.metadata"


def test_what_only_a_type_checker_imports_is_not_imported(tmp_path: Path) -> None:
    """So it registers no table."""
    files = {
        "shop/__init__.py": "",
        "shop/base.py": BASE,
        "shop/cup.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from shop.tea import Tea\n"
        + model("cup"),
        "shop/tea.py": model("tea"),
    }
    assert proposed(tmp_path, files)["metadata.target"] == ["shop.cup:Base", "shop.tea:Base"]


def test_two_bases_with_tables_of_their_own_are_both_targets(tmp_path: Path) -> None:
    """A third one that repeats tables is a copy, as some projects have for their first migration."""
    files = {
        "shop/__init__.py": "",
        "shop/base.py": BASE,
        "shop/models.py": model("cup") + "class Pot(Base):\n    __tablename__ = 'pot'\n",
        "shop/audit.py": BASE + "class Entry(Base):\n    __tablename__ = 'entry'\n",
        "shop/initial.py": BASE + "class Cup(Base):\n    __tablename__ = 'cup'\n",
    }
    assert proposed(tmp_path, files)["metadata.target"] == ["shop.audit:Base", "shop.models:Base"]


def test_tables_of_core_belong_to_their_metadata(tmp_path: Path) -> None:
    """`Table("x", metadata)` in one module, the `MetaData` in another."""
    files = {
        "shop/__init__.py": "",
        "shop/meta.py": "from sqlalchemy import MetaData\nmetadata = MetaData()\n",
        "shop/tables.py": "from sqlalchemy import Table\nfrom shop.meta import metadata\n"
        "cup = Table('cup', metadata)\n",
    }
    assert proposed(tmp_path, files)["metadata.target"] == "shop.tables:metadata"


def test_sqlmodel_without_alembic(tmp_path: Path) -> None:
    """`SQLModel` and the modules that define its tables; the other classes have none."""
    files = {
        "app/__init__.py": "",
        "app/heroes.py": "from sqlmodel import SQLModel\nclass HeroBase(SQLModel): ...\n"
        "class Hero(HeroBase, table=True): ...\n",
        "app/teams.py": "from sqlmodel import SQLModel\nclass Team(SQLModel, table=True): ...\n"
        "class TeamRead(SQLModel): ...\n",
    }
    found = seen(tmp_path, files).sources.declared
    assert (found.targets, found.tables) == (
        ["app.heroes:SQLModel", "app.teams:SQLModel"],
        frozenset(["hero", "team"]),
    )


def test_models_bring_the_extensions_that_they_need(tmp_path: Path) -> None:
    """Alembic's revisions create theirs; models do not."""
    files = {
        "app.py": BASE + "from sqlalchemy.dialects.postgresql import CITEXT\nfrom sqlalchemy import text\n"
        "setup = text('CREATE EXTENSION IF NOT EXISTS \"pg_trgm\"')\n"
        "class A(Base):\n    __tablename__ = 'a'\n    b = mapped_column(server_default=text('uuid_generate_v4()'))\n",
    }
    assert set(proposed(tmp_path, files)["extensions"]) == {"pg_trgm", "citext", "uuid-ossp"}  # type: ignore[call-overload]


# Flask


def test_flask_migrate_means_its_command(tmp_path: Path) -> None:
    """Its env.py asks for the application; the extension leads to the database."""
    files = {
        "shop/__init__.py": "from flask_sqlalchemy import SQLAlchemy\nfrom flask_migrate import Migrate\n"
        "db = SQLAlchemy()\nmigrate = Migrate()\ndef create_app(): ...\n",
        "shop/models.py": "from shop import db\nclass UserAccount(db.Model):\n"
        "    id = db.Column(db.Integer, primary_key=True)\n",
        "config.py": "import os\nclass Config:\n    SQLALCHEMY_DATABASE_URI = os.environ.get('DATABASE_URL')\n",
        "requirements.txt": "flask\npsycopg2-binary==2.9.9\n",
        ".flaskenv": "FLASK_APP=shop\n",
        "migrations/alembic.ini": "[alembic]\n",
        "migrations/env.py": "from flask import current_app\n",
        "migrations/versions/1.py": revision("op.create_table('user_account', sa.Column('id', sa.Integer))"),
    }
    found = proposed(tmp_path, files)
    assert found == {
        "migrator": "command",
        "export_env": ["DATABASE_URL"],
        "patch": ["shop:db"],
        "command.run": ["flask", "--app", "shop", "db", "upgrade"],
        "command.env": ["DATABASE_URL"],
        "template.watch": ["migrations/**/*.py"],
        "engine.driver": "psycopg2",
    }
    assert read_project(tmp_path).sources.declared.tables == {"user_account"}


def test_flask_sqlalchemy_without_migrations_is_metadata(tmp_path: Path) -> None:
    """`db.metadata`, with the module that has the models."""
    files = {
        "shop/__init__.py": "",
        "shop/extensions.py": "from flask_sqlalchemy import SQLAlchemy\ndb = SQLAlchemy()\n",
        "shop/models.py": "from .extensions import db\nclass Cup(db.Model):\n"
        "    id = db.Column(db.Integer, primary_key=True)\n",
    }
    found = proposed(tmp_path, files)
    assert (found["metadata.target"], found["patch"]) == ("shop.models:db.metadata", ["shop.extensions:db"])


# Alembic


@pytest.mark.parametrize("config", ["conf/alembic.ini", "shop/db/alembic.ini"])
def test_alembic_is_found_wherever_its_ini_is(tmp_path: Path, config: str) -> None:
    """With a location relative to the project, or to the file; its models and sessions are not the application's."""
    location = "shop/db/migrations" if config.startswith("conf") else "migrations"
    files = {
        config: f"[alembic]\nscript_location = {location}\n",
        "shop/__init__.py": "",
        "shop/base.py": BASE,
        "shop/models.py": model("cup"),
        "shop/db/migrations/env.py": "from sqlalchemy.orm import sessionmaker\nimport os\n"
        "url = os.environ['DATABASE_URL']\n",
        "shop/db/migrations/versions/1.py": revision("op.create_table('cup', sa.Column('id', sa.Integer))")
        + BASE
        + "class Old(Base):\n    __tablename__ = 'old'\nfrom sqlalchemy import create_engine\ne = create_engine('')\n",
    }
    found = proposed(tmp_path, files)
    assert found == {"migrator": "alembic", "alembic.config": config, "export_env": ["DATABASE_URL"]}


def test_revisions_that_begin_in_the_middle_are_not_used(tmp_path: Path) -> None:
    """Where the first one changes a table that none creates, the models make the schema, and the user is told."""
    files = {
        "alembic.ini": "[alembic]\nscript_location = migrations\n",
        "shop/__init__.py": "",
        "shop/base.py": BASE,
        "shop/models.py": model("cup") + "class Tea(Base):\n    __tablename__ = 'tea'\n",
        "migrations/env.py": "",
        "migrations/versions/1.py": revision("op.add_column('cup', sa.Column('name', sa.Text))"),
        "migrations/versions/2.py": revision("op.create_table('tea')", "0002", "'0001'"),
    }
    assert proposed(tmp_path, files)["metadata.target"] == "shop.models:Base"
    assert any("begin with tables that they do not create (cup)" in note for note in notes(tmp_path, files))


def test_of_several_alembic_projects_the_one_with_the_models_tables_is_used(tmp_path: Path) -> None:
    """The others are named."""
    files = {
        "a/alembic.ini": "[alembic]\nscript_location = a/migrations\n",
        "a/migrations/env.py": "",
        "a/migrations/versions/1.py": revision("op.create_table('other')"),
        "b/alembic.ini": "[alembic]\nscript_location = %(here)s/migrations\n",
        "b/migrations/env.py": "from shop.models import Base\ntarget_metadata = Base.metadata\n",
        "b/migrations/versions/1.py": revision("op.create_table('cup')"),
        "shop/__init__.py": "",
        "shop/base.py": BASE,
        "shop/models.py": model("cup"),
    }
    assert proposed(tmp_path, files)["alembic.config"] == "b/alembic.ini"
    assert "further Alembic projects are left out: a/alembic.ini" in notes(tmp_path, files)


# Variables and drivers


LIFESPAN = """\
from contextlib import asynccontextmanager
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import {name}
@asynccontextmanager
async def lifespan(app):
    engine = create_async_engine({url})
    yield
"""
SETTINGS = """\
from pydantic import AliasChoices, BaseModel, Field, PostgresDsn
from pydantic_settings import BaseSettings, SettingsConfigDict
{classes}
settings = Settings()
"""


@pytest.mark.parametrize(
    ("classes", "url", "exported", "patched"),
    [
        (
            "class Settings(BaseSettings):\n    database_url: str\n",
            "settings.database_url",
            "DATABASE_URL",
            "app.config:settings.database_url",
        ),
        (
            "class Settings(BaseSettings):\n    model_config = SettingsConfigDict(env_prefix='APP_')\n"
            "    db_dsn: str = ''\n",
            "str(settings.db_dsn)",
            "APP_DB_DSN",
            "app.config:settings.db_dsn",
        ),
        (
            "class Settings(BaseSettings):\n"
            "    url: PostgresDsn = Field(validation_alias=AliasChoices('MAIN_DB', 'DB'))\n",
            "str(settings.url)",
            "MAIN_DB",
            "app.config:settings.url",
        ),
        (
            "class Settings(BaseSettings):\n    dsn: str = Field(alias='PG_DSN')\n",
            "settings.dsn",
            "PG_DSN",
            "app.config:settings.dsn",
        ),
        (
            "class Db(BaseModel):\n    dsn: PostgresDsn\n"
            "class Settings(BaseSettings):\n"
            "    model_config = {'env_prefix': 'X_', 'env_nested_delimiter': '__'}\n    db: Db\n",
            "str(settings.db.dsn)",
            "X_DB__DSN",
            "",
        ),
        (
            "class Common(BaseSettings):\n    class Config:\n        env_prefix = 'my_'\n"
            "class Settings(Common):\n    database_url: str\n",
            "settings.database_url",
            "MY_DATABASE_URL",
            "app.config:settings.database_url",
        ),
    ],
    ids=["plain", "prefix", "alias-choices", "alias", "nested", "config-class-of-a-base"],
)
def test_a_field_of_settings_is_a_variable(tmp_path: Path, classes: str, url: str, exported: str, patched: str) -> None:
    """With prefix, alias and delimiter; an async engine made of it gets the async driver, and the value is patched."""
    files = {
        "pyproject.toml": '[project]\nname = "app"\ndependencies = ["asyncpg", "psycopg"]\n',
        "app/__init__.py": "",
        "app/config.py": SETTINGS.format(classes=classes),
        "app/main.py": LIFESPAN.format(name="settings", url=url),
    }
    found = proposed(tmp_path, files)
    assert found["export_env"] == [f"{exported}=postgresql+asyncpg"]
    if patched:
        assert found["patch"] == [patched]


def test_a_url_that_a_function_returns_is_followed_to_its_engine(tmp_path: Path) -> None:
    """Through a constant with the name of the variable, a function and a local name."""
    files = {
        "app/__init__.py": "",
        "app/names.py": "ENV_URL = 'SHOP_DB_URL'\n",
        "app/config.py": "import os\nfrom app.names import ENV_URL\ndef get_database_url():\n"
        "    return os.getenv(ENV_URL)\n",
        "app/main.py": "from sqlalchemy.ext.asyncio import create_async_engine\n"
        "from app.config import get_database_url\n"
        "def start():\n    url = get_database_url()\n    return create_async_engine(url)\n",
        "app/report.py": "from sqlalchemy import create_engine\nother = create_engine('sqlite://')\n",
        "requirements.txt": "asyncpg\n",
    }
    assert proposed(tmp_path, files)["export_env"] == ["SHOP_DB_URL=postgresql+asyncpg"]


def test_the_driver_is_that_of_the_call_that_reads_the_variable(tmp_path: Path) -> None:
    """Sync, async, both, with a driver that the application adds itself, and without SQLAlchemy."""
    files = {
        "requirements.txt": "asyncpg\npsycopg\n",
        "app.py": "import os, asyncpg\nfrom sqlalchemy import create_engine\n"
        "from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine\n"
        "def a():\n    create_engine(os.environ['A_DB_URL'])\n    create_async_engine(os.environ['B_DB_URL'])\n"
        "    create_engine(os.environ['C_DB_URL']); create_async_engine(os.environ['C_DB_URL'])\n"
        "    AsyncEngine(create_engine(os.environ['D_DB_URL']))\n"
        "    create_async_engine(os.environ['E_DB_URL'].replace('postgresql://', 'postgresql+asyncpg://'))\n"
        "async def f():\n    await asyncpg.connect(os.environ['F_DB_URL'])\n",
    }
    assert proposed(tmp_path, files)["export_env"] == [
        "A_DB_URL",
        "B_DB_URL=postgresql+asyncpg",
        "C_DB_URL",
        "D_DB_URL=postgresql+asyncpg",
        "E_DB_URL=postgresql",
        "F_DB_URL=postgresql",
    ]


def test_a_constant_that_was_read_at_import_is_patched_where_it_is_used(tmp_path: Path) -> None:
    """A module that imported it by name has its own copy."""
    files = {
        "app/__init__.py": "",
        "app/config.py": "import os\nDATABASE_URL = os.environ['DATABASE_URL']\n",
        "app/db.py": "from sqlalchemy import create_engine\nfrom app.config import DATABASE_URL\n"
        "def connect():\n    return create_engine(DATABASE_URL)\n",
    }
    assert proposed(tmp_path, files)["patch"] == ["app.db:DATABASE_URL"]


def test_session_factories_without_an_engine_lead_nowhere(tmp_path: Path) -> None:
    """Whoever uses them says which engine; those with one are patched."""
    files = {
        "app.py": "from sqlalchemy import create_engine\nfrom sqlalchemy.orm import sessionmaker\n"
        "engine = create_engine('postgresql://x')\nSession = sessionmaker()\nBound = sessionmaker(bind=engine)\n",
    }
    assert proposed(tmp_path, files)["patch"] == ["app:engine", "app:Bound"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "import os\nurl = 'postgresql://{}:{}@{}:{}/{}'.format(\n"
            "    *(os.environ[f'POSTGRES_{part}'] for part in ('USER', 'PASSWORD', 'SERVER', 'PORT', 'DB'))\n)\n",
            ["POSTGRES_SERVER={host}", "POSTGRES_PORT={port}", "POSTGRES_USER={user}", "POSTGRES_PASSWORD={password}",
             "POSTGRES_DB={database}"],
        ),
        (
            "import os\nurl = URL.create(host=os.getenv('DB_HOST'), username=os.getenv('DB_USER'),\n"
            "    password=os.getenv('DB_PASS'), database=os.getenv('DB_NAME'))\nx = os.getenv('SMTP_HOST')\n"
            "y = os.getenv('SMTP_USER'); z = os.getenv('SMTP_PASSWORD'); s = os.getenv('SMTP_PORT')\n",
            ["DB_HOST={host}", "DB_USER={user}", "DB_PASS={password}", "DB_NAME={database}"],
        ),
        (
            "import os\nurl = os.environ['PGHOST'] + os.environ['PGPORT'] + os.environ['PGDATABASE']\n",
            ["PGHOST={host}", "PGPORT={port}", "PGDATABASE={database}"],
        ),
        (
            SETTINGS.format(
                classes="class Settings(BaseSettings):\n    POSTGRES_SERVER: str\n    POSTGRES_PORT: int = 5432\n"
                "    POSTGRES_USER: str\n    POSTGRES_DB: str = ''\n    @property\n    def url(self): ...\n"
            ),
            ["POSTGRES_SERVER={host}", "POSTGRES_PORT={port}", "POSTGRES_USER={user}", "POSTGRES_DB={database}"],
        ),
    ],
    ids=["loop", "url-create", "libpq", "settings"],
)  # fmt: skip
def test_parts_of_a_url_are_exported_by_themselves(tmp_path: Path, source: str, expected: list[str]) -> None:
    """Of the database, not of the mail server."""
    assert proposed(tmp_path, {"settings.py": source})["export_env"] == expected


def test_a_url_wins_over_its_parts(tmp_path: Path) -> None:
    """An application that has both takes the URL first."""
    source = (
        "import os\nu = os.getenv('DATABASE_URL')\n"
        "a = os.getenv('DB_HOST'), os.getenv('DB_USER'), os.getenv('DB_NAME')\n"
    )
    assert proposed(tmp_path, {"app.py": source})["export_env"] == ["DATABASE_URL"]


# What is left out


def test_scripts_are_not_the_application(tmp_path: Path) -> None:
    """Neither directories of programs, nor a program at the top that nobody imports."""
    engine = "import os\nfrom sqlalchemy import create_engine\nengine = create_engine(os.environ['{}_DB_URL'])\n"
    files = {
        "app/__init__.py": "",
        "app/db.py": engine.format("APP"),
        "app/scripts/__init__.py": "",
        "app/scripts/db.py": engine.format("PACKAGED"),
        "scripts/load.py": engine.format("SCRIPT"),
        "app/tools/load.py": engine.format("TOOL"),
        "seed.py": engine.format("SEED") + "if __name__ == '__main__':\n    print(engine)\n",
        "docs/conf.py": engine.format("DOCS"),
    }
    assert proposed(tmp_path, files) == {
        "migrator": "none",
        "export_env": ["APP_DB_URL", "PACKAGED_DB_URL"],
        "patch": ["app.db:engine", "app.scripts.db:engine"],
    }


def test_schema_files_inside_packages_are_found(tmp_path: Path) -> None:
    """By their name and by what they create; queries create nothing."""
    files = {
        "shop/__init__.py": "",
        "shop/sql/queries.sql": "select 1;",
        "shop/sql/schema.sql": "CREATE TABLE cup (id int);",
        "shop/sql/migrations/1.sql": "CREATE TABLE old (id int);",
        "tests/unit/schema.sql": "create table fake (id int);",
    }
    assert proposed(tmp_path, files)["sql.files"] == ["shop/sql/schema.sql"]


def test_the_only_directory_of_schema_files_is_taken_whole(tmp_path: Path) -> None:
    """As a pattern, so that new files count."""
    files = {
        "src/shop/migrations/1.sql": "create table a (b int);",
        "src/shop/migrations/2.sql": "create table b (b int);",
    }
    assert proposed(tmp_path, files)["sql.files"] == ["src/shop/migrations/*.sql"]


def test_warnings_of_the_parser_are_not_shown(tmp_path: Path) -> None:
    """They are about the project's own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = seen(tmp_path, {"app.py": "import sqlalchemy\nx = '\\d'\ny = 1 is 1\n"})
    assert found.sources.imports == {"sqlalchemy"}


def test_a_large_project_is_read_in_time(tmp_path: Path) -> None:
    """Most of its files say nothing of a database, and are not parsed."""
    write(tmp_path, {f"app/part{number}.py": "def f():\n    return [1, 2, {'a': 3}]\n" * 200 for number in range(300)})
    write(tmp_path, {"app/__init__.py": "", "app/models.py": BASE + "class A(Base):\n    __tablename__ = 'a'\n"})
    found = read_project(tmp_path)
    assert found.sources.declared.tables == {"a"}
    assert len(found.sources.tree.modules) == 2
