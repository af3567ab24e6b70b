"""Functions, commands, extensions and seeds, and what a plan makes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL

from elefast.errors import ConfigurationError, ElefastError, MigrationError, MissingRightsError
from elefast.migrators import Command, Function, Plan, Sql, Step
from elefast.migrators.error_report import without_secret
from tests.integration.migrators.migrator_support import Project, dsn_of, query, tables


def build(project: Project, template: URL, migrator: Step | None = None, **options: object) -> None:
    """Build a plan of the project."""
    Plan(root=project.root, migrator=migrator, **options).build(template)  # type: ignore[arg-type]


def message(caught: pytest.ExceptionInfo[ElefastError]) -> str:
    """The text of an error."""
    return str(caught.value)


# -- functions -----------------------------------------------------------------------------------------------


def test_function(project: Project, template: URL) -> None:
    """A function gets a connection, and what it leaves open is committed."""
    project.write(
        "app/testing.py",
        """\
        from sqlalchemy import Connection, text

        class Schema:
            @staticmethod
            def create(connection: Connection) -> None:
                assert isinstance(connection, Connection)
                connection.execute(text("CREATE TABLE made (id int)"))
        """,
    )

    build(project, template, Function("app.testing:Schema.create"))

    assert tables(template) == ["made"]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_async_function(project: Project, template: URL, driver: str) -> None:
    """An async function gets an async connection with the driver of the project."""
    project.write(
        "testing.py",
        f"""\
        from sqlalchemy import text
        from sqlalchemy.ext.asyncio import AsyncConnection

        async def create(connection: AsyncConnection) -> None:
            assert connection.dialect.driver.startswith({driver!r})
            await connection.execute(text("CREATE TABLE made (id int)"))
        """,
    )

    build(project, template, Function("testing:create"), async_driver=driver)

    assert tables(template) == ["made"]


def test_what_the_code_prints_does_not_disturb(project: Project, template: URL) -> None:
    """The answer of the interpreter is not mixed with what the code, or a child of it, prints or reads."""
    project.write(
        "testing.py",
        """\
        import os, subprocess, sys
        print('{"manifest": 1}')
        os.write(1, b'{"manifest": 2}\\n')
        subprocess.run([sys.executable, "-c", "print(3)"], check=True)
        assert sys.stdin.read() == ""

        def create(connection):
            print('ü' * 100_000)
        """,
    )

    build(project, template, Function("testing:create"))


def test_failing_function(project: Project, template: URL) -> None:
    """The error has the function, the error's own text, the lines of the project and the end of the output."""
    project.write("testing.py", "import logging\n\ndef create(connection):\n    logging.error('soon')\n    help_me()\n")
    project.write(
        "testing.py", (project.root / "testing.py").read_text() + "\ndef help_me():\n    raise ValueError('no')\n"
    )

    with pytest.raises(MigrationError) as caught:
        build(project, template, Function("testing:create"))

    assert message(caught) == (
        "testing:create failed:\n"
        "  ValueError: no\n"
        "  where:\n"
        "    testing.py:5 in create: help_me()\n"
        "    testing.py:8 in help_me: raise ValueError('no')\n"
        "  output:\n"
        "    ERROR:root:soon"
    )


