"""Roles of a server that tests connect as: read, create, mark, correct and drop them.

A role belongs to the whole server, and its name is the user's choice, so the name cannot bear elefast's mark. The mark
is the comment of the role. The statement that creates a role also sets its comment, in one implicit transaction, so
that no crash leaves a role without its mark. The mark names the role, its server and the user that has created it. It
is worth nothing on a copy of the comment, and not on another server that a dump was restored to.

A role without the mark, or with the mark of another user, is never changed or dropped.
All functions take a connection in autocommit mode to any database of the server.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from elefast.postgres.sql import execute, identifier, literal, rows

__all__ = [
    "MARK_START",
    "Role",
    "RoleState",
    "ServerUser",
    "apply",
    "bypasses_row_security",
    "changes",
    "declaration",
    "drop_role",
    "forget_projects",
    "is_made_by",
    "marked_roles",
    "read_roles",
    "read_user",
    "scram_verifier",
    "set_password",
    "settings_of",
    "verifies",
]

_FORMAT = 1
MARK_START = '{"elefast_role":'
"""The beginning of each mark."""

_DEPENDENT = "2BP01"


class Role(NamedTuple):
    """A role as the project declares it.

    Args:
        name: Its name.
        member_of: The roles that it is a member of.
        bypass_rls: Whether row-level security does not apply to it.
    """

    name: str
    member_of: tuple[str, ...] = ()
    bypass_rls: bool = False


class ServerUser(NamedTuple):
    """The user that elefast connects as.

    Args:
        name: Its name.
        superuser: Whether it is a superuser.
        can_create_roles: Whether it has CREATEROLE or is a superuser.
        system: The identifier of the server, which ``initdb`` has made; ``unknown`` where the user may not ask.
        version: ``server_version_num``.
        scram_iterations: How often the user's password is hashed; 0 where that is unknown.
        password: The password that the connection was made with; empty without one.
    """

    name: str
    superuser: bool
    can_create_roles: bool
    system: str
    version: int
    scram_iterations: int
    password: str

    def __repr__(self) -> str:
        return f"<ServerUser {self.name}>"


class RoleState(NamedTuple):
    """A role as it is on the server.

    Args:
        name: Its name.
        oid: Its oid.
        superuser: Whether it is a superuser.
        privileged: Whether it may create roles or databases, or replicate.
        bypass_rls: Whether row-level security does not apply to it.
        can_login: Whether it may log in.
        parents: The roles that it is a member of.
        includes_user: Whether the current user has the rights of the role.
        verifier: Its hashed password; empty without one, or where the current user may not read it.
        mark: The JSON object in its comment; empty where that is no mark.
    """

    name: str
    oid: int
    superuser: bool
    privileged: bool
    bypass_rls: bool
    can_login: bool
    parents: tuple[str, ...]
    includes_user: bool
    verifier: str
    mark: dict[str, Any]

    def __repr__(self) -> str:
        return f"<RoleState {self.name}>"

    @property
    def declarations(self) -> dict[str, Any]:
        """What each project has declared for the role, by its mark."""
        found: Any = self.mark.get("projects")
        return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def is_made_by(state: RoleState, user: ServerUser) -> bool:
    """Whether the role bears the mark of elefast, on this server, for `user`."""
    mark = state.mark
    return (mark.get("elefast_role"), mark.get("role"), mark.get("by"), mark.get("system")) == (
        _FORMAT,
        state.name,
        user.name,
        user.system,
    )


# -- reading ------------------------------------------------------------------------------------------------


def read_user(connection: Connection) -> ServerUser:
    """The user of the connection, and its password as the driver knows it."""
    (row,) = rows(
        connection,
        """
        select rolname::text, rolsuper, rolcreaterole or rolsuper, current_setting('server_version_num')::int,
               has_function_privilege('pg_catalog.pg_control_system()', 'execute')
        from pg_roles where rolname = current_user
        """,
    )
    name, superuser, creates, version, may_identify = row
    system = "unknown"
    if may_identify:
        ((system,),) = rows(connection, "select system_identifier::text from pg_control_system()")
    iterations = 0
    if superuser:
        found = rows(connection, "select coalesce(rolpassword, '') from pg_authid where rolname = current_user")
        iterations = _iterations(found[0][0])
    driver: Any = connection.connection.driver_connection
    given = cast("bytes | None", getattr(getattr(driver, "pgconn", None), "password", None)) or b""
    return ServerUser(name, superuser, creates, system, version, iterations, given.decode(errors="surrogateescape"))


def read_roles(connection: Connection, names: Iterable[str], user: ServerUser) -> dict[str, RoleState]:
    """The roles of these names that exist."""
    wanted = ", ".join(map(literal, names))
    return _read(connection, f"r.rolname in ({wanted})", user) if wanted else {}


def marked_roles(connection: Connection, user: ServerUser) -> list[RoleState]:
    """All roles on the server with a mark of `user`."""
    condition = f"shobj_description(r.oid, 'pg_authid') like {literal(MARK_START + '%')}"
    return [state for state in _read(connection, condition, user).values() if is_made_by(state, user)]


def _read(connection: Connection, condition: str, user: ServerUser) -> dict[str, RoleState]:
    # Only a superuser may read the table with the passwords.
    table, verifier = ("pg_authid", "coalesce(r.rolpassword, '')") if user.superuser else ("pg_roles", "''")
    found = rows(
        connection,
        f"""
        select r.rolname::text, r.oid::bigint, r.rolsuper, r.rolcreaterole or r.rolcreatedb or r.rolreplication,
               r.rolbypassrls, r.rolcanlogin,
               (select coalesce(json_agg(p.rolname order by p.rolname), '[]')::text
                from pg_auth_members m join pg_roles p on p.oid = m.roleid where m.member = r.oid),
               pg_has_role(r.oid, 'USAGE'), {verifier}, coalesce(shobj_description(r.oid, 'pg_authid'), '')
        from {table} r where {condition} order by 1
        """,
    )
    return {
        name: RoleState(
            name, oid, superuser, privileged, bypass, login, _names(parents), includes, secret, _read_mark(text)
        )
        for name, oid, superuser, privileged, bypass, login, parents, includes, secret, text in found
    }


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(json.loads(text)))


def _read_mark(comment: str) -> dict[str, Any]:
    if not comment.startswith(MARK_START):
        return {}
    try:
        mark: Any = json.loads(comment)
    except ValueError:
        return {}
    return cast("dict[str, Any]", mark) if isinstance(mark, dict) else {}


def bypasses_row_security(connection: Connection, name: str, owners: Collection[str]) -> bool:
    """Whether row-level security does not apply to role `name`.

    Args:
        connection: To any database of the server.
        name: The role.
        owners: The owners of tables whose policies do not apply to their owner.
    """
    owned = ", ".join(map(literal, owners)) or "null"
    return bool(
        rows(
            connection,
            f"""
            select 1 from pg_roles r where rolname = {literal(name)} and (rolsuper or rolbypassrls or exists (
                select from pg_roles o where o.rolname in ({owned}) and pg_has_role(r.oid, o.oid, 'USAGE')))
            """,
        )
    )


def settings_of(connection: Connection, name: str) -> list[tuple[str, str]]:
    """The settings that a session of role `name` has from its start, in the database of the connection."""
    found = rows(
        connection,
        f"""
        select split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)
        from pg_db_role_setting s join pg_roles r on r.oid = s.setrole and r.rolname = {literal(name)}
        cross join lateral unnest(s.setconfig) as c
        where s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
        order by s.setdatabase
        """,
    )
    return [(setting, value) for setting, value in found]


# -- creating and correcting --------------------------------------------------------------------------------


def changes(role: Role, state: RoleState | None, user: ServerUser, password: str, project: str) -> list[str]:
    """The statements that make role `role` what the project declares; none where it is that already.

    Args:
        role: The role.
        state: The role on the server, if it exists; it bears the mark of `user`.
        user: The current user.
        password: The password of the role.
        project: The project that declares the role.
    """
    name = identifier(role.name)
    before = state.declarations if state is not None else {}
    declared = [str(one) for one in before.get(project, {}).get("member_of", ())]
    parents = state.parents if state is not None else ()
    mark = _mark(role.name, user, {**before, project: declaration(role)})
    statements: list[str] = []
    if state is None:
        # Without the right to bypass row-level security, most users must not even mention it.
        bypass = " BYPASSRLS" if role.bypass_rls else ""
        verifier = literal(scram_verifier(password, user.scram_iterations))
        statements.append(f"CREATE ROLE {name} LOGIN{bypass} PASSWORD {verifier}")
    else:
        wrong: list[str] = []
        if state.superuser or state.privileged:
            wrong.append("NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION")
        if not state.can_login:
            wrong.append("LOGIN")
        if state.bypass_rls != role.bypass_rls:
            wrong.append("BYPASSRLS" if role.bypass_rls else "NOBYPASSRLS")
        if user.superuser and not verifies(state.verifier, password):
            wrong.append(f"PASSWORD {literal(scram_verifier(password, user.scram_iterations))}")
        if wrong:
            statements.append(f"ALTER ROLE {name} {' '.join(wrong)}")
    if state is None or state.mark != mark:
        statements.append(f"COMMENT ON ROLE {name} IS {literal(json.dumps(mark))}")
    statements += [f"GRANT {identifier(parent)} TO {name}" for parent in role.member_of if parent not in parents]
    # A membership that a migration has granted stays.
    gone = [parent for parent in declared if parent in parents and parent not in role.member_of]
    statements += [f"REVOKE {identifier(parent)} FROM {name}" for parent in gone]
    if not user.superuser and (state is None or not state.includes_user):
        # Only a member may give objects to the role, and may end its sessions.
        inherit = " WITH INHERIT TRUE, SET TRUE" if user.version >= 160000 else ""
        statements.append(f"GRANT {name} TO {identifier(user.name)}{inherit}")
    return statements


def set_password(connection: Connection, name: str, user: ServerUser, password: str) -> bool:
    """Set the password of role `name`, if it bears the mark of `user`; whether it does."""
    state = read_roles(connection, [name], user).get(name)
    if state is None or not is_made_by(state, user):
        return False
    verifier = literal(scram_verifier(password, user.scram_iterations))
    execute(connection, f"ALTER ROLE {identifier(name)} PASSWORD {verifier}")
    return True


def apply(connection: Connection, statements: Sequence[str]) -> None:
    """Run `statements` in one implicit transaction: all of them, or none."""
    execute(connection, "; ".join(statements))


def drop_role(connection: Connection, state: RoleState, user: ServerUser) -> str:
    """Drop a role, if it is still the same one and nothing depends on it; the reason why it stays, or nothing."""
    now = read_roles(connection, [state.name], user).get(state.name)
    if now is None:
        return ""
    if now.oid != state.oid or not is_made_by(now, user):
        return "it is another role now"
    if rows(connection, f"select 1 from pg_stat_activity where usesysid = {state.oid} limit 1"):
        return "a session uses it"
    members = rows(
        connection,
        f"""
        select m.rolname::text, coalesce(shobj_description(m.oid, 'pg_authid'), '')
        from pg_auth_members a join pg_roles m on m.oid = a.member
        where a.roleid = {state.oid} and m.rolname <> current_user
        """,
    )
    for member, comment in members:
        if not comment.startswith(MARK_START):
            return f"role {member} is a member of it"
    try:
        execute(connection, f"DROP ROLE {identifier(state.name)}")
    except DBAPIError as error:
        if error.connection_invalidated or getattr(error.orig, "sqlstate", "") != _DEPENDENT:
            raise
        return "objects in databases depend on it"
    return ""


def forget_projects(connection: Connection, state: RoleState, user: ServerUser, kept: Collection[str]) -> None:
    """Remove all projects but `kept` from the mark of a role, if it still is the same one."""
    now = read_roles(connection, [state.name], user).get(state.name)
    if now is None or now.oid != state.oid or not is_made_by(now, user):
        return
    left = {name: declared for name, declared in now.declarations.items() if name in kept}
    if left != now.declarations:
        comment = literal(json.dumps(_mark(state.name, user, left)))
        execute(connection, f"COMMENT ON ROLE {identifier(state.name)} IS {comment}")


def declaration(role: Role) -> dict[str, Any]:
    """What a project declares for a role, as its mark has it."""
    return {"bypass_rls": role.bypass_rls, "member_of": list(role.member_of)}


def _mark(name: str, user: ServerUser, declarations: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "elefast_role": _FORMAT,
        "role": name,
        "by": user.name,
        "system": user.system,
        "projects": dict(sorted(declarations.items())),
    }


# -- passwords ----------------------------------------------------------------------------------------------


def scram_verifier(password: str, iterations: int) -> str:
    """The hashed form of a password (RFC 5803), so that the password itself is in no statement and in no log.

    Args:
        password: The password, in ASCII.
        iterations: How often it is hashed; 0 for PostgreSQL's default.
    """
    return _verifier(password, iterations or 4096, secrets.token_bytes(16))


def verifies(verifier: str, password: str) -> bool:
    """Whether `verifier` is the hashed form of `password`."""
    try:
        method, rounds, _ = verifier.split("$")
        iterations, salt = rounds.split(":")
        expected = _verifier(password, int(iterations), base64.b64decode(salt))
    except ValueError:
        return False
    return method == "SCRAM-SHA-256" and hmac.compare_digest(expected, verifier)


def _verifier(password: str, iterations: int, salt: bytes) -> str:
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def _iterations(verifier: str) -> int:
    head = verifier.partition("$")[2].partition(":")[0]
    return int(head) if verifier.startswith("SCRAM-SHA-256$") and head.isdigit() else 0
