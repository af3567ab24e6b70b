"""An Alembic project with any number of revisions, as ``alembic init`` and a year of work leave it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["TABLES", "upgrade", "write"]

TABLES = 20

_INI = """[alembic]
script_location = %(here)s/migrations
sqlalchemy.url = postgresql+psycopg://localhost/development

[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = generic
[logger_root]
level = WARNING
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = generic
[formatter_generic]
format = %(levelname)-5.5s [%(name)s] %(message)s
"""

_ENV = """from logging.config import fileConfig

from alembic import context
from models import Base
from sqlalchemy import engine_from_config, pool

config = context.config
if config.config_file_name is not None:
    fileConfig(config.config_file_name)

connectable = engine_from_config(config.get_section(config.config_ini_section, {}), poolclass=pool.NullPool)
with connectable.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()
"""

_REVISION = """\"\"\"Revision {number}\"\"\"

import sqlalchemy as sa
from alembic import op

revision = "{this}"
down_revision = {before}
branch_labels = None
depends_on = None


def upgrade() -> None:
    {upgrade}


def downgrade() -> None:
    {downgrade}
"""


def write(project: Path, revisions: int) -> None:
    """Put ``alembic.ini``, ``env.py`` and so many revisions into `project`.

    The first ones make the tables of the suites, the others add a column each, in turn.
    """
    versions = project / "migrations" / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    (project / "alembic.ini").write_text(_INI)
    (project / "migrations" / "env.py").write_text(_ENV)
    (project / "migrations" / "script.py.mako").write_text("")
    for number in range(revisions):
        if number < TABLES:
            name = f"table_{number}"
            key = f', sa.ForeignKey("table_{number - 1}.id")' if number else ""
            up = (
                f'op.create_table("{name}", sa.Column("id", sa.Integer, primary_key=True), '
                'sa.Column("name", sa.Text, nullable=False, index=True), '
                'sa.Column("amount", sa.Integer, nullable=False, index=True), '
                f'sa.Column("before", sa.Integer{key}))'
            )
            down = f'op.drop_table("{name}")'
        else:
            name = f"table_{number % TABLES}"
            up = f'op.add_column("{name}", sa.Column("more_{number}", sa.Text))'
            down = f'op.drop_column("{name}", "more_{number}")'
        (versions / f"{_identity(number)}_revision_{number}.py").write_text(
            _REVISION.format(
                number=number,
                this=_identity(number),
                before=f'"{_identity(number - 1)}"' if number else None,
                upgrade=up,
                downgrade=down,
            )
        )


def upgrade(project: Path, url: str) -> None:
    """Bring the database of `url` up to the newest revision, as one does by hand."""
    program = (
        "import sys; from alembic import command; from alembic.config import Config\n"
        "config = Config('alembic.ini'); config.set_main_option('sqlalchemy.url', sys.argv[1].replace('%', '%%'))\n"
        "command.upgrade(config, 'heads')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, url],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project)},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"the migration failed:\n{done.stderr}")


def _identity(number: int) -> str:
    return f"{number + 1:012x}"
