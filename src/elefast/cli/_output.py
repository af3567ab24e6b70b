"""What commands write: rich text for people, JSON for programs.

Colours only on a terminal; `NO_COLOR` and `FORCE_COLOR` are obeyed, both by rich itself.
Where nobody looks, lines are as long as they are: a path that is cut cannot be copied.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from elefast.runtime.text import printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["add_all_projects", "add_json", "add_profile", "console", "print_json"]


def add_json(parser: argparse.ArgumentParser) -> None:
    """Declare `--json`, which every command that tells something has."""
    parser.add_argument("--json", action="store_true", help="write JSON, for programs")


def add_all_projects(parser: argparse.ArgumentParser) -> None:
    """Declare `--all-projects`, which commands have that look through the databases of a server."""
    parser.add_argument(
        "--all-projects",
        action="store_true",
        help="databases of other projects on the same server as well, and those that name no project",
    )


def add_profile(parser: argparse.ArgumentParser) -> None:
    """Declare `--profile`, which every command that reads the configuration has."""
    parser.add_argument("--profile", metavar="NAME", help="put this profile in force")


def console(*, stderr: bool = False) -> Console:
    """Where people read; markup in what is printed is text, unless it is asked for.

    Args:
        stderr: The standard error instead of the standard output.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 10_000
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on the standard output; what JSON has no word for is shown as text."""
    print(printable(json.dumps(value, indent=2, ensure_ascii=False, default=str)))
