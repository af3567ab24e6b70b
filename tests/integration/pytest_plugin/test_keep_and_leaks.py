"""What becomes of a database after its test, and what is said about what the test left open."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import psycopg
import pytest

from elefast.cli import main

from .conftest import PYTEST, Project

TWO = "def test_good(db): pass\ndef test_bad(db): assert False\n"
LEAK = (
    "from sqlalchemy import text\n"
    "LEFT = []\n"
    "def test_it(db):\n"
    "    LEFT.append(db.engine.connect())\n"
    "    LEFT[0].execute(text('SELECT 4711'))\n"
)
# What leaks is also met by the garbage collector, and drivers warn of that in their own words; such tests
# run apart, so that nothing of it falls on the tests here.
LENIENT = PYTEST.replace('["error"]', '["default"]')


def _kept(project: Project, *options: str) -> list[str]:
    """The tests whose databases the summary of a run names, each with a command that opens it."""
    lines = project.run(*options).stdout.lines
    found = [index for index, line in enumerate(lines) if line.startswith("kept ")]
    for index in found:
        command = shlex.split(lines[index + 1])
        assert command == ["elefast", "psql", lines[index].partition("kept")[2].strip()]
        assert main([*command[1:], "-c", "select 1"]) == 0
    return sorted(lines[index].partition("::")[2] for index in found)


def test_nothing_is_kept_unasked(kept: Project) -> None:
    """The default is `never`."""
    kept.tests(TWO)
    assert _kept(kept) == []


@pytest.mark.parametrize(
    ("option", "tests"),
    [
        ("--elefast-keep", ["test_bad"]),
        ("--elefast-keep=failed", ["test_bad"]),
        ("--elefast-keep=always", ["test_bad", "test_good"]),
    ],
)
def test_the_option_keeps(kept: Project, option: str, tests: list[str]) -> None:
    """A kept database is named with its test and can be opened with the line that is shown."""
    kept.tests(TWO)
    assert _kept(kept, option) == tests


def test_the_setting_keeps_and_the_option_wins(kept: Project) -> None:
    """What is typed now is meant now."""
    kept.configure('keep = "always"')
    kept.tests("def test_good(db): pass")
    assert _kept(kept) == ["test_good"]
    assert _kept(kept, "--elefast-keep=failed") == []


def test_the_marker_keeps(kept: Project) -> None:
    """The marker nearest to the test wins over those further out, and over the setting."""
    kept.configure('keep = "always"')
    kept.tests(
        "import pytest\n"
        "pytestmark = pytest.mark.elefast(keep='never')\n"
        "def test_not(db): pass\n"
        "@pytest.mark.elefast(keep='always')\n"
        "def test_kept(db): pass\n"
    )
    assert _kept(kept) == ["test_kept"]


def test_an_error_in_a_setup_counts_as_failed(kept: Project) -> None:
    """The database shows what the fixture had done before it broke."""
    kept.tests("import pytest\n@pytest.fixture\ndef broken(db): assert False\ndef test_it(broken): pass")
    assert _kept(kept, "--elefast-keep") == ["test_it"]


def test_expected_failures_are_not_kept(kept: Project) -> None:
    """A test that is marked xfail and fails is as it should be; one that passes strictly is not."""
    kept.tests(
        "import pytest\n"
        "@pytest.mark.xfail(strict=True)\n"
        "def test_expected(db): assert False\n"
        "@pytest.mark.xfail(strict=True)\n"
        "def test_surprise(db): pass\n"
    )
    assert _kept(kept, "--elefast-keep") == ["test_surprise"]


def test_a_test_of_any_name_is_one_line(kept: Project) -> None:
    """What would break the line, or move the cursor, is escaped."""
    kept.file("test_a\n\x1b[1A.py", "def test_it(db): pass")
    assert "kept      test_a\\n\\u001b[1A.py::test_it" in kept.run("--elefast-keep=always").stdout.lines


def test_kept_databases_are_shown_with_q(kept: Project) -> None:
    """Whoever asked for them wants to know where they are."""
    kept.tests(TWO)
    assert _kept(kept, "--elefast-keep", "-q") == ["test_bad"]


def test_the_summary_says_how_kept_databases_go(kept: Project) -> None:
    """Once for all of them; a server that is not elefast's own is not its to stop."""
    kept.tests(TWO)
    result = kept.run("--elefast-keep=always", "-q")
    assert [line for line in result.stdout.lines if "elefast prune" in line] == [
        "          `elefast prune` drops kept databases"
    ]


