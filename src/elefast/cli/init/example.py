"""The text of the example test, and of the conftest that `elefast init > conftest.py` writes."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from elefast.cli.init.project import Look
from elefast.cli.init.proposal import Proposal

__all__ = ["conftest", "example", "example_path"]


EXAMPLE = "test_elefast_example.py"


def example_path(seen: Look) -> Path:
    """Where the example goes, relative to the project: beside the tests, unless a fixture of their conftest is early.

    A fixture that is `autouse` and of a wider scope runs before a test has a database, so it would fail there.
    """
    early = any(fixture.is_early and fixture.directory == Path("tests") for fixture in seen.sources.fixtures)
    return Path(EXAMPLE) if early else Path("tests", EXAMPLE)


def example(seen: Look, proposal: Proposal) -> str:
    """A test module that passes in this project as it is."""
    is_async = proposal.is_async and bool({"pytest-asyncio", "anyio"} & seen.installed)
    body = _Writer(is_async, "pytest-asyncio" in seen.installed, seen.hidden_in(example_path(seen).parent))
    return body.module(seen.sources.declared.targets)


class _Writer:
    def __init__(self, is_async: bool, asyncio_plugin: bool, hidden: Collection[str]) -> None:
        self.is_async = is_async
        self.mark = "asyncio" if asyncio_plugin else "anyio"
        session = "async_db_session" if is_async else "db_session"
        database = "async_db" if is_async else "elefast_db"
        self.by_database = session in hidden
        self.fixture = database if self.by_database else session

    def module(self, targets: list[str]) -> str:
        own = sorted({f"from {module} import {path.partition('.')[0]}" for module, _, path in map(_split, targets)})
        head = [
            '"""An example of elefast: each test has a migrated database of its own. Keep it, change it, delete it."""',
            "",
            *(["import pytest"] if self.is_async else []),
            f"from sqlalchemy import {'inspect, text' if targets else 'text'}",
            *(["", *own] if own else []),
            "",
            "",
        ]
        if self.is_async:
            head += [f"pytestmark = pytest.mark.{self.mark}", "", ""]
            if self.mark == "anyio":
                head += ["@pytest.fixture", "def anyio_backend():", '    return "asyncio"', "", ""]
        tests: list[str] = []
        if targets:
            head += _missing_tables(targets)
            tests += self._test(
                "the_schema_is_there",
                "The database has every table that the models have.",
                [
                    "assert await session.run_sync(missing_tables) == []"
                    if self.is_async
                    else "assert missing_tables(session) == []"
                ],
            )
        tests += self._test(
            "a_test_may_commit",
            "What it leaves is gone with its database.",
            [
                f'{self._wait}session.execute(text("CREATE TABLE left_behind (id integer)"))',
                f"{self._wait}session.commit()",
            ],
        )
        tests += self._test(
            "the_next_test_does_not_see_it",
            "It has a database of its own.",
            [f"assert {self._wait}session.scalar(text(\"SELECT to_regclass('left_behind')\")) is None"],
        )
        return "\n".join(head + tests).rstrip("\n") + "\n"

    @property
    def _wait(self) -> str:
        return "await " if self.is_async else ""

    def _test(self, name: str, text: str, lines: list[str]) -> list[str]:
        define = "async def" if self.is_async else "def"
        out = [f"{define} test_{name}({self.fixture}):", f'    """{text}"""']
        indent = "    "
        if self.by_database:
            out.append(f"    {'async ' if self.is_async else ''}with {self.fixture}.session() as session:")
            indent = "        "
            out += [indent + line for line in lines]
        else:
            out += [indent + re.sub(r"\bsession\b", self.fixture, line) for line in lines]
        return [*out, "", ""]


def _split(target: str) -> tuple[str, str, str]:
    return target.partition(":")


def _missing_tables(targets: list[str]) -> list[str]:
    """The function that compares the models with the database."""
    paths = list(dict.fromkeys(path for _, _, path in map(_split, targets)))
    metadata = [path if path.split(".")[-1].lower().endswith("metadata") else f"{path}.metadata" for path in paths]
    return [
        "def missing_tables(session):",
        '    """Tables that the models have, and the database does not."""',
        "    inspector = inspect(session.connection())",
        f"    tables = [table for metadata in ({', '.join(metadata)},) for table in metadata.tables.values()]"
        if len(metadata) > 1
        else f"    tables = {metadata[0]}.tables.values()",
        "    return [table.fullname for table in tables if not inspector.has_table(table.name, schema=table.schema)]",
        "",
        "",
    ]


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

_STACK = '''\
@pytest.fixture(scope="session")
def stack():
    """The server, the template and the databases of this project."""
    with elefast.from_config({arguments}) as stack:
        yield stack
'''


def conftest(seen: Look, proposal: Proposal, *, both: bool) -> str:
    """Fixtures written by hand over the public API, for those who want to see and change them.

    Args:
        seen: The project.
        proposal: What it needs; given as arguments where the project has no configuration yet.
        both: Fixtures for sync and for async tests.
    """
    arguments = "" if seen.configured else _arguments(proposal)
    imports = ["import elefast", "import pytest"]
    plugin = "pytest-asyncio" in seen.installed
    if (proposal.is_async or both) and plugin:
        imports.append("import pytest_asyncio")
    parts = [
        '"""Fixtures over elefast, written by `elefast init`; the plugin has the same ones built in."""',
        "\n".join(imports),
        "\n" + _STACK.format(arguments=arguments).rstrip("\n"),
    ]
    if both or not proposal.is_async:
        parts.append("\n" + _SYNC.rstrip("\n"))
    if both or proposal.is_async:
        fixture = "pytest_asyncio.fixture" if plugin else "pytest.fixture"
        parts.append("\n" + _ASYNC.format(fixture=fixture).rstrip("\n"))
    return "\n\n".join(parts) + "\n"


def _arguments(proposal: Proposal) -> str:
    """The configuration as keyword arguments."""
    tables: dict[str, dict[str, object]] = {}
    for line in proposal.lines:
        tables.setdefault(line.table, {})[line.key] = line.value
    words = [f"{key}={value!r}" for key, value in tables.pop("", {}).items() if key != "export_env" and key != "patch"]
    return ", ".join(words + [f"{table}={values!r}" for table, values in tables.items()])
