"""A local server from its first start to its end, on every PostgreSQL of this machine."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg
import pytest

import elefast
from elefast.errors import ConfigurationError, ServerStartError, ServerUnavailableError
from elefast.providers import LocalProvider, server_settings
from elefast.providers.local import processes
from elefast.providers.local.server import Server
from tests.integration.providers.provider_support import (
    Installation,
    ask,
    connect,
    dsn,
    gone,
    postmaster_pid,
    processes_below,
    provider,
    until,
)


def test_a_server_is_started_tuned_and_removed(root: Path, installation: Installation) -> None:
    """With reuse off nothing is left, not even the root."""
    lease = provider(root, installation.bin_dir).acquire()
    assert ask(lease, "SHOW server_version").startswith(installation.major)
    assert ask(lease, "SHOW fsync") == "off"
    assert ask(lease, "SHOW authentication_timeout") == "10s"
    assert ask(lease, "SHOW listen_addresses") == "127.0.0.1"
    assert (lease.provider, lease.owned, lease.ephemeral) == ("local", True, True)
    assert lease.description.startswith(f"PostgreSQL {lease.version} (local.bin_dir), data in {root}")
    lease.release()
    assert until(lambda: gone(root)), list(root.rglob("*"))[:10]


@pytest.mark.fault("a test killed in the middle of a statement", how="SIGKILL while it waits for pg_sleep(600)")
def test_the_session_of_a_killed_client_ends(root: Path, installation: Installation) -> None:
    """In the middle of its statement: PostgreSQL's own default is to look only when that is done."""
    lease = provider(root, installation.bin_dir).acquire()
    code = "import psycopg as p, sys; p.connect(sys.argv[1], application_name='killed').execute('SELECT pg_sleep(600)')"
    client = subprocess.Popen([sys.executable, "-c", code, dsn(lease)])
    sleeps = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'killed' AND wait_event = 'PgSleep'"
    assert until(lambda: ask(lease, sleeps) == 1)
    client.kill()
    client.wait()
    assert until(lambda: ask(lease, sleeps) == 0)
    lease.release()


def test_reuse_keeps_data_and_port(root: Path, installation: Installation) -> None:
    """The server stops with its last user; the next one finds the databases, at the same address."""
    told: list[str] = []
    first = provider(root, installation.bin_dir, reuse=True).acquire(lambda: told.append("new"))
    with connect(first) as connection:
        connection.execute("CREATE DATABASE kept")
    first.release()
    assert until(lambda: not processes_below(root))
    second = provider(root, installation.bin_dir, reuse=True).acquire(lambda: told.append("new again"))
    assert told == ["new"]
    assert ask(second, "SELECT count(*) FROM pg_database WHERE datname = 'kept'") == 1
    assert second.url == first.url
    assert not second.ephemeral
    assert second.notes == ()
    second.release()


def test_initdb_runs_once(root: Path, installation: Installation) -> None:
    """Later clusters are copies of a cached one, also of another configuration and with reuse off."""
    provider(root, installation.bin_dir, reuse=True).acquire().release()
    assert until(lambda: not processes_below(root))
    cached = [path for path in (root / "disk").iterdir() if path.name.startswith(f"initdb-{installation.major}-")]
    assert len(cached) == 1
    (cached[0] / "data" / "witness").touch()
    lease = provider(root, installation.bin_dir).acquire()
    assert Path(lease.data_dir, "witness").exists()
    lease.release()


def test_text_is_utf8_in_code_point_order(root: Path, installation: Installation) -> None:
    """The same on every machine."""
    lease = provider(root, installation.bin_dir).acquire()
    assert ask(lease, "SHOW server_encoding") == "UTF8"
    assert ask(lease, "SELECT lower('ÄÖ')") == "äö"
    assert ask(lease, "SELECT string_agg(x, '' ORDER BY x) FROM unnest(array['a', 'B', 'ä']) AS x") == "Baä"
    lease.release()


def test_nobody_gets_in_without_the_password(root: Path, installation: Installation) -> None:
    """Neither over TCP nor over the socket."""
    lease = provider(root, installation.bin_dir).acquire()
    for host in ("127.0.0.1", lease.socket_dir):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host=host, port=lease.url.port, user="postgres", dbname="postgres", password="guess")
        psycopg.connect(
            host=host, port=lease.url.port, user="postgres", dbname="postgres", password=lease.url.password
        ).close()
    assert stat.S_IMODE(Path(lease.socket_dir).stat().st_mode) == 0o700
    lease.release()


