"""A little project whose tests note what their databases were like, and what a run of it came to."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.providers.provider_support import until
from tests.robustness.companions.plugins import PLUGINS, without
from tests.robustness.crashes.places import Place, found_at
from tests.robustness.crashes.runs import Run

__all__ = ["Ended", "Project", "Seen", "waits_for"]

_CONFIGURATION = """
[project]
name = "companions"
[tool.elefast]
migrator = "sql"
[tool.elefast.sql]
files = ["schema.sql"]
[tool.elefast.template]
keep = 1
[tool.elefast.pool]
size = 3
[tool.pytest.ini_options]
asyncio_default_fixture_loop_scope = "function"
filterwarnings = ["error"]
markers = ["xdist_group"]
"""

# A test that has somebody else's database, or one that somebody else has, fails by that; and it notes what it saw,
# so that the run can be told from one in which it never ran.
_USE = '''
import json
import os

from sqlalchemy import text


def rows(connection, query):
    return [tuple(row) for row in connection.execute(text(query))]


def use(connection, name=""):
    """Note what the database is like, and write into it."""
    (database,) = rows(connection, "select current_database()")[0]
    (used,) = rows(connection, "select is_called from note_id_seq")[0]
    found = [body for body, in rows(connection, "select body from note")]
    test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0].partition("::")[2]
    seen = {"test": name or test, "database": database, "found": found, "used": used, "pid": os.getpid()}
    log = os.open(os.environ["COMPANIONS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(log, (json.dumps(seen) + "\\n").encode())
    os.close(log)
    assert not found and not used, seen
    connection.execute(text(f"insert into note (body) values ('{test}')"))
    connection.commit()
    assert rows(connection, "select id, body from note") == [(1, test)]
'''


@dataclass(frozen=True)
class Seen:
    """What a test saw."""

    test: str
    database: str
    found: Sequence[str]
    used: bool
    pid: int


@dataclass(frozen=True)
class Ended:
    """What a run came to."""

    status: int
    text: str
    seen: Sequence[Seen]
    """In the order in which the tests ran."""
    run: Run

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How many tests passed, failed and so on; as the last line of pytest's says it."""
        return pytest.RunResult.parse_summary_nouns(self.text.splitlines())

    @property
    def tests(self) -> list[str]:
        """The names of the tests that had a database, in order."""
        return [seen.test for seen in self.seen]

    def came_to(self, **outcomes: int) -> None:
        """See that the outcomes are these and no others, and that each test had a database of its own."""
        assert self.outcomes == outcomes, self.text
        self.private()

    def private(self) -> None:
        """See that no two tests had the same database, and that each was as new."""
        names = [seen.database for seen in self.seen]
        assert len(set(names)) == len(names), self.seen
        assert not [seen for seen in self.seen if seen.found or seen.used], self.text


class Project:
    """A project on a place.

    Args:
        path: A directory for it.
        place: Where its server comes from.
    """

    keeps = False

    def __init__(self, path: Path, place: Place) -> None:
        self.path = path
        self.place = place
        self.temporary = path.with_name("tmp")
        self.env: Mapping[str, str] = {"PYTEST_ADDOPTS": ""}
        self.command = ("-m", "pytest", "-rA", "--tb=short")
        self._runs: list[Run] = []
        self._known: set[str] = set()
        path.mkdir(parents=True)
        self.temporary.mkdir(mode=0o711)
        self.write("pyproject.toml", _CONFIGURATION)
        # A schema of its own, so that no template of another test's fits.
        self.write("schema.sql", f"create table note (id serial primary key, body text);\n-- {secrets.token_hex(8)}\n")
        self.write("use.py", _USE)

    def write(self, name: str, text: str) -> None:
        """Write a file."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self._known.add(name)

    def start(
        self,
        *arguments: str,
        plugins: Sequence[str] = (),
        script: str = "",
        cwd: Path | None = None,
        typed: bool = False,
        **env: str,
    ) -> Run:
        """Begin a run with `plugins`, one that goes on in the background.

        Args:
            arguments: Of pytest.
            plugins: Those of `PLUGINS` that it has.
            script: A program of the project that is run instead of pytest.
            cwd: Where, if not in the project.
            typed: Whether somebody types.
            env: Variables more.
        """
        others = without([name for name in PLUGINS if name not in plugins])
        word = secrets.token_hex(8)
        self._known.add(f"run-{word}.log")
        self._known.add(f"seen-{word}")
        run = Run(
            self,
            {**self.place.env, "COMPANIONS_LOG": str(self.path / f"seen-{word}"), **env},
            word,
            self.place.directory,
            command=(script, *others, *arguments) if script else (*self.command, *others, *arguments),
            cwd=cwd,
            typed=typed,
        )
        self._runs.append(run)
        return run

    def run(
        self, *arguments: str, plugins: Sequence[str] = (), script: str = "", cwd: Path | None = None, **env: str
    ) -> Ended:
        """Run it to its end; see `start`."""
        run = self.start(*arguments, plugins=plugins, script=script, cwd=cwd, typed=False, **env)
        run.end()
        return self.ended(run)

    def ended(self, run: Run) -> Ended:
        """What a run came to that has ended."""
        return Ended(run.process.wait(), run.text, self.seen(run), run)

    def seen(self, run: Run) -> list[Seen]:
        """What the tests of a run saw so far."""
        file = self.path / f"seen-{run.word}"
        return [Seen(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []

    def left(self) -> list[str]:
        """What is there, now that all runs are over: databases, sessions, locks, processes, servers, files."""
        for run in self._runs:
            run.vanish()
        sessions = """
            select concat_ws(' ', application_name, datname, query) from pg_stat_activity
            where application_name like 'elefast %' or datname like 'elefast%'
            union all select concat_ws(' ', 'lock', classid, objid, objsubid) from pg_locks where locktype = 'advisory'
        """
        until(lambda: not self.place.ask(sessions), 5)
        left, touched = found_at(self.place, self)
        return [*left, *touched, *(text for (text,) in self.place.ask(sessions)), *self._strays()]

    def gone(self) -> None:
        """See that nothing is left."""
        left = self.left()
        assert not left, "\n".join([*left, *(run.text for run in self._runs)])

    def close(self) -> None:
        """End what still runs."""
        for run in self._runs:
            run.kill()

    def _strays(self) -> list[str]:
        """Files in the project that nobody expects there."""
        found = [
            str((Path(where) / name).relative_to(self.path)) for where, _, names in os.walk(self.path) for name in names
        ]
        expected = (".pytest_cache/", ".coverage")
        return [name for name in found if name not in self._known and not name.startswith(expected)]


def waits_for(what: str, run: Run, seconds: float = 60) -> None:
    """Wait until a run has printed something."""
    deadline = time.monotonic() + seconds
    while what not in run.text:
        assert not run.ended, run.text
        assert time.monotonic() < deadline, run.text
        time.sleep(0.02)
