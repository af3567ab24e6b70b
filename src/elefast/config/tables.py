"""The tables of the configuration: every key below the top, with its default and its meaning.

One class is one table; `model` puts them together. The docstring below a key is its description in all references.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from elefast.config import value_types
from elefast.config.value_types import Choices, FilePath
from elefast.runtime.redaction import redact

__all__ = [
    "Alembic",
    "Command",
    "Docker",
    "Engine",
    "Function",
    "Local",
    "Metadata",
    "Pool",
    "RedactedModel",
    "Role",
    "Scenario",
    "Sql",
    "Table",
    "Template",
    "Tuning",
]

Reuse = Annotated[
    bool | Literal["auto"],
    Choices(auto="`true`, but `false` where the variable `CI` is set"),
]
WholeNumber = Annotated[int, Field(ge=0)]
CountingNumber = Annotated[int, Field(ge=1)]


class RedactedModel(BaseModel):
    """A model whose `repr` hides passwords."""

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, redact(name or "", value)


class Table(RedactedModel):
    """A table of the configuration: frozen, strict, without unknown keys, its passwords hidden in `repr`."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)


class Engine(Table):
    """The engines that elefast makes for the project, in SQLAlchemy's own words."""

    url: value_types.ServerUrl = Field(default="", examples=["postgresql://postgres@127.0.0.1:5432/postgres"])
    """An existing server. Elefast makes and drops databases of its own on it, and leaves all others alone."""
    driver: Annotated[
        Literal["", "psycopg", "psycopg2", "pg8000"],
        Choices(psycopg="psycopg 3", psycopg2="psycopg 2", pg8000="pg8000, in Python alone"),
    ] = Field(default="", examples=["psycopg2"])
    """The driver of sync engines; empty: that of `url` if it is a sync one, else psycopg."""
    async_driver: Annotated[
        Literal["", "asyncpg", "psycopg"], Choices(asyncpg="asyncpg", psycopg="psycopg 3, whose engines can be both")
    ] = Field(default="", examples=["psycopg"])
    """The driver of async engines; empty: that of `url` if it is an async one, else asyncpg if that is
    installed, else psycopg."""
    pool_size: WholeNumber = 5
    """Connections that a sync engine keeps.
    Async engines use `NullPool` unless the project sets this or `max_overflow`."""
    max_overflow: Annotated[int, Field(ge=-1)] = 10
    """Connections beyond `pool_size`; -1: without limit."""
    echo: Annotated[bool | Literal["debug"], Choices(debug="log the rows as well")] = False
    """Log every statement."""
    connect_args: dict[str, Any] = Field(default_factory=dict[str, Any], examples=[{"connect_timeout": 5}])
    """Arguments for the sync driver's `connect()`."""
    async_connect_args: dict[str, Any] = Field(default_factory=dict[str, Any], examples=[{"statement_cache_size": 0}])
    """Arguments for the async driver's `connect()`."""
    options: dict[str, Any] = Field(default_factory=dict[str, Any], examples=[{"pool_timeout": 5}])
    """Any other keyword of `create_engine()`."""
    allow_remote: bool = False
    """Allow a `url` whose host is not this machine. Without it, such a server is refused."""


class Metadata(Table):
    """`migrator = "metadata"`: the schema is made from SQLAlchemy models."""

    target: value_types.Targets = Field(default="", examples=["my_app.models:Base.metadata"])
    """A `MetaData` or a declarative base as `module:name`; a list is allowed."""


class Alembic(Table):
    """`migrator = "alembic"`: the schema is made by the project's own migrations, with `env.py` as it is."""

    config: Annotated[value_types.NotEmpty, FilePath()] = Field(default="alembic.ini", examples=["pyproject.toml"])
    """Alembic's configuration: an ini file or a `pyproject.toml`. Relative locations in it are taken from its own
    directory, or from this one, if `env.py` is found from here only."""
    section: value_types.NotEmpty = "alembic"
    """The section of that file."""
    revision: value_types.NotEmpty = "heads"
    """The revision to upgrade to."""
    env: list[value_types.ExportedVariable] = Field(default_factory=list[str], examples=[["APP_DATABASE_URL"]])
    """Further variables that `env.py` reads its URL from, written as in `export_env`, whose own are always set."""
    x: list[str] = Field(default_factory=list[str], examples=[["tenant=test"]])
    """Arguments for `context.get_x_argument()`, as after `alembic -x`."""


class Sql(Table):
    """`migrator = "sql"`: the schema is made by plain SQL files."""

    files: Annotated[list[value_types.NotEmpty], FilePath()] = Field(
        default_factory=list[str], examples=[["schema.sql", "migrations/*.sql"]]
    )
    """Files or globs, in order; what a glob matches is taken by name."""


