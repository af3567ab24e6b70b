"""Ways in which Docker can be missing or refuse; what needs an engine asks the one that is here."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from tests.guarantees.messages.conftest import Same, Shown, error_of, messages
from tests.integration.docker.conftest import _no_engine
from tests.integration.docker.docker_support import free_port, skip_or_fail, where_engine_is
from tests.integration.pytest_plugin.conftest import Project

ABSENT = "elefast-no-such-image:1"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine of this machine, whatever the configuration of the Docker CLI."""
    if why := _no_engine():
        skip_or_fail(why)
    for name, value in where_engine_is().items():
        monkeypatch.setenv(name, value)


def docker(project: Project, lines: str = "") -> str:
    """What pytest shows with this configuration."""
    project.configure(f'provider = "docker"\nmigrator = "none"\n{lines}', url=False)
    return error_of(project.run())


def test_the_extra_is_missing(project: Project, same: Same, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the line that installs it."""
    monkeypatch.setitem(sys.modules, "docker", None)
    same("extra missing", docker(project))


def test_the_engine_is_stopped(project: Project, same: Same, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket is still there, and nobody listens."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(project.path / "docker.sock"))
        monkeypatch.setenv("DOCKER_HOST", f"unix://{project.path}/docker.sock")
        same("engine stopped", docker(project))


def test_the_context_is_gone(project: Project, same: Same, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable of another project's shell."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONTEXT", "staging")
    monkeypatch.setenv("DOCKER_CONFIG", str(project.path))
    same("context gone", docker(project))


@pytest.mark.usefixtures("engine")
def test_the_image_is_missing_and_not_to_be_pulled(project: Project, same: Same) -> None:
    """Two ways out: a command, and a key."""
    same("image missing", docker(project, f'docker.image = "{ABSENT}"\ndocker.pull = "never"'))


@pytest.mark.usefixtures("engine")
def test_the_image_is_no_reference(project: Project, same: Same) -> None:
    """A mistake in the configuration, with its line."""
    before, _, after = docker(project, 'docker.image = "Postgres 18"').partition('"Postgres 18": ')
    words, _, rest = after.partition("\n")
    assert "invalid reference format" in words
    same("no reference", f'{before}"Postgres 18": <words>\n{rest}')


@pytest.mark.usefixtures("engine")
def test_the_port_is_taken(project: Project, same: Same, shown: Shown) -> None:
    """By a program of this machine; the words of the engine differ from version to version."""
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        text = docker(project, f'docker.image = "postgres:18"\ndocker.pull = "never"\ndocker.port = {port}')
    shown.more[str(port)] = "<port>"
    if "is not here" in text:
        skip_or_fail("the engine has no image postgres:18")
    lines = ["the engine says: <words>" if line.startswith("the engine says: ") else line for line in text.split("\n")]
    same("port taken", "\n".join(lines))


def test_every_message_is_of_a_case() -> None:
    """What is written is compared."""
    source = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in messages("docker") if f'"{name}"' not in source] == []
