"""The output of commands: rich text for people, JSON for programs; and the options that several commands share.

Colours appear on a terminal only; rich itself obeys `NO_COLOR` and `FORCE_COLOR`.
Lines are wrapped on a terminal only, since a path that is cut in a log cannot be copied.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from elefast.runtime.text import escape_controls

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["add_all_projects", "add_json", "add_profile", "console", "print_json"]


def add_json(parser: argparse.ArgumentParser) -> None:
    """Declare `--json`, for every command that reports something."""
    parser.add_argument("--json", action="store_true", help="write JSON, for programs")


def add_all_projects(parser: argparse.ArgumentParser) -> None:
    """Declare `--all-projects`, for every command that chooses among the databases of a server."""
    parser.add_argument(
        "--all-projects",
        action="store_true",
        help="databases of other projects on the same server as well, and those that name no project",
    )


def add_profile(parser: argparse.ArgumentParser) -> None:
    """Declare `--profile`, for every command that reads the configuration."""
    parser.add_argument("--profile", metavar="NAME", help="put this profile in force")


def console(*, stderr: bool = False) -> Console:
    """The console for people. Square brackets in printed text are text, and no markup.

    Args:
        stderr: Use the standard error instead of the standard output.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 10_000
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON document. A value of a type that JSON does not have is printed as text."""
    print(escape_controls(json.dumps(value, indent=2, ensure_ascii=False, default=str)))
