"""`elefast prune`: drop what the project's runs left on the configured server, on purpose or not."""

from __future__ import annotations

import argparse

from elefast.cli._output import add_all_projects, add_json, add_profile, print_json
from elefast.runtime.text import one_line

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "prune"
HELP = "drop the project's kept databases, its unused roles, and what killed runs left; nothing without elefast's mark"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--all", action="store_true", help="templates as well, but for those in use")
    add_all_projects(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be dropped")
    add_profile(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Drop them.

    Raises:
        ElefastError: There is no configuration, or no server.
    """
    from elefast.cli._choose_database import counted, described
    from elefast.cli._server import configured
    from elefast.postgres.names import Kind

    with configured(arguments) as stack:
        admin = stack.admin()
        before = {item.name: item for item in admin.inventory()}
        act = admin.leftovers if arguments.dry_run else admin.prune
        names = act(templates=arguments.all, all_projects=arguments.all_projects)
        if arguments.dry_run:
            roles = admin.unused_roles(gone=names, all_projects=arguments.all_projects)
        else:
            roles, _ = admin.prune_roles(all_projects=arguments.all_projects)
        project = stack.project
    # Also where a later part failed to be listed before it went.
    gone = [before[name] for name in names if name in before]
    pruned = {Kind.KEPT, Kind.TEMPLATE} if arguments.all else {Kind.KEPT}
    left = [] if arguments.all_projects else [i for i in before.values() if i.kind in pruned and i.project != project]
    if arguments.json:
        print_json(
            {
                "dry_run": arguments.dry_run,
                "project": None if arguments.all_projects else project,
                "dropped": names,
                "roles": roles,
                "databases": [{key: item.to_dict()[key] for key in _SHOWN} for item in gone],
                "left": [{key: item.to_dict()[key] for key in _SHOWN} for item in left],
            }
        )
        return 0
    done = "would be dropped" if arguments.dry_run else "dropped"
    for name in names:
        what = f" ({described(before[name])})" if name in before else ""
        print(f"would drop {name}{what}" if arguments.dry_run else f"dropped {name}{what}")
    for role in roles:
        print(f"{'would drop' if arguments.dry_run else 'dropped'} role {one_line(role)}")
    print(f"{len(names)} database{'' if len(names) == 1 else 's'} {done}")
    if left:
        print(f"left alone, not of project {project}: {counted(left)}; --all-projects drops them as well")
    return 0


_SHOWN = ("name", "kind", "project", "test")
