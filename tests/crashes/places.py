"""Where a round's project gets its server: one of the test's own, or one that elefast starts below a directory.

A place also has what is not elefast's, and says whether it was touched; and it knows what may be left on it.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import psycopg

import elefast
from elefast.kernel.names import Kind, Name
from elefast.kernel.ready import _owner as owner_of_ready
from elefast.providers.local import state
from elefast.providers.local.inventory import stop_held
from tests.crashes.processes import family
from tests.crashes.project import KEEP, POOL, Project
from tests.faults.server import Server
from tests.providers.provider_support import until

__all__ = ["LocalPlace", "Place", "UrlPlace", "answers", "leftovers", "rows_of"]

ROLE = "builder"
SOMEBODY = "somebody"
LONG_AGO = 1_500_000_000
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

    def left(self, project: Project) -> list[str]:
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
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._role = role
        self._foreign = _foreign_databases(server)
        self._before = self._look()

    @property
    def env(self) -> Mapping[str, str]:
        url = self._server.url if self._role == "postgres" else self._server.url.set(username=self._role)
        text = url.render_as_string(hide_password=False)
        return {"ELEFAST_ENGINE__URL": text, "_ELEFAST_ROOT": str(self._caches)}

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        self._connection = answers(self._connection, self._server.connect)
        return rows_of(self._connection, query)

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

    def left(self, project: Project) -> list[str]:
        return leftovers(self._server.ask, project, self._foreign) + _caches(self._caches)

    def touched(self) -> list[str]:
        return _differences(self._before, self._look())

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
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
    """

    def __init__(self, root: Path, *, reuse: bool, cached: Path | None) -> None:
        self.directory: Path | None = root
        self.outlives = reuse
        self._root = root
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        root.mkdir(mode=0o711)
        for name in ("memory", "disk"):
            (root / name).mkdir(mode=0o711)
        if cached is not None:
            shutil.copytree(cached, root / "disk", symlinks=True, dirs_exist_ok=True)
            for path in (root / "disk").rglob("*"):
                original = (cached / path.relative_to(root / "disk")).lstat()
                os.chown(path, original.st_uid, original.st_gid, follow_symlinks=False)
        self._foreign = _foreign_directories(root)
        self._before = self._look()

    @property
    def env(self) -> Mapping[str, str]:
        return {
            "ELEFAST_PROVIDER": "local",
            "ELEFAST_LOCAL__REUSE": str(self.outlives).lower(),
            "ELEFAST_LOCAL__BIN_DIR": os.environ.get("TEST_POSTGRES_BIN", ""),
            "_ELEFAST_ROOT": str(self._root),
        }

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        self._connection = answers(self._connection, self._connect)
        return rows_of(self._connection, query)

    def postmaster(self) -> int:
        return next((pid for path in self._root.glob("memory/*/cluster*/data") if (pid := _postmaster(path))), 0)

    def heal(self) -> None:
        """Nothing: its keeper, or the next one, does that."""

    def let_go(self) -> None:
        stop_held(root=self._root)

    def empty(self) -> None:
        for place in ("memory", "disk"):
            for path in (self._root / place).iterdir():
                if str(path.relative_to(self._root)) not in self._foreign:
                    shutil.rmtree(path)

    def left(self, project: Project) -> list[str]:
        # What only saves time may stay, and so may the room that it is in.
        kept = {"caches", "disk", "memory"}
        left = [path for path in self._files() if path.parts[0] != "caches" and str(path) not in kept]
        left = [path for path in left if not (path.parts[0] == "disk" and path.parts[1].startswith("initdb-"))]
        if self.outlives:
            left = [path for path in left if not _of_a_kept_server(path)]
            return [*map(str, left), *_caches(self._root), *self._databases(project)]
        return [*map(str, left), *_caches(self._root)]

    def touched(self) -> list[str]:
        return _differences(self._before, self._look())

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        shutil.rmtree(self._root)

    def _databases(self, project: Project) -> list[str]:
        """What is on the server, which has to be started for that."""
        before = os.environ.get("_ELEFAST_ROOT", "")
        os.environ["_ELEFAST_ROOT"] = str(self._root)
        try:
            with elefast.from_config(project.path, env={**os.environ, **self.env}) as stack:
                ask = stack.upkeep().ask
                return [*leftovers(ask, project, set()), *(f"base/{name}" for (name,) in ask(_UNKNOWN_FILES))]
        finally:
            os.environ["_ELEFAST_ROOT"] = before
            assert until(lambda: not family("", self._root), 60)

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        for path in self._root.glob("memory/*/state.json"):
            told = state.read(str(path.parent))
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
            for name in (*directories, *files):
                path = Path(where, name).relative_to(self._root)
                if not any(path.is_relative_to(foreign) for foreign in self._foreign):
                    yield path

    def _look(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for foreign in self._foreign:
            top = self._root / foreign
            for path in [top, *top.rglob("*")]:
                status = path.lstat()
                found[str(path)] = f"{status.st_ino} {status.st_mode} {status.st_size} {status.st_mtime_ns}"
        return found


def leftovers(ask: Any, project: Project, foreign: set[str]) -> list[str]:
    """What is on a server that should not be: only sealed templates stay, and few databases ready for each of them.

    Args:
        ask: Gives the rows of a query.
        project: The only one on this server.
        foreign: Names of databases that are not elefast's.
    """
    rows = ask("select datname, datistemplate and not datallowconn, datallowconn, datconnlimit from pg_database")
    names = {text: name for text, *_ in rows if text not in foreign if (name := Name.parse(text))}
    sealed = {text for text, is_sealed, *_ in rows if is_sealed}
    templates = [text for text, name in names.items() if name.kind is Kind.TEMPLATE]
    left = [f"{text} (not sealed)" for text in templates if text not in sealed]
    left += [f"{text} (invalid)" for text, _, _, limit in rows if text in names and limit == -2]
    if len(templates) > KEEP + 1:
        left.append(f"{len(templates)} templates: {templates}")
    waiting = Counter(name.owner for name in names.values() if name.kind is Kind.READY)
    owners = {owner_of_ready(text) for text in templates}
    left += [f"{count} databases ready for {owner}" for owner, count in waiting.items() if count > POOL]
    left += [f"databases ready for no template ({owner})" for owner in waiting if owner not in owners]
    opened = {text for text, _, allowed, _ in rows if allowed}
    left += [f"{text} (open)" for text, name in names.items() if name.kind is Kind.READY and text in opened]
    allowed_kinds = {Kind.TEMPLATE, Kind.READY, *([Kind.KEPT] if project.variant.keeps else [])}
    left += [text for text, name in names.items() if name.kind not in allowed_kinds]
    unknown = {text for text, *_ in rows} - names.keys() - foreign - {"postgres", "template0", "template1"}
    return left + sorted(unknown)


def _foreign_databases(server: Server) -> set[str]:
    """Databases that look like elefast's and are not, for want of the check digest or of the right owner."""
    for role, rights in ((ROLE, "createdb"), (SOMEBODY, "createdb")):
        if not server.ask(f"select 1 from pg_roles where rolname = '{role}'"):
            server.ask(f"create role {role} login {rights} password '{server.url.password}'")
    made: dict[str, str] = {}
    for number, owner in enumerate(("postgres", ROLE)):
        made |= {f"elefast_{kind}0123456789ab_{number}_00000000": owner for kind in Kind}
        made[f"precious_{number}"] = owner
    made |= {str(Name("elefast", kind, "foreign00000", "1")): SOMEBODY for kind in Kind}
    there = server.names()
    for name, owner in made.items():
        if name not in there:
            server.ask(f'create database "{name}" owner {owner}')
            server.ask(f"comment on database \"{name}\" is 'of {owner}'")
    return set(made)


def _foreign_directories(root: Path) -> set[str]:
    """Directories where elefast's are, without the marker, under names that elefast would remove."""
    made = {"memory/foreign", "memory/trash-1-1-1", "memory/building-1-1", "disk/foreign", "disk/initdb-9-0"}
    for name in made:
        (root / name).mkdir()
        for file in (state.USERS, state.KEEPER, state.STATE, "precious"):
            (root / name / file).write_text("{}")
            os.utime(root / name / file, (LONG_AGO, LONG_AGO))
        os.utime(root / name, (LONG_AGO, LONG_AGO))
    # A link to a directory that has the marker: it would be followed out of here.
    (root / "elsewhere").mkdir()
    (root / "elsewhere" / ".elefast").touch()
    (root / "memory" / "trash-2-2-2").symlink_to(root / "elsewhere")
    return made | {"elsewhere", "memory/trash-2-2-2"}


def _of_a_kept_server(path: Path) -> bool:
    """Whether a path below the root is of a server whose data stay; what PostgreSQL has in them is its own business."""
    known = {".elefast", state.USERS, state.KEEPER, state.START, state.STATE, state.LOG, "s", "cluster"}
    match path.parts:
        case ("memory", name):
            return "-" not in name
        case ("memory", _, name):
            return name in known
        case ("memory", _, "cluster", "data", *rest):
            return rest != ["postmaster.pid"]
        case ("memory", _, "cluster", name):
            return name in {".elefast", "cluster.json", "data"}
    return False


def _caches(root: Path) -> list[str]:
    """Files of processes that were killed while they wrote down what saves time."""
    directory = root / "caches"
    names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    return [f"caches/{name}" for name in names if name.rpartition(".")[2].isdigit()]


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [f"{name}: {told}, now {now.get(name)}" for name, told in before.items() if now.get(name) != told]


def _postmaster(data: Path) -> int:
    try:
        return int((data / "postmaster.pid").read_text().partition("\n")[0])
    except (OSError, ValueError):
        return 0


def answers(
    connection: psycopg.Connection[tuple[Any, ...]] | None, connect: Any
) -> psycopg.Connection[tuple[Any, ...]] | None:
    """A connection that works, as far as anybody can know; None where no server answers."""
    if connection is not None and not connection.closed:
        return connection
    try:
        made: psycopg.Connection[tuple[Any, ...]] = connect()
    except psycopg.OperationalError:
        return None
    return made


def rows_of(connection: psycopg.Connection[tuple[Any, ...]] | None, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query; none where nobody answers."""
    if connection is None:
        return []
    with suppress(psycopg.OperationalError):
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []
    connection.close()
    return []