class Function(Table):
    """`migrator = "callable"`: the schema is made by a function of the project."""

    target: value_types.OptionalTarget = Field(default="", examples=["my_app.testing:create_schema"])
    """`def create(connection)` or `async def create(async_connection)`, as `module:name`; annotated as `Engine`,
    `Session`, `AsyncEngine` or `AsyncSession`, the parameter gets that."""


class Command(Table):
    """`migrator = "command"`: the schema is made by any other tool, run in the directory of this file."""

    run: list[str] = Field(default_factory=list[str], examples=[["dbmate", "up"]])
    """The command and its arguments.
    `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD` and `PGDATABASE` are set for it."""
    env: list[value_types.ExportedVariable] = Field(
        default_factory=list[str], examples=[["DATABASE_URL"], ["DB_HOST={host}", "DB_PORT={port}"]]
    )
    """Further variables for it, written as in `export_env`, whose own are set as well.
    Here `NAME` has a plain `postgresql://` URL."""


class Docker(Table):
    """`provider = "docker"`: a container that elefast starts."""

    image: value_types.NotEmpty = "postgres:18"
    """The image."""
    name: value_types.ContainerName = Field(default="", examples=["my-app-tests"])
    """The container's name; empty: derived from the project and the configuration."""
    host: str = Field(default="", examples=["127.0.0.1"])
    """Where the container's port is reached; empty: found from the engine."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """The port on this machine; 0: the engine chooses a free one."""
    user: value_types.NotEmpty = "postgres"
    """The superuser."""
    password: value_types.NotEmpty = "elefast"
    """The superuser's password."""
    reuse: Reuse = "auto"
    """`true`: the container stays running for the next run;
    `false`: it is removed at the end, with its volumes."""
    pull: Annotated[
        Literal["missing", "always", "never"],
        Choices(missing="when it is not there", always="before every start", never="fail when it is not there"),
    ] = "missing"
    """When to pull the image."""
    tmpfs: value_types.TmpfsSize = Field(default=True, examples=["512m"])
    """Keep the data in memory; a size limits it."""
    shm_size: value_types.EngineSize = "256m"
    """The size of `/dev/shm` in the container; empty: the engine's default."""
    platform: str = Field(default="", examples=["linux/amd64"])
    """The platform of the image; empty: that of the engine."""


class Local(Table):
    """`provider = "local"`: a server that elefast starts from PostgreSQL's binaries on this machine."""

    bin_dir: Annotated[str, FilePath()] = Field(default="", examples=["/usr/lib/postgresql/18/bin"])
    """Where `initdb` and `postgres` are;
    empty: `pg_config`, `PATH`, the usual places, then a pip-installed PostgreSQL."""
    data_dir: Annotated[str, FilePath()] = Field(default="", examples=["/dev/shm/my-app"])
    """Where the data lies; empty: a directory of elefast's own, in memory where there is room."""
    run_as: str = Field(default="", examples=["postgres"])
    """The user that the server runs as when pytest runs as root.
    If it is empty, elefast takes the user `postgres`, or `nobody` if there is none."""
    reuse: Reuse = "auto"
    """`true`: the data stays, with its templates, while the server stops with the last process that uses it;
    `false`: nothing stays."""


class Tuning(Table):
    """The settings of servers that elefast starts: fast, since the data of tests need not survive a crash."""

    fsync: bool = False
    """Wait until data is on the disk. Off: nothing of a test has to survive a crash."""
    synchronous_commit: bool = False
    """Wait for the log at each commit. Off for the same reason."""
    full_page_writes: bool = False
    """Write whole pages after a checkpoint. Only needed after a crash."""
    wal_level: Annotated[
        Literal["minimal", "replica", "logical"],
        Choices(
            minimal="what a crash needs; clones by WAL_LOG are slower with it",
            replica="PostgreSQL's default",
            logical="for tests of logical replication",
        ),
    ] = "replica"
    """How much is logged.
    `minimal` makes clones slower and gains nothing; `logical` is for tests of replication."""
    max_wal_senders: WholeNumber = 0
    """Replication connections; raise it for tests of replication."""
    archive_mode: bool = False
    """Archive the log."""
    autovacuum: bool = False
    """Vacuum in the background. Test databases do not live long enough to need it."""
    jit: bool = False
    """Compile queries. Costs more than it gains on small tables."""
    shared_buffers: value_types.MemorySize = "128MB"
    """The server's page cache. A large one slows every clone and every drop. Empty: the server's default."""
    work_mem: value_types.MemorySize = Field(default="", examples=["16MB"])
    """Memory for each sort or hash; empty: the server's default."""
    maintenance_work_mem: value_types.MemorySize = Field(default="", examples=["128MB"])
    """Memory for building indexes; empty: the server's default."""
    checkpoint_timeout: value_types.CheckpointTimeout = "1d"
    """Time between checkpoints, "30s" to "1d"; rare ones keep the disk quiet. Empty: the server's default."""
    max_wal_size: value_types.MemorySize = "256MB"
    """Log written before a checkpoint is forced; bounds what the data directory needs.
    Empty: the server's default."""
    max_connections: CountingNumber = 300
    """Connections at once, enough for many workers with a pool each."""
    log_statements: bool = False
    """Write every statement to the server's log."""
    settings: dict[str, bool | int | float | str] = Field(
        default_factory=dict[str, bool | int | float | str], examples=[{"random_page_cost": 1.1}]
    )
    """Any other setting of the server, passed with `-c`."""


