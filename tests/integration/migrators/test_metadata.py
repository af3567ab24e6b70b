"""Metadata of SQLAlchemy: what is created, and what makes another template of it."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from subprocess import run as run_it

import pytest
from sqlalchemy import (
    ARRAY,
    DDL,
    URL,
    Column,
    Connection,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Sequence,
    String,
    Table,
    create_engine,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.pool import NullPool

from elefast.errors import ConfigurationError
from elefast.migrators import Metadata, Plan
from elefast.templates.metadata import create_all, inputs, why_opaque
from tests.integration.migrators.migrator_support import Project, query, tables

_FACTOR = 1


class Mood(enum.Enum):
    """A type that PostgreSQL has to create."""

    sad = 1
    ok = 2


@pytest.fixture(autouse=True)
def forget_modules(project: Project) -> Generator[None]:
    """Forget what a test imported from its project."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(project.root)):
            del sys.modules[name]


def make(change: str = "") -> MetaData:
    """A metadata with a bit of everything; `change` makes one thing of it different."""
    metadata = MetaData()
    moods = ["sad", "ok"] + (["happy"] if change == "type" else [])
    Table(
        "people",
        metadata,
        Column(
            "id", Integer, Sequence("ids", schema="numbers", start=5 if change == "sequence" else 1), primary_key=True
        ),
        Column("name", String(20 if change == "column" else 10), comment="x" if change == "comment" else None),
        Column("mood", Enum(*moods, name="mood", schema="kinds")),
        Column("moods", ARRAY(Enum(Mood, name="moods"))),
        Column("short", DOMAIN("short_text", String(9 if change == "domain" else 8), schema="domains")),
        Index("by_name", "name", unique=change == "index"),
        schema="app",
    )
    # Two tables that refer to each other.
    Table(
        "a",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("b", ForeignKey("b.id", name="a_b", use_alter=True)),
    )
    Table("b", metadata, Column("id", Integer, primary_key=True), Column("a", ForeignKey("a.id", name="b_a")))
    return metadata


def test_schemas_types_and_sequences(template: URL) -> None:
    """Everything is created, in schemas that nobody created before."""
    with create_engine(template, poolclass=NullPool).begin() as connection:
        create_all(connection, make())

    assert tables(template) == ["a", "b"]
    assert tables(template, "app") == ["people"]
    assert query(template, "SELECT sequencename FROM pg_sequences WHERE schemaname = 'numbers'") == [("ids",)]
    assert query(
        template, "SELECT typname FROM pg_type WHERE typnamespace = 'kinds'::regnamespace AND typtype = 'e'"
    ) == [("mood",)]


def test_the_same_metadata_has_the_same_inputs() -> None:
    """Made twice, it is equal."""
    first = inputs(make())

    assert first
    assert first == inputs(make())


@pytest.mark.parametrize("change", ["type", "sequence", "column", "comment", "domain", "index"])
def test_changes_have_other_inputs(change: str) -> None:
    """Whatever changes the DDL changes the inputs."""
    assert inputs(make(change)) != inputs(make())


def test_inputs_change_nothing(template: URL) -> None:
    """Looking at the DDL does not change the metadata: a foreign key is still created."""
    metadata = make()
    inputs(metadata)
    with create_engine(template, poolclass=NullPool).begin() as connection:
        create_all(connection, metadata)

    rows = query(template, "SELECT conname FROM pg_constraint WHERE contype = 'f' ORDER BY 1")
    assert rows == [("a_b",), ("b_a",)]


def listening(listener: Callable[..., object], *, on_table: bool = False) -> MetaData:
    """A metadata with a listener."""
    metadata = make()
    event.listen(metadata.tables["a"] if on_table else metadata, "after_create", listener)
    return metadata


def view(number: int) -> Callable[..., object]:
    """DDL that listens."""
    return DDL(f"CREATE VIEW v AS SELECT {number}")  # type: ignore[no-untyped-call]


def test_ddl_listeners() -> None:
    """The text of DDL that is listened with is part of it."""
    one = inputs(listening(view(1), on_table=True))

    assert one
    assert one == inputs(listening(view(1), on_table=True))
    assert one != inputs(listening(view(2), on_table=True))
    assert one != inputs(make())


def _listener(sql: str) -> Callable[..., None]:
    def create(target: MetaData, connection: Connection, **kwargs: object) -> None:
        connection.execute(text(sql))
        _helper(connection)

    return create


def _helper(connection: Connection) -> None:
    connection.execute(text(f"SELECT {_FACTOR}"))


