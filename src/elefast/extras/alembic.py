"""An Alembic project as a migrator for any server: ``DatabaseServer(url, schema=AlembicMigrator("alembic.ini"))``.

env.py needs no changes. Alembic and greenlet are imported on first use only.
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

    The migrations run in a separate interpreter, which can connect to this database only. Where that interpreter
    cannot open the database, they run in this process on the given connection. Then env.py must use
    ``config.attributes["connection"]``.

    Args:
        config_path: An alembic.ini, or a pyproject.toml with ``[tool.alembic]``. A file of the other kind in the
            same directory is read as well.
        revision: The revision to upgrade to.
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
            MissingDependencyError: Alembic is not installed.
        """
        self._plan.migrate(connection)

    async def migrate_async(self, connection: AsyncConnection) -> None:
        """Upgrade the database of `connection` without blocking the event loop; env.py may be async.

        Raises:
            ConfigurationError: The Alembic project is not complete.
            MigrationError: A revision failed, or the revisions did not arrive in this database.
            MissingDependencyError: Alembic is not installed.
        """
        await self._plan.migrate_async(connection)

    # The methods of a recipe, by which servers know when a template is out of date.

    def inputs(self) -> Sequence[Input]:
        """All declared inputs: configuration, env.py and revisions."""
        return self._plan.inputs()

    def fingerprint(self) -> Sequence[Input] | None:
        """The `inputs`; None where the result may depend on anything else."""
        return self._plan.fingerprint()

    def why_not_kept(self) -> str:
        """Why a template must not outlive the run; always empty, because it may."""
        return self._plan.why_not_kept()

    def build(self, url: URL, *, mark: str = "") -> Manifest:
        """Upgrade the empty database at `url`; returns what env.py and the revisions were seen to use."""
        return self._plan.build(url, mark=mark)

    def still_fits(self, manifest: Manifest) -> list[str]:
        """What has changed since `manifest` was recorded, in words; empty where nothing has."""
        return self._plan.still_fits(manifest)
