"""libpq's variables in the shell are meant for another server than the one that elefast starts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg import pq
from sqlalchemy import make_url

import elefast
from elefast.postgres import libpq_variables

# For each variable that can do any harm, a value with which a connection fails or is another one. The rest of a
# test's environment is what a project with such a shell has.
HARMFUL = {
    "PGSSLMODE": "require",
    "PGREQUIRESSL": "1",
    "PGSSLNEGOTIATION": "direct",
    "PGSSLROOTCERT": "/nowhere/root.crt",
    "PGSSLCERT": "/nowhere/client.crt",
    "PGSSLKEY": "/nowhere/client.key",
    "PGSSLCERTMODE": "require",
    "PGSSLCRL": "/nowhere/crl.pem",
    "PGSSLCRLDIR": "/nowhere",
    "PGSSLSNI": "nonsense",
    "PGSSLCOMPRESSION": "nonsense",
    "PGSSLMINPROTOCOLVERSION": "nonsense",
    "PGSSLMAXPROTOCOLVERSION": "nonsense",
    "PGREQUIREPEER": "nobody",
    "PGREQUIREAUTH": "gss",
    "PGCHANNELBINDING": "require",
    "PGGSSENCMODE": "require",
    "PGKRBSRVNAME": "nonsense",
    "PGGSSLIB": "nonsense",
    "PGGSSDELEGATION": "nonsense",
    "PGMINPROTOCOLVERSION": "3.2",
    "PGMAXPROTOCOLVERSION": "nonsense",
    "PGSERVICE": "nowhere",
    "PGSERVICEFILE": "/nowhere/pg_service.conf",
    "PGSYSCONFDIR": "/nowhere",
    "PGPASSFILE": "/nowhere/pgpass",
    "PGHOST": "nowhere.invalid",
    "PGHOSTADDR": "127.0.0.9",
    "PGPORT": "1",
    "PGUSER": "nobody",
    "PGPASSWORD": "wrong",
    "PGDATABASE": "nothing",
    "PGTARGETSESSIONATTRS": "standby",
    "PGLOADBALANCEHOSTS": "nonsense",
    "PGCONNECT_TIMEOUT": "nonsense",
    "PGOPTIONS": "-c search_path=nowhere -c default_transaction_read_only=on",
    "PGCLIENTENCODING": "LATIN1",
    "PGAPPNAME": "shell",
    "PGDATESTYLE": "nonsense",
    "PGTZ": "nonsense",
    "PGGEQO": "nonsense",
    "PGLOCALEDIR": "/nowhere",
    "PGREALM": "nonsense",
    "PGTTY": "nonsense",
    "PGSSLKEYLOGFILE": "/nowhere/keys",
    "PGOAUTHCAFILE": "/nowhere/ca.pem",
    "PGOAUTHDEBUG": "nonsense",
}

TESTS = """
import asyncio
import os
import subprocess
import sys

import asyncpg
import pg8000.dbapi
import psycopg
import psycopg2
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

QUESTION = "SELECT current_setting('search_path') || current_setting('application_name') || count(*) FROM item"


@pytest.mark.parametrize("n", range(3))
def test_engines(db, n):
    with db.engine.connect() as connection:
        assert connection.scalar(text(QUESTION)) == '"$user", public0'
        assert connection.scalar(text("SHOW client_encoding")) == "UTF8"


@pytest.mark.parametrize("n", range(2))
def test_async_engines(async_db, n):
    async def look():
        async with async_db.engine.connect() as connection:
            return await connection.scalar(text(QUESTION))

    assert asyncio.run(look()) == '"$user", public0'


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000"])
def test_engines_of_the_application(db, driver):
    engine = create_engine(db.url.set(drivername=f"postgresql+{driver}"))
    with engine.connect() as connection:
        assert connection.scalar(text(QUESTION)) == '"$user", public0'
    engine.dispose()


def test_drivers_of_the_application(db):
    with psycopg.connect(db.dsn) as connection:
        assert connection.execute(QUESTION).fetchone() == ('"$user", public0',)
    connection = psycopg2.connect(os.environ["DATABASE_URL"])
    connection.close()

    async def look():
        connection = await asyncpg.connect(db.dsn)
        found = await connection.fetchval(QUESTION)
        await connection.close()
        return found

    assert asyncio.run(look()) == '"$user", public0'


