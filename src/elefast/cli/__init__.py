"""The command line, `elefast`.

Each command is a module with `NAME`, `HELP`, `add_arguments()` and `run()`.
All modules are imported for the help, so only `run()` imports what the command needs.
Errors of elefast are shown as their message, and their class gives the exit status.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from elefast.cli import (
    _output,
    check,
    config,
    down,
    explain,
    init,
    ls,
    prune,
    psql,
    run,
    schema,
    status,
    template,
    up,
    url,
)
from elefast.errors import ConfigurationError, ElefastError, full_text
from elefast.runtime import progress

__all__ = ["COMMANDS", "INTERNAL", "INTERRUPTED", "main", "parser"]

COMMANDS = (init, check, config, up, status, ls, url, psql, run, template, prune, down, explain, schema)

INTERNAL = 70
"""The exit status where elefast itself is at fault; `EX_SOFTWARE` of sysexits.h."""
INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it: 128 and the number of the signal."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments after the program's name; those of this process without it.

    Returns:
        The exit status.
    """
    _show_everything()
    try:
        arguments = parser().parse_args(psql.separated(sys.argv[1:] if argv is None else argv))
    except SystemExit as end:  # argparse has said what is wrong, or has shown the help
        return end.code if isinstance(end.code, int) else 2
    if arguments.version:
        print(f"elefast {_version()}")
        return 0
    if arguments.run is None:
        parser().print_help()
        return 0
    try:
        with progress.disabled() if getattr(arguments, "json", False) else nullcontext():
            status: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if arguments.traceback:
            raise
        return _told(error, as_json=getattr(arguments, "json", False))
    return status


def _show_everything() -> None:
    """Let no character be a reason to fail: what the output can have is better than an error."""
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="replace")
        elif stream.errors == "strict":
            # What a path has that is no UTF-8 goes out as the bytes that it is, as in the locale C.
            stream.reconfigure(errors="surrogateescape" if os.name == "posix" else "replace")


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; the reference in the docs is made from it as well."""
    # Before the command or after it; the one after must not undo the one before.
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--traceback", action="store_true", default=argparse.SUPPRESS, help="show where in the code an error came from"
    )
    made = argparse.ArgumentParser(
        prog="elefast", description="A private PostgreSQL database for each test.", allow_abbrev=False, parents=[common]
    )
    made.add_argument("--version", action="store_true", help="show the version and exit")
    made.set_defaults(run=None, traceback=False)
    commands = made.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        one = commands.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.HELP,
            allow_abbrev=False,
            parents=[common],
            aliases=getattr(command, "ALIASES", ()),
        )
        command.add_arguments(one)
        one.set_defaults(run=command.run)
    return made


def _told(error: Exception, *, as_json: bool) -> int:
    """Say what went wrong, without a traceback; the exit status."""
    if as_json:
        return _told_to_programs(error)
    if isinstance(error, ElefastError):
        print(full_text(error), file=sys.stderr)
        return error.exit_status
    print(
        f"elefast failed: {type(error).__name__}: {error}\n"
        "This is a mistake in elefast, not in your project; --traceback shows where.",
        file=sys.stderr,
    )
    return INTERNAL


def _told_to_programs(error: Exception) -> int:
    """The same as a JSON object on the standard output, where a program that asked for JSON reads."""
    status = error.exit_status if isinstance(error, ElefastError) else INTERNAL
    problems = error.problems if isinstance(error, ConfigurationError) else ()
    first = problems[0] if problems else None
    _output.print_json(
        {
            "error": {
                "code": (error.code if isinstance(error, ElefastError) else "internal") or None,
                "message": str(error) if isinstance(error, ElefastError) else f"{type(error).__name__}: {error}",
                "where": (first.origin or None) if first else None,
                "exit_status": status,
                "problems": [
                    {
                        "code": one.code or None,
                        "where": one.origin or None,
                        "key": one.key or None,
                        "message": one.message,
                    }
                    for one in problems
                ],
            }
        }
    )
    return status


def _version() -> str:
    from importlib.metadata import version

    return version("elefast")
