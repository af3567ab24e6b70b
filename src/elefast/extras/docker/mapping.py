"""Translates the objects of `configuration` to arguments of the provider of containers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elefast.errors import ConfigurationError, Problem
from elefast.extras.docker.configuration import Configuration, Container, Credentials, Optimizations
from elefast.providers.tuning import server_settings

__all__ = ["HOST_PORT", "provider_arguments"]

HOST_PORT = "ELEFAST_HOST_PORT"

_DATABASE_PORT = 5432


def provider_arguments(config: Configuration, env: Mapping[str, str]) -> dict[str, Any]:
    """The keyword arguments for `elefast.providers.DockerProvider`.

    Args:
        config: The options.
        env: The environment variables.

    Raises:
        ConfigurationError: Values are invalid; it lists all of them.
    """
    problems: list[Problem] = []
    container, credentials = config.container, config.credentials
    values = {
        "image": _reference(container, problems),
        "name": "" if container.name == Container().name else container.name,
        "port": _port(container, env, problems),
        "user": credentials.user,
        "password": credentials.password,
        "host": "" if credentials.host == Credentials().host else credentials.host,
        "tmpfs": _tmpfs(config.optimizations, problems),
        "settings": _settings(config.optimizations, problems),
    }
    if problems:
        raise ConfigurationError(problems, "see elefast.extras.docker.configuration")
    return values


def _reference(container: Container, problems: list[Problem]) -> str:
    image, version = container.image, container.version
    complete = "@" in image or ":" in image.rpartition("/")[2]
    if not complete:
        return f"{image}{'@' if version.startswith('sha256:') else ':'}{version}" if version else image
    if version not in ("", Container().version) and not image.endswith(version):
        problems.append(
            _problem("container.version", f'"{version}" contradicts container.image = "{image}"', "conflicting-keys")
        )
    return image


def _port(container: Container, env: Mapping[str, str], problems: list[Problem]) -> int:
    if container.database_port is None:
        text = env.get(HOST_PORT, "")
        if not text:
            return 0
        if text.isascii() and text.isdigit() and int(text) < 65536:
            return int(text)
        problems.append(
            Problem(f"env {HOST_PORT}", "docker.port", f'expected a port, got "{text}"', code="wrong-value")
        )
        return 0
    inside, outside = container.database_port
    key = "container.database_port"
    if inside != _DATABASE_PORT:
        problems.append(_problem(key, f"the server in the container listens on {_DATABASE_PORT}, not on {inside}"))
    if outside is not None and not 0 <= outside < 65536:
        problems.append(_problem(key, f"expected a port, got {outside}"))
    return outside or 0


def _tmpfs(optimizations: Optimizations, problems: list[Problem]) -> bool | str:
    size = optimizations.tmpfs
    if isinstance(size, bool):
        return size
    if size <= 0:
        problems.append(_problem("optimizations.tmpfs", f"expected a number of megabytes, True or False, got {size}"))
    return f"{size}m"


def _settings(optimizations: Optimizations, problems: list[Problem]) -> dict[str, str]:
    if optimizations.wal_level_minimal and not optimizations.disable_wal_senders:
        problems.append(
            _problem(
                "optimizations.disable_wal_senders", "must be True with wal_level_minimal = True", "conflicting-keys"
            )
        )
    seconds = optimizations.checkpoint_timeout_seconds
    return server_settings(
        fsync=_off(optimizations.fsync_off),
        synchronous_commit=_off(optimizations.synchronous_commit_off),
        full_page_writes=_off(optimizations.full_page_writes_off),
        wal_level="minimal" if optimizations.wal_level_minimal else None,
        max_wal_senders=0 if optimizations.disable_wal_senders else None,
        archive_mode=_off(optimizations.disable_archiving),
        autovacuum=_off(optimizations.autovacuum_off),
        jit=_off(optimizations.jit_off),
        shared_buffers=_megabytes(optimizations.shared_buffers_mb),
        work_mem=_megabytes(optimizations.work_mem_mb),
        maintenance_work_mem=_megabytes(optimizations.maintenance_work_mem_mb),
        checkpoint_timeout=None if seconds is None else f"{seconds}s",
        log_statements=not optimizations.disable_statement_logging,
    )


def _off(disabled: bool) -> bool | None:
    return False if disabled else None


def _megabytes(number: int | None) -> str | None:
    return None if number is None else f"{number}MB"


def _problem(key: str, message: str, code: str = "wrong-value") -> Problem:
    return Problem("Configuration(...)", key, message, code=code)
