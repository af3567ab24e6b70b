"""The roles that the project declares, on one server: they exist before anything is built, and log in with a password.

All processes that use a server have to agree on the passwords. None of them is stored: a process derives it from a
secret that it needs to connect at all, the password of the server's user, and from the identifier of the server. So
every worker, run and machine with access to the server gets the same password, and it differs from server to server.
A process that connects without a password (trust, peer) takes a random secret from a file that only its user may read.
The server gets a hash of the password, so that no statement and no log of the server has it.

Each process holds a shared advisory lock for each of its roles as a sign of life, and `prune` drops no role whose lock
is held. It must not know configuration and tests.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches

from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError

from elefast.errors import ConfigurationError, DatabaseNotReadyError, ElefastError, MissingRightsError, Problem
from elefast.postgres import advisory_locks, databases, driver_errors, roles
from elefast.postgres.connections.engines import raw_connection
from elefast.postgres.connections.maintenance_session import MaintenanceSession
from elefast.postgres.names import Kind
from elefast.postgres.roles import Role, RoleState, ServerUser
from elefast.postgres.sql import identifier
from elefast.postgres.urls import display_url
from elefast.runtime import cache_dir
from elefast.templates.store import roles_of

__all__ = ["RoleManager", "drop_unused_roles", "unused_roles"]

_SECRET_FILE = "role-passwords"
_ROUNDS = 100_000
"""A password of the user's own may be weak, and code under test knows the one that is derived from it."""


