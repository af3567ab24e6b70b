"""An Alembic project as a migrator for any server: ``DatabaseServer(url, schema=AlembicMigrator("alembic.ini"))``.

env.py needs no edits. Neither Alembic nor greenlet is imported before they are used.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from elefast.migrators.alembic.step import Alembic
from elefast.migrators.plan import Plan

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from elefast.templates.fingerprint import Input
    from elefast.templates.manifest import Manifest

__all__ = ["AlembicMigrator"]


class AlembicMigrator:
    """Runs ``alembic upgrade`` on a database; both a `Migrator` and an `AsyncMigrator`.

    The migrations run in an interpreter of their own that can connect to this one database only.
    Where the database cannot be opened from there, they run here on the given connection, which env.py must
    then take from ``config.attributes["connection"]``.

    Args:
        config_path: An alembic.ini, or a pyproject.toml with ``[tool.alembic]``. Of the other kind, the one
            beside it counts as well.
        revision: Where to upgrade to.
        section: Section of the ini file, as with ``alembic -n``.
        x: Arguments for env.py, as with ``alembic -x``.
        env: Environment variables that env.py reads its URL from: ``NAME``, or ``NAME=postgresql+asyncpg`` for
            another driver than psycopg.
    """

    def __init__(
        self,
        config_path: str | os.PathLike[str],
        *,
        revision: str = "heads",
        section: str = "alembic",
        x: Sequence[str] = (),
        env: Sequence[str] = (),
    ) -> None:
        path = Path(config_path).absolute()
        self._plan = Plan(
            root=path.parent,
            migrator=Alembic(path.name, section, revision, tuple(x)),
            url_variables=env,
        )

    def __repr__(self) -> str:
        return f"<AlembicMigrator {self._plan.root}>"

    def migrate(self, connection: Connection) -> None:
        """Upgrade the database of `connection`.

        Raises:
            ConfigurationError: The Alembic project is not complete.
            MigrationError: A revision failed, or the revisions did not arrive in this database.
        """
        self._plan.migrate(connection)

    async def migrate_async(self, connection: AsyncConnection) -> None:
        """Upgrade the database of `connection`; the event loop goes on meanwhile, and env.py may be async."""
        await self._plan.migrate_async(connection)

    # It is a recipe as well, so that servers know when a template of it is out of date.

    def inputs(self) -> Sequence[Input]:
        """Everything that is declared: configuration, env.py and revisions."""
        return self._plan.inputs()

    def fingerprint(self) -> Sequence[Input] | None:
        """The `inputs` where they are all that the result depends on, else None."""
        return self._plan.fingerprint()

    def why_not_kept(self) -> str:
        """Why a template must not outlive the run; empty, for it may."""
        return self._plan.why_not_kept()

    def build(self, url: URL, *, mark: str = "") -> Manifest:
        """Upgrade the empty database at `url`; what env.py and the revisions were seen to use."""
        return self._plan.build(url, mark=mark)

    def still_fits(self, manifest: Manifest) -> list[str]:
        """What has changed since `manifest` was taken, in words."""
        return self._plan.still_fits(manifest)
