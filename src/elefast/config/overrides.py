"""The keyword arguments of `from_config()` for type checkers: generated from the settings by `tools.generate`.

A key is an argument: a mapping for a table, or a name with two underscores such as ``docker__port=5433``.
None counts as not given.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from sqlalchemy import URL

__all__ = ["Overrides"]


class EngineTable(TypedDict, total=False):
    url: str | URL | None
    driver: Literal["", "psycopg", "psycopg2", "pg8000"] | None
    async_driver: Literal["", "asyncpg", "psycopg"] | None
    pool_size: int | None
    max_overflow: int | None
    echo: bool | Literal["debug"] | None
    connect_args: Mapping[str, Any] | None
    async_connect_args: Mapping[str, Any] | None
    options: Mapping[str, Any] | None
    allow_remote: bool | None


class MetadataTable(TypedDict, total=False):
    target: str | Sequence[str] | None


class AlembicTable(TypedDict, total=False):
    config: str | os.PathLike[str] | None
    section: str | None
    revision: str | None
    env: Sequence[str] | None
    x: Sequence[str] | None


class SqlTable(TypedDict, total=False):
    files: Sequence[str | os.PathLike[str]] | None


class CallableTable(TypedDict, total=False):
    target: str | None


class CommandTable(TypedDict, total=False):
    run: Sequence[str] | None
    env: Sequence[str] | None


class DockerTable(TypedDict, total=False):
    image: str | None
    name: str | None
    host: str | None
    port: int | None
    user: str | None
    password: str | None
    reuse: bool | Literal["auto"] | None
    pull: Literal["missing", "always", "never"] | None
    tmpfs: bool | str | None
    shm_size: str | None
    platform: str | None


class LocalTable(TypedDict, total=False):
    bin_dir: str | os.PathLike[str] | None
    data_dir: str | os.PathLike[str] | None
    run_as: str | None
    reuse: bool | Literal["auto"] | None


class TuningTable(TypedDict, total=False):
    fsync: bool | None
    synchronous_commit: bool | None
    full_page_writes: bool | None
    wal_level: Literal["minimal", "replica", "logical"] | None
    max_wal_senders: int | None
    archive_mode: bool | None
    autovacuum: bool | None
    jit: bool | None
    shared_buffers: str | None
    work_mem: str | None
    maintenance_work_mem: str | None
    checkpoint_timeout: str | None
    max_wal_size: str | None
    max_connections: int | None
    log_statements: bool | None
    settings: Mapping[str, bool | int | float | str] | None


class TemplateTable(TypedDict, total=False):
    cache: bool | None
    watch: Sequence[str | os.PathLike[str]] | None
    variables: Sequence[str] | None
    max_age: str | None
    strategy: Literal["auto", "file_copy", "wal_log"] | None
    keep: int | None


class PoolTable(TypedDict, total=False):
    size: int | None
    max: int | None
    reuse: bool | None


class RolesTable(TypedDict, total=False):
    grants: Literal["none", "read", "write"] | Sequence[str | os.PathLike[str]] | None
    member_of: Sequence[str] | None
    bypass_rls: bool | None


class ScenariosTable(TypedDict, total=False):
    base: str | None
    seed: Sequence[str | os.PathLike[str]] | None


class Overrides(TypedDict, total=False):
    provider: Literal["auto", "url", "docker", "local"] | None
    migrator: Literal["auto", "none", "metadata", "alembic", "sql", "callable", "command"] | None
    isolation: Literal["database", "transaction"] | None
    keep: Literal["never", "failed", "always"] | None
    leaks: Literal["warn", "error", "ignore"] | None
    changes: Literal["failed", "never", "always"] | None
    postgres: str | None
    extensions: Sequence[str] | None
    seed: Sequence[str | os.PathLike[str]] | None
    export_env: Sequence[str] | None
    patch: Sequence[str] | None
    autouse: bool | None
    role: str | None
    scenario: str | None
    engine: EngineTable | None
    metadata: MetadataTable | None
    alembic: AlembicTable | None
    sql: SqlTable | None
    callable: CallableTable | None
    command: CommandTable | None
    docker: DockerTable | None
    local: LocalTable | None
    tuning: TuningTable | None
    template: TemplateTable | None
    pool: PoolTable | None
    roles: Mapping[str, RolesTable] | None
    scenarios: Mapping[str, ScenariosTable] | None
    engine__url: str | URL | None
    engine__driver: Literal["", "psycopg", "psycopg2", "pg8000"] | None
    engine__async_driver: Literal["", "asyncpg", "psycopg"] | None
    engine__pool_size: int | None
    engine__max_overflow: int | None
    engine__echo: bool | Literal["debug"] | None
    engine__connect_args: Mapping[str, Any] | None
    engine__async_connect_args: Mapping[str, Any] | None
    engine__options: Mapping[str, Any] | None
    engine__allow_remote: bool | None
    metadata__target: str | Sequence[str] | None
    alembic__config: str | os.PathLike[str] | None
    alembic__section: str | None
    alembic__revision: str | None
    alembic__env: Sequence[str] | None
    alembic__x: Sequence[str] | None
    sql__files: Sequence[str | os.PathLike[str]] | None
    callable__target: str | None
    command__run: Sequence[str] | None
    command__env: Sequence[str] | None
    docker__image: str | None
    docker__name: str | None
    docker__host: str | None
    docker__port: int | None
    docker__user: str | None
    docker__password: str | None
    docker__reuse: bool | Literal["auto"] | None
    docker__pull: Literal["missing", "always", "never"] | None
    docker__tmpfs: bool | str | None
    docker__shm_size: str | None
    docker__platform: str | None
    local__bin_dir: str | os.PathLike[str] | None
    local__data_dir: str | os.PathLike[str] | None
    local__run_as: str | None
    local__reuse: bool | Literal["auto"] | None
    tuning__fsync: bool | None
    tuning__synchronous_commit: bool | None
    tuning__full_page_writes: bool | None
    tuning__wal_level: Literal["minimal", "replica", "logical"] | None
    tuning__max_wal_senders: int | None
    tuning__archive_mode: bool | None
    tuning__autovacuum: bool | None
    tuning__jit: bool | None
    tuning__shared_buffers: str | None
    tuning__work_mem: str | None
    tuning__maintenance_work_mem: str | None
    tuning__checkpoint_timeout: str | None
    tuning__max_wal_size: str | None
    tuning__max_connections: int | None
    tuning__log_statements: bool | None
    tuning__settings: Mapping[str, bool | int | float | str] | None
    template__cache: bool | None
    template__watch: Sequence[str | os.PathLike[str]] | None
    template__variables: Sequence[str] | None
    template__max_age: str | None
    template__strategy: Literal["auto", "file_copy", "wal_log"] | None
    template__keep: int | None
    pool__size: int | None
    pool__max: int | None
    pool__reuse: bool | None
