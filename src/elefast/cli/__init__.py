"""The command line, `elefast`.

Each command is a module with `NAME`, `HELP`, `add_arguments()` and `run()`.
All modules are imported for the help, so only `run()` imports what the command needs.
Errors of elefast are shown as their message, and their class gives the exit status.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from elefast.cli import config, down, prune
from elefast.errors import ElefastError

__all__ = ["main"]

COMMANDS = (config, down, prune)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments after the program's name; those of this process without it.

    Returns:
        The exit status.
    """
    parser = _parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as end:  # argparse has said what is wrong, or has shown the help
        return end.code if isinstance(end.code, int) else 2
    if arguments.version:
        print(f"elefast {_version()}")
        return 0
    if arguments.run is None:
        parser.print_help()
        return 0
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ElefastError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="elefast", description="A private PostgreSQL database for each test.", allow_abbrev=False
    )
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        one = commands.add_parser(command.NAME, help=command.HELP, description=command.HELP, allow_abbrev=False)
        command.add_arguments(one)
        one.set_defaults(run=command.run)
    return parser


def _version() -> str:
    from importlib.metadata import version

    return version("elefast")
