"""A little project whose tests know what schema they must see, in all the kinds that a kill may meet.

Its schema has versions: each adds a column to every table, and the last thing that a migration does is to write down
which version there is. So half of a schema, or an old one, can be told from the right one.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ISOLATIONS", "KEEP", "LAYERS", "MIGRATORS", "POOL", "WRONG", "Project", "Variant"]

TABLES = 5
TESTS = 8
MIGRATORS = ("alembic", "metadata", "sql")
ISOLATIONS = ("database", "transaction")
KEEP = 1
LAYERS = 2
"""The most layers that a template of a variant has: the migrated and the seeded one."""
POOL = 3

WRONG = "CRASH-WRONG"
"""What a test says whose database is not the right one, or not empty."""


@dataclass(frozen=True)
class Variant:
    """What a project is like.

    Args:
        migrator: ``alembic``, ``metadata`` or ``sql``.
        asyncio: Whether its tests are coroutines.
        workers: Of pytest-xdist; 0 for none.
        isolation: ``database`` or ``transaction``.
        keep: ``never`` or ``failed``; with the latter, a test fails in runs that are killed.
        cache: Whether a template outlives its run.
    """

    migrator: str
    asyncio: bool
    workers: int
    isolation: str
    keep: str
    cache: bool

    @classmethod
    def draw(
        cls, chance: random.Random, *, workers: bool | None, migrators: Sequence[str], isolations: Sequence[str]
    ) -> Variant:
        """One by chance, with one of `migrators` and of `isolations`; with workers or not, where `workers` says so."""
        has_workers = chance.random() < 0.15 if workers is None else workers
        return cls(
            chance.choice(migrators),
            chance.random() < 0.3,
            2 if has_workers else 0,
            isolations[-1] if chance.random() < 0.2 else isolations[0],
            "failed" if chance.random() < 0.2 else "never",
            chance.random() < 0.85,
        )

    @property
    def keeps(self) -> bool:
        """Whether a database may have been kept for a look."""
        return self.keep != "never"


class Project:
    """The project of one round.

    Args:
        path: A directory for it.
        variant: What it is like.
    """

    def __init__(self, path: Path, variant: Variant) -> None:
        self.path = path
        self.variant = variant
        self.version = 0
        path.mkdir(parents=True)
        self.temporary = path / "tmp"
        """For the temporary files of its runs."""
        self.temporary.mkdir(mode=0o711)
        self._write("pyproject.toml", _configuration(variant))
        self._write("conftest.py", _CONFTEST)
        self._write("test_it.py", _tests(variant))
        if variant.migrator == "alembic":
            self._write("alembic.ini", "[alembic]\nscript_location = %(here)s/migrations\n")
            self._write("migrations/env.py", _ENV)
        self.change(1)

    def change(self, version: int) -> None:
        """Let the schema be another one, newer or older."""
        self.version = version
        if self.variant.migrator == "metadata":
            self._write("models.py", _MODELS.format(tables=TABLES, version=version))
            self._write("seed.sql", f"{_SLEEP};\ninsert into release values ({version});\n")
        else:
            suffix = ".py" if self.variant.migrator == "alembic" else ".sql"
            directory = "migrations/versions" if self.variant.migrator == "alembic" else "schema"
            for number in range(1, version + 1):
                text = _revision(number) if suffix == ".py" else "".join(f"{line};\n" for line in _steps(number))
                self._write(f"{directory}/v{number:03}{suffix}", text)
            for path in (self.path / directory).glob("v*"):
                if int(path.stem[1:]) > version:
                    path.unlink()
        columns = ["id", "body", *(f"v{number}" for number in range(1, version + 1))]
        seen = sorted([f"part_{table}.{column}" for table in range(TABLES) for column in columns] + ["release.version"])
        self._write(f"expected/{version}.json", json.dumps({"version": version, "columns": seen}))

    @property
    def keeps(self) -> bool:
        """Whether a database may have been kept for a look."""
        return self.variant.keeps

    @property
    def command(self) -> Sequence[str]:
        """What Python is told for a run of all its tests."""
        workers = ["-n", str(self.variant.workers)] if self.variant.workers else ["-p", "no:xdist"]
        without = [] if self.variant.asyncio else ["-p", "no:asyncio"]
        return [
            *("-m", "pytest", "-p", "no:cacheprovider", "-p", "no:anyio"),
            *("-rA", "--tb=short", *workers, *without),
        ]

    @property
    def env(self) -> dict[str, str]:
        """What a run of it as it is now needs; one that began earlier goes on with what it expected."""
        return {"CRASH_EXPECTED": str(self.path / "expected" / f"{self.version}.json")}

    def _write(self, name: str, text: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def _configuration(variant: Variant) -> str:
    migrators = {
        "alembic": "",
        "metadata": 'seed = ["seed.sql"]\n[tool.elefast.metadata]\ntarget = "models:Base"\n',
        "sql": '[tool.elefast.sql]\nfiles = ["schema/*.sql"]\n',
    }
    return f"""
