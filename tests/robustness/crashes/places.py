"""Where a round's project gets its server: one of the test's own, or one that elefast starts below a directory.

A place also has what is not elefast's, and says whether it was touched; and it knows what may be left on it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import psycopg

import elefast
from elefast.providers.local import state_file
from elefast.providers.local.inventory import stop_held
from tests.integration.providers.provider_support import until
from tests.robustness.crashes.foreign import foreign_databases, foreign_directories
from tests.robustness.crashes.monitor import Monitor
from tests.robustness.crashes.processes import family
from tests.robustness.crashes.remains import Configured, half_written, leftovers, of_a_kept_server
from tests.robustness.faults.server import Server

__all__ = ["LocalPlace", "Place", "UrlPlace", "found_at"]

_UNKNOWN_FILES = """
    select name from pg_ls_dir('base') name where name ~ '^[0-9]+$' and name not in (select oid::text from pg_database)
"""


class Place(Protocol):
    """Where the server comes from."""

    directory: Path | None
    """Everything of elefast's servers is below it."""
    outlives: bool
    """Whether the databases are there for the next run."""

    @property
    def env(self) -> Mapping[str, str]:
        """The variables that lead a project there."""
        ...

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query, as the superuser; none where no server answers."""
        ...

    def postmaster(self) -> int:
        """The server's first process; 0 where there is none."""
        ...

    def heal(self) -> None:
        """Bring the server back, where that is for somebody else than elefast to do."""
        ...

    def let_go(self) -> None:
        """Do what a person does who has looked at the databases that were kept for a look."""
        ...

    def empty(self) -> None:
        """Let the next run find nothing, as on a machine where elefast never was; nobody may be at work there."""
        ...

    def left(self, project: Configured) -> list[str]:
        """What is there that should not be, when no run of `project` is under way."""
        ...

    def touched(self) -> list[str]:
        """What is not elefast's and is not as it was."""
        ...

    def close(self) -> None:
        """Remove everything."""
        ...


class UrlPlace:
    """``provider = "url"``: a server of the test's own, with databases of others beside elefast's.

    Args:
        server: It runs.
        caches: The directory for what elefast keeps of files.
        role: Whom the project's URL names: the superuser, or a role that may create databases and no more.
    """

    directory: Path | None = None
    outlives = True

    def __init__(self, server: Server, caches: Path, role: str) -> None:
        self._server = server
        self._caches = caches
        self._monitor = Monitor(server.connect)
        self._role = role
        self._foreign = foreign_databases(server)
        self._before = self._look()

    @property
    def env(self) -> Mapping[str, str]:
        url = self._server.url if self._role == "postgres" else self._server.url.set(username=self._role)
        text = url.render_as_string(hide_password=False)
        return {"ELEFAST_ENGINE__URL": text, "_ELEFAST_ROOT": str(self._caches)}

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return self._monitor.ask(query)

    def postmaster(self) -> int:
        return _postmaster(self._server.data)

    def heal(self) -> None:
        if not self._server.answers():
            self._server.restart()

    def let_go(self) -> None:
        """Nothing: the server is not elefast's to stop, and what was kept may stay."""

    def empty(self) -> None:
        self._server.ask("update pg_database set datistemplate = false where oid >= 16384")
        for name in self._server.names() - self._foreign:
            self._server.ask(f'drop database "{name}" with (force)')

    def left(self, project: Configured) -> list[str]:
        return leftovers(self._server.ask, project, self._foreign) + half_written(self._caches)

    def touched(self) -> list[str]:
        return _differences(self._before, self._look())

    def close(self) -> None:
        self._monitor.close()
        self.empty()

    def _look(self) -> dict[str, str]:
        found = self._server.ask(
            """
            select datname, concat_ws(' ', d.oid, datdba, datistemplate, datallowconn, datconnlimit, datacl,
                   shobj_description(d.oid, 'pg_database'),
                   (pg_stat_file('base/' || d.oid || '/PG_VERSION', true)).modification)
            from pg_database d
            """
        )
        return {name: told for name, told in found if name in self._foreign}


