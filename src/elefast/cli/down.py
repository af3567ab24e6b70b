"""`elefast down`: end the servers that were left running: for the next run, or for a look at kept databases."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from elefast.cli.output import add_json, print_json

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "down"
HELP = "stop the servers that were left running, in containers and on this machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Only servers of elefast's own, of this user, that were left running; so there is little to choose."""
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Stop them; a local one that tests use ends with these, a container that they use is left alone."""
    from elefast.errors import ServerError
    from elefast.providers import running_servers, stop_containers, stop_held

    told: dict[str, Any] = {"servers": [], "in_use": [], "elsewhere": [], "containers": [], "not_looked": None}
    held = [server for server in running_servers() if server.held]
    stopped = stop_held()
    ended = {server.identity for server in stopped}
    elsewhere = [server for server in held if server.elsewhere]
    in_use = [server for server in held if server.identity not in ended and server not in elsewhere]
    for key, servers in (("servers", stopped), ("in_use", in_use), ("elsewhere", elsewhere)):
        told[key] = [{"version": server.version, "data_dir": server.data_dir} for server in servers]
    try:
        containers = stop_containers()
    except ServerError as error:
        # Most who have no engine running have no containers either, so this is no failure.
        containers = []
        told["not_looked"] = str(error)
    told["containers"] = [asdict(container) for container in containers]
    if arguments.json:
        print_json(told)
        return 0
    for server in stopped:
        print(f"stopped PostgreSQL {server.version} in {server.data_dir}")
    for server in in_use:
        print(f"in use, stops with its last user: PostgreSQL {server.version} in {server.data_dir}")
    for server in elsewhere:
        print(f"left running, it belongs to another container: PostgreSQL {server.version} in {server.data_dir}")
    for container in containers:
        done = "removed" if container.removed else "in use, left running:"
        print(f"{done} container {container.name} of {container.project}")
    if told["not_looked"]:
        print(f"containers were not looked for: {told['not_looked']}")
    elif not held and not containers:
        print("no server was left running")
    return 0