def test_function_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function counts with what it closes over and with the functions and values that it uses."""
    one = inputs(listening(_listener("SELECT 1")))

    assert one
    assert one == inputs(listening(_listener("SELECT 1")))
    assert one != inputs(listening(_listener("SELECT 2")))
    monkeypatch.setitem(globals(), "_FACTOR", 2)
    assert one != inputs(listening(_listener("SELECT 1")))


class _Opaque:
    def __call__(self, target: object, connection: object, **kwargs: object) -> None:
        pass


def test_opaque_listeners() -> None:
    """What cannot be looked into makes a template for one run, with the reason."""
    metadata = listening(_Opaque())

    assert inputs(metadata) is None
    assert why_opaque(metadata).startswith("after_create of the metadata: it is <")
    assert why_opaque(make()) == ""


def _reads_a_file(target: object, connection: Connection, **kwargs: object) -> None:
    connection.execute(text(Path("trigger.sql").read_text()))


def _calls_what_reads(target: object, connection: Connection, **kwargs: object) -> None:
    _reads_a_file(target, connection)


def _runs_a_program(target: object, connection: Connection, **kwargs: object) -> None:
    connection.execute(text(run_it(["cat", "trigger.sql"], check=True, capture_output=True).stdout.decode()))


@pytest.mark.parametrize(
    ("listener", "expected"),
    [
        (_reads_a_file, "read_text in _reads_a_file"),
        (_calls_what_reads, "read_text in _reads_a_file"),
        (_runs_a_program, "run_it in _runs_a_program"),
    ],
)
def test_listeners_that_read(listener: Callable[..., None], expected: str) -> None:
    """A listener that gets at files or programs is not known by its code."""
    metadata = listening(listener)

    assert why_opaque(metadata) == f"after_create of the metadata: {expected} reads what cannot be seen here"


def test_listeners_of_types_and_constraints() -> None:
    """Types and constraints that are added later have events of their own."""
    on_type, on_constraint = make(), make()
    kind = on_type.tables["app.people"].c.mood.type
    constraint = next(iter(on_constraint.tables["a"].foreign_key_constraints))
    event.listen(kind, "after_create", view(1))
    event.listen(constraint, "after_create", view(1))

    assert len({tuple(inputs(metadata) or ()) for metadata in (make(), on_type, on_constraint)}) == 3


def test_opaque_listener_in_a_project(project: Project) -> None:
    """The plan says that its template is not kept, and why; template.watch makes up for it."""
    project.write(
        "app_models.py",
        """\
        from sqlalchemy import Column, Integer, MetaData, Table, event

        class Listener:
            def __call__(self, target, connection, **kwargs): ...

        metadata = MetaData()
        Table("users", metadata, Column("id", Integer))
        event.listen(metadata, "before_create", Listener())
        """,
    )
    migrator = Metadata(("app_models:metadata",))

    plan = Plan(root=project.root, migrator=migrator)
    assert plan.fingerprint() is None
    assert "table users" in {item.label for item in plan.inputs()}
    assert plan.why_not_kept().startswith("before_create of the metadata: it is <app_models.Listener")
    assert Plan(root=project.root, migrator=migrator, watch=["app_models.py"]).fingerprint()


_MODELS = """\
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase):
    pass

class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)

empty = MetaData()
value = 1
"""


@pytest.mark.parametrize("target", ["app_models:Base", "app_models:Base.metadata", "app_models:Base.registry"])
def test_targets(project: Project, template: URL, target: str) -> None:
    """A target is a MetaData, or something that has one; the project directory is on the import path."""
    project.write("app_models.py", _MODELS)
    plan = Plan(root=project.root, migrator=Metadata((target,)))

    manifest = plan.build(template)

    assert tables(template) == ["users"]
    assert manifest.to_json()["files"] == {}
    assert "table users" in {item.label for item in plan.inputs() or ()}
    assert str(project.root) not in sys.path


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("app_models:value", '"app_models:value": expected a MetaData or a DeclarativeBase, found 1'),
        ("app_models:empty", '"app_models:empty": it has no tables. Name a module that imports all models'),
        ("app_models:base", '"app_models:base": app_models has no attribute "base", did you mean "Base"?'),
    ],
)
def test_wrong_targets(project: Project, target: str, expected: str) -> None:
    """The error has the key, the target and what was found instead."""
    project.write("app_models.py", _MODELS)

    with pytest.raises(ConfigurationError) as caught:
        Plan(root=project.root, migrator=Metadata((target,))).inputs()

    assert (caught.value.problems[0].key, caught.value.problems[0].message) == ("metadata.target", expected)
