"""What a server is and what it lets us do, asked in one round trip."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from sqlalchemy import Connection

from elefast.postgres import keepalives
from elefast.postgres.names import OWNER_LENGTH, Name
from elefast.postgres.sql import execute, literal, rows, scalar

__all__ = [
    "LOGIN_TRIGGERS_VERSION",
    "NO_EVENT_TRIGGERS",
    "ServerInfo",
    "backend_state",
    "configure_session",
    "connection_holders",
    "is_pooled",
    "ping",
    "read_server_info",
    "set_file_copy_method",
]

_OF_A_RUN = re.compile(rf"^(elefast \w+) [0-9a-v]{{{OWNER_LENGTH}}}$")
_TOO_FEW = (
    "Raise max_connections (tuning.max_connections for a server of elefast's own), or use fewer at once: "
    "fewer workers, smaller pools, engines that are disposed."
)

NO_EVENT_TRIGGERS = "-c event_triggers=off"
"""A setting that a superuser's session may have from PostgreSQL 17 on, so that it fires no login trigger."""

LOGIN_TRIGGERS_VERSION = 170000
"""Before it there are no login triggers, and no such setting."""


class ServerInfo(NamedTuple):
    """What elefast needs to know of a server.

    Args:
        version: ``server_version_num``, such as 180001.
        fsync: Whether the server waits for its disk; decides the cheapest way to clone.
        role: The role that we are.
        may_create: It has CREATEDB or is a superuser.
        superuser: It is a superuser.
        recovery: The server is a standby, or still recovering.
        locale: What names, beside the version, the collations that a template was built with.
        block_size: Bytes of a page.
        elsewhere: It is on another machine than we are, as far as it can tell; that of a container is one.
        prepares: There may be prepared transactions.
        encrypted: Our connection is; so it is taken to be where the driver does not tell.
    """

    version: int
    fsync: bool
    role: str
    may_create: bool
    superuser: bool
    recovery: bool
    locale: str
    block_size: int
    elsewhere: bool
    prepares: bool
    encrypted: bool

    @property
    def version_text(self) -> str:
        """The version as people write it: ``18.1``."""
        return f"{self.version // 10000}.{self.version % 10000}"

    def strategy(self, wanted: str = "auto") -> str:
        """The ``STRATEGY`` of CREATE DATABASE, or nothing before PostgreSQL 15, which has no choice.

        Copying files is the cheapest where nobody waits for the disk (0.6 to 0.9 of WAL_LOG, and it scales
        over cores); with fsync on its checkpoints make it three to four times as expensive.
        """
        if self.version < 150000:
            return ""
        if wanted != "auto":
            return wanted.upper()
        return "WAL_LOG" if self.fsync else "FILE_COPY"


def read_server_info(connection: Connection) -> ServerInfo:
    """Ask the server who it is and who we are."""
    (row,) = rows(
        connection,
        """
        select current_setting('server_version_num')::int, current_setting('fsync')::bool, r.rolname,
               r.rolcreatedb or r.rolsuper, r.rolsuper, pg_is_in_recovery(),
               (select concat_ws(' ', datcollate, datctype) from pg_database where datname = 'template0'),
               current_setting('block_size')::int, inet_client_addr() is distinct from inet_server_addr(),
               current_setting('max_prepared_transactions') <> '0'
        from pg_roles r where r.rolname = current_user
        """,
    )
    driver: Any = connection.connection.driver_connection
    return ServerInfo._make((*row, getattr(getattr(driver, "pgconn", None), "ssl_in_use", True)))


def configure_session(connection: Connection, application: str) -> None:
    """Make the session fit to wait and to outlast: no timeouts, writable, named in pg_stat_activity, and with values in
    the format that drivers read."""
    settings = {
        "application_name": application,
        "statement_timeout": "0",
        "lock_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "idle_session_timeout": "0",
        "default_transaction_read_only": "off",
        "search_path": "pg_catalog",
        "datestyle": "ISO",
        "client_min_messages": "warning",
        **keepalives.SETTINGS,
    }
    calls = ", ".join(f"set_config({literal(name)}, {literal(value)}, false)" for name, value in settings.items())
    execute(connection, f"SELECT {calls}")


def set_file_copy_method(connection: Connection, wanted: bool) -> bool:
    """Have files copied by sharing their blocks, where the file system can, or as always; whether it is so now.

    PostgreSQL 18 has the choice, for ``FILE_COPY`` on XFS, Btrfs, ZFS and APFS; a copy costs the same there
    whatever its size, and as much as before where blocks cannot be shared.
    """
    return (
        bool(
            rows(
                connection,
                """
            select set_config(name, :method, false) from pg_settings
            where name = 'file_copy_method' and 'clone' = any(enumvals)
            """,
                method="clone" if wanted else "copy",
            )
        )
        and wanted
    )


def ping(connection: Connection) -> None:
    """Ask the server for an answer, whatever it is."""
    scalar(connection, "select 1")


def connection_holders(connection: Connection) -> list[str]:
    """Who has the server's connections, those with the most first, and what to do; what an ordinary role may know.

    The same of several runs, such as the workers of one, and of several tests, is one line.
    """
    found = rows(
        connection,
        """
        select coalesce(nullif(application_name, ''), 'without a name'), coalesce(usename, '?'), datname
        from pg_stat_activity where usesysid is not null and datname is not null
        """,
    )
    groups: dict[tuple[str, str, str], list[str]] = {}
    for application, role, database in found:
        name = Name.parse(database)
        kind = database if name is None else f"{name.prefix}_{name.kind}..."
        groups.setdefault((_OF_A_RUN.sub(r"\1", application), role, kind), []).append(database)
    lines: list[str] = []
    most = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    for (application, role, kind), databases in most[:8]:
        different = set(databases)
        where = f"database {databases[0]}" if len(different) == 1 else f"{len(different)} databases {kind}"
        lines.append(f"{len(databases)} x {application} (role {role}, {where})")
    if rest := sum(len(databases) for _, databases in most[8:]):
        lines.append(f"{rest} x others")
    return [f"{len(found)} of {scalar(connection, 'show max_connections')}:", *lines, _TOO_FEW]


def backend_state(connection: Connection, pid: int) -> str:
    """What backend `pid` of our own role does: ``active``, ``idle`` and the like; empty where it is gone."""
    return str(scalar(connection, "select state from pg_stat_activity where pid = :pid", pid=pid) or "")


def is_pooled(connection: Connection) -> bool:
    """Whether something between us and the server hands out server connections as its own.

    A pooler announces a process id of its own at connect, which is not the backend's.
    """
    announced = _announced_pid(connection.connection.driver_connection)
    return announced is not None and announced != scalar(connection, "select pg_backend_pid()")


def _announced_pid(driver: Any) -> int | None:
    """The backend's process id as the driver was told at connect; None where the driver does not say."""
    if hasattr(driver, "info") and hasattr(driver.info, "backend_pid"):  # psycopg, psycopg2
        return int(driver.info.backend_pid)
    if hasattr(driver, "get_server_pid"):  # asyncpg
        return int(driver.get_server_pid())
    return None