def test_the_password_is_in_no_place_for_others(root: Path, bin_dir: str) -> None:
    """Not in a command line, a repr or a file that others can read."""
    lease = provider(root, bin_dir, reuse=True).acquire()
    password = lease.url.password
    assert isinstance(password, str)
    assert password not in "".join(processes_below(root)) + repr(lease) + repr(lease.url) + lease.description
    for path in root.rglob("*"):
        if path.is_file() and path.stat().st_size < 100_000 and password.encode() in path.read_bytes():
            assert not path.stat().st_mode & 0o077, path
    lease.release()


def test_one_iteration_unless_told(root: Path, bin_dir: str) -> None:
    """pg8000 and JDBC need 4096; everybody else saves the time."""
    for iterations in (1, 4096):
        lease = provider(root, bin_dir, scram_iterations=iterations).acquire()
        stored = ask(lease, "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'")
        assert stored.startswith(f"SCRAM-SHA-256${iterations}:")
        lease.release()


def test_pg8000_connects_with_the_usual_iterations(root: Path, bin_dir: str) -> None:
    """It refuses fewer."""
    dbapi: Any = import_module("pg8000.dbapi")
    lease = provider(root, bin_dir, scram_iterations=4096).acquire()
    dbapi.connect(
        host="127.0.0.1", port=lease.url.port, user="postgres", password=lease.url.password, database="postgres"
    ).close()
    lease.release()


def test_a_port_that_is_taken_is_passed_over(root: Path, bin_dir: str) -> None:
    """The last port is somebody else's by now: the server takes another."""
    first = provider(root, bin_dir, reuse=True).acquire()
    first.release()
    assert until(lambda: not processes_below(root))
    with socket.socket() as somebody:
        somebody.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        somebody.bind(("127.0.0.1", first.url.port or 0))
        somebody.listen()
        second = provider(root, bin_dir, reuse=True).acquire()
        assert second.url.port != first.url.port
        connect(second).close()
        second.release()


def test_a_wrong_setting_shows_the_log(root: Path, bin_dir: str) -> None:
    """And leaves nothing behind."""
    with pytest.raises(ServerStartError, match=r'(?s)does not start.*unrecognized configuration parameter "no_such"'):
        provider(root, bin_dir, settings={"no_such": "1"}).acquire()
    assert until(lambda: gone(root))


def test_our_own_settings_are_not_for_the_user(root: Path, bin_dir: str) -> None:
    """They would break what the lease promises."""
    with pytest.raises(ConfigurationError, match=r"tuning\.settings\.port: .*elefast sets this itself"):
        provider(root, bin_dir, settings={"port": "5432"}).acquire()