def test_the_summary_says_how_a_server_goes_that_was_left_running(
    kept: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both commands do what it says."""
    kept.configure('migrator = "none"\nprovider = "local"\nlocal.reuse = false', url=False)
    kept.tests("def test_it(db): pass")
    monkeypatch.chdir(kept.path)
    try:
        kept.run_apart("--elefast-keep=always").stdout.fnmatch_lines(
            ["kept *", " *elefast psql *", " *`elefast prune` drops kept databases; `elefast down` stops the server"]
        )
        assert main(["prune"]) == 0
        assert "1 database dropped" in capsys.readouterr().out
    finally:
        assert main(["down"]) == 0
    assert "stopped PostgreSQL" in capsys.readouterr().out


def test_a_leak_is_a_warning_with_test_and_query(project: Project) -> None:
    """The connection is ended, the database dropped, and the run passes."""
    project.configure(pytest_table=LENIENT)
    project.tests(LEAK)
    result = project.run_apart()
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*LeakWarning: test_it.py::test_it *SELECT 4711*"])


@pytest.mark.parametrize(("leaks", "warnings"), [("warn", 1), ("ignore", 0)])
def test_a_leak_is_a_warning_though_the_database_is_kept(kept: Project, leaks: str, warnings: int) -> None:
    """It is known at once then, and the test passes all the same."""
    kept.configure(f'leaks = "{leaks}"', pytest_table=LENIENT)
    kept.tests(LEAK)
    result = kept.run_apart("--elefast-keep=always")
    result.assert_outcomes(passed=1, warnings=warnings)
    assert ("LeakWarning: test_it.py::test_it" in result.stdout.str()) == bool(warnings)


def test_a_leak_fails_the_test_where_the_project_wants_it(project: Project) -> None:
    """As an error of its teardown, without a traceback."""
    project.configure('leaks = "error"', pytest_table=LENIENT)
    project.tests(LEAK)
    result = project.run_apart()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_it*", "test_it.py::test_it *SELECT 4711*"])
    result.stdout.no_fnmatch_line("*pytest_plugin*")


def test_leaks_can_be_ignored(project: Project) -> None:
    """Not a word of them."""
    project.configure('leaks = "ignore"', pytest_table=LENIENT)
    project.tests(LEAK)
    result = project.run_apart()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*LeakWarning*")


@pytest.mark.parametrize("leaks", ["warn", "error"])
def test_a_leak_does_not_hide_the_tests_own_error(project: Project, leaks: str) -> None:
    """Both are shown."""
    project.configure(f'leaks = "{leaks}"', pytest_table=LENIENT)
    project.tests(f"{LEAK}    assert False, 'my own error'\n")
    result = project.run_apart()
    assert result.parseoutcomes()["failed"] == 1
    for text in ("*my own error*", "*left a connection open: *SELECT 4711*"):
        result.stdout.fnmatch_lines([text])


def test_warnings_as_errors_fail_the_run(project: Project) -> None:
    """The warning comes after the tests; with `-W error` the run fails all the same, and says why."""
    project.configure(pytest_table=LENIENT.replace('["default"]', '["default", "error::elefast.errors.LeakWarning"]'))
    project.tests(LEAK)
    result = project.run_apart()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["leak *test_it.py::test_it *SELECT 4711*"])


@pytest.fixture
def role(server_url: str) -> Iterator[str]:
    """The name of a role that a test may make; it is dropped afterwards."""
    yield "left_by_a_test"
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS left_by_a_test")


@pytest.mark.parametrize(
    ("leaks", "outcomes"),
    [("warn", {"passed": 2, "warnings": 1}), ("error", {"passed": 2}), ("ignore", {"passed": 2})],
)
def test_what_databases_share_is_watched(project: Project, role: str, leaks: str, outcomes: dict[str, int]) -> None:
    """A role that stays is told with the test, at the end of the run: until then somebody may drop it again."""
    project.configure(f'migrator = "none"\nleaks = "{leaks}"', pytest_table=LENIENT)
    project.tests(
        "from sqlalchemy import text\n"
        "def do(connection, statement):\n    connection.execute(text(statement))\n    connection.commit()\n"
        f"def test_it(db_connection):\n    do(db_connection, 'CREATE ROLE {role}')\n"
        "def test_other(db_connection):\n"
        "    do(db_connection, 'CREATE ROLE short_lived')\n    do(db_connection, 'DROP ROLE short_lived')\n"
    )
    result = project.run_apart()
    result.assert_outcomes(**outcomes)
    assert result.ret == (pytest.ExitCode.TESTS_FAILED if leaks == "error" else pytest.ExitCode.OK)
    line = f'*test_it.py::test_it* changed what all databases of the server share: role "{role}" is new'
    if leaks == "ignore":
        result.stdout.no_fnmatch_line(line)
    else:
        result.stdout.fnmatch_lines([line])


def test_a_prepared_transaction_does_not_keep_a_database_from_being_kept(kept: Project) -> None:
    """It is rolled back, since PostgreSQL renames no database with one, and told."""
    kept.configure(pytest_table=LENIENT)
    kept.tests(
        "from sqlalchemy import text\n"
        "def test_it(db_connection):\n"
        "    db_connection.execute(text('CREATE TABLE t ()'))\n"
        "    db_connection.execute(text(\"PREPARE TRANSACTION 'kept'\"))\n"
    )
    result = kept.run_apart("--elefast-keep=always")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(['*test_it left behind: prepared transaction "kept", which was cleared', "kept *"])