def test_programs_of_the_application(db):
    code = "import os, psycopg; psycopg.connect(os.environ['DATABASE_URL']).close()"
    subprocess.run([sys.executable, "-c", code], check=True)
"""

PYPROJECT = """
[project]
name = "variables"

[tool.elefast]
provider = "local"
local.bin_dir = '{bin_dir}'
local.reuse = false
engine.url = "postgresql://nobody@nowhere.invalid/nothing"
migrator = "callable"
callable.target = "schema:create"
seed = ["seed.sql"]
extensions = ["plpgsql"]
export_env = ["DATABASE_URL=postgresql", "OTHER_URL=postgresql+pg8000"]

[tool.pytest.ini_options]
asyncio_default_fixture_loop_scope = "function"
"""

SCHEMA = """
from sqlalchemy import Connection, text

def create(connection: Connection):
    connection.execute(text("CREATE TABLE item (id int PRIMARY KEY)"))
"""


@pytest.fixture
def variables_project(tmp_path: Path) -> Path:
    """A project on a server of its own, with a migrator in Python and a seed in SQL."""
    bin_dir = os.environ.get("TEST_POSTGRES_BIN", "")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT.format(bin_dir=bin_dir))
    (tmp_path / "schema.py").write_text(SCHEMA)
    (tmp_path / "seed.sql").write_text("INSERT INTO item VALUES (1); DELETE FROM item;")
    (tmp_path / "test_it.py").write_text(TESTS)
    return tmp_path


def run(path: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a module of Python in the project."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=path,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_all_variables_are_known() -> None:
    """The libpq of psycopg reads no variable that elefast does not know, and each that is known is tried here."""
    read = {option.envvar.decode() for option in pq.Conninfo.get_defaults() if option.envvar}
    assert read <= libpq_variables.VARIABLES
    assert set(HARMFUL) == libpq_variables.VARIABLES


@pytest.mark.parametrize(
    "names",
    [
        ["PGSSLMODE"],
        ["PGSERVICE"],
        ["PGOPTIONS", "PGCLIENTENCODING", "PGAPPNAME"],
        ["PGDATESTYLE", "PGTZ", "PGGEQO"],
        sorted(set(HARMFUL)),
    ],
    ids=["PGSSLMODE", "PGSERVICE", "options", "session", "all"],
)
def test_the_shell_is_set_up_for_another_server(variables_project: Path, names: list[str]) -> None:
    """Neither elefast nor migrations nor the tests' own connections meet what is meant for that."""
    result = run(variables_project, "pytest", "-q", "-p", "no:cacheprovider", **{name: HARMFUL[name] for name in names})
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"10 passed", result.stdout)


def test_commands_meet_it_neither(variables_project: Path) -> None:
    """`elefast run` and what it runs, and `elefast psql`."""
    code = "import os, psycopg; psycopg.connect('').close(); psycopg.connect(os.environ['DATABASE_URL']).close()"
    variables = {**HARMFUL, "PGSSLMODE": "require"}
    result = run(variables_project, "elefast.cli", "run", "--", sys.executable, "-c", code, **variables)
    assert result.returncode == 0, result.stdout + result.stderr
    result = run(variables_project, "elefast.cli", "psql", "--", "-Atc", "select 'met'", **variables)
    assert result.stdout == "met\n", result.stderr


def test_a_command_that_migrates_meets_it_neither(variables_project: Path) -> None:
    """It finds its database by variables, and no others of libpq's."""
    (variables_project / "migrate.py").write_text(
        "import psycopg\n"
        "with psycopg.connect('') as connection:\n"
        "    connection.execute('CREATE TABLE public.item (id int PRIMARY KEY)')\n"
    )
    config = variables_project / "pyproject.toml"
    command = f"migrator = 'command'\ncommand.run = ['{sys.executable}', 'migrate.py']\n"
    text = (
        config.read_text().replace('migrator = "callable"\n', command).replace('callable.target = "schema:create"', "")
    )
    config.write_text(text)
    result = run(variables_project, "pytest", "-q", "-p", "no:cacheprovider", "-k", "engines", **HARMFUL)
    assert result.returncode == 0, result.stdout + result.stderr


