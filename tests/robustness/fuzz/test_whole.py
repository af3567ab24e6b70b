"""The same edits with all of elefast on a server, where templates are found and kept by name."""

from __future__ import annotations

from pathlib import Path

import psycopg

from elefast import from_config
from elefast.postgres.names import Name
from tests.integration.migrators.migrator_support import tables
from tests.robustness.fuzz.fuzz_support import ROUNDS, SEED
from tests.robustness.fuzz.world import World

_CONFIGURATION = """\
[tool.elefast]
migrator = "sql"
seed = ["creating:create"]
sql.files = ["migrations/*.sql"]
template.keep = 2
"""


def _databases(server_url: str) -> set[str]:
    with psycopg.connect(server_url.replace("+psycopg", "")) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}


def _drop(server_url: str, names: set[str]) -> None:
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
        for name in filter(Name.parse, names):
            connection.execute(f'ALTER DATABASE "{name}" IS_TEMPLATE false'.encode())
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


class Migrations:
    """SQL files beside the project's code; each makes a table."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.directory = world.root / "migrations"
        self.directory.mkdir()
        self.add()

    def add(self) -> None:
        """A further one, of the same length as all others."""
        number = len(list(self.directory.iterdir()))
        self._write(self.directory / f"{number:04}.sql")

    def edit(self) -> None:
        """Another table, in a file of the same size."""
        self._write(self.world.chance.choice(sorted(self.directory.iterdir())))

    def rename(self) -> None:
        """The last one comes first."""
        (*_, last) = sorted(self.directory.iterdir())
        last.rename(self.directory / f"{self.world.chance.randrange(10**6):06}_first.sql")

    def _write(self, path: Path) -> None:
        path.write_text(f"CREATE TABLE m_{self.world.chance.randrange(10**6):06} (id int);\n")

    def names(self) -> list[str]:
        """The tables of all files."""
        return [path.read_text().split()[2] for path in self.directory.iterdir()]


def test_random_edits_with_a_server(world: World, server_url: str) -> None:
    """Each database is what the project makes now; nothing is built where nothing that counts was touched."""
    print(f"TEST_FUZZ_SEED={SEED} TEST_FUZZ_ROUNDS={ROUNDS}")
    (world.root / "pyproject.toml").write_text(_CONFIGURATION)
    migrations = Migrations(world)
    world.branch()
    before = _databases(server_url)
    try:
        for number in range(max(6, ROUNDS // 10)):
            is_harmless = number > 0 and world.chance.random() < 0.4
            harmful = [*world.harmful, migrations.add, migrations.edit, migrations.rename]
            action = world.chance.choice(world.harmless if is_harmless else harmful)
            print(number, action.__name__)
            action()
            with from_config(world.root, env={"ELEFAST_ENGINE__URL": server_url}) as stack:
                with stack.server.create_database() as database:
                    found = tables(database.url)
                report = stack.report()
            expected = sorted([*world.schema(), *migrations.names()])
            assert found == expected, report.template_reason
            if is_harmless:
                assert report.builds == 0, report.template_reason
    finally:
        _drop(server_url, _databases(server_url) - before)