class LocalPlace:
    """``provider = "local"``: a directory in which elefast starts servers, with directories of others in it.

    Args:
        root: The directory, which is made.
        reuse: Whether the data stay for the next run.
        cached: A directory with what ``initdb`` once made, to be copied; None for a place without.
        named: Whether the project names the data directory.
    """

    def __init__(self, root: Path, *, reuse: bool, cached: Path | None, named: bool = False) -> None:
        self.directory: Path | None = root
        self.outlives = reuse
        self._root = root
        self._monitor = Monitor(self._connect)
        root.mkdir(mode=0o711)
        for name in ("memory", "disk"):
            (root / name).mkdir(mode=0o711)
        if cached is not None:
            shutil.copytree(cached, root / "disk", symlinks=True, dirs_exist_ok=True)
            for path in (root / "disk").rglob("*"):
                original = (cached / path.relative_to(root / "disk")).lstat()
                os.chown(path, original.st_uid, original.st_gid, follow_symlinks=False)
        self._named = str(root / "named") if named else ""
        self._foreign = foreign_directories(root)
        self._before = self._look()

    @property
    def env(self) -> Mapping[str, str]:
        return {
            "ELEFAST_PROVIDER": "local",
            "ELEFAST_LOCAL__REUSE": str(self.outlives).lower(),
            "ELEFAST_LOCAL__BIN_DIR": os.environ.get("TEST_POSTGRES_BIN", ""),
            "ELEFAST_LOCAL__DATA_DIR": self._named,
            "_ELEFAST_ROOT": str(self._root),
        }

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return self._monitor.ask(query)

    def postmaster(self) -> int:
        data = [*self._root.glob("memory/*/cluster/data"), *self._root.glob("named/cluster*/data")]
        return next((pid for path in data if (pid := _postmaster(path))), 0)

    def heal(self) -> None:
        """Nothing: its supervisor, or the next one, does that."""

    def let_go(self) -> None:
        stop_held(root=self._root)

    def empty(self) -> None:
        for place in ("memory", "disk"):
            for path in (self._root / place).iterdir():
                if str(path.relative_to(self._root)) not in self._foreign:
                    shutil.rmtree(path)
        shutil.rmtree(self._named, ignore_errors=True)

    def left(self, project: Configured) -> list[str]:
        # What only saves time may stay, and so may the room that it is in.
        kept = {"caches", "disk", "memory"}
        left = [path for path in self._files() if path.parts[0] != "caches" and str(path) not in kept]
        left = [path for path in left if not (path.parts[0] == "disk" and path.parts[1].startswith("initdb-"))]
        if self.outlives:
            left = [path for path in left if not of_a_kept_server(path)]
            return [*map(str, left), *half_written(self._root), *self._databases(project)]
        return [*map(str, left), *half_written(self._root)]

    def touched(self) -> list[str]:
        return _differences(self._before, self._look())

    def close(self) -> None:
        self._monitor.close()
        shutil.rmtree(self._root)

    def _databases(self, project: Configured) -> list[str]:
        """What is on the server, which has to be started for that."""
        before = os.environ.get("_ELEFAST_ROOT", "")
        os.environ["_ELEFAST_ROOT"] = str(self._root)
        try:
            with elefast.from_config(project.path, env={**os.environ, **self.env}) as stack:
                ask = stack.admin().ask
                return [*leftovers(ask, project, set()), *(f"base/{name}" for (name,) in ask(_UNKNOWN_FILES))]
        finally:
            os.environ["_ELEFAST_ROOT"] = before
            assert until(lambda: not family("", self._root), 60)

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        for path in self._root.glob("memory/*/state.json"):
            told = state_file.read(str(path.parent))
            if told.get("status") == "ready":
                return psycopg.connect(
                    host="127.0.0.1",
                    port=told["port"],
                    user=told["user"],
                    password=told["password"],
                    dbname="postgres",
                    autocommit=True,
                    connect_timeout=5,
                )
        raise psycopg.OperationalError("no server yet")

    def _files(self) -> Iterator[Path]:
        """What is in the directory, without what is not elefast's."""
        for where, directories, files in os.walk(self._root):
            below = Path(where).relative_to(self._root)
            directories[:] = [name for name in directories if str(below / name) not in self._foreign]
            yield from (below / name for name in (*directories, *files) if str(below / name) not in self._foreign)

    def _look(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for foreign in self._foreign:
            top = self._root / foreign
            for path in [top, *top.rglob("*")]:
                status = path.lstat()
                found[str(path)] = f"{status.st_ino} {status.st_mode} {status.st_size} {status.st_mtime_ns}"
        return found


def found_at(place: Place, project: Configured, seconds: float = 5) -> tuple[list[str], list[str]]:
    """What is there of `project` that should not be when no run is under way, and what of others was touched.

    The last backends of a run may need a moment to be gone.
    """
    deadline = time.monotonic() + seconds
    while True:
        temporary = [path.name for path in project.temporary.iterdir() if not path.name.startswith("pytest-of-")]
        left = place.left(project) + temporary
        if not left or time.monotonic() > deadline:
            return left, place.touched()
        time.sleep(0.1)


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [f"{name}: {told}, now {now.get(name)}" for name, told in before.items() if now.get(name) != told]


def _postmaster(data: Path) -> int:
    try:
        return int((data / "postmaster.pid").read_text().partition("\n")[0])
    except (OSError, ValueError):
        return 0
