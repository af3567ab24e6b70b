"""`elefast down`: end the servers that were left running: for the next run, or for a look at kept databases."""

from __future__ import annotations

import argparse

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "down"
HELP = "stop the servers that were left running, in containers and on this machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are no options: only servers of elefast's own, of this user, that were left running."""


def run(arguments: argparse.Namespace) -> int:
    """Stop them; a local one that tests use ends with these, a container that they use is left alone."""
    from elefast.errors import ServerError
    from elefast.providers import stop_containers, stop_held

    stopped = stop_held()
    for server in stopped:
        print(f"stopped PostgreSQL {server.version} in {server.data_dir}")
    try:
        containers = stop_containers()
    except ServerError as error:
        # Most who have no engine running have no containers either, so this is no failure.
        print(f"containers were not looked for: {error}")
        return 0
    for container in containers:
        done = "removed" if container.removed else "in use, left running:"
        print(f"{done} container {container.name} of {container.project}")
    if not stopped and not containers:
        print("no server was left running")
    return 0
