"""Everything that a database service is made from, in plain values; it starts nothing and knows no way to do so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from elefast.templates.options import TemplateOptions

if TYPE_CHECKING:
    from sqlalchemy import URL

    from elefast.postgres.roles import Role
    from elefast.providers.protocol import Provider
    from elefast.templates.recipe import PreparedRecipe

__all__ = ["EngineOptions", "PoolOptions", "RoleOptions", "ServiceSpec"]


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """The engines of tests.

    Args:
        driver: Of sync engines, such as ``postgresql+psycopg``.
        async_driver: Of async engines, such as ``postgresql+asyncpg``.
        keywords: ``create_engine`` keywords.
        async_keywords: ``create_async_engine`` keywords.
    """

    driver: str
    async_driver: str
    keywords: Mapping[str, Any]
    async_keywords: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """The pool of databases.

    Args:
        size: How many databases are kept ready.
        max: How many may live at once.
        reuse: Whether a database that can be reset is used again.
    """

    size: int
    max: int
    reuse: bool


@dataclass(frozen=True, kw_only=True)
class RoleOptions:
    """The roles of tests.

    Args:
        declared: The roles that the project declares.
        tests: The one of them that tests connect as; empty for the server's user.
    """

    declared: tuple[Role, ...] = ()
    tests: str = ""


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """What a `DatabaseService` is made from.

    Args:
        provider: Where the server comes from.
        recipe: What databases are made from; None for empty ones.
        url: The server that the user named; None where elefast starts one.
        requirement: The versions of PostgreSQL that will do, such as ``>=14``.
        engines: The engines of tests.
        templates: How templates are made and kept.
        pool: The pool of databases.
        scenario: The scenario that databases start from; empty for the state after migrator and seeds.
        roles: The roles that tests can connect as.
        watches_cluster: Whether changes to what all databases of the server share are looked for between tests.
        origins: Where each setting was written, by its dotted key, for errors that only the use of its value shows.
        libpq_variables: Gives the libpq variables that were set before the first test; None where no run of tests
            has noted them.
    """

    provider: Provider
    recipe: PreparedRecipe | None
    url: URL | None = field(repr=False)  # with its options, which may have a password among them
    requirement: str
    engines: EngineOptions
    templates: TemplateOptions
    pool: PoolOptions
    roles: RoleOptions = RoleOptions()
    watches_cluster: bool
    origins: Mapping[str, object]
    libpq_variables: Callable[[], Mapping[str, str] | None] = lambda: None
    scenario: str = ""