class Role(Table):
    """A role of the server that tests can connect as. Its name is the last part of the table's name.
    Elefast creates a role that does not exist. It never changes or drops a role that it has not created."""

    grants: Annotated[
        Literal["none", "read", "write"] | list[value_types.NotEmpty],
        Choices(
            none="nothing; the migrations grant what the role needs",
            read="SELECT on all tables and sequences",
            write="SELECT, INSERT, UPDATE and DELETE on all tables, and USAGE of all sequences",
        ),
        FilePath(),
        value_types.Since("0.3.0"),
    ] = Field(default="none", examples=[["db/grants.sql"]])
    """What the role may do, granted after the migrator: one of these words, or SQL files and globs, in order."""
    member_of: Annotated[list[value_types.NotEmpty], value_types.Since("0.3.0")] = Field(
        default_factory=list[str], examples=[["pg_read_all_settings"]]
    )
    """Roles that it is a member of: other tables of `roles`, or roles that exist on the server."""
    bypass_rls: Annotated[bool, value_types.Since("0.3.0")] = False
    """Whether row-level security does not apply to it."""


class Template(Table):
    """The migrated database that the tests' databases are copied from."""

    cache: bool = True
    """Use a template again in later runs, as long as nothing that it depends on has changed."""
    watch: Annotated[list[value_types.NotEmpty], FilePath()] = Field(
        default_factory=list[str], examples=[["db/**/*.sql", "settings.ini"]]
    )
    """Further files and globs that the template depends on: those that programs and C libraries read, and what lies
    outside of the project."""
    variables: Annotated[list[value_types.VariableName], value_types.Since("0.3.0")] = Field(
        default_factory=list[str], examples=[["EMBEDDING_DIMS"]]
    )
    """Further environment variables that the template depends on: those that programs and C libraries read."""
    max_age: Annotated[value_types.Age, value_types.Since("0.3.0")] = Field(default="", examples=["1d"])
    """Build it again after this time, because seeds or migrations use the date; empty: never for its age."""
    strategy: Annotated[
        Literal["auto", "file_copy", "wal_log"],
        Choices(
            auto="by the server's fsync and the template's size",
            file_copy="`CREATE DATABASE ... STRATEGY file_copy`",
            wal_log="`CREATE DATABASE ... STRATEGY wal_log`",
        ),
    ] = "auto"
    """How PostgreSQL copies it."""
    keep: WholeNumber = 3
    """How many older templates of each layer stay on a server; those that the configuration uses stay in any case."""


class Scenario(Table):
    """A named state that tests start from: further seeds on top of another state, built once and kept."""

    base: Annotated[str, value_types.Since("0.3.0")] = Field(default="", examples=["catalog"])
    """The scenario that it is built on; empty: the template with migrator and `seed`."""
    seed: Annotated[list[value_types.NotEmpty], FilePath(or_target=True), value_types.Since("0.3.0")] = Field(
        default_factory=list[str], examples=[["tests/shop.sql", "tests.states:shop"]]
    )
    """Its data, as in `seed` at the top: SQL files, globs, or functions as `module:name`."""


class Pool(Table):
    """Databases that are made before a test asks for them."""

    size: WholeNumber = 4
    """Databases kept ready ahead of the tests, in each process; 0: none."""
    max: CountingNumber = 32
    """Live databases of one process at most."""
    reuse: bool = True
    """A database comes back, put in order in place, where PostgreSQL's own counts of what was written prove that it is
    again as its template made it; a new copy takes several times as long. False: each test has a new copy."""
