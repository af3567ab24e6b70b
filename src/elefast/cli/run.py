"""`elefast run`: a fresh migrated database for any program, gone when that has ended."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from elefast.cli._output import add_profile

if TYPE_CHECKING:
    from elefast.isolation.database import DatabaseCheckout
    from elefast.postgres.url_variables import ExportedVariable
    from elefast.stack import Stack

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "run"
HELP = "run a command with a fresh migrated database in DATABASE_URL, and drop the database afterwards"

NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""What shells give for a command that is not there, and for one that cannot be run."""

_PASSED_ON = [getattr(signal, name) for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM") if hasattr(signal, name)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--env",
        metavar="NAME[=DRIVER|=TEMPLATE]",
        action="append",
        default=[],
        help="a further variable, such as APP_DB=postgresql+asyncpg or APP_HOST={host}; those of export_env are "
        "always set",
    )
    parser.add_argument("--scenario", metavar="NAME", help="the state that the database starts from")
    parser.add_argument(
        "--role",
        metavar="NAME",
        help="a role of the configuration that the command connects as, empty for the server's user; default: the key "
        "role",
    )
    parser.add_argument("--keep", action="store_true", help="keep the database afterwards, and print how to open it")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the command and its arguments")
    add_profile(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run it; its exit status, or 128 and the number of the signal that ended it.

    Raises:
        ElefastError: There is no command, no configuration or no server, or the database cannot be made; nothing
            was run.
    """
    from elefast.cli._server import configured
    from elefast.errors import UsageError

    command: list[str] = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise UsageError(
            "no command was given; expected one such as: elefast run -- npx playwright test", code="no-command"
        )
    further = _parsed(arguments.env)
    with configured(arguments) as stack:
        stack.check_scenario(arguments.scenario, "elefast run --scenario")
        database = stack.checkout(f"elefast run {command[0]}", scenario=arguments.scenario)
        database.role = arguments.role
        try:
            environment = _environment(stack, database, further)
            status = _run(command, environment)
        finally:
            # A command that is gone cannot leave a connection that anybody would want to hear of.
            database.release(keep="always" if arguments.keep else "never")
        for kept in stack.report().kept:
            print(f"kept {kept.name}\n{kept.psql}", file=sys.stderr)
    return status


def _parsed(entries: Sequence[str]) -> list[ExportedVariable]:
    """What `--env` says.

    Raises:
        ConfigurationError: With every entry that means nothing.
    """
    from elefast.errors import ConfigurationError, Problem
    from elefast.postgres.url_variables import ExportedVariable, MalformedEntryError
    from elefast.runtime.text import one_line

    variables: list[ExportedVariable] = []
    problems: list[Problem] = []
    for entry in entries:
        try:
            variables.append(ExportedVariable.parse(entry))
        except MalformedEntryError as error:
            advice = f", {error.advice}" if error.advice else ""
            message = f'expected {error.expected}, got "{one_line(entry)}"{advice}'
            problems.append(Problem("elefast run --env", "", message, code="wrong-value"))
    if problems:
        raise ConfigurationError(problems)
    return variables


def _environment(stack: Stack, database: DatabaseCheckout, further: Sequence[ExportedVariable]) -> Mapping[str, str]:
    from elefast.postgres.libpq_variables import libpq_environment
    from elefast.postgres.urls import dsn

    url = database.url_for("postgresql+psycopg")
    owned = stack.admin().lease.owned
    environment = libpq_environment(url, os.environ, "elefast run", owned=owned)
    environment["DATABASE_URL"] = dsn(url)
    for variable in (*_parsed(stack.settings.export_env), *further):
        environment[variable.name] = variable.value(database.url_for)
    return environment


def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    try:
        # Signals that come before the process is there wait for it.
        with _signals() as pending:
            process = subprocess.Popen(command, env=dict(environment))
            pending.lead_to(process)
            status = process.wait()
    except FileNotFoundError:
        print(f'there is no command "{command[0]}"; expected a program on the PATH or a path to one', file=sys.stderr)
        return NOT_FOUND
    except OSError as error:
        print(f'"{command[0]}" cannot be run: {error.strerror}', file=sys.stderr)
        return NOT_EXECUTABLE
    return status if status >= 0 else 128 - status


class _Signals:
    """Signals on their way to a process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def lead_to(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        for number in self._early:
            process.send_signal(number)

    def come(self, number: int, _frame: FrameType | None) -> None:
        if self._process is None:
            self._early.append(number)
        elif number == signal.SIGTERM or not _has_had_it(terminal=os.isatty(0)):
            self._process.send_signal(number)


def _has_had_it(*, terminal: bool, platform: str = sys.platform) -> bool:
    """Whether Ctrl-C and its kin have come to the command as well.

    A terminal sends them, and the end of its line, to the whole group, and Windows to all who share a console.
    """
    return terminal or platform == "win32"


@contextmanager
def _signals() -> Generator[_Signals]:
    signals = _Signals()
    before = {number: signal.signal(number, signals.come) for number in _PASSED_ON}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
