"""The keys at the top of a configuration, with their defaults and meanings; `tables` has those of each table.

There is no second list of keys.

The JSON Schema, `elefast.toml.example`, the names of the environment variables and the reference in the docs
are generated from these classes. The docstring below a key is its description there.
This module must not know where values come from (`load`), or what is done with them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from elefast.config import value_types
from elefast.config.tables import (
    Alembic,
    Command,
    Docker,
    Engine,
    Function,
    Local,
    Metadata,
    Pool,
    RedactedModel,
    Role,
    Scenario,
    Sql,
    Template,
    Tuning,
)
from elefast.config.value_types import Choices, FilePath, Since

__all__ = ["Settings"]


class Settings(RedactedModel, BaseSettings):
    """What a project says about its tests' databases."""

    model_config = SettingsConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_default=False,
    )

    provider: Annotated[
        Literal["auto", "url", "docker", "local"],
        Choices(
            auto="`engine.url` if one is set, else Docker if it answers, else binaries on this machine",
            url="the server at `engine.url`",
            docker="a container",
            local="PostgreSQL's binaries on this machine",
        ),
    ] = "auto"
    """Where the server comes from."""
    migrator: Annotated[
        Literal["auto", "none", "metadata", "alembic", "sql", "callable", "command"],
        Choices(
            auto="the one migrator table that is written, else Alembic if it is configured beside this file",
            none="no schema",
            metadata="SQLAlchemy models",
            alembic="Alembic migrations",
            sql="SQL files",
            callable="a function of the project",
            command="any other tool",
        ),
    ] = "auto"
    """How the schema gets into the template."""
    isolation: Annotated[
        Literal["database", "transaction"],
        Choices(
            database="a database for each test",
            transaction="a transaction for each test, rolled back at its end",
        ),
    ] = "database"
    """What keeps tests apart."""
    keep: Annotated[
        Literal["never", "failed", "always"],
        Choices(never="no database", failed="those of failed tests", always="all databases"),
    ] = "never"
    """Databases that are kept after their test, for debugging."""
    leaks: Annotated[
        Literal["warn", "error", "ignore"],
        Choices(warn="a warning", error="the test fails", ignore="nothing"),
    ] = "warn"
    """What happens when a test leaves connections open, or roles and the like in the cluster."""
    changes: Annotated[
        Literal["failed", "never", "always"],
        Since("0.3.0"),
        Choices(failed="of failed tests", never="of no test", always="of all tests"),
    ] = "failed"
    """The reports of tests that show which rows the test changed in its database."""
    postgres: value_types.ServerVersion = ">=14"
    """The server version that the project needs; a mismatch is an error at once."""
    extensions: list[value_types.NotEmpty] = Field(default_factory=list[str], examples=[["pg_trgm"]])
    """`CREATE EXTENSION` in the template, committed before the migrator runs."""
    seed: Annotated[list[value_types.NotEmpty], FilePath(or_target=True)] = Field(
        default_factory=list[str], examples=[["tests/seed.sql", "tests.seeding:load"]]
    )
    """Data for the template, after the migrator: SQL files, globs, or functions as `module:name`."""
    export_env: list[value_types.ExportedVariable] = Field(
        default_factory=list[str], examples=[["DATABASE_URL"], ["POSTGRES_SERVER={host}", "POSTGRES_PORT={port}"]]
    )
    """Variables set to the test's database while it lasts: `NAME` has its URL with the configured driver,
    `NAME=postgresql` or `NAME=postgresql+asyncpg` with another one, and `NAME={host}` a part of it.
    The parts are `url`, `host`, `port`, `user`, `password` and `database`, also several in one text."""
    patch: list[value_types.Target] = Field(default_factory=list[str], examples=[["my_app.db:engine"]])
    """Attributes of modules, as `module:name`, that lead to the test's database while it lasts: engines,
    session factories, URLs, functions with a cache, Flask-SQLAlchemy's extension."""

    autouse: Annotated[bool, Since("0.3.0")] = False
    """Give every test a database, whether it asks for a fixture or not."""
    role: Annotated[str, Since("0.3.0")] = ""
    """The role that tests connect as, one of `roles`; empty: the server's user.
    Migrations, seeds, resets and drops always have the server's user."""
    scenario: Annotated[str, Since("0.3.0")] = ""
    """The scenario that tests start from unless their marker names one; empty: migrator and `seed` alone."""

    engine: Engine = Field(default_factory=Engine)
    metadata: Metadata = Field(default_factory=Metadata)
    alembic: Alembic = Field(default_factory=Alembic)
    sql: Sql = Field(default_factory=Sql)
    callable: Function = Field(default_factory=Function)
    command: Command = Field(default_factory=Command)
    docker: Docker = Field(default_factory=Docker)
    local: Local = Field(default_factory=Local)
    tuning: Tuning = Field(default_factory=Tuning)
    template: Template = Field(default_factory=Template)
    pool: Pool = Field(default_factory=Pool)
    roles: dict[str, Role] = Field(default_factory=dict[str, Role])
    scenarios: dict[str, Scenario] = Field(default_factory=dict[str, Scenario])

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only the arguments, which `elefast.config.load` has merged from all places.

        The sources that pydantic-settings brings along lose the place of a value and overlook misspelt variables.
        """
        return (init_settings,)