[project]
name = "crashes"
[tool.elefast]
migrator = "{variant.migrator}"
isolation = "{variant.isolation}"
keep = "{variant.keep}"
{migrators[variant.migrator]}
[tool.elefast.template]
keep = {KEEP}
cache = {str(variant.cache).lower()}
[tool.elefast.pool]
size = {POOL}
{_ASYNCIO if variant.asyncio else ""}"""


_ASYNCIO = """
[tool.pytest.ini_options]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
"""

_SLEEP = "select pg_sleep(0.02)"


def _steps(version: int) -> list[str]:
    """The statements of one version; somebody who is killed among them has half of it."""
    if version == 1:
        made = [f"create table part_{table} (id serial primary key, body text)" for table in range(TABLES)]
        made.append("create table release (version int)")
    else:
        made = []
    columns = [f"alter table part_{table} add column v{version} int" for table in range(TABLES)]
    written = ["delete from release", f"insert into release values ({version})"]
    return [*made[:3], _SLEEP, *made[3:], *columns[:2], _SLEEP, *columns[2:], *written]


def _revision(version: int) -> str:
    down = f"v{version - 1:03}" if version > 1 else None
    steps = "\n".join(f"    op.execute({step!r})" for step in _steps(version))
    return f"""
from alembic import op
revision = "v{version:03}"
down_revision = {down!r}

def upgrade():
{steps}
"""


_ENV = """
from alembic import context
from sqlalchemy import create_engine, pool

engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""

_MODELS = """
from sqlalchemy import Column, Integer, Table, Text
from sqlalchemy.orm import DeclarativeBase

class Base(DeclarativeBase):
    pass

for number in range({tables}):
    columns = [Column(f"v{{version}}", Integer) for version in range(1, {version} + 1)]
    Table(f"part_{{number}}", Base.metadata, Column("id", Integer, primary_key=True), Column("body", Text), *columns)
Table("release", Base.metadata, Column("version", Integer))
"""

# A process can be stopped at the n-th statement that any engine in it executes, from the start or after the last test,
# for whoever kills it to come. Where nobody comes it goes on, so that a harness that died holds up nobody.
_CONFTEST = """
import os
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

process, number, moment, since = os.environ.get("CRASH_AT", "- 0 before start").split()
mark, lock, count = Path(os.environ.get("CRASH_MARK", "")), threading.Lock(), 0

def reached(connection, cursor, statement, parameters, context, many):
    global count
    with lock:
        count += 1
        if count != int(number):
            return
    mark.with_suffix(".new").write_text(" ".join(statement.split())[:120])
    mark.with_suffix(".new").replace(mark)
    deadline = time.monotonic() + 20
    while mark.exists() and time.monotonic() < deadline:
        time.sleep(0.001)

def begin():
    if process == os.environ.get("PYTEST_XDIST_WORKER", "alone"):
        event.listen(Engine, f"{moment}_cursor_execute", reached)

if since == "start":
    begin()

@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish():
    if since == "end":
        begin()
"""

_COLUMNS = """
select table_name || '.' || column_name from information_schema.columns
where table_schema = 'public' and table_name <> 'alembic_version' order by 1
"""


def _tests(variant: Variant) -> str:
    counts = " union all ".join(f"select count(*) from part_{table}" for table in range(TABLES))
    # A sequence is not rolled back, so where tests share a database it tells nothing.
    used = "or bool_or(is_called)" if variant.isolation == "database" else ""
    empty = f"select sum(count) = 0 from ({counts}) counts"
    fresh = f"select not (false {used}) from part_0_id_seq"
    # Not as it is looked for: a traceback shows the lines of the source.
    body = f"""
WRONG = "-".join({WRONG.split("-")!r})

def check(rows):
    expected = json.loads(Path(os.environ["CRASH_EXPECTED"]).read_text())
    columns = [name for name, in rows({_COLUMNS!r})]
    assert columns == expected["columns"], f"{{WRONG}} schema: {{columns}}"
    versions = rows("select version from release")
    assert versions == [(expected["version"],)], f"{{WRONG}} version: {{versions}}"
    assert rows({empty!r}) == [(True,)], f"{{WRONG}} rows of another test"
    assert rows({fresh!r}) == [(True,)], f"{{WRONG}} a sequence that another test used"

DIRT = ["insert into part_0 (body) values ('dirt')", "insert into part_4 (body) values ('dirt')"]
"""
    sync = """
def use(session):
    check(lambda query: [tuple(row) for row in session.execute(text(query))])
    for statement in DIRT:
        session.execute(text(statement))
    session.commit()
    time.sleep(0.005)

@pytest.mark.parametrize("number", range(COUNT))
def test_it(db_session, number):
    use(db_session)

@pytest.mark.skipif("CRASH_FAIL" not in os.environ, reason="fails where something is to be kept")
def test_fails(db_session):
    use(db_session)
    raise AssertionError("fails on purpose")
"""
    coroutines = """
async def use(session):
    await session.run_sync(lambda asked: check(lambda query: [tuple(row) for row in asked.execute(text(query))]))
    for statement in DIRT:
        await session.execute(text(statement))
    await session.commit()
    await asyncio.sleep(0.005)

@pytest.mark.parametrize("number", range(COUNT))
async def test_it(async_db_session, number):
    await use(async_db_session)

@pytest.mark.skipif("CRASH_FAIL" not in os.environ, reason="fails where something is to be kept")
async def test_fails(async_db_session):
    await use(async_db_session)
    raise AssertionError("fails on purpose")
"""
    imports = "import asyncio\nimport json\nimport os\nimport time\nfrom pathlib import Path\n\nimport pytest\n"
    head = f"{imports}from sqlalchemy import text\n\nCOUNT = {TESTS}\n"
    return head + body + (coroutines if variant.asyncio else sync)
