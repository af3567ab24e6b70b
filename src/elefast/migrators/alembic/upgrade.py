"""Runs ``alembic upgrade`` with an unedited env.py, and checks that the revisions arrived in the right database.

An env.py finds the template's URL in every place where env.py files are known to look. It may connect elsewhere all
the same, so the version table of the template is checked afterwards.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import alembic
from alembic.config import CommandLine, Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from elefast.errors import MigrationError
from elefast.migrators.error_report import PlaceError
from elefast.postgres.urls import with_driver
from elefast.templates.manifest import relative

if TYPE_CHECKING:
    from elefast.migrators.alembic.layout import Layout
    from elefast.migrators.steps import BuildTarget

__all__ = ["UpgradeOptions", "upgrade", "upgrade_template"]

_WAYS_OUT = (
    "Ways out: let env.py read `sqlalchemy.url` (config.get_main_option, as Alembic's own templates do), let it use "
    'config.attributes["connection"], or name the environment variable that it takes its URL from in `alembic.env`; '
    'variables with parts of the URL are written as "NAME={host}".'
)


@dataclass(frozen=True, slots=True)
class UpgradeOptions:
    """The arguments of an upgrade.

    Args:
        section: Section of the ini file, as with ``alembic -n``.
        revision: The revision to upgrade to, such as ``heads``.
        x: Arguments for env.py, as with ``alembic -x``.
        label: The name of the upgrade in messages.
    """

    section: str
    revision: str
    x: tuple[str, ...]
    label: str


@dataclass(slots=True)
class _Progress:
    """What env.py and Alembic have done so far."""

    version_tables: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])
    """Name and schema of each version table that env.py has configured."""
    running: Any = None
    """Alembic's step for the revision that runs now."""


def upgrade_template(options: UpgradeOptions, layout: Layout, target: BuildTarget) -> None:
    """Upgrade the template, in an interpreter that runs nothing else.

    Args:
        options: The arguments of the upgrade.
        layout: Where the files are.
        target: The template.

    Raises:
        PlaceError: A revision failed; its cause is the error.
        MigrationError: The revisions did not arrive in the template.
    """
    os.chdir(layout.directory)
    url = with_driver(target.url, "postgresql+psycopg")
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        upgrade(options, layout, connection, url.render_as_string(hide_password=False), target.report_progress)
    # Alembic adds relative entries. They must lead to the same directories when the working directory changes.
    sys.path[:] = [os.path.abspath(entry) for entry in sys.path]
    os.chdir(target.root)


def upgrade(
    options: UpgradeOptions,
    layout: Layout,
    connection: Connection,
    url: str,
    on_revision: Callable[[int, int, str], None] = lambda number, total, unit: None,
) -> None:
    """Upgrade the database of `connection`, in the working directory that Alembic is meant to run in.

    Args:
        options: The arguments of the upgrade.
        layout: Where the files are.
        connection: Offered to env.py. Work that env.py leaves uncommitted is committed, unless the connection was in
            a transaction before.
        url: The value of ``sqlalchemy.url`` for env.py.
        on_revision: Called before each revision, with its number, their total, and ``revisions``.

    Raises:
        PlaceError: A revision failed; its cause is the error.
        MigrationError: The revisions did not arrive in the database.
    """
    config = _config(options, layout)
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    config.attributes["connection"] = connection
    script = ScriptDirectory.from_config(config)
    progress = _Progress()

    def steps(current: Any, context: Any) -> Iterator[Any]:
        progress.version_tables.append((context.version_table, context.version_table_schema))
        # As in the example of Alembic's documentation for EnvironmentContext.
        found = list(script._upgrade_revs(options.revision, current))  # pyright: ignore[reportPrivateUsage]
        for number, step in enumerate(found, 1):
            on_revision(number, len(found), "revisions")
            progress.running = step
            yield step
        progress.running = None

    began = connection.in_transaction()
    environment = EnvironmentContext(
        config, script, fn=steps, as_sql=False, starting_rev=None, destination_rev=options.revision, tag=None
    )
    try:
        with environment:
            script.run_env()
        if not connection.closed and not began and connection.in_transaction():
            connection.commit()
    except Exception as error:
        if progress.running is None:
            raise
        raise PlaceError(_place(progress.running.revision, layout)) from error
    if connection.closed:
        with connection.engine.connect() as another:
            _verify(options, layout, script, progress, another)
        return
    _verify(options, layout, script, progress, connection)
    if not began:
        connection.rollback()  # the check has only read


