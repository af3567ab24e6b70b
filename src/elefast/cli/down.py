"""`elefast down`: end the servers that were left running, for the next run or with kept databases."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from elefast.cli._output import add_json, print_json

if TYPE_CHECKING:
    from elefast.databases.inventory import Item
    from elefast.providers.local import RunningServer

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "down"
HELP = "stop the servers that were left running, in containers and on this machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Only servers of elefast's own, of this user, that were left running; so there is little to choose."""
    parser.add_argument(
        "--all-projects",
        action="store_true",
        help="also a server whose end drops what another project has kept on it",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Stop them; a local one that tests use ends with these, a container that they use is left alone."""
    from elefast.cli._choose_database import counted
    from elefast.errors import ServerError
    from elefast.providers import running_servers, stop_containers, stop_held

    told: dict[str, Any] = {
        "servers": [],
        "in_use": [],
        "elsewhere": [],
        "spared": [],
        "containers": [],
        "not_looked": None,
    }
    held = [server for server in running_servers() if server.held]
    project = _project()
    lost = {} if arguments.all_projects else {s.identity: kept for s in held if (kept := _of_others(s, project))}
    spared = [server for server in held if server.identity in lost]
    stopped = [one for server in held if server not in spared for one in stop_held(server.identity)]
    ended = {server.identity for server in stopped}
    elsewhere = [server for server in held if server.elsewhere]
    in_use = [s for s in held if s.identity not in ended and s not in elsewhere and s not in spared]
    for key, servers in (("servers", stopped), ("in_use", in_use), ("elsewhere", elsewhere), ("spared", spared)):
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
    for server in spared:
        theirs = counted(lost[server.identity])
        print(
            f"left running, its end would drop databases that other projects have kept ({theirs}): "
            f"PostgreSQL {server.version} in {server.data_dir}; --all-projects stops it"
        )
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


def _project() -> str | None:
    """The project of this directory; None where none is configured."""
    from elefast.errors import ElefastError
    from elefast.factory import from_config

    try:
        with from_config() as stack:
            return stack.project
    except ElefastError:
        return None


def _of_others(server: RunningServer, project: str | None) -> list[Item]:
    """What other projects have kept on a server whose data go with it; what cannot be asked has nothing to lose."""
    from sqlalchemy.exc import SQLAlchemyError

    from elefast.databases.inventory import inventory
    from elefast.postgres.connections.engines import maintenance_engine
    from elefast.postgres.names import Kind

    if server.reuse or server.elsewhere or server.url is None:
        return []
    engine = maintenance_engine(server.url, "postgres", owned=True)
    try:
        with engine.connect() as connection:
            return [item for item in inventory(connection) if item.kind is Kind.KEPT and item.project != project]
    except SQLAlchemyError:
        return []
    finally:
        engine.dispose()
