"""``extensions``: created and committed before all other steps, so that migrations find them.

It knows CREATE EXTENSION, and the reasons for which it fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psycopg
from psycopg import sql

from elefast.errors import MigrationError, MissingRightsError
from elefast.migrators.extension_sources import sources, suggestion
from elefast.migrators.steps import BuildTarget
from elefast.postgres.connections.engines import raw_connection
from elefast.postgres.urls import display_url
from elefast.templates.fingerprint import Input

__all__ = ["Extensions"]


@dataclass(frozen=True, slots=True)
class Extensions:
    """Extensions of PostgreSQL that the project needs, with the extensions that they require.

    Args:
        names: Names as in ``CREATE EXTENSION``.
    """

    names: tuple[str, ...]
    runs_project_code: ClassVar[bool] = False

    @property
    def label(self) -> str:
        return f"extensions {', '.join(self.names)}"

    def inputs(self, root: Path) -> Sequence[Input]:
        return [Input.of("extensions", *self.names)]

    def declared(self, root: Path) -> Sequence[Path]:
        return ()

    def why_not_kept(self, root: Path) -> str:
        return ""

    def describe(self, root: Path) -> tuple[Sequence[Input], str]:
        return self.inputs(root), self.why_not_kept(root)

    def run(self, target: BuildTarget) -> None:
        with raw_connection(target.url, owned=target.owned) as connection:
            for name in self.names:
                statement = sql.SQL("CREATE EXTENSION IF NOT EXISTS {} CASCADE").format(sql.Identifier(name))
                try:
                    connection.execute(statement)
                except psycopg.errors.InsufficientPrivilege as error:
                    raise MissingRightsError(_not_allowed(name, error, target), code="extension-rights") from error
                except psycopg.Error as error:
                    major = connection.info.server_version // 10000
                    raise MigrationError(_missing(name, error, target, major), code="extension-missing") from error


def _not_allowed(name: str, error: psycopg.Error, target: BuildTarget) -> str:
    role = target.url.username
    return (
        f'extensions: the role "{role}" may not create the extension "{name}" on {display_url(target.url)}: '
        f"{error.diag.message_primary}. It is not a trusted one, so it takes a superuser: give engine.url the URL "
        f'of one, run ALTER ROLE "{role}" SUPERUSER on a server that is for tests only, or let elefast start a '
        f'server (provider = "docker" or "local").'
    )


def _missing(name: str, error: psycopg.Error, target: BuildTarget, major: int) -> str:
    known = sources(name, major)
    if known:
        has = f'These have "{name}": {known}.'
    elif other := suggestion(name):
        has = f'Did you mean "{other}"? Extensions come as packages or with an image that has them (docker.image).'
    else:
        has = "Extensions come as packages, or with an image that has them (docker.image)."
    return (
        f'extensions: "{name}" could not be created on {display_url(target.url)}: {error.diag.message_primary}. '
        f"It has to be installed where the server runs. {has} "
        "SELECT name FROM pg_available_extensions lists what is there."
    )
