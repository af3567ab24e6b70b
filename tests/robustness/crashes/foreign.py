"""What is not elefast's and looks as if it were, so that whoever does not look closely removes it."""

from __future__ import annotations

import os
from pathlib import Path

from elefast.postgres.names import Kind, Name
from elefast.providers.local import state_file
from tests.robustness.faults.server import Server

__all__ = ["ROLE", "foreign_databases", "foreign_directories"]

ROLE = "builder"
"""A role that may create databases, and no more."""
SOMEBODY = "somebody"
LONG_AGO = 1_500_000_000
_BUILDING, _TRASH = "building-1-1732566000000000000", "trash-aa-1-1732566000000000000"


def foreign_databases(server: Server) -> set[str]:
    """Databases that look like elefast's and are not, for want of the check digest or of the right owner."""
    for role, rights in ((ROLE, "createdb"), (SOMEBODY, "createdb")):
        if not server.ask(f"select 1 from pg_roles where rolname = '{role}'"):
            server.ask(f"create role {role} login {rights} password '{server.url.password}'")
    made: dict[str, str] = {}
    for number, owner in enumerate(("postgres", ROLE)):
        made |= {f"elefast_{kind}0123456789ab_{number}_00000000": owner for kind in Kind}
        made[f"precious_{number}"] = owner
    made |= {str(Name("elefast", kind, "foreign00000", "1")): SOMEBODY for kind in Kind}
    there = server.names()
    for name, owner in made.items():
        if name not in there:
            server.ask(f'create database "{name}" owner {owner}')
            server.ask(f"comment on database \"{name}\" is 'of {owner}'")
    # Or a server that recovers makes them once more, and their files are newer than they were.
    server.ask("checkpoint")
    return set(made)


def foreign_directories(root: Path) -> set[str]:
    """Directories where elefast's are, without the marker, under names that elefast would remove."""
    made = {f"memory/{name}" for name in ("foreign", _BUILDING, _TRASH)} | {"disk/foreign", "disk/initdb-9-0"}
    for name in made:
        (root / name).mkdir()
        for file in (state_file.USERS, state_file.SUPERVISOR, state_file.STATE, "precious"):
            (root / name / file).write_text("{}")
            os.utime(root / name / file, (LONG_AGO, LONG_AGO))
        os.utime(root / name, (LONG_AGO, LONG_AGO))
    # A link to a directory that has the marker: it would be followed out of here.
    (root / "elsewhere").mkdir()
    (root / "elsewhere" / ".elefast").touch()
    (root / "memory" / "trash-link").symlink_to(root / "elsewhere")
    return made | {"elsewhere", "memory/trash-link"}
