"""The text of the example test, and of the conftest that `elefast init > conftest.py` prints."""

from __future__ import annotations

from pathlib import Path

from elefast.cli.init.project import Project
from elefast.cli.init.proposal import Proposal

__all__ = ["conftest", "example", "example_path"]


_FILE = "test_elefast_example.py"

_DOCSTRING = '''\
"""An example of elefast: each test has a migrated database of its own. Keep it, change it, delete it."""

'''

_ANYIO = """\
@pytest.fixture
def anyio_backend():
    return "asyncio"
"""

_OWN_SESSION = '''\
@{fixture}
{async_}def session({database}):
    """A session on the test's database, since the conftest has another fixture of elefast's name for it."""
    {async_}with {database}.session() as session:
        yield session
'''

_SCHEMA = '''\
def missing_tables(session):
    """Tables that the models have, and the database does not."""
    inspector = inspect(session.connection())
    tables = {tables}
    return [table.fullname for table in tables if not inspector.has_table(table.name, schema=table.schema)]


{async_}def test_the_schema_is_there({session}):
    """The database has every table that the models have."""
    assert {missing_tables} == []
'''

_TESTS = '''\
{async_}def test_a_test_may_commit({session}):
    """What it leaves is gone with its database."""
    {await_}{session}.execute(text("CREATE TABLE left_behind (id integer)"))
    {await_}{session}.commit()


{async_}def test_the_next_test_does_not_see_it({session}):
    """It has a database of its own."""
    assert {await_}{session}.scalar(text("SELECT to_regclass('left_behind')")) is None
'''


def example_path(project: Project) -> Path:
    """Where the example goes, relative to the project: beside the tests, unless a fixture of their conftest is early.

    A fixture that is `autouse` and of a wider scope runs before a test has a database, so it would fail there.
    """
    early = any(fixture.is_early and fixture.directory == Path("tests") for fixture in project.sources.fixtures)
    return Path(_FILE) if early else Path("tests", _FILE)


def example(project: Project, proposal: Proposal) -> str:
    """A test module that passes in this project as it is."""
    targets = [target.partition(":") for target in project.sources.declared.targets]
    is_async = proposal.is_async and bool({"pytest-asyncio", "anyio"} & project.installed)
    hidden = project.hidden_in(example_path(project).parent)
    session = "async_db_session" if is_async else "db_session"
    has_own_session = session in hidden
    fixture = _async_fixture(project) if is_async else "pytest.fixture"
    words = {
        "async_": "async " if is_async else "",
        "await_": "await " if is_async else "",
        "session": "session" if has_own_session else session,
        "database": "async_db" if is_async else "elefast_db",
        "fixture": fixture,
    }
    words["missing_tables"] = (
        f"await {words['session']}.run_sync(missing_tables)" if is_async else f"missing_tables({words['session']})"
    )
    imports = [
        *(["import pytest"] if is_async or has_own_session else []),
        *(["import pytest_asyncio"] if has_own_session and fixture.startswith("pytest_asyncio") else []),
        f"from sqlalchemy import {'inspect, text' if targets else 'text'}",
    ]
    models = sorted({f"from {module} import {path.partition('.')[0]}" for module, _, path in targets})
    parts = ["\n".join([*imports, *([""] if models else []), *models])]
    if is_async:
        plugin = "asyncio" if "pytest-asyncio" in project.installed else "anyio"
        parts += [f"pytestmark = pytest.mark.{plugin}", *([_ANYIO] if plugin == "anyio" else [])]
    parts += [_OWN_SESSION] if has_own_session else []
    parts += [_SCHEMA] if targets else []
    parts.append(_TESTS)
    words["tables"] = _tables(list(dict.fromkeys(path for _, _, path in targets)))
    head = (
        '"""An example of elefast: each test has a migrated database of its own. Keep it, change it, delete it."""\n\n'
    )
    return head + "\n\n\n".join(part.strip("\n").format(**words) for part in parts) + "\n"


def _tables(paths: list[str]) -> str:
    """An expression for all tables of the models."""
    metadata = [path if path.split(".")[-1].lower().endswith("metadata") else f"{path}.metadata" for path in paths]
    if len(metadata) == 1:
        return f"{metadata[0]}.tables.values()"
    return f"[table for metadata in ({', '.join(metadata)}) for table in metadata.tables.values()]"


def _async_fixture(project: Project) -> str:
    return "pytest_asyncio.fixture" if "pytest-asyncio" in project.installed else "pytest.fixture"


_STACK = '''\
@pytest.fixture(scope="session")
def stack():
    """The server, the template and the databases of this project."""
    with elefast.from_config({arguments}) as stack:
        yield stack
'''

_SYNC = '''\
@pytest.fixture(scope="session")
def db_server(stack):
    """The server, started when the first test needs it."""
    return stack.server


@pytest.fixture
def db(db_server):
    """A migrated database of the test's own; gone afterwards."""
    with db_server.create_database() as database:
        yield database


@pytest.fixture
def db_connection(db):
    """A connection to the test's database."""
    with db.engine.connect() as connection:
        yield connection


@pytest.fixture
def db_session(db):
    """A session on the test's database."""
    with db.session() as session:
        yield session
'''

_ASYNC = '''\
@pytest.fixture(scope="session")
def async_db_server(stack):
    """The server, started when the first test needs it."""
    return stack.async_server


@{fixture}
async def async_db(async_db_server):
    """A migrated database of the test's own; gone afterwards."""
    async with await async_db_server.create_database() as database:
        yield database


@{fixture}
async def async_db_connection(async_db):
    """A connection to the test's database."""
    async with async_db.engine.connect() as connection:
        yield connection


@{fixture}
async def async_db_session(async_db):
    """A session on the test's database."""
    async with async_db.session() as session:
        yield session
'''


def conftest(project: Project, proposal: Proposal, *, both: bool) -> str:
    """Fixtures written by hand over the public API, for developers who want to see and change them.

    Args:
        project: The project.
        proposal: What it needs; given as arguments where the project has no configuration yet.
        both: Fixtures for sync and for async tests.
    """
    fixture = _async_fixture(project)
    has_async = proposal.is_async or both
    imports = ["import elefast", "import pytest"]
    imports += ["import pytest_asyncio"] if has_async and fixture.startswith("pytest_asyncio") else []
    parts = [
        '"""Fixtures over elefast, written by `elefast init`; the plugin has the same ones built in."""\n\n'
        + "\n".join(imports),
        _STACK.format(arguments="" if project.configured else _arguments(proposal)),
        *([_SYNC] if both or not proposal.is_async else []),
        *([_ASYNC.format(fixture=fixture)] if has_async else []),
    ]
    return "\n\n\n".join(part.strip("\n") for part in parts) + "\n"


def _arguments(proposal: Proposal) -> str:
    """The configuration as keyword arguments."""
    tables: dict[str, dict[str, object]] = {}
    for line in proposal.lines:
        tables.setdefault(line.table, {})[line.key] = line.value
    words = [f"{key}={value!r}" for key, value in tables.pop("", {}).items() if key != "export_env" and key != "patch"]
    return ", ".join(words + [f"{table}={values!r}" for table, values in tables.items()])