class RoleManager:
    """The declared roles on one server.

    Args:
        declared: The roles. The session of the process has their locks; see `lock_on`.
        project: The project that declares them.
        owned: Whether elefast started the server.
    """

    def __init__(self, declared: Sequence[Role], *, project: str, owned: bool) -> None:
        self.declared = {role.name: role for role in declared}
        self._project = project
        self._owned = owned
        self._user: ServerUser | None = None
        self._ready = False
        self._foreign: set[str] = set()
        self._checked: set[str] = set()
        """The roles that are known to log in with the password that this process has for them."""
        self._secret = b""

    def ensure(self, session: MaintenanceSession) -> None:
        """Create the roles that do not exist, and correct those that elefast has created; only the first time.

        Raises:
            ConfigurationError: Another project declares a role in another way, or a role to be a member of is missing.
            MissingRightsError: The user of the server may not do what is needed; the message has the statements.
        """
        if self._ready or not self.declared:
            return
        user = session.call(roles.read_user)
        self._user, self._secret = user, self._derive_secret(user)
        for role in self._parents_first():
            state = self._state(session, role.name)
            if self._is_foreign(role.name, state, user):
                continue
            if self._changes(role, state, user):
                # Another process may do the same at this moment.
                session.call(advisory_locks.acquire, _CHANGE_LOCK)
                try:
                    self._change(session, role, user)
                finally:
                    session.call(advisory_locks.release, _CHANGE_LOCK)
            if user.superuser or state is None:
                self._checked.add(role.name)
        self._ready = True

    def lock_on(self, connection: Connection) -> None:
        """Take the locks of the roles on `connection`, a session of this process."""
        for name in self.declared:
            advisory_locks.acquire_shared(connection, _use_lock(name))

    def forget(self) -> None:
        """Check the roles again, because this process is a fork, which has another session."""
        self._ready = False

    def url_for(self, url: URL, name: str, session: MaintenanceSession, *, logs_in: bool = True) -> URL:
        """`url` with role `name` as its user; `url` itself for the server's user.

        Args:
            url: A URL of the server, for any driver.
            name: A declared role; empty for the server's user.
            session: The session on the server.
            logs_in: Whether sessions will log in by the URL, so that the role has to be able to.

        Raises:
            ConfigurationError: The role is not declared.
            DatabaseNotReadyError: The role exists, and elefast does not know its password.
        """
        if not name:
            return url
        if name not in self.declared:
            raise self._unknown(name)
        self.ensure(session)
        assert self._user is not None
        if name == self._user.name:
            return url
        if logs_in:
            self._check_login(name, session)
        return self._with_login(url, name)

    @property
    def can_switch(self) -> bool:
        """Whether a session of the server's user can take the identity of each role, which superusers may."""
        return self._user is not None and self._user.superuser

    @property
    def server_user(self) -> str:
        """The name of the server's user; empty before `ensure`."""
        return self._user.name if self._user is not None else ""

    # -- on the server ----------------------------------------------------------------------------------------

    def _parents_first(self) -> list[Role]:
        """The declared roles, each after the roles that it is a member of."""
        ordered: dict[str, Role] = {}

        def add(role: Role) -> None:
            for parent in role.member_of:
                if parent in self.declared and parent not in ordered:
                    add(self.declared[parent])
            ordered[role.name] = role

        for role in self.declared.values():
            add(role)
        return list(ordered.values())

    def _state(self, session: MaintenanceSession, name: str) -> RoleState | None:
        assert self._user is not None
        return session.call(roles.read_roles, [name], self._user).get(name)

    def _is_foreign(self, name: str, state: RoleState | None, user: ServerUser) -> bool:
        if state is not None and not roles.is_made_by(state, user):
            self._foreign.add(name)
        return name in self._foreign

    def _changes(self, role: Role, state: RoleState | None, user: ServerUser) -> list[str]:
        if state is not None:
            self._refuse_conflict(role, state)
        return roles.changes(role, state, user, self._password(role.name), self._project)

    def _change(self, session: MaintenanceSession, role: Role, user: ServerUser) -> None:
        state = self._state(session, role.name)
        if self._is_foreign(role.name, state, user):
            return
        statements = self._changes(role, state, user)
        if not statements:
            return
        missing = set(role.member_of) - session.call(roles.read_roles, role.member_of, user).keys()
        if missing:
            raise ConfigurationError(
                [
                    Problem(
                        "",
                        f"roles.{role.name}.member_of",
                        f'there is no role "{name}" on the server; declare it with a table [roles.{name}]',
                        code="unknown-role",
                    )
                    for name in sorted(missing)
                ]
            )
        try:
            session.call(roles.apply, statements)
        except DBAPIError as error:
            if driver_errors.sqlstate(error) != "42501":
                raise
            raise self._missing_rights(role, state, user, error, session.url) from None

    def _missing_rights(
        self, role: Role, state: RoleState | None, user: ServerUser, error: DBAPIError, url: URL
    ) -> MissingRightsError:
        name, me = identifier(role.name), identifier(user.name)
        bypass = " BYPASSRLS" if role.bypass_rls else ""
        if state is None:
            what = f'role "{role.name}" does not exist on {display_url(url)}, and "{user.name}" may not create it'
            statements = [f"CREATE ROLE {name} LOGIN{bypass};"]
        else:
            what = f'"{user.name}" may not change role "{role.name}" on {display_url(url)}'
            statements = [f"ALTER ROLE {name} LOGIN{bypass};"]
        statements += [f"GRANT {identifier(parent)} TO {name};" for parent in role.member_of]
        statements.append(f"GRANT {name} TO {me};")
        lines = "\n".join(f"    {statement}" for statement in statements)
        allow = "" if user.can_create_roles else f"\nOr let elefast do it: ALTER ROLE {me} CREATEROLE;"
        return MissingRightsError(
            f"{what} ({driver_errors.driver_message(error)}). Run as a superuser:\n{lines}{allow}",
            code="role-rights",
        )

    def _refuse_conflict(self, role: Role, state: RoleState) -> None:
        wanted = roles.declaration(role)
        for project, declared in state.declarations.items():
            if project != self._project and declared != wanted:
                raise ConfigurationError(
                    [
                        Problem(
                            "",
                            f"roles.{role.name}",
                            f'project "{project}" declares this role of the same server in another way: {declared}, '
                            f"here {wanted}. All databases of a server share its roles: declare them alike, choose "
                            "another name, or drop what is not needed any more: elefast prune --all --all-projects",
                            code="role-conflict",
                        )
                    ]
                )

    # -- passwords --------------------------------------------------------------------------------------------

    def _with_login(self, url: URL, name: str) -> URL:
        bare = url.difference_update_query(["user", "password"])
        # The password of a role that elefast has not created is libpq's to find, in its password file.
        password = None if name in self._foreign else self._password(name)
        return URL.create(bare.drivername, name, password, bare.host, bare.port, bare.database, bare.query)

    def _password(self, name: str) -> str:
        assert self._user is not None
        text = f"elefast role {self._user.system} {self._user.name} {name}"
        return hmac.digest(self._secret, text.encode(errors="surrogateescape"), "sha256").hex()[:40]

    def _derive_secret(self, user: ServerUser) -> bytes:
        if not user.password:
            return _secret_of_user().encode()
        given = user.password.encode(errors="surrogateescape")
        if self._owned:
            return given
        return hashlib.pbkdf2_hmac("sha256", given, f"elefast {user.system}".encode(), _ROUNDS)

    def _check_login(self, name: str, session: MaintenanceSession) -> None:
        """See that the role can log in where elefast cannot read its password; only the first time."""
        if name in self._checked or self._owned:
            return
        assert self._user is not None
        error = _login_error(self._with_login(session.url, name))
        is_wrong = error is not None and name not in self._foreign and _is_wrong_password(error, session.url)
        # Elefast has created it, and the password of the server's user has changed since.
        if is_wrong and session.call(roles.set_password, name, self._user, self._password(name)):
            error = _login_error(self._with_login(session.url, name))
        if error is not None:
            raise self._cannot_log_in(name, session.url, error) from None
        self._checked.add(name)

    def _cannot_log_in(self, name: str, url: URL, error: Exception) -> ElefastError:
        text = driver_errors.driver_message(error)
        head = f'tests cannot connect to {display_url(self._with_login(url, name))} as role "{name}": {text}.'
        if name not in self._foreign:
            advice = "Allow it in pg_hba.conf with a method that takes a password, such as scram-sha-256."
        else:
            advice = (
                "The role existed before and is not elefast's, so elefast does not set its password. Write it into the "
                f"password file, ~/.pgpass: HOST:PORT:*:{name}:PASSWORD\n"
                f"Or, if nothing else needs the role, drop it, and elefast creates one: DROP ROLE {identifier(name)};"
            )
        return DatabaseNotReadyError(f"{head}\n{advice}", code="role-login")

    def _unknown(self, name: str) -> ConfigurationError:
        better = get_close_matches(name, self.declared, n=1)
        advice = f', did you mean "{better[0]}"?' if better else "."
        known = ", ".join(f'"{one}"' for one in self.declared)
        there = f"the known ones are {known}" if known else "there is no table of a role"
        return ConfigurationError(
            f'role "{name}" is not declared, {there}{advice} Write the table [tool.elefast.roles.{name}]',
            code="unknown-role",
        )


