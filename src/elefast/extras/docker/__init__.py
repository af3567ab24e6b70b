"""A PostgreSQL in a container, as a URL: ``DatabaseServer(postgres("psycopg"), schema=...)``.

It is the server of ``provider = "docker"``, requested in code; `configuration` has its options.
The docker SDK is not imported before `postgres` is called.
"""

from __future__ import annotations

import atexit
import os
from pathlib import Path
from typing import TYPE_CHECKING

from elefast.config import current_run

if TYPE_CHECKING:
    from docker import DockerClient
    from sqlalchemy import URL

    from elefast.extras.docker.configuration import Configuration

__all__ = ["postgres"]


def postgres(
    driver: str,
    docker: DockerClient | None = None,
    config: Configuration | None = None,
    keep_container_around: bool = True,
) -> URL:
    """Start a container with a tuned PostgreSQL, or find one that runs already, and wait until it answers.

    All processes of a project that pass the same arguments share one container.

    Args:
        driver: The driver, as after the plus sign in SQLAlchemy's URLs: ``psycopg``, ``psycopg2``, ``asyncpg``,
            ``pg8000``.
        docker: A client of a Docker engine; by default of the one that ``DOCKER_HOST``, the Docker context or the
            usual sockets lead to.
        config: Container, credentials and tuning; the defaults if omitted.
        keep_container_around: Leave the container running for the next run. Otherwise it is removed with its
            volumes when the last process that uses it ends.

    Returns:
        The URL of the database ``postgres`` as superuser, with the password.

    Raises:
        MissingDependencyError: The docker extra is not installed.
        ServerUnavailableError: There is no engine, or no image.
        ServerStartError: The container does not start; the message ends with its log.
        ConfigurationError: A value in `config` or in ``ELEFAST_HOST_PORT`` is invalid.
        RefusedError: A container that elefast did not make has the name.
    """
    from elefast.extras.docker.configuration import Configuration
    from elefast.extras.docker.mapping import provider_arguments
    from elefast.providers.docker import DockerProvider

    provider = DockerProvider(
        **provider_arguments(config or Configuration(), os.environ),
        client=docker,
        reuse=keep_container_around,
        project=_project(),
        reason="elefast.extras.docker.postgres",
        scram_iterations=4096 if "pg8000" in driver else 1,  # fewer save milliseconds, but pg8000 rejects them
    )
    lease = provider.acquire()
    # A caller has no way to release a URL, so the lease lasts as long as the process.
    atexit.register(lease.release)
    return lease.url.set(drivername=driver if driver.startswith("postgresql") else f"postgresql+{driver}")


def _project() -> Path:
    """The directory of the project, which owns the container: the nearest one above with a pyproject.toml."""
    current = current_run.current()
    start = current.start if current else Path.cwd()
    return next((place for place in (start, *start.parents) if (place / "pyproject.toml").is_file()), start)
