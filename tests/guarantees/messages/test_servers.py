"""Ways in which a server can be missing or unfit, whoever runs it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from elefast import DatabaseServer
from elefast.cli import main
from elefast.errors import DatabaseNotReadyError, full_text
from tests.guarantees.messages.conftest import Same, Shown, error_of, messages
from tests.integration.providers.provider_support import until
from tests.integration.pytest_plugin.conftest import Project

ROLE = "messages_of_errors"

Ask = Callable[..., str]


@pytest.fixture
def sql(server_url: str) -> Iterator[psycopg.Connection]:
    """A superuser's connection; the role of these tests is gone afterwards."""
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"DROP ROLE IF EXISTS {ROLE}")
        yield connection
        connection.execute(f"DROP ROLE IF EXISTS {ROLE}")


@pytest.fixture
def ask(project: Project) -> Ask:
    """What pytest shows where the server's URL has these parts, or the configuration these lines."""

    def ask(lines: str = 'migrator = "none"', **parts: object) -> str:
        url = project.url.set(**parts)  # type: ignore[arg-type]  # the parts of a URL
        text = url.render_as_string(hide_password=False)
        project.configure(f'engine.url = "{text}"\n{lines}' if parts else lines, url=not parts)
        return error_of(project.run())

    return ask


def test_wrong_password(ask: Ask, same: Same) -> None:
    """It is not tried again, and not shown."""
    same("wrong password", ask(password="secret"))


def test_no_such_role(ask: Ask, same: Same) -> None:
    """The remedy is a statement."""
    same("no such role", ask(username="nobody_of_that_name"))


def test_no_right_to_create_databases(ask: Ask, same: Same, sql: psycopg.Connection) -> None:
    """The usual role of an application."""
    sql.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'secret'")
    same("no CREATEDB", ask(username=ROLE, password="secret"))


