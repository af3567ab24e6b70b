"""Paths, hosts, the migrator that "auto" means, and everything that is right although it looks odd."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from elefast.config import Settings
from elefast.config.local_hosts import is_local

if TYPE_CHECKING:
    from tests.unit.config.conftest import Project


def test_the_defaults(project: Project) -> None:
    """What an empty configuration means; only the path of Alembic's file is made absolute."""
    project.write("elefast.toml", "")
    default = Settings().model_dump()
    default["alembic"]["config"] = str(project.directory / "alembic.ini")
    assert project.load().settings.model_dump() == default


PATHS: list[tuple[str, str, str]] = [
    ("alembic.config", "db/alembic.ini", "{here}/db/alembic.ini"),
    ("alembic.config", "../alembic.ini", "{above}/alembic.ini"),
    ("alembic.config", "/etc/alembic.ini", "/etc/alembic.ini"),
    ("local.data_dir", "data", "{here}/data"),
    ("local.bin_dir", "", ""),
    ("local.bin_dir", "~/pg", "{home}/pg"),
    ("sql.files", "migrations/**/*.sql", "{here}/migrations/**/*.sql"),
    ("template.watch", "./[a-z]*.sql", "{here}/[a-z]*.sql"),
    ("seed", "tests/seed.sql", "{here}/tests/seed.sql"),
    ("seed", "tests.seeding:load", "tests.seeding:load"),
    ("seed", "data/a:b.sql", "{here}/data/a:b.sql"),
]


@pytest.mark.parametrize(("name", "written", "meant"), PATHS)
@pytest.mark.parametrize("source", ["file", "variable", "argument"])
def test_relative_paths(project: Project, name: str, written: str, meant: str, source: str) -> None:
    """In a file they are relative to it; elsewhere to the project, wherever the tests were started."""
    here = project.directory
    meant = meant.format(here=here, above=here.parent, home=Path.home())
    meant = str(Path(here, meant)) if "/" in meant else meant  # as this system writes it
    is_list = name in ("seed", "sql.files", "template.watch")
    value: Any = [written] if is_list else written
    project.write("sub/x.py", "")
    project.write("elefast.toml", f"{name} = {value!r}" if source == "file" else "")
    variable = f"ELEFAST_{name.replace('.', '__').upper()}"
    found: Any = project.load(
        {variable: written} if source == "variable" else {},
        path="sub",
        **({name.replace(".", "__"): value} if source == "argument" else {}),
    ).settings
    for part in name.split("."):
        found = getattr(found, part)
    assert found == ([meant] if is_list else meant)


LOCAL = [
    "",
    "localhost",
    "LocalHost.",
    "db.localhost",
    "127.0.0.1",
    "127.8.8.8",
    "::1",
    "[::1]",
    "::ffff:127.0.0.1",
    "0.0.0.0",
    "/var/run/postgresql",
    "@abstract",
    "host.docker.internal",
    platform.node(),
]
REMOTE = [
    "db",
    "postgres",
    "10.0.0.1",
    "192.168.1.5",
    "8.8.8.8",
    "2001:db8::1",
    "::ffff:10.0.0.1",
    "localhost.example.com",
    "127.0.0.1.example.com",
    "mylocalhost",
    "127.1",
    "127.0.0.1%x.example",
    "::1%x.example",
    "evil.example#x.localhost",
    "evil.example&host=x.localhost",
    "evil.example?.localhost",
    "evil example.localhost",
]


@pytest.mark.parametrize("host", LOCAL)
def test_hosts_of_this_machine(host: str) -> None:
    """These cannot lead anywhere else."""
    assert is_local(host)


@pytest.mark.parametrize("host", REMOTE)
def test_hosts_of_other_machines(host: str) -> None:
    """Nothing is looked up: a name that is not known to be ours is not ours."""
    assert not is_local(host)


