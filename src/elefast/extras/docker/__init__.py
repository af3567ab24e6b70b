"""A PostgreSQL in a container, as a URL: ``DatabaseServer(postgres("psycopg"), schema=...)``.

It is the server of ``provider = "docker"``, asked for in code; `configuration` has what can be said about it.
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
    """Start a container with a tuned PostgreSQL, or find the one that runs already, and wait until it answers.

    All processes of a project that ask for the same get the same container.

    Args:
        driver: What follows the plus sign in SQLAlchemy's URLs: ``psycopg``, ``psycopg2``, ``asyncpg``, ``pg8000``.
        docker: An engine; without it the one that ``DOCKER_HOST``, the Docker context or the usual places name.
        config: Container, credentials and tuning; without it the defaults.
        keep_container_around: Leave the container running for the next run. Otherwise it is removed, with its
            volumes, when the last process that uses it ends.

    Returns:
        The URL of the database ``postgres`` as superuser, with the password.

    Raises:
        MissingDependencyError: The docker extra is not installed.
        ServerUnavailableError: There is no engine, or no image.
        ServerStartError: The container does not start; the message ends with its log.
        ConfigurationError: Something in `config` or in ``ELEFAST_HOST_PORT`` cannot work.
        RefusedError: A container that is not ours has the name.
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
        scram_iterations=4096 if "pg8000" in driver else 1,  # fewer rounds save milliseconds; pg8000 refuses them
    )
    lease = provider.acquire()
    # Nobody gives a URL back: the hold lasts as long as the process.
    atexit.register(lease.release)
    return lease.url.set(drivername=driver if driver.startswith("postgresql") else f"postgresql+{driver}")


def _project() -> Path:
    """Whose container it is: the directory of the project, wherever below it somebody runs pytest."""
    current = current_run.current()
    start = current.start if current else Path.cwd()
    return next((place for place in (start, *start.parents) if (place / "pyproject.toml").is_file()), start)
