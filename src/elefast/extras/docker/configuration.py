"""What `elefast.extras.docker.postgres` can be told, as objects.

The same settings stand in ``[tool.elefast.docker]`` and ``[tool.elefast.tuning]``, which need no code.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Configuration", "Container", "Credentials", "Optimizations"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """Which container, of which image.

    Args:
        name: The default stands for a name of elefast's choice, so that projects do not meet in one container.
        image: Without a tag it gets `version`. With one, or with a digest, it is taken as it is.
        version: The tag, or a digest (``sha256:...``). ``latest`` is another major version some day: better
            name one.
        database_port: The port in the container, which must be 5432, and the one on the engine's machine, where
            ``None`` means any. Without the pair the variable ``ELEFAST_HOST_PORT`` pins the latter.
    """

    name: str = "elefast"
    image: str = "postgres"
    version: str = "latest"
    database_port: tuple[int, int | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who connects, and where.

    Args:
        user: The superuser that the container is made with.
        password: The superuser's.
        host: Where the container's port is reached. The default stands for what follows from the engine, which is
            another host where that is remote.
    """

    user: str = "postgres"
    password: str = "elefast"
    host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizations:
    """How the server is tuned for tests; nothing of it is fit for data that matter.

    ``False`` and ``None`` leave a setting to PostgreSQL.

    Args:
        tmpfs: Data in memory: yes, no, or at most so many megabytes.
        fsync_off: Nothing waits for the disk.
        synchronous_commit_off: No commit waits for its log.
        full_page_writes_off: No copies of whole pages in the log.
        wal_level_minimal: As little log as possible; needs `disable_wal_senders`.
        disable_wal_senders: No replication.
        disable_archiving: Finished log files are not archived.
        autovacuum_off: Nothing runs beside the tests.
        jit_off: No compiling of queries.
        shared_buffers_mb: Megabytes of shared memory; large ones slow down every new database.
        work_mem_mb: Megabytes for each sort.
        maintenance_work_mem_mb: Megabytes for each index that is built.
        checkpoint_timeout_seconds: Seconds between two checkpoints.
        disable_statement_logging: Otherwise all statements are in the container's log.
    """

    tmpfs: int | bool = True
    fsync_off: bool = True
    synchronous_commit_off: bool = True
    full_page_writes_off: bool = True
    wal_level_minimal: bool = True
    disable_wal_senders: bool = True
    disable_archiving: bool = True
    autovacuum_off: bool = False
    jit_off: bool = True
    shared_buffers_mb: int | None = 128
    work_mem_mb: int | None = None
    maintenance_work_mem_mb: int | None = None
    checkpoint_timeout_seconds: int | None = 1800
    disable_statement_logging: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All of it."""

    container: Container = Container()
    credentials: Credentials = Credentials()
    optimizations: Optimizations = Optimizations()