LOCAL_URLS = [
    "postgresql://localhost/x",
    "postgresql+asyncpg://me:pw@127.0.0.1:5432/x",
    "postgresql+psycopg://[::1]:5432/x",
    "postgresql:///x",
    "postgresql:///x?host=/var/run/postgresql",
    "postgresql://me@/x?host=localhost:5432&host=127.0.0.1:5433",
    "postgresql://localhost/x?hostaddr=127.0.0.1",
    "postgresql+psycopg2:///x?host=localhost,/tmp",
]
REMOTE_URLS = [
    "postgresql://db/x",
    "postgresql://localhost@db/x",
    "postgresql://me:localhost@10.0.0.1:5432/x",
    "postgresql:///x?host=db",
    "postgresql://localhost/x?host=db",
    "postgresql://localhost/x?hostaddr=10.0.0.1",
    "postgresql:///x?host=localhost:5432&host=db:5432",
    "postgresql:///x?host=localhost,db",
    "postgresql://[2001:db8::1]/x",
    "postgresql:///x?service=production",
    "postgresql://localhost/x?servicefile=/tmp/x",
    "postgresql+pg8000:///x?unix_sock=db/.s.PGSQL.5432",
    "postgresql+psycopg2:///x?dsn=host%3Ddb",
    "postgresql+psycopg:///x?conninfo=hostaddr%3D10.0.0.1",
    "postgresql+asyncpg:///x?dsn=postgresql://db/x",
]


@pytest.mark.parametrize("url", LOCAL_URLS)
def test_local_urls_are_accepted(project: Project, url: str) -> None:
    """Servers on this machine need no permission."""
    project.write("elefast.toml", "")
    assert project.load(engine__url=url).settings.engine.url == url


@pytest.mark.parametrize("url", REMOTE_URLS)
def test_remote_urls_are_refused(project: Project, url: str) -> None:
    """Every host that a connection may go to counts, wherever it stands in the URL."""
    project.write("elefast.toml", "")
    (problem,) = project.problems(engine__url=url)
    assert "is not this machine" in problem


@pytest.mark.parametrize("url", REMOTE_URLS)
def test_remote_urls_can_be_allowed(project: Project, url: str) -> None:
    """A key or a variable allows them."""
    project.write("elefast.toml", "")
    project.load({"ELEFAST_ENGINE__ALLOW_REMOTE": "true"}, engine__url=url)


def test_a_url_that_is_not_used_may_be_remote(project: Project) -> None:
    """Nothing connects to it."""
    project.write("elefast.toml", "provider = 'local'\n")
    project.load({"TESTING_DB_URL": "postgresql://db/x"})


@pytest.mark.parametrize(
    ("env", "url"),
    [
        ({"PGHOST": "db"}, "postgresql:///x"),
        ({"PGHOSTADDR": "10.0.0.1"}, "postgresql://localhost/x"),
        ({"PGHOSTADDR": "10.0.0.1"}, "postgresql://localhost/x?hostaddr=127.0.0.1"),
        ({"PGSERVICE": "production"}, "postgresql:///x"),
        ({"PGSERVICE": "production"}, "postgresql://localhost/x"),
    ],
)
def test_libpqs_variables_count(project: Project, env: dict[str, str], url: str) -> None:
    """Drivers read them wherever the URL says nothing."""
    project.write("elefast.toml", "")
    (problem,) = project.problems(env, engine__url=url)
    assert problem.startswith(f"env {next(iter(env))}  engine.url: the host ")


def test_libpqs_variables_that_do_not_count(project: Project) -> None:
    """A URL with a host wins over `PGHOST`."""
    project.write("elefast.toml", "")
    project.load({"PGHOST": "db"}, engine__url="postgresql://localhost/x")


