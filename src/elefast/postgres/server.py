"""Facts about a server and the current role, settings of a session, and who uses the server's connections."""

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

_APPLICATION_WITH_OWNER = re.compile(rf"^(elefast \w+) [0-9a-v]{{{OWNER_LENGTH}}}$")
_CONNECTIONS_ADVICE = (
    "Raise max_connections (tuning.max_connections for a server of elefast's own), or use fewer at once: "
    "fewer workers, smaller pools, engines that are disposed."
)

NO_EVENT_TRIGGERS = "-c event_triggers=off"
"""Session options that stop login triggers from firing. Only a superuser may use them, from PostgreSQL 17 on."""

LOGIN_TRIGGERS_VERSION = 170000
"""The first version with login triggers."""


class ServerInfo(NamedTuple):
    """Facts about a server and the current role.

    Args:
        version: ``server_version_num``, such as 180001.
        fsync: Whether the server waits for its disk, which decides the fastest way to clone.
        role: The current role.
        can_create_databases: The role has CREATEDB or is a superuser.
        superuser: The role is a superuser.
        in_recovery: The server is a standby, or is still recovering.
        locale: The collation and character type of ``template0``.
        block_size: The size of a page in bytes.
        is_remote: The addresses of client and server differ. They do for a server in a container.
        allows_prepared_transactions: ``max_prepared_transactions`` is not 0.
        encrypted: The connection uses TLS. True if the driver does not tell.
    """

    version: int
    fsync: bool
    role: str
    can_create_databases: bool
    superuser: bool
    in_recovery: bool
    locale: str
    block_size: int
    is_remote: bool
    allows_prepared_transactions: bool
    encrypted: bool

    @property
    def version_text(self) -> str:
        """The version as in ``18.1``."""
        return f"{self.version // 10000}.{self.version % 10000}"

    def strategy(self, wanted: str = "auto") -> str:
        """The ``STRATEGY`` of CREATE DATABASE.

        ``FILE_COPY`` is faster if the server does not wait for its disk (0.6 to 0.9 of the time of ``WAL_LOG``, and it
        scales with the cores). With fsync its checkpoints make it three to four times as slow.

        Args:
            wanted: ``auto``, ``file_copy`` or ``wal_log``.

        Returns:
            The strategy; empty before PostgreSQL 15, which has no such option.
        """
        if self.version < 150000:
            return ""
        if wanted != "auto":
            return wanted.upper()
        return "WAL_LOG" if self.fsync else "FILE_COPY"


def read_server_info(connection: Connection) -> ServerInfo:
    """Read the facts about the server of `connection`, in one round trip."""
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
    """Configure a session of elefast's: no timeouts, read-write, and values in the formats that drivers parse.

    Args:
        connection: The session.
        application: Its ``application_name``.
    """
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


def set_file_copy_method(connection: Connection, share_blocks: bool) -> bool:
    """Set how ``FILE_COPY`` copies files in this session: by sharing their blocks, or by copying their bytes.

    PostgreSQL has the setting from version 18 on, and file systems such as XFS, Btrfs, ZFS and APFS share blocks. The
    time of a copy does not depend on its size then. On other file systems the copy takes as long as ever.

    Returns:
        Whether blocks will be shared, if the file system is able to.
    """
    changed = rows(
        connection,
        """
        select set_config(name, :method, false) from pg_settings
        where name = 'file_copy_method' and 'clone' = any(enumvals)
        """,
        method="clone" if share_blocks else "copy",
    )
    return bool(changed) and share_blocks


def ping(connection: Connection) -> None:
    """Check that the server answers."""
    scalar(connection, "select 1")


def connection_holders(connection: Connection) -> list[str]:
    """The users of the server's connections, for an error message.

    It shows only facts that ordinary roles may see. Connections of several runs, workers and tests that differ in
    nothing else share a line.

    Returns:
        The number of connections, the users with the most connections, and advice.
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
        groups.setdefault((_APPLICATION_WITH_OWNER.sub(r"\1", application), role, kind), []).append(database)
    lines: list[str] = []
    most = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    for (application, role, kind), databases in most[:8]:
        different = set(databases)
        where = f"database {databases[0]}" if len(different) == 1 else f"{len(different)} databases {kind}"
        lines.append(f"{len(databases)} x {application} (role {role}, {where})")
    if rest := sum(len(databases) for _, databases in most[8:]):
        lines.append(f"{rest} x others")
    return [f"{len(found)} of {scalar(connection, 'show max_connections')}:", *lines, _CONNECTIONS_ADVICE]


def backend_state(connection: Connection, pid: int) -> str:
    """The state of backend `pid` of the current role: ``active``, ``idle`` and others; empty if it has ended."""
    return str(scalar(connection, "select state from pg_stat_activity where pid = :pid", pid=pid) or "")


def is_pooled(connection: Connection) -> bool:
    """Whether the connection goes through a connection pooler.

    A pooler announces a process id at connect that is not the backend's.
    """
    announced = _announced_pid(connection.connection.driver_connection)
    return announced is not None and announced != scalar(connection, "select pg_backend_pid()")


def _announced_pid(driver: Any) -> int | None:
    """The process id that the server announced at connect; None if the driver does not have it."""
    if hasattr(driver, "info") and hasattr(driver.info, "backend_pid"):  # psycopg, psycopg2
        return int(driver.info.backend_pid)
    if hasattr(driver, "get_server_pid"):  # asyncpg
        return int(driver.get_server_pid())
    return None