# -- roles that no template needs any more --------------------------------------------------------------------


def unused_roles(session: MaintenanceSession, project: str | None, gone: Sequence[str] = ()) -> list[str]:
    """The roles of the project that `drop_unused_roles` would try to drop now.

    Args:
        session: The session on the server.
        project: The project; None for all.
        gone: The databases that will be dropped before.
    """
    user = session.call(roles.read_user)
    needed = _needed(session, gone)
    return [
        state.name
        for state in session.call(roles.marked_roles, user)
        if (project is None or project in state.declarations)
        and state.name not in needed
        and _is_free(session, _use_lock(state.name))
    ]


def _is_free(session: MaintenanceSession, lock: str) -> bool:
    """Whether no other session has the lock; this one may."""
    free = session.call(advisory_locks.try_acquire, lock)
    if free:
        session.call(advisory_locks.release, lock)
    return free


def drop_unused_roles(session: MaintenanceSession, project: str | None) -> tuple[list[str], dict[str, str]]:
    """Drop the roles that elefast has created for the project, if no template needs them and no process uses them.

    Args:
        session: The session on the server.
        project: The project; None for all.

    Returns:
        The roles that were dropped, and the others with the reason why they stay.
    """
    dropped: list[str] = []
    left: dict[str, str] = {}
    user = session.call(roles.read_user)
    doomed = [
        state for state in session.call(roles.marked_roles, user) if project is None or project in state.declarations
    ]
    while doomed:
        remaining: list[RoleState] = []
        for state in doomed:
            if reason := _drop(session, state, user):
                left[state.name] = reason
                remaining.append(state)
            else:
                dropped.append(state.name)
                left.pop(state.name, None)
        if len(remaining) == len(doomed):
            break
        doomed = remaining  # a role may have depended on another one
    return dropped, left


def _drop(session: MaintenanceSession, state: RoleState, user: ServerUser) -> str:
    lock = _use_lock(state.name)
    if not session.call(advisory_locks.try_acquire, lock):
        return f"{session.call(advisory_locks.holder, lock) or 'another process'} uses it"
    try:
        # Under the lock: a process that builds a template with the role holds it.
        needed = _needed(session).get(state.name, set())
        if needed:
            session.call(roles.forget_projects, state, user, needed)
            return f"a template of {', '.join(sorted(needed))} needs it"
        return session.call(roles.drop_role, state, user)
    finally:
        session.call(advisory_locks.release, lock)


def _needed(session: MaintenanceSession, gone: Sequence[str] = ()) -> Mapping[str, set[str]]:
    """The projects whose templates need a role, by the name of the role."""
    found: dict[str, set[str]] = {}
    for entry in session.call(databases.own_databases, Kind.TEMPLATE, Kind.VOLATILE):
        if entry.text not in gone:
            for name in roles_of(entry):
                found.setdefault(name, set()).add(entry.project)
    return found


_CHANGE_LOCK = "change roles"


def _use_lock(name: str) -> str:
    """The lock that processes share while they may need role `name`."""
    return f"use role {name}"


def _login_error(url: URL) -> Exception | None:
    """The error of a login by `url`; None where the server accepts the user, whether to this database or not."""
    try:
        raw_connection(url).close()
    except Exception as error:
        # The right to connect to a database is checked after the password.
        return None if "permission denied for database" in str(error) else driver_errors.strip_tracebacks(error)
    return None


def _is_wrong_password(error: Exception, url: URL) -> bool:
    found = driver_errors.permanent_error(error, url)
    return found is not None and found.code == "wrong-password"


def _secret_of_user() -> str:
    """A random secret of the current user of this machine; equal in all processes."""
    directory = cache_dir.cache_directory({})
    path = os.path.join(directory, _SECRET_FILE)
    for _ in range(2):
        with suppress(OSError), open(path, encoding="ascii") as file:
            if cache_dir.is_private(os.fstat(file.fileno()), 0o077) and len(text := file.read()) == 64:
                os.utime(path)  # files that no run has used for a month are removed
                return text
        with suppress(OSError):
            os.makedirs(directory, mode=0o700, exist_ok=True)
            # A link, so that the first process wins, and no other one reads half of it.
            temporary = f"{path}.{secrets.token_hex(8)}"
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32))
            try:
                os.link(temporary, path)
            finally:
                os.unlink(temporary)
    # Without a directory to write to, no process can share anything with another one.
    return f"elefast {os.getuid() if hasattr(os, 'getuid') else ''}"
