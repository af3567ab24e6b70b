"""The command line: a password is shown by the commands that are for that, and by no other."""

from __future__ import annotations

import sys

import pytest

from tests.guarantees.passwords.search import Secret, Watch, in_files, unsafe
from tests.guarantees.passwords.world import World

ASK = "import os, psycopg; psycopg.connect('').close()"
COMMANDS = {
    "config": 0,
    "config --json": 0,
    "status": 0,
    "status --json": 0,
    "check": 0,
    "template build": 0,
    "template explain": 0,
    "template --json": 0,
    "ls": 0,
    "ls --json": 0,
    "up": 0,
    "prune --dry-run": 0,
    "psql -- -c select+1": 0,
    f"run -- {sys.executable} -c {ASK.replace(' ', '+')}": 0,
    "run --keep -- false": 1,
    "run -- no-such-program": 127,
    "url no-such-database": 2,
    "psql no-such-database": 2,
    "template drop": 0,
    "prune --all": 0,
}
"""With "+" for blanks within an argument; and the exit status of each."""


def _arguments(command: str) -> list[str]:
    return [word.replace("+", " ") for word in command.split(" ")]


@pytest.mark.fault("a password in what a command shows", how="a search of the output of each command")
def test_commands(world: World, secret: Secret) -> None:
    """None of them shows it, nor puts it on a command line."""
    with Watch(secret, world.plant, (), world.seen) as watch:
        for command in COMMANDS:
            done = world.command(*_arguments(command), ELEFAST_ENGINE__URL=world.url())
            assert "Traceback" not in done.text
            # What is printed of a database that was kept is a command for psql, which asks for the password.
            world.check(f"$ elefast {command}\n{done.text}")
    assert watch.hits == set()
    # The same look finds it where it is given.
    assert secret.is_in(world.command("url", ELEFAST_ENGINE__URL=world.url()).text)
    world.clear()


@pytest.mark.fault("a password in what a command says that fails", how="a search of what each says of a wrong one")
def test_commands_with_a_wrong_password(world: World) -> None:
    """Nor where it is a wrong one."""
    url = world.url().replace("://app:", "://postgres:")
    for command in ("status", "check", "ls", "psql", "url", "run -- true", "template", "prune"):
        done = world.command(*_arguments(command), ELEFAST_ENGINE__URL=url)
        assert "password authentication failed" in done.text
        assert done.status
        world.check(f"$ elefast {command}\n{done.text}")


@pytest.mark.fault(
    "a local server's password in files", how="a search of all files, and of the modes of those that have it"
)
def test_a_local_server(world: World) -> None:
    """Its password is in files that only this user can read, on no command line, and in no output but that of `url`."""
    local = {"ELEFAST_PROVIDER": "local"}
    try:
        assert world.command("up", **local).status == 0
        told = world.command("url", **local).text
        own = Secret(told.partition("postgres:")[2].partition("@")[0])
        assert len(own.text) >= 32
        with Watch(own, world.plant, (), world.seen) as watch:
            for command, status in COMMANDS.items():
                if command.startswith("run --keep"):  # that is for looking at it, and says how
                    continue
                done = world.command(*_arguments(command), **local)
                assert done.status == status, done.text
                assert not own.is_in(done.text), f"$ elefast {command}\n{done.text}"
            found = in_files(own, world.root, world.home, world.temporary, world.path)
        assert watch.hits == set()
        assert found
        assert {path: why for path in found if (why := unsafe(path))} == {}
    finally:
        world.command("down", **local)
    kept = in_files(own, world.root)  # what is reused has the password of the next time, too
    assert {path: why for path in kept if (why := unsafe(path))} == {}


def test_where_a_password_is_given(world: World, secret: Secret) -> None:
    """`url`, and the environment of what `run` runs, which SECURITY.md names."""
    url = {"ELEFAST_ENGINE__URL": world.url()}
    assert secret.is_in(world.command("url", **url).text)
    assert secret.is_in(world.command("url", "--driver", "postgresql+asyncpg", **url).text)
    for name in ("DATABASE_URL", "PGPASSWORD", "ASYNC_URL"):
        assert secret.is_in(world.command("run", "--", "printenv", name, **url).text)
    world.clear()
