"""`elefast down`: end the local servers that were left running for a look at kept databases."""

from __future__ import annotations

import argparse

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "down"
HELP = "stop the local servers that were left running because databases were kept"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are no options: only servers of elefast's own, of this user, that were left running."""


def run(arguments: argparse.Namespace) -> int:
    """Stop them; one that tests use ends with these."""
    from elefast.providers import stop_held

    stopped = stop_held()
    for server in stopped:
        print(f"stopped PostgreSQL {server.version} in {server.data_dir}")
    if not stopped:
        print("no server was left running")
    return 0