def test_function_that_ends_the_interpreter(project: Project, template: URL) -> None:
    """sys.exit() is an error like others, and a crash says so."""
    project.write("testing.py", "import os, sys\ndef leave(c):\n    sys.exit(3)\ndef crash(c):\n    os._exit(4)\n")

    with pytest.raises(MigrationError, match=r"testing:leave failed:\n  SystemExit: 3"):
        build(project, template, Function("testing:leave"))
    with pytest.raises(MigrationError, match=r"testing:crash: the interpreter .* ended with exit status 4"):
        build(project, template, Function("testing:crash"))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("testing", 'expected "package.module:attribute", got "testing"'),
        (
            "nowhere.at:all",
            '"nowhere.at:all": there is no module "nowhere" in {root}, nor elsewhere on the import path',
        ),
        ("testing:creat", '"testing:creat": testing has no attribute "creat", did you mean "create"?'),
        ("testing:VALUE", '"testing:VALUE": expected a function that takes a connection or an engine, found 1'),
        ("testing:none", '"testing:none": it must take one argument, a connection or an engine; its parameters are ()'),
        ("testing:late", '"testing:late": it returned something to await; write it as `async def`'),
        (
            "broken:create",
            '"broken:create": importing broken failed: ZeroDivisionError: division by zero\n'
            "    broken.py:1 in <module>: 1 / 0",
        ),
        ("needy:create", "\"needy:create\": importing needy failed: ModuleNotFoundError: No module named 'not_there'"),
    ],
)
def test_targets(project: Project, template: URL, target: str, expected: str) -> None:
    """Whatever is wrong with a target is said in the words of the configuration."""
    project.write(
        "testing.py",
        "VALUE = 1\ndef create(c): ...\ndef none(): ...\nasync def _later(): ...\ndef late(c): return _later()\n",
    )
    project.write("broken.py", "1 / 0")
    project.write("needy.py", "import not_there")

    with pytest.raises(ConfigurationError) as caught:
        build(project, template, Function(target))

    problem = caught.value.problems[0]
    assert problem.key == "callable.target"
    assert problem.message.startswith(expected.format(root=project.root))


def test_threads_that_are_left(project: Project, template: URL) -> None:
    """A thread that the code leaves behind does not hold the build up for ever."""
    project.write(
        "testing.py",
        "import threading, time\ndef create(c):\n    threading.Thread(target=time.sleep, args=(600,)).start()\n",
    )
    began = time.monotonic()

    build(project, template, Function("testing:create"))

    assert time.monotonic() - began < 60


