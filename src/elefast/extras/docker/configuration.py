"""The options of `elefast.extras.docker.postgres`, as objects.

``[tool.elefast.docker]`` and ``[tool.elefast.tuning]`` have the same options for projects without such code.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Configuration", "Container", "Credentials", "Optimizations"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """The container and its image.

    Args:
        name: The name. The default stands for a name that elefast chooses, so that projects do not share a container.
        image: The image. Without a tag or a digest, `version` is added to it.
        version: The tag, or a digest (``sha256:...``). ``latest`` will become another major version some day, so
            better name one.
        database_port: The port in the container, which must be 5432, and the port on the engine's machine, where
            ``None`` means any. If omitted, the variable ``ELEFAST_HOST_PORT`` sets the latter.
    """

    name: str = "elefast"
    image: str = "postgres"
    version: str = "latest"
    database_port: tuple[int, int | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The role and the host of the URL.

    Args:
        user: The superuser that the container creates.
        password: The password of the superuser.
        host: The host of the container's port. The default stands for the host of the engine, which may be remote.
    """

    user: str = "postgres"
    password: str = "elefast"
    host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizations:
    """How the server is tuned for tests. With these settings, a crash of the server may lose data.

    ``False`` and ``None`` leave a setting to PostgreSQL.

    Args:
        tmpfs: Keep the data in memory; a number is a limit in megabytes.
        fsync_off: Do not wait for the disk.
        synchronous_commit_off: Do not wait for the write-ahead log in a commit.
        full_page_writes_off: Do not write copies of whole pages to the log.
        wal_level_minimal: Write as little log as possible; needs `disable_wal_senders`.
        disable_wal_senders: Disable replication.
        disable_archiving: Do not archive completed log files.
        autovacuum_off: Do not vacuum while tests run.
        jit_off: Do not compile queries.
        shared_buffers_mb: Megabytes of shared memory; many of them slow down every new database.
        work_mem_mb: Megabytes for each sort.
        maintenance_work_mem_mb: Megabytes for each index that is built.
        checkpoint_timeout_seconds: Seconds between two checkpoints.
        disable_statement_logging: Do not write all statements to the container's log.
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
    """Container, credentials and tuning together.

    Args:
        container: The container and its image.
        credentials: The role and the host of the URL.
        optimizations: How the server is tuned.
    """

    container: Container = Container()
    credentials: Credentials = Credentials()
    optimizations: Optimizations = Optimizations()