def test_libpqs_variables_are_those_of_the_process(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever environment the configuration is read with, drivers read that of the process."""
    project.write("elefast.toml", "")
    monkeypatch.setenv("PGHOSTADDR", "10.0.0.1")
    (problem,) = project.problems({}, engine__url="postgresql://localhost/x")
    assert problem.startswith('env PGHOSTADDR  engine.url: the host "10.0.0.1"')


@pytest.mark.parametrize("arguments", [{"host": ""}, {"host": None}])
def test_arguments_that_take_the_host_back(project: Project, arguments: dict[str, Any]) -> None:
    """Then `PGHOST` counts."""
    project.write("elefast.toml", "")
    (problem,) = project.problems(
        {"PGHOST": "db"}, engine={"url": "postgresql://localhost/x", "connect_args": arguments}
    )
    assert problem.startswith("env PGHOST ")


@pytest.mark.parametrize(
    "arguments",
    [
        {"host": "db"},
        {"hostaddr": "10.0.0.1"},
        {"host": 167772161},
        {"conninfo": "hostaddr=10.0.0.1"},
        {"dsn": "postgresql://db/x"},
        {"service": "production"},
        {" host": "db"},
        {"port=1 host": "db"},
    ],
)
@pytest.mark.parametrize("key", ["connect_args", "async_connect_args"])
def test_arguments_of_drivers_count(project: Project, key: str, arguments: dict[str, Any]) -> None:
    """They win over the URL, or fill what it leaves open, and may name a host in a text of their own."""
    project.write("elefast.toml", "")
    (problem,) = project.problems(engine={"url": "postgresql:///x", key: arguments})
    assert problem.startswith(f"from_config(engine=...)  engine.{key}: the host ")
    assert "is not this machine" in problem


MIGRATORS: list[tuple[str, dict[str, str], str, str]] = [
    ("", {}, "none", "auto: no table of a migrator is written, and Alembic is not configured"),
    ("", {"alembic.ini": ""}, "alembic", "auto: alembic.ini beside the configuration"),
    ("", {"pyproject.toml": "[tool.alembic]"}, "alembic", "auto: [tool.alembic] beside the configuration"),
    (
        "",
        {"conf/alembic.ini": "[alembic]\nscript_location = db/moves", "db/moves/env.py": ""},
        "alembic",
        "auto: conf/alembic.ini below the configuration",
    ),
    (
        "",
        {"conf/alembic.ini": "[alembic]\nscript_location = moves", "conf/moves/env.py": "", "moves/env.py": ""},
        "none",
        "auto: no table of a migrator is written, and Alembic is not configured",
    ),
    (
        "",
        {f"{name}/alembic.ini": "[alembic]\nscript_location = moves" for name in ("a", "b")} | {"moves/env.py": ""},
        "none",
        "auto: no table of a migrator is written, and Alembic is not configured",
    ),
    ("[sql]\nfiles = ['a.sql']", {"alembic.ini": ""}, "sql", "auto: the table sql is written"),
    ("[alembic]", {}, "alembic", "auto: the table alembic is written"),
    ("[sql]\n[command]\nrun = ['x']", {}, "command", "auto: the table command is written"),
    ("migrator = 'none'\n[sql]\n[alembic]", {}, "none", 'migrator = "none"'),
]


@pytest.mark.parametrize(("text", "files", "migrator", "reason"), MIGRATORS)
def test_the_migrator_in_force(project: Project, text: str, files: dict[str, str], migrator: str, reason: str) -> None:
    """The one table that the project wrote, else Alembic where it is configured, else none."""
    project.write("elefast.toml", text)
    for name, content in files.items():
        project.write(name, content)
    selection = project.load().migrator
    assert (selection.migrator, selection.reason) == (migrator, reason)


def test_alembic_in_pyproject_only(project: Project) -> None:
    """Without an alembic.ini, the file that has [tool.alembic] is the one to use."""
    project.write("pyproject.toml", "[tool.elefast]\n[tool.alembic]\nscript_location = 'x'\n")
    assert project.load().settings.alembic.config == str(project.directory / "pyproject.toml")


RIGHT: list[tuple[str, Any]] = [
    ("postgres", ">=16,<19"),
    ("postgres", "==18.*"),
    ("postgres", ""),
    ("export_env", ["A", "B=postgresql", "C=postgresql+asyncpg"]),
    ("patch", ["app.db:engine", "app.db:settings.url"]),
    ("metadata__target", ["a:Base", "b:metadata"]),
    ("tuning__shared_buffers", ""),
    ("tuning__shared_buffers", "16384"),
    ("tuning__work_mem", "64kB"),
    ("tuning__checkpoint_timeout", "30"),
    ("tuning__max_wal_senders", 10),
    ("docker__tmpfs", "1G"),
    ("docker__shm_size", ""),
    ("docker__reuse", True),
    ("engine__max_overflow", -1),
    ("engine__echo", "debug"),
    ("pool__size", 0),
]


@pytest.mark.parametrize(("name", "value"), RIGHT)
def test_what_is_accepted(project: Project, name: str, value: Any) -> None:
    """Values at the edge of what is right."""
    project.write("elefast.toml", "migrator = 'none'\n")
    found: Any = project.load(**{name: value}).settings
    for part in name.split("__"):
        found = getattr(found, part)
    assert found == value


def test_settings_are_frozen(project: Project) -> None:
    """A configuration does not change after it was validated."""
    project.write("elefast.toml", "")
    settings = project.load().settings
    with pytest.raises(ValidationError):
        settings.docker.port = 3
