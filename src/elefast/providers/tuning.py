"""The keys of ``[tool.elefast.tuning]`` as settings of every server that elefast starts.

The reasons for the defaults:

- A crash of the machine may lose the data of tests, so the server does not wait for the disk (``fsync``,
  ``synchronous_commit``, ``full_page_writes``).
- Background work slows tests down (``autovacuum``, checkpoints, archiving).
- Every copy and every drop of a database scans all shared buffers, so these stay small.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["server_settings"]


def server_settings(
    *,
    fsync: bool | None = False,
    synchronous_commit: bool | None = False,
    full_page_writes: bool | None = False,
    wal_level: str | None = "replica",
    max_wal_senders: int | None = 0,
    archive_mode: bool | None = False,
    autovacuum: bool | None = False,
    jit: bool | None = False,
    shared_buffers: str | None = "128MB",
    work_mem: str | None = "",
    maintenance_work_mem: str | None = "",
    checkpoint_timeout: str | None = "1d",
    max_wal_size: str | None = "256MB",
    max_connections: int | None = 300,
    log_statements: bool = False,
    settings: Mapping[str, object] | None = None,
) -> dict[str, str]:
    """Name and value of every server setting, ready for ``-c name=value``.

    The arguments are the keys of ``[tool.elefast.tuning]``. ``None`` or an empty string leaves a setting to the
    server's default. An entry of `settings` overrides the other arguments; an empty value there removes a setting.

    Args:
        log_statements: Log every statement (``log_statement = all``).
        settings: Any other server settings; ``true`` and ``false`` become ``on`` and ``off``.
    """
    wanted: dict[str, object] = {
        "fsync": fsync,
        "synchronous_commit": synchronous_commit,
        "full_page_writes": full_page_writes,
        "wal_level": wal_level,
        "max_wal_senders": max_wal_senders,
        "archive_mode": archive_mode,
        "autovacuum": autovacuum,
        "jit": jit,
        "shared_buffers": shared_buffers,
        "work_mem": work_mem,
        "maintenance_work_mem": maintenance_work_mem,
        "checkpoint_timeout": checkpoint_timeout,
        "max_wal_size": max_wal_size,
        "max_connections": max_connections,
        "log_statement": "all" if log_statements else None,
        # Copying a database by files makes two checkpoints; since 15 the server would log each of them.
        "log_checkpoints": False,
        # The session of a killed test ends in the middle of its statement, so that its database can be dropped.
        "client_connection_check_interval": "2s",
        # DROP DATABASE waits for clients that do not answer the request for a password; a minute by default.
        "authentication_timeout": "10s",
        **(settings or {}),
    }
    return {name: text for name, value in wanted.items() if (text := _text(value))}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "" if value is None else str(value)