def test_no_right_to_create_the_extension(ask: Ask, same: Same, sql: psycopg.Connection) -> None:
    """One that is not trusted takes a superuser."""
    # amcheck is in contrib, and not trusted.
    if not sql.execute("SELECT FROM pg_available_extensions WHERE name = 'amcheck'").fetchone():
        pytest.skip("the server has no contrib modules")
    sql.execute(f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD 'secret'")
    same(
        "no right to create an extension",
        ask('migrator = "none"\nextensions = ["amcheck"]', username=ROLE, password="secret"),
    )


def test_too_old(ask: Ask, same: Same, shown: Shown, sql: psycopg.Connection) -> None:
    """For what the project says that it needs."""
    shown.more[f"PostgreSQL {sql.info.parameter_status('server_version')}".partition(" (")[0]] = "PostgreSQL <version>"
    same("server too old", ask('migrator = "none"\npostgres = ">=99"'))


def test_a_server_without_tls(ask: Ask, same: Same) -> None:
    """What will never work is not tried for half a minute."""
    same("server without TLS", ask(query={"sslmode": "require"}))


@pytest.mark.fault("no server at the address", how="a port that is bound and not listened on")
def test_nobody_listens(same: Same, shown: Shown) -> None:
    """The error has the address, how long it was tried, and the driver's own words."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody else has the port now, and nobody listens on it
        port = taken.getsockname()[1]
        shown.more |= {f"127.0.0.1:{port}": "<nobody>", f'"127.0.0.1", port {port}': "<nobody>"}
        with pytest.raises(DatabaseNotReadyError) as caught:
            DatabaseServer(f"postgresql+psycopg://me:secret@127.0.0.1:{port}/app").ensure_is_ready(0.3, 0.2)
    same("server down", full_text(caught.value))


@pytest.mark.fault("the role has no connection left", how="CREATE ROLE CONNECTION LIMIT 0")
def test_too_many_connections(project: Project, same: Same, sql: psycopg.Connection) -> None:
    """The error says so, and is not that of a server that is not there."""
    sql.execute(f"CREATE ROLE {ROLE} LOGIN CREATEDB CONNECTION LIMIT 0 PASSWORD 'secret'")
    url = project.url.set(username=ROLE, password="secret")
    with pytest.raises(DatabaseNotReadyError) as caught:
        DatabaseServer(url).ensure_is_ready(0.3, 0.2)
    same("too many connections", full_text(caught.value))


@pytest.fixture(params=["transaction", "session"])
def pgbouncer(request: pytest.FixtureRequest, project: Project, elefast_root: Path) -> Iterator[int]:
    """The port of a PgBouncer that pools transactions or sessions of the server of the tests."""
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    if not Path(program).exists():
        pytest.skip("pgbouncer is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    url = project.url
    home = elefast_root / "pgbouncer"  # other users may enter it
    home.mkdir()
    log, users, configuration = home / "log", home / "users", home / "ini"
    log.touch()
    users.write_text(f'"{url.username}" "{url.password}"\n')
    configuration.write_text(
        f"[databases]\n* = host={url.host} port={url.port}\n[pgbouncer]\npool_mode = {request.param}\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = plain\n"
        f"auth_file = {users}\nlogfile = {log}\nignore_startup_parameters = extra_float_digits,options\n"
    )
    for path in (home, log, users, configuration):
        path.chmod(0o777)
    # It refuses to be root.
    command = [program, "-q", *(["-u", "nobody"] if os.geteuid() == 0 else []), str(configuration)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert until(lambda: process.poll() is not None or _listens(port)), "pgbouncer does not answer"
        assert process.poll() is None, log.read_text()
        yield port
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(home)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.mark.fault("a connection pooler", how="a real PgBouncer in transaction mode, and in session mode")
def test_a_pooler(ask: Ask, same: Same, shown: Shown, pgbouncer: int) -> None:
    """It is refused with the remedy: from outside nothing tells its modes apart, and both would leave sessions."""
    shown.more[f"127.0.0.1:{pgbouncer}"] = "<pooler>"
    same("transaction pooler", ask(port=pgbouncer))


def test_nothing_on_this_machine(project: Project, same: Same, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way to a server, and why it was no way."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{project.path}/docker.sock")
    project.configure('postgres = ">=99"', url=False)
    text = error_of(project.run())
    # What there is instead differs from machine to machine.
    first, *_ = text.partition("  local: ")
    same("no server at all", first + text[text.rindex("\ninstall a PostgreSQL") + 1 :])


@pytest.fixture
def open_root(elefast_root: Path) -> Iterator[Path]:
    """A root for servers that other users may enter, because a copy of PostgreSQL's programs may have to go there."""
    root = Path(tempfile.mkdtemp(dir=elefast_root))
    root.chmod(0o711)
    yield root
    shutil.rmtree(root)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("no server in bin_dir", 'provider = "local"\nlocal.bin_dir = "bin"'),
        ("data_dir with other files", 'provider = "local"\nlocal.data_dir = "data"'),
    ],
)
def test_a_local_server(project: Project, same: Same, name: str, lines: str, open_root: Path) -> None:
    """Directories that are not what they should be."""
    project.env(_ELEFAST_ROOT=str(open_root))  # what a failed start leaves is for the next one to sweep
    project.file("bin/psql", "")
    project.file("data/letters/first.txt", "")
    project.configure(lines, url=False)
    same(name, error_of(project.run()))


def test_the_command_line_gives_each_class_its_status(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], open_root: Path
) -> None:
    """For scripts; the message ends with the code."""
    monkeypatch.chdir(project.path)
    project.env(_ELEFAST_ROOT=str(open_root))
    url = project.url
    cases = [
        ("docker.prot = 1", 2, "unknown-key"),
        (f'engine.url = "{url.set(password="x").render_as_string(hide_password=False)}"', 3, "wrong-password"),
        ('provider = "local"\nlocal.data_dir = "tests"', 4, "foreign-directory"),
    ]
    project.file("tests/test_it.py", "")
    for lines, status, code in cases:
        project.configure(lines, url=False)
        assert main(["prune"]) == status
        assert capsys.readouterr().err.splitlines()[-1] == f"more: elefast explain {code}"


def test_every_message_is_of_a_case() -> None:
    """What is written is compared."""
    source = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in messages("servers") if f'"{name}"' not in source] == []