def test_what_a_test_sets_counts_for_it_alone(variables_project: Path) -> None:
    """It is no less a test of an application that reads such variables; elefast's own connections do not."""
    (variables_project / "test_it.py").write_text(
        "import os\n"
        "import time\n"
        "import psycopg\n"
        "import pytest\n"
        "from sqlalchemy import text\n"
        "@pytest.fixture(autouse=True)\n"
        "def variables(monkeypatch):\n"
        "    monkeypatch.setenv('PGOPTIONS', '-c work_mem=1234kB')\n"
        "    monkeypatch.setenv('PGSERVICE', 'nowhere')\n"
        "    monkeypatch.setenv('PGSSLMODE', 'require')\n"
        "    monkeypatch.setenv('PGREQUIREAUTH', 'gss')\n"
        "@pytest.mark.parametrize('n', range(4))\n"
        "def test_it(variables, db, monkeypatch, n):\n"
        "    time.sleep(0.3)\n"
        "    assert os.environ['PGSERVICE'] == 'nowhere'\n"
        "    with pytest.raises(psycopg.OperationalError, match='nowhere'):\n"
        "        psycopg.connect(db.dsn)\n"
        "    for name in ('PGSERVICE', 'PGSSLMODE', 'PGREQUIREAUTH'):\n"
        "        monkeypatch.delenv(name)\n"
        "    with db.engine.connect() as connection:\n"
        "        assert connection.scalar(text('SHOW work_mem')) == '1234kB'\n"
    )
    result = run(variables_project, "pytest", "-q", "-p", "no:cacheprovider", PGOPTIONS="-c work_mem=4321kB")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_environment_is_as_before_once_the_stack_is_closed(
    variables_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as one stack on a server of elefast's own runs, the variables are out of the way."""
    monkeypatch.setenv("PGSSLMODE", "require")
    monkeypatch.setenv("PGHOST", "elsewhere.invalid")
    with elefast.from_config(variables_project, migrator="none", seed=[], extensions=[]) as stack:
        assert os.environ["PGSSLMODE"] == "require"
        with stack.server.create_database() as database, psycopg.connect(database.dsn):
            assert "PGSSLMODE" not in os.environ
            assert os.environ["PGHOST"] == "elsewhere.invalid"
    assert os.environ["PGSSLMODE"] == "require"


def test_a_server_that_is_given_keeps_what_libpq_adds(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's URL says less than the variables beside it, on purpose."""
    url = make_url(server_url)
    assert url.password
    monkeypatch.setenv("PGPASSWORD", str(url.password))
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=1234kB")
    (tmp_path / "pyproject.toml").write_text("[tool.elefast]\nmigrator = 'none'\n")
    bare = url.set(drivername="postgresql+psycopg").render_as_string(False).replace(f":{url.password}@", "@")
    with (
        elefast.from_config(tmp_path, engine={"url": bare}) as stack,
        stack.server.create_database() as database,
        database.engine.connect() as connection,
    ):
        assert connection.exec_driver_sql("SHOW work_mem").scalar() == "1234kB"


@pytest.mark.parametrize("option", ["", "?sslmode=require"])
def test_advice_names_the_variables(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """Where a given server does not have what they ask for, the error says which are set."""
    monkeypatch.setenv("PGSSLMODE", "require")
    (tmp_path / "pyproject.toml").write_text("[tool.elefast]\nmigrator = 'none'\n")
    stack = elefast.from_config(tmp_path, engine={"url": server_url + option})
    with stack, pytest.raises(elefast.ElefastError) as caught:
        stack.server.ensure_is_ready()
    advice = str(caught.value).rpartition("require SSL. ")[2] or str(caught.value)
    assert advice.endswith("nset the variables that are not meant for this server: PGSSLMODE.")
    assert ("options of the URL" in advice) == bool(option)
