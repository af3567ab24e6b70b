"""`elefast prune`: drop what runs left on the configured server, on purpose or not."""

from __future__ import annotations

import argparse

from elefast.cli.output import add_json, add_profile, print_json

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "prune"
HELP = "drop kept databases and what killed runs left on the configured server; nothing without elefast's mark"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--all", action="store_true", help="templates as well, but for those in use")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be dropped")
    add_profile(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Drop them.

    Raises:
        ElefastError: There is no configuration, or no server.
    """
    from elefast.cli.server import configured

    with configured(arguments) as stack:
        upkeep = stack.upkeep()
        act = upkeep.leftovers if arguments.dry_run else upkeep.prune
        names = act(templates=arguments.all)
    if arguments.json:
        print_json({"dry_run": arguments.dry_run, "dropped": names})
        return 0
    done = "would be dropped" if arguments.dry_run else "dropped"
    for name in names:
        print(f"would drop {name}" if arguments.dry_run else f"dropped {name}")
    print(f"{len(names)} database{'' if len(names) == 1 else 's'} {done}")
    return 0