def test_environment_and_directory_of_the_tests_do_not_matter(
    root: Path, bin_dir: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """PG variables, a strange locale, a temporary directory that is not there, a removed working directory."""
    for name, value in {
        "PGDATA": "/nonexistent",
        "PGPORT": "1",
        "PGOPTIONS": "-c no_such=1",
        "LC_ALL": "no_SUCH",
        "TMPDIR": "/nonexistent",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    (tmp_path / "cwd").rmdir()
    lease = provider(root, bin_dir).acquire()
    monkeypatch.delenv("PGOPTIONS")
    assert ask(lease, "SELECT 1") == 1
    lease.release()


def test_the_server_does_not_see_the_tests_secrets(root: Path, bin_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment is its own."""
    if not os.path.isdir("/proc/self"):
        pytest.skip("no /proc")
    monkeypatch.setenv("MY_SECRET", "hidden")
    lease = provider(root, bin_dir).acquire()
    server = Path(lease.data_dir, "postmaster.pid").read_text().splitlines()[0]
    assert b"hidden" not in Path("/proc", server, "environ").read_bytes()
    lease.release()


def test_relative_directories_belong_to_the_project(root: Path, bin_dir: str) -> None:
    """Of its directory, not of the working directory."""
    (root / "project").mkdir()
    (root / "project").chmod(0o755)
    lease = provider(root, bin_dir, data_dir="data", project=root / "project").acquire()
    assert Path(lease.data_dir).is_relative_to(root / "project" / "data")
    lease.release()
    assert until(lambda: not (root / "project" / "data").exists())


def test_a_data_dir_keeps_its_data(root: Path, bin_dir: str) -> None:
    """With reuse on it stays and is found again."""
    for expected in (0, 1):
        lease = provider(root, bin_dir, reuse=True, data_dir=root / "data").acquire()
        assert ask(lease, "SELECT count(*) FROM pg_database WHERE datname = 'kept'") == expected
        if not expected:
            with connect(lease) as connection:
                connection.execute("CREATE DATABASE kept")
        lease.release()
        assert until(lambda: not processes_below(root))
    assert (root / "data" / "cluster" / "data" / "PG_VERSION").exists()


def test_a_data_dir_has_one_configuration_at_a_time(root: Path, bin_dir: str) -> None:
    """The second one is told so."""
    lease = provider(root, bin_dir, data_dir=root / "data").acquire()
    other = provider(root, bin_dir, data_dir=root / "data", settings=server_settings(jit=True))
    with pytest.raises(ServerUnavailableError, match="another configuration runs on"):
        other.acquire()
    lease.release()
    assert until(lambda: not processes_below(root))
    other.acquire().release()


def test_a_long_path_does_without_the_socket(root: Path, bin_dir: str) -> None:
    """Addresses of sockets are short; TCP works all the same."""
    deep = root / ("x" * 60)
    lease = provider(deep, bin_dir).acquire()
    assert lease.socket_dir == ""
    assert ask(lease, "SELECT 1") == 1
    lease.release()
    assert until(lambda: gone(deep))


def test_a_server_that_takes_too_long_is_stopped(root: Path, bin_dir: str) -> None:
    """And the error has its log."""
    with pytest.raises(ServerStartError, match="does not start"):
        provider(root, bin_dir, start_timeout=0.0).acquire()
    assert until(lambda: gone(root))


def test_a_server_is_found_by_its_directory(root: Path, bin_dir: str) -> None:
    """Also by a link to the directory, with its backends; and no other directory's, whatever its pid file says."""
    lease = provider(root, bin_dir).acquire()
    try:
        (root / "link").symlink_to(lease.data_dir)
        (root / "other").mkdir()
        shutil.copy(Path(lease.data_dir, "postmaster.pid"), root / "other")
        assert postmaster_pid(lease) in processes.servers_of(lease.data_dir)
        assert postmaster_pid(lease) in processes.servers_of(str(root / "link"))
        assert processes.servers_of(str(root / "other")) == []
        assert processes.servers_of(str(root / "missing")) == []
    finally:
        lease.release()


@pytest.mark.skipif(not shutil.which("lsof"), reason="needs lsof")
def test_without_proc_lsof_tells_what_a_server_works_on(root: Path, bin_dir: str) -> None:
    """As on macOS: by device and inode, and only of a program that is PostgreSQL."""
    lease = provider(root, bin_dir).acquire()
    try:
        directory = os.stat(lease.data_dir)
        assert processes._serves_by_lsof(postmaster_pid(lease), directory)
        assert not processes._serves_by_lsof(postmaster_pid(lease), os.stat(root))
        assert not processes._serves_by_lsof(os.getpid(), os.stat(os.getcwd()))
        assert not processes._serves_by_lsof(2**22, directory)
    finally:
        lease.release()


def test_a_program_that_works_in_the_directory_is_no_server(root: Path, bin_dir: str) -> None:
    """Such as a shell of somebody who looks around there."""
    lease = provider(root, bin_dir).acquire()
    with subprocess.Popen(["sleep", "60"], cwd=lease.data_dir) as visitor:
        try:
            assert visitor.pid not in processes.servers_of(lease.data_dir)
        finally:
            visitor.kill()
            lease.release()


def test_windows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything else happens."""
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ServerUnavailableError, match="not supported on Windows yet"):
        LocalProvider(reuse=False).acquire()


def test_a_wrong_address_length_is_counted_in_bytes() -> None:
    """Umlauts have two."""
    for directory, used in (("/" + "ä" * 45, False), ("/" + "a" * 45, True)):
        server = Server(binaries="", data="", socket=directory, log="", account=None, settings={}, serving="")  # type: ignore[arg-type]
        assert bool(server.socket) == used


def test_the_url_is_libpqs_too(root: Path, bin_dir: str) -> None:
    """The dialect is psycopg's, the database is the maintenance database."""
    lease = provider(root, bin_dir).acquire()
    assert lease.url.drivername == "postgresql+psycopg"
    assert lease.url.database == "postgres"
    psycopg.connect(dsn(lease)).close()
    lease.release()


def test_the_supervisor_imports_little() -> None:
    """Every cold start waits for its imports; it has no site-packages at all."""
    package = Path(elefast.__file__).parent.parent
    code = (
        f"import sys; sys.path.insert(0, {str(package)!r}); "
        "import elefast.providers.local.supervisor; print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"asyncio", "dataclasses", "inspect", "logging", "shutil", "psycopg"} & set(loaded.split())
