"""Everything that a stack is made from, in plain values; it starts nothing and knows no way to do so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import URL

    from elefast.config import Settings
    from elefast.config.provenance import Origin
    from elefast.migrators import Plan
    from elefast.providers import Provider

__all__ = ["Blueprint"]


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """Everything that a stack is made from, as `elefast.factory` read it off the settings.

    Args:
        settings: Gives the settings themselves, for the user to see.
        provenance: Where each value of them comes from.
        provider: Where the server comes from.
        recipe: What databases are made from; None for empty ones.
        url: The server that the user named; None where elefast starts one.
        driver: Of sync engines, such as ``postgresql+psycopg``.
        async_driver: Of async engines, such as ``postgresql+asyncpg``.
        engine_options: ``create_engine`` keywords.
        async_engine_options: ``create_async_engine`` keywords.
        project: Whose templates these are.
        strategy: How to clone.
        cache: Whether a template may outlive the run.
        rebuild: Build the template even where there is one.
        keep: How many older templates stay.
        max_age: Seconds after which a template is built again; 0 for never.
        requirement: The versions of PostgreSQL that will do.
        pool_size: How many databases are kept ready.
        pool_max: How many may live at once.
        pool_reuse: Whether a database that can be put back as it was is used again.
        test_run: The same in all processes of one test run.
        watches: Whether to look between tests at what all databases of the server share.
    """

    settings: Callable[[], Settings]
    provenance: Mapping[str, Origin]
    provider: Provider
    recipe: Plan | None
    url: URL | None = field(repr=False)  # with its options, which may have a password among them
    driver: str
    async_driver: str
    engine_options: Mapping[str, Any]
    async_engine_options: Mapping[str, Any]
    project: str
    strategy: str
    cache: bool
    rebuild: bool
    keep: int
    max_age: float
    requirement: str
    pool_size: int
    pool_max: int
    pool_reuse: bool
    test_run: str
    watches: bool
