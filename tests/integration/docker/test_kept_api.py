"""`elefast.extras.docker`: the names, fields and defaults that existing code has, on the one provider."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import URL, make_url

from elefast.errors import ConfigurationError
from elefast.extras.docker.configuration import Configuration, Container, Credentials, Optimizations
from elefast.extras.docker.mapping import provider_arguments
from elefast.providers.docker.address import find
from tests.integration.docker.docker_support import containers, free_port, show

if TYPE_CHECKING:
    from docker import DockerClient

# -- the objects ----------------------------------------------------------------------------------------------------


def test_fields_and_defaults() -> None:
    """Those of the first elefast, by keyword only, and none of them can be changed afterwards."""
    assert dataclasses.asdict(Configuration()) == {
        "container": {"name": "elefast", "image": "postgres", "version": "latest", "database_port": None},
        "credentials": {"user": "postgres", "password": "elefast", "host": "127.0.0.1"},
        "optimizations": {
            "tmpfs": True,
            "fsync_off": True,
            "synchronous_commit_off": True,
            "full_page_writes_off": True,
            "wal_level_minimal": True,
            "disable_wal_senders": True,
            "disable_archiving": True,
            "autovacuum_off": False,
            "jit_off": True,
            "shared_buffers_mb": 128,
            "work_mem_mb": None,
            "maintenance_work_mem_mb": None,
            "checkpoint_timeout_seconds": 1800,
            "disable_statement_logging": True,
        },
    }
    with pytest.raises(dataclasses.FrozenInstanceError):
        Configuration().container = Container()  # type: ignore[misc]


def test_the_defaults_leave_name_host_and_port_to_elefast() -> None:
    """A shared name, a host that need not be right and a guessed port are what made the first elefast fail."""
    values = provider_arguments(Configuration(), {})
    assert {key: values[key] for key in ("image", "name", "host", "port", "tmpfs", "user", "password")} == {
        "image": "postgres:latest",
        "name": "",
        "host": "",
        "port": 0,
        "tmpfs": True,
        "user": "postgres",
        "password": "elefast",
    }


@pytest.mark.parametrize(
    ("container", "reference"),
    [
        (Container(version="17"), "postgres:17"),
        (Container(image="pgvector/pgvector", version="pg17"), "pgvector/pgvector:pg17"),
        (Container(image="registry:5000/postgres", version="17"), "registry:5000/postgres:17"),
        (Container(image="postgres:17"), "postgres:17"),
        (Container(image="postgres:17", version="17"), "postgres:17"),
        (Container(image="postgres@sha256:00"), "postgres@sha256:00"),
        (Container(version="sha256:00"), "postgres@sha256:00"),
        (Container(version=""), "postgres"),
    ],
)
def test_image_and_version_make_a_reference(container: Container, reference: str) -> None:
    """Also where one of them has all of it."""
    assert provider_arguments(Configuration(container=container), {})["image"] == reference


@pytest.mark.parametrize(
    ("optimizations", "settings"),
    [
        (Optimizations(fsync_off=False), {"fsync": None}),
        (Optimizations(synchronous_commit_off=False), {"synchronous_commit": None}),
        (Optimizations(full_page_writes_off=False), {"full_page_writes": None}),
        (Optimizations(), {"wal_level": "minimal", "max_wal_senders": "0", "archive_mode": "off", "autovacuum": None}),
        (
            Optimizations(wal_level_minimal=False, disable_wal_senders=False),
            {"wal_level": None, "max_wal_senders": None},
        ),
        (Optimizations(disable_archiving=False), {"archive_mode": None}),
        (Optimizations(autovacuum_off=True), {"autovacuum": "off"}),
        (Optimizations(jit_off=False), {"jit": None}),
        (Optimizations(shared_buffers_mb=None), {"shared_buffers": None}),
        (Optimizations(work_mem_mb=8, maintenance_work_mem_mb=16), {"work_mem": "8MB", "maintenance_work_mem": "16MB"}),
        (Optimizations(checkpoint_timeout_seconds=None), {"checkpoint_timeout": None}),
        (Optimizations(), {"checkpoint_timeout": "1800s", "shared_buffers": "128MB", "work_mem": None}),
        (Optimizations(disable_statement_logging=False), {"log_statement": "all"}),
    ],
)
def test_optimizations_become_settings(optimizations: Optimizations, settings: dict[str, str | None]) -> None:
    """What is not wished is left to PostgreSQL."""
    made = provider_arguments(Configuration(optimizations=optimizations), {})["settings"]
    assert {name: made.get(name) for name in settings} == settings


def test_names_hosts_ports_and_sizes_of_the_user() -> None:
    """What differs from the defaults is taken as it is."""
    config = Configuration(
        container=Container(name="mine", database_port=(5432, 6000)),
        credentials=Credentials(user="me", password="p", host="db.example"),
        optimizations=Optimizations(tmpfs=512),
    )
    values = provider_arguments(config, {"ELEFAST_HOST_PORT": "7000"})
    assert {key: values[key] for key in ("name", "port", "user", "password", "host", "tmpfs")} == {
        "name": "mine",
        "port": 6000,
        "user": "me",
        "password": "p",
        "host": "db.example",
        "tmpfs": "512m",
    }
    assert provider_arguments(Configuration(), {"ELEFAST_HOST_PORT": "7000"})["port"] == 7000
    assert provider_arguments(Configuration(container=Container(database_port=(5432, None))), {})["port"] == 0


def test_all_that_cannot_work_is_said_at_once() -> None:
    """Each with its field or its variable."""
    config = Configuration(
        container=Container(image="postgres:17", version="16", database_port=(3306, 70000)),
        optimizations=Optimizations(tmpfs=0, disable_wal_senders=False),
    )
    with pytest.raises(ConfigurationError) as error:
        provider_arguments(config, {})
    assert [problem.key for problem in error.value.problems] == [
        "container.version",
        "container.database_port",
        "container.database_port",
        "optimizations.tmpfs",
        "optimizations.disable_wal_senders",
    ]
    with pytest.raises(ConfigurationError, match=r'env ELEFAST_HOST_PORT  docker\.port: .* got "abc"'):
        provider_arguments(Configuration(), {"ELEFAST_HOST_PORT": "abc"})


# -- the container --------------------------------------------------------------------------------------------------


@contextmanager
def using(project: Path, call: str, **env: str) -> Generator[URL]:
    """The URL that a process was given, which runs as long as this lasts."""
    program = f"""
