"""`elefast ls`: every database of elefast's own on the server, and who has it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from elefast.cli.output import add_json, add_profile, console, print_json
from elefast.printable import printable, short

if TYPE_CHECKING:
    from elefast.kernel.inventory import Item

__all__ = ["HELP", "NAME", "add_arguments", "run"]

_LONGEST = 1000

NAME = "ls"
HELP = "list the databases of elefast's own on the server: their kind, their test, who uses them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_profile(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """List them; a server that does not run has none that could be looked at, unless its data stay.

    Raises:
        ElefastError: There is no configuration, or no server.
    """
    from elefast.cli.server import configured

    with configured(arguments) as stack:
        items = stack.upkeep().inventory()
    if arguments.json:
        print_json([item.to_dict() for item in items])
        return 0
    if not items:
        console().print("no database of elefast's is on the server")
        return 0
    _table(items)
    return 0


def _table(items: list[Item]) -> None:
    from rich import box
    from rich.table import Table

    from elefast.cli.server import shown_size
    from elefast.kernel.inventory import KINDS

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in ("name", "kind", "size", "since", "of", "used by"):
        table.add_column(column, overflow="fold", justify="right" if column == "size" else "left")
    for item in items:
        users = [item.holder] if item.holder else []
        users += [str(session) for session in item.sessions]
        whose = short(item.test or item.project, _LONGEST)
        table.add_row(
            item.name, KINDS[item.kind], shown_size(item.size), item.since, whose, printable("\n".join(users))
        )
    out = console()
    out.soft_wrap = False
    out.print(table)
