"""What `elefast init` sees in a project, without running any of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from elefast.cli.init.project import read_project
from elefast.cli.init.proposal import InitOptions, propose
from elefast.errors import ConfigurationError


def write(root: Path, **files: str) -> None:
    """Files by their names with two underscores for a slash."""
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def proposed(root: Path, **options: object) -> dict[tuple[str, str], object]:
    """The proposal as a table."""
    made = propose(read_project(root), InitOptions(**options))  # type: ignore[arg-type]
    return {(line.table, line.key): line.value for line in made.lines}


def test_models_in_a_source_directory_with_their_base_elsewhere(tmp_path: Path) -> None:
    """The module that registers models is named, not the one that only has the base."""
    write(
        tmp_path,
        src__shop__base="from sqlalchemy.orm import DeclarativeBase\nclass Base(DeclarativeBase): ...\n",
        src__shop__one="from shop.base import Base\nclass One(Base):\n    __tablename__ = 'one'\n",
        src__shop__two="from shop import base\nclass Two(base.Base):\n    __tablename__ = 'two'\n",
        src__shop__not_a_model="class Three(Exception):\n    __tablename__ = 'three'\n",
    )
    assert proposed(tmp_path)["metadata", "target"] == ["shop.one:Base", "shop.two:base.Base"]


def test_sqlmodel_declarative_base_and_metadata(tmp_path: Path) -> None:
    """The other ways to write models down."""
    write(tmp_path, app="class Hero(SQLModel, table=True):\n    id: int\nclass Draft(SQLModel):\n    id: int\n")
    assert proposed(tmp_path)["metadata", "target"] == "app:SQLModel"
    write(tmp_path, app="B = declarative_base()\nclass Hero(B):\n    __tablename__ = 'hero'\n")
    assert proposed(tmp_path)["metadata", "target"] == "app:B"
    write(tmp_path, app="metadata: MetaData = MetaData()\n")
    assert proposed(tmp_path)["metadata", "target"] == "app:metadata"


def test_what_tests_have_is_not_the_applications(tmp_path: Path) -> None:
    """Neither their models nor their engines, and a variable that only they read is not exported."""
    write(
        tmp_path,
        app="import os\na = os.environ['DATABASE_URL']\nb = os.getenv('READ_DB_DSN')\nc = os.getenv('LOG_URL')\n",
        tests__conftest="import os\nengine = create_engine(os.environ['DATABASE_URL'])\n",
        tests__urls="import os\nother = os.environ['TEST_DB_URL']\n",
        tests__test_it="class Fake(Base):\n    __tablename__ = 'fake'\n",
    )
    made = propose(read_project(tmp_path), InitOptions())
    assert [line.value for line in made.lines if line.key == "export_env"] == [["DATABASE_URL", "READ_DB_DSN"]]
    assert not [line for line in made.lines if line.key in ("patch", "target")]
    assert any("tests/conftest.py:2 reads DATABASE_URL" in note for note in made.notes)


def test_virtual_environments_and_broken_files_are_passed_over(tmp_path: Path) -> None:
    """Whatever lies in a directory with a pyvenv.cfg is not the project's."""
    write(
        tmp_path, mine__thing="metadata = MetaData()\n", mine__broken="def (:\n", my_env__lib="metadata = MetaData()\n"
    )
    (tmp_path / "my_env" / "pyvenv.cfg").touch()
    assert proposed(tmp_path)["metadata", "target"] == "mine.thing:metadata"


def test_sql_files_where_there_is_nothing_else(tmp_path: Path) -> None:
    """Their usual places."""
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "1.sql").touch()
    assert proposed(tmp_path)["sql", "files"] == ["migrations/*.sql"]


@pytest.mark.parametrize(
    ("driver", "key"),
    [("psycopg2", ("engine", "driver")), ("pg8000", ("engine", "driver")), ("asyncpg", ("engine", "async_driver"))],
)
def test_a_driver_that_is_asked_for_is_written(tmp_path: Path, driver: str, key: tuple[str, str]) -> None:
    """Of the engines of its kind."""
    assert proposed(tmp_path, driver=driver)[key] == driver


def test_the_applications_driver_is_taken_over(tmp_path: Path) -> None:
    """From its dependencies, where it is not the one that elefast would take anyway."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["psycopg2-binary>=2.9"]\n')
    assert proposed(tmp_path)["engine", "driver"] == "psycopg2"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[project\n", "is not valid TOML"), (b'name = "\xff"\n', "is not UTF-8, as TOML has to be: byte 8 is 0xff")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    """With what to do, and before anything is written."""
    (tmp_path / "pyproject.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        read_project(tmp_path)


def test_a_byte_order_mark_is_named(tmp_path: Path) -> None:
    """Python's parser only says that the statement is invalid."""
    (tmp_path / "pyproject.toml").write_bytes(b'\xef\xbb\xbf[project]\nname = "x"\n')
    with pytest.raises(ConfigurationError, match="byte order mark"):
        read_project(tmp_path)


def test_a_driver_that_is_missing_is_named_with_its_package(tmp_path: Path) -> None:
    """In an environment without it, as a look may say."""
    from dataclasses import replace

    seen = replace(read_project(tmp_path), installed=frozenset({"pytest", "alembic"}))
    notes = propose(seen, InitOptions(driver="psycopg2")).notes
    assert 'psycopg2 is not installed: pip install "psycopg2-binary"' in notes


def test_every_proposal_is_a_configuration(tmp_path: Path) -> None:
    """By the schema, in both files."""
    import tomllib

    import jsonschema

    from elefast.config.schema import get_schema

    write(
        tmp_path,
        app="import os\nengine = create_async_engine(os.environ['DATABASE_URL'])\nmetadata = MetaData()\n",
        models="class Hero(SQLModel, table=True): ...\n",
    )
    made = propose(read_project(tmp_path), InitOptions(driver="asyncpg"))
    for prefix in ("", "tool.elefast"):
        document = tomllib.loads(made.text(prefix))
        jsonschema.validate(document["tool"]["elefast"] if prefix else document, get_schema())
