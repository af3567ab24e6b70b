"""`elefast ls`: the project's databases on the server, and the processes that use them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from elefast.cli._output import add_all_projects, add_json, add_profile, console, print_json
from elefast.runtime.text import escape_controls, local_time

if TYPE_CHECKING:
    from elefast.databases.inventory import Item

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "ls"
HELP = "list the project's databases on the server: their kind, their test, who uses them"

_NAME, _KIND, _SIZE = 39, 14, 8
"""Widths of the columns. Names that elefast makes have at most 39 characters, unless a prefix makes them longer."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_all_projects(parser)
    add_profile(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """List them; a server that does not run has none that could be looked at, unless its data stay.

    Raises:
        ElefastError: There is no configuration, or no server.
    """
    from elefast.cli._choose_database import counted, of_project
    from elefast.cli._server import configured

    with configured(arguments) as stack:
        items, others = of_project(stack.admin().inventory(), stack.project, everything=arguments.all_projects)
        project = stack.project
    if arguments.json:
        print_json([item.to_dict() for item in items])
        return 0
    out = console()
    if items:
        out.print(f"{'name':{_NAME}} {'kind':{_KIND}} {'size':>{_SIZE}} since")
    else:
        out.print(f"no database of project {project} is on the server")
    for item in items:
        out.print(_shown(item))
    if others:
        out.print(f"not shown, of other projects: {counted(others)}; --all-projects shows them")
    return 0


def _shown(item: Item) -> str:
    """A line for the database, in 80 columns, and lines for what may be longer."""
    from elefast.cli._choose_database import described
    from elefast.cli._server import shown_size
    from elefast.databases.inventory import KINDS

    size, since = shown_size(item.size), local_time(item.since)
    lines = [f"{item.name:{_NAME}} {KINDS[item.kind]:{_KIND}} {size:>{_SIZE}} {since}".rstrip()]
    if item.project or item.test:
        lines.append(described(item).partition(", ")[2])
    users = [item.holder] if item.holder else []
    users += [escape_controls(str(session)) for session in item.sessions]
    lines += [f"used by {user}" for user in users]
    return "\n  ".join(lines)