@pytest.mark.skipif(os.name != "posix", reason="kills with a signal")
def test_killed_builder(project: Project, template: URL) -> None:
    """When the process that builds is killed, the interpreter that it started ends, too."""
    project.write(
        "testing.py",
        """\
        import os, time
        from pathlib import Path

        def create(connection):
            Path("pid").write_text(str(os.getpid()))
            time.sleep(600)
        """,
    )
    url = template.render_as_string(hide_password=False)
    code = (
        "from pathlib import Path; from sqlalchemy import make_url; from elefast.migrators import Function, Plan;"
        f"Plan(root=Path('.'), migrator=Function('testing:create')).build(make_url({url!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=project.root) as builder:
        pid = _written(project.root / "pid")
        builder.send_signal(signal.SIGKILL)

    deadline = time.monotonic() + 20
    while _is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _written(path: Path) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and (text := path.read_text()):
            return int(text)
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written")


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


# -- commands ------------------------------------------------------------------------------------------------

_COMMAND = """\
import os, sys, psycopg
assert os.environ["DATABASE_URL"].startswith("postgresql://"), os.environ["DATABASE_URL"]
with psycopg.connect() as one, psycopg.connect(os.environ["DATABASE_URL"]) as two:
    one.execute("CREATE TABLE made (id int)")
    assert one.info.dbname == two.info.dbname == os.environ["PGDATABASE"]
"""


def test_command(project: Project, template: URL) -> None:
    """A program runs in the project directory, with libpq's variables and its own URL."""
    project.write("tool.py", _COMMAND)

    build(project, template, Command((sys.executable, "tool.py"), ("DATABASE_URL",)))

    assert tables(template) == ["made"]


def test_failing_command(project: Project, template: URL) -> None:
    """A program that fails is shown with its status and what it printed."""
    project.write("tool.py", "import sys\nprint('one')\nsys.exit('two')")

    with pytest.raises(MigrationError) as caught:
        build(project, template, Command((sys.executable, "tool.py")))

    assert message(caught) == (
        f"command.run: {sys.executable} tool.py failed with exit status 1\n  output:\n    one\n    two"
    )


def test_a_command_beside_the_interpreter_comes_first(
    project: Project, template: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests often run as `.venv/bin/python -m pytest`, without the environment on PATH."""
    other = project.root / "elsewhere" / "alembic"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\nexit 7\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{other.parent}{os.pathsep}{os.environ['PATH']}")
    Plan(root=project.root, migrator=Command(("alembic", "--version"))).build(template)


def test_missing_command(project: Project, template: URL) -> None:
    """A program that is not installed is named."""
    with pytest.raises(MigrationError, match='there is no program "dbmaet" beside this Python, on PATH'):
        build(project, template, Command(("dbmaet", "up")))


def test_command_is_not_kept(project: Project) -> None:
    """What a program reads is not known, unless template.watch says it."""
    project.write("db/1.sql", "x")
    project.write("db/deep/2.sql", "x")
    unknown = Plan(root=project.root, migrator=Command(("dbmate", "up")))
    known = Plan(root=project.root, migrator=Command(("dbmate", "up")), watch=["db"])

    assert unknown.fingerprint() is None
    assert unknown.why_not_kept() == "command without template.watch"
    assert known.why_not_kept() == ""
    assert known.fingerprint() == known.inputs()
    assert {item.label for item in known.inputs() or ()} >= {"db/1.sql", "db/deep/2.sql", "command.run"}


def test_commands_of_one_run_are_told_apart(project: Project) -> None:
    """A template that is not kept is one of its command, variables and project all the same."""
    plans = [
        Plan(root=project.root, migrator=Command(("dbmate", "up"))),
        Plan(root=project.root, migrator=Command(("dbmate", "load"))),
        Plan(root=project.root, migrator=Command(("dbmate", "up"), ("DATABASE_URL",))),
        Plan(root=project.below("other").root, migrator=Command(("dbmate", "up"))),
    ]

    assert len({tuple(plan.inputs()) for plan in plans}) == len(plans)


def test_password_in_the_output_of_a_command(project: Project, template: URL) -> None:
    """A program that prints its address does not put the password into the error."""
    project.write("tool.py", "import os, sys\nsys.exit(f\"{os.environ['DATABASE_URL']} {os.environ['PGPASSWORD']}\")")
    url = template.set(username="me", password="p%40s:/@ word")

    with pytest.raises(MigrationError) as caught:
        build(project, url, Command((sys.executable, "tool.py"), ("DATABASE_URL",)))

    assert "postgresql://me:***@" in message(caught)
    assert message(caught).endswith(" ***")


def test_password_in_the_error_of_a_function(project: Project, template: URL) -> None:
    """Neither does code of the project, also where the URL quotes the password."""
    project.write("testing.py", "import os\ndef create(c):\n    raise ValueError(os.environ['APP_URL'])\n")
    role = f"{template.database}_role"
    with psycopg.connect(dsn_of(template), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'p%:/@d'".encode())
    try:
        with pytest.raises(MigrationError) as caught:
            build(
                project,
                template.set(username=role, password="p%:/@d"),
                Function("testing:create"),
                url_variables=["APP_URL"],
            )
    finally:
        with psycopg.connect(dsn_of(template), autocommit=True) as connection:
            connection.execute(f"DROP ROLE {role}".encode())

    assert f"ValueError: postgresql+psycopg://{role}:***@" in message(caught)


@pytest.mark.parametrize(
    ("password", "text", "expected"),
    [
        ("test", "test of postgresql://me:test@host/test", "test of postgresql://me:***@host/test"),
        ("a b@c", "://me:a b%40c@host ://me:a+b%40c@host", "://me:***@host ://me:***@host"),
        ("a@b", "url = ://me:a%%40b@host", "url = ://me:***@host"),
        ("word", "PGPASSWORD=word password='word' word", "PGPASSWORD=*** password='***' word"),
        ("long-word", "-Wlong-word", "-W***"),
        ("postgres", 'database "postgres" at ://postgres:postgres@h', 'database "postgres" at ://postgres:***@h'),
        (None, "postgresql://me:@host", "postgresql://me:@host"),
    ],
)
def test_without_secret(password: str | None, text: str, expected: str) -> None:
    """A password is hidden where it is one, and an ordinary word stays."""
    assert without_secret(text, URL.create("postgresql", "postgres", password, "h")) == expected


def test_watch_that_matches_nothing(project: Project) -> None:
    """A pattern of template.watch that names nothing is a mistake, or it would protect from nothing."""
    with pytest.raises(ConfigurationError, match=r'template\.watch: no file matches "db/\*\.sql"'):
        Plan(root=project.root, watch=["db/*.sql"]).inputs()


# -- extensions and seeds ------------------------------------------------------------------------------------


def test_extensions_come_first(project: Project, template: URL) -> None:
    """Extensions are there, and committed, when the migrator runs; with those that they need."""
    project.write("schema.sql", "CREATE TABLE made (name citext);")

    build(project, template, Sql(("schema.sql",)), extensions=["citext", "earthdistance"])

    assert tables(template) == ["made"]
    assert ("cube",) in query(template, "SELECT extname FROM pg_extension")


def test_extension_that_is_not_installed(project: Project, template: URL) -> None:
    """An extension that the server does not have is named, with where to get it."""
    with pytest.raises(MigrationError, match=r'"pg_trgn" could not be created on .*Did you mean "pg_trgm"'):
        build(project, template, extensions=["pg_trgn"])


def test_extension_that_needs_a_superuser(project: Project, template: URL) -> None:
    """An untrusted extension and an ordinary role: one error with what to change, and no password in it."""
    role = f"{template.database}_role"
    with psycopg.connect(dsn_of(template), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret-word'".encode())
        connection.execute(f'GRANT ALL ON DATABASE "{template.database}" TO {role}'.encode())
    try:
        with pytest.raises(MissingRightsError) as caught:
            build(project, template.set(username=role, password="secret-word"), extensions=["pageinspect"])
        assert f'ALTER ROLE "{role}" SUPERUSER' in message(caught)
        assert "secret-word" not in message(caught)
    finally:
        with psycopg.connect(dsn_of(template), autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {role}".encode())
            connection.execute(f"DROP ROLE {role}".encode())


def test_seeds_come_last(project: Project, template: URL) -> None:
    """Seeds in SQL and in Python run in the order they are written in, after the migrator."""
    project.write("schema.sql", "CREATE TABLE t (x text, n int GENERATED ALWAYS AS IDENTITY);")
    project.write("seeds/1.sql", "INSERT INTO t (x) VALUES ('one');")
    project.write(
        "seeding.py",
        """\
        import os
        from sqlalchemy import text

        def load(connection):
            assert os.environ["APP_URL"].startswith("postgresql+asyncpg://")
            connection.execute(text("INSERT INTO t (x) VALUES ('two')"))

        async def load_async(connection):
            await connection.execute(text("INSERT INTO t (x) VALUES ('three')"))
        """,
    )
    project.write("seeds/last.sql", "INSERT INTO t (x) VALUES ('four');")

    build(
        project,
        template,
        Sql(("schema.sql",)),
        seeds=["seeds/1.sql", "seeding:load", "seeding:load_async", "seeds/last.sql"],
        url_variables=["APP_URL=postgresql+asyncpg"],
    )

    assert query(template, "SELECT x FROM t ORDER BY n") == [("one",), ("two",), ("three",), ("four",)]


def test_seed_file_is_in_the_key_and_not_in_the_manifest(project: Project, template: URL) -> None:
    """A seed file counts once, also where it is run by the interpreter that is watched."""
    project.write("seed.sql", "SELECT 1;")
    project.write("seeding.py", "def load(connection): ...")
    plan = Plan(root=project.root, seeds=["seeding:load", "seed.sql"])

    manifest = plan.build(template)

    assert "seed.sql" in {item.label for item in plan.inputs() or ()}
    assert set(manifest.files) == {"seeding.py"}


def test_missing_seed(project: Project, template: URL) -> None:
    """A seed that does not exist is an error before anything is done."""
    project.write("schema.sql", "CREATE TABLE t ();")

    with pytest.raises(ConfigurationError, match=r'seed: there is no file "seed\.sql"'):
        build(project, template, Sql(("schema.sql",)), seeds=["seed.sql"])

    assert tables(template) == []


def test_order_is_in_the_key(project: Project) -> None:
    """The same seeds in another order make another template."""
    project.write("1.sql", "")
    project.write("2.sql", "")

    one = Plan(root=project.root, seeds=["1.sql", "2.sql"]).inputs()
    other = Plan(root=project.root, seeds=["2.sql", "1.sql"]).inputs()

    assert set(one or ()) != set(other or ())


def test_nothing_to_do(project: Project, template: URL) -> None:
    """A plan of nothing makes an empty template, which can be kept."""
    plan = Plan(root=project.root)

    assert plan.build(template).to_json()["files"] == {}
    assert plan.inputs() is not None
    assert repr(plan) == "<Plan of an empty database>"
