"""`elefast prune`: drop what runs left on the configured server, on purpose or not."""

from __future__ import annotations

import argparse

from elefast.cli.output import add_profile

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "prune"
HELP = "drop kept databases and what killed runs left on the configured server; nothing without elefast's mark"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--all", action="store_true", help="templates as well, but for those in use")
    add_profile(parser)


def run(arguments: argparse.Namespace) -> int:
    """Drop them.

    Raises:
        ElefastError: There is no configuration, or no server.
    """
    from elefast.factory import from_config

    with from_config(profile=arguments.profile) as stack:
        dropped = stack.prune(templates=arguments.all)
    for name in dropped:
        print(f"dropped {name}")
    print(f"{len(dropped)} database{'' if len(dropped) == 1 else 's'} dropped")
    return 0