def _config(options: UpgradeOptions, layout: Layout) -> Config:
    arguments = ["-n", options.section]
    for argument in options.x:
        arguments += ["-x", argument]
    # env.py may read the arguments of the command line from here.
    parsed = CommandLine().parser.parse_args([*arguments, "upgrade", options.revision])
    # Alembic reads pyproject.toml from version 1.16 on. Older versions do not have the argument.
    reads_toml = "toml_file" in inspect.signature(Config).parameters
    if layout.ini is None and not reads_toml:
        raise MigrationError(
            f"[tool.alembic] of {layout.toml} needs Alembic 1.16 or newer, and {alembic.__version__} is installed\n"
            'pip install --upgrade "alembic>=1.16"',
            code="migration-failed",
        )
    toml: dict[str, Any] = {"toml_file": str(layout.toml)} if layout.toml and reads_toml else {}
    return Config(
        file_=str(layout.ini) if layout.ini else None,
        ini_section=options.section,
        cmd_opts=parsed,
        **toml,
    )


def _place(revision: Any, layout: Layout) -> str:
    return f"revision {revision.revision} ({relative(str(revision.path), str(layout.directory))})"


def _verify(
    options: UpgradeOptions, layout: Layout, script: ScriptDirectory, progress: _Progress, connection: Connection
) -> None:
    """Check that the version tables which env.py has configured name every revision of the upgrade.

    Raises:
        MigrationError: One of them is missing, or lacks revisions.
    """
    env = relative(str(layout.env), str(layout.directory))
    if not progress.version_tables:
        raise MigrationError(
            f"{options.label}: {env} ended without context.run_migrations(), so nothing was migrated. "
            "The env.py that `alembic init` writes calls it at its end.",
            code="migration-elsewhere",
        )
    expected = _revisions(script, options.revision)
    if not expected:
        return
    for name, schema in dict.fromkeys(progress.version_tables):
        found = _version_tables(connection, name, schema)
        shown = f"{schema}.{name}" if schema else name
        arrived = {place: versions for place, versions in found.items() if versions}
        if not arrived:
            raise MigrationError(
                f'{options.label} ran, but the version table "{shown}" of the template '
                f"{'is empty' if found else 'does not exist'}: {env} connected elsewhere, or did not commit. "
                f"{_WAYS_OUT}",
                code="migration-elsewhere",
            )
        for place, versions in arrived.items():
            missing = expected - _revisions(script, versions)
            if missing:
                raise MigrationError(
                    f'{options.label} ran, but "{place}.{name}" of the template says {", ".join(sorted(versions))}, so '
                    f"these revisions are missing: {', '.join(sorted(missing))}. {env} migrated something else, or "
                    f"not everything. {_WAYS_OUT}",
                    code="migration-elsewhere",
                )


def _revisions(script: ScriptDirectory, upper: str | tuple[str, ...]) -> set[str]:
    """All revisions that an upgrade of an empty database to `upper` runs, with their dependencies."""
    try:
        found = script.iterate_revisions(upper, (), implicit_base=True, assert_relative_length=False)
        return {revision.revision for revision in found}
    except Exception as error:
        raise MigrationError(
            f"the version table has revisions that the scripts do not: {error}", code="migration-elsewhere"
        ) from error


def _version_tables(connection: Connection, name: str, schema: str | None) -> Mapping[str, tuple[str, ...]]:
    """The schemas that have a table `name`, each with the versions in that table."""
    # Without a schema, env.py's search_path decided where the table is. That cannot be found out afterwards.
    where = "AND n.nspname = :schema" if schema else "AND n.nspname !~ '^pg_'"
    query = text(
        "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE c.relname = :name AND c.relkind IN ('r', 'p') {where} ORDER BY 1"
    )
    parameters = {"name": name, "schema": schema} if schema else {"name": name}
    quote = connection.dialect.identifier_preparer.quote
    found: dict[str, tuple[str, ...]] = {}
    for (place,) in connection.execute(query, parameters).all():
        rows = connection.exec_driver_sql(f"SELECT version_num FROM {quote(place)}.{quote(name)}").all()
        found[place] = tuple(row[0] for row in rows)
    return found
