"""`elefast psql`: a look into a database, most often one that a failed test has left."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

from elefast.cli._output import add_all_projects, add_profile
from elefast.runtime.text import escape_controls

if TYPE_CHECKING:
    from sqlalchemy import URL

    from elefast.stack import Stack

__all__ = ["HELP", "NAME", "add_arguments", "run", "separated"]

NAME = "psql"
HELP = "open psql on a database of the project: of the test that runs or was kept last, of a name, or of a test"

_OWN_FLAGS = ("--all-projects", "--traceback", "-h", "--help")
_OWN_OPTIONS = ("--profile", "--role")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_all_projects(parser)
    parser.add_argument(
        "--role",
        metavar="NAME",
        default="",
        help="a role of the configuration to connect as; default: the server's user",
    )
    add_profile(parser)
    parser.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="[DATABASE] [OPTION ...]",
        help="a database's name, its test, or a part of either; default: that of the test that runs, else the one "
        "kept last, else the maintenance database. Options are psql's, such as -c 'select 1'; elefast's own stand "
        "before all of that",
    )


def separated(words: Sequence[str]) -> list[str]:
    """The words of a command line with ``--`` between elefast's options and psql's.

    argparse would reject psql's options as unknown if no other word comes before them.
    """
    found = list(words)
    if NAME not in found or any(not word.startswith("-") for word in found[: found.index(NAME)]):
        return found
    place = found.index(NAME) + 1
    while place < len(found):
        name, equals, _ = found[place].partition("=")
        if name in _OWN_OPTIONS:
            place += 1 if equals else 2
        elif found[place] in _OWN_FLAGS:
            place += 1
        else:
            break
    if place < len(found) and found[place] != "--":
        found.insert(place, "--")
    return found


def run(arguments: argparse.Namespace) -> int:
    """Open it; its exit status.

    Raises:
        UsageError: There is no such database.
        ServerUnavailableError: There is no psql.
    """
    from elefast.cli._choose_database import chosen, described, latest
    from elefast.cli._server import configured

    words: list[str] = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
    wanted = words.pop(0) if words and not words[0].startswith("-") else ""
    options = words[1:] if words[:1] == ["--"] else words
    with configured(arguments) as stack:
        items = stack.admin().inventory()
        everything = arguments.all_projects
        item = chosen(items, wanted, stack.project, everything=everything) if wanted else latest(items, stack.project)
        name = item.name if item else stack.service.url_for().database or ""
        url = stack.service.test_url(name, "postgresql+psycopg", arguments.role)
        command, environment = _command(stack, url)
        if item:
            print(f"database {item.name}: {described(item)}", file=sys.stderr)
        else:
            print(
                f"database {escape_controls(url.database or '')}, for maintenance: no test of project "
                f"{stack.project} runs on this machine, and no database was kept",
                file=sys.stderr,
            )
        return _in_foreground([*command, *options], environment)


def _command(stack: Stack, url: URL) -> tuple[list[str], dict[str, str]]:
    """How psql is called; the password is in its environment, since everybody may read a command line."""
    from elefast.errors import ServerUnavailableError
    from elefast.postgres.libpq_variables import libpq_environment
    from elefast.postgres.urls import display_url, with_driver

    lease = stack.admin().lease
    environment = libpq_environment(url, os.environ, "elefast psql", owned=lease.owned)
    refused: list[str] = []
    for program in _programs(stack, getattr(lease, "bin_dir", "")):
        if not (why := _refusal(program)):
            return [program], environment
        refused.append(f"\n  {program}: {why}")
    container: str = getattr(lease, "container", "")
    docker = shutil.which("docker") or shutil.which("podman")
    if container and docker:
        passed = {"PGUSER": url.username or "", "PGPASSWORD": str(url.password), "PGDATABASE": url.database or ""}
        names = [word for name in passed for word in ("-e", name)]
        return [docker, "exec", "-i", *(["-t"] if os.isatty(0) else []), *names, container, "psql"], {
            **os.environ,
            **passed,
        }
    found = (
        f" that runs:{''.join(refused)}\n" if refused else ", neither beside the server's binaries nor on the PATH. "
    )
    raise ServerUnavailableError(
        f"there is no psql here{found}Install one (apt-get install postgresql-client), or use another client on "
        f"{display_url(with_driver(url, 'postgresql'))}; `elefast url` prints that with its password",
        code="psql-not-found",
    )


def _programs(stack: Stack, beside: str) -> Iterator[str]:
    """Every psql that may do: of the running server, whose version fits; on the PATH; of another installation."""
    from elefast.errors import ElefastError
    from elefast.providers.local.binaries import find

    directories = [beside, *os.environ.get("PATH", os.defpath).split(os.pathsep)]
    for directory in dict.fromkeys(filter(None, directories)):
        if program := shutil.which("psql", path=directory):
            yield program
    with suppress(ElefastError):
        directory = find(stack.settings.local.bin_dir, "").directory
        if program := shutil.which("psql", path=directory):
            yield program


def _refusal(program: str) -> str:
    """Why a psql does not run, such as Debian's wrapper without a client behind it; empty where it does."""
    try:
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    said = (done.stderr.strip() or done.stdout.strip()).partition("\n")[0]
    return (said or f"exit status {done.returncode}") if done.returncode else ""


def _in_foreground(command: Sequence[str], environment: dict[str, str]) -> int:
    """Run it as if it were this process: Ctrl-C is for it alone."""
    # Not ignored, which the program would inherit: a handler is this process's own.
    before = signal.signal(signal.SIGINT, _let_it_pass)
    try:
        status = subprocess.call(command, env=environment)
    finally:
        signal.signal(signal.SIGINT, before)
    return status if status >= 0 else 128 - status


def _let_it_pass(_number: int, _frame: FrameType | None) -> None: ...