import sys
from docker import DockerClient
from elefast.extras.docker import postgres
from elefast.extras.docker.configuration import *
print({call}.render_as_string(hide_password=False), flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=project / "tests",
        env={**os.environ, **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate(timeout=60)[1]
        yield make_url(line.strip())
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    finally:
        process.kill()
        process.communicate()


@pytest.mark.usefixtures("postgres_15")
def test_a_container_is_kept_and_found_again(docker_client: DockerClient, project: Path) -> None:
    """By the next process, and by one that wants another driver; with the settings and the credentials asked for."""
    config = (
        "Configuration(container=Container(version='15'), credentials=Credentials(user='ann', password='s3cret'), "
        "optimizations=Optimizations(tmpfs=300, work_mem_mb=8))"
    )
    with using(project, f"postgres('asyncpg', config={config})") as first:
        assert (first.drivername, first.username, first.password) == ("postgresql+asyncpg", "ann", "s3cret")
        assert (first.host, first.database) == ("127.0.0.1", "postgres")
        assert show(first, "fsync", "wal_level", "work_mem", "autovacuum", "jit") == [
            "off",
            "minimal",
            "8MB",
            "on",
            "off",
        ]
        (container,) = containers(docker_client, project)
    with using(project, f"postgres('psycopg2', None, {config}, True)") as second:
        assert second == first.set(drivername="postgresql+psycopg2")
        assert containers(docker_client, project) == [container]
    assert containers(docker_client, project) == [container]
    mounts = docker_client.api.inspect_container(container)
    assert mounts["Mounts"] == []
    assert "size=300m" in mounts["HostConfig"]["Tmpfs"]["/var/lib/postgresql/data"]


@pytest.mark.usefixtures("postgres_latest")
def test_a_container_that_is_not_kept_goes_with_its_last_user(docker_client: DockerClient, project: Path) -> None:
    """While one of two processes goes on, so does the container; and no volume stays."""
    config = "Configuration(optimizations=Optimizations(tmpfs=False))"
    call = f"postgres('psycopg', config={config}, keep_container_around=False)"
    with using(project, call) as url:
        with using(project, call) as same:
            assert same == url
        (container,) = containers(docker_client, project)
        (volume,) = (mount["Name"] for mount in docker_client.api.inspect_container(container)["Mounts"])
        assert show(url, "fsync") == ["off"]
    assert containers(docker_client, project) == []
    assert volume not in {one["Name"] for one in docker_client.api.volumes()["Volumes"] or ()}


@pytest.mark.usefixtures("postgres_latest")
def test_workers_share_one_container(docker_client: DockerClient, project: Path) -> None:
    """With pytest-xdist; it is gone after the run."""
    (project / "tests" / "test_it.py").write_text(
        "import elefast, pytest\n"
        "from elefast.extras.docker import postgres\n"
        "@pytest.fixture(scope='session')\n"
        "def server():\n"
        "    return elefast.DatabaseServer(postgres('psycopg', keep_container_around=False))\n"
        "@pytest.mark.parametrize('n', range(4))\n"
        "def test_it(server, n, record_property):\n"
        "    with server.create_database() as database:\n"
        "        database.session().close()\n"
        "    record_property('port', server.url.port)\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-n", "2", "--junit-xml=report.xml"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "4 passed" in run.stdout
    report = (project / "report.xml").read_text()
    assert len({part.partition('"')[0] for part in report.split('name="port" value="')[1:]}) == 1
    assert containers(docker_client, project) == []


@pytest.mark.usefixtures("postgres_latest")
def test_a_pinned_port_and_a_client_of_the_callers_own(docker_client: DockerClient, project: Path) -> None:
    """`ELEFAST_HOST_PORT` is the port of the URL; what `DOCKER_HOST` says is not looked at."""
    port = free_port()
    found = find(os.environ).url
    call = f"postgres('psycopg', DockerClient(base_url={found!r}), keep_container_around=False)"
    with using(project, call, ELEFAST_HOST_PORT=str(port), DOCKER_HOST="tcp://127.0.0.1:1") as url:
        assert url.port == port
        assert show(url, "fsync") == ["off"]
        (container,) = containers(docker_client, project)
        ports = docker_client.api.inspect_container(container)["NetworkSettings"]["Ports"]
        assert ports["5432/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": str(port)}]
    assert containers(docker_client, project) == []


def test_without_the_extra() -> None:
    """The line to install it."""
    program = (
        "import sys; sys.modules['docker'] = None\n"
        "from elefast.extras.docker import configuration, postgres\n"
        "from elefast.errors import MissingDependencyError\n"
        "try: postgres('psycopg')\n"
        "except MissingDependencyError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == 'the docker extra is not installed: pip install "elefast[docker]"\n'
