"""Runs that end before their last test, or begin with those that failed."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.integration.providers.provider_support import until
from tests.robustness.companions.project import Project, waits_for

PROMPT = 20.0
"""Seconds that nobody would wait for; two are wanted, and a machine may have other things to do."""

BOTH = pytest.mark.parametrize("place", ["url", "local"], indirect=True)

TESTS = """
import os

import pytest
from use import rows, use

@pytest.mark.parametrize("number", range(6))
def test_it(db_session, number):
    use(db_session)
    assert str(number) not in os.environ.get("FAILING", "135")
"""


@BOTH
@pytest.mark.fault("pytest -x", how="the second of six tests fails")
def test_first_failure(project: Project) -> None:
    """The run ends with the test that failed."""
    project.write("test_it.py", TESTS)
    project.run("-x").came_to(passed=1, failed=1)
    project.gone()


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
@pytest.mark.fault("pytest --maxfail=2", how="three of six tests fail; alone and with two workers")
def test_two_failures(project: Project, workers: tuple[str, ...]) -> None:
    """The run ends with the second test that failed."""
    project.write("test_it.py", TESTS)
    ended = project.run("--maxfail=2", *workers)
    assert ended.outcomes["failed"] in ((2, 3) if workers else (2,)), ended.text
    assert workers or ended.outcomes["passed"] == 2
    ended.private()
    project.gone()


@BOTH
@pytest.mark.fault("pytest --pdb", how="two tests fail; `c` after the first, `q` after the second")
def test_debugger(project: Project) -> None:
    """The database is there for the debugger, and dropped once it has gone on or was left."""
    project.write("test_it.py", TESTS)
    run = project.start("--pdb", typed=True)
    for number in (1, 2):
        assert until(lambda: run.text.count("(Pdb) ") == 2 * number - 1, 60), run.text  # noqa: B023  called at once
        name = project.seen(run)[-1].database
        assert project.place.ask(f"select 1 from pg_database where datname = '{name}'")
        run.type("p 'ALIVE', rows(db_session, 'select body from note')")
        assert until(lambda: run.text.count("(Pdb) ") == 2 * number, 60), run.text  # noqa: B023  called at once
        run.type("c" if number == 1 else "q")
    run.end()
    ended = project.ended(run)
    ended.came_to(passed=2, failed=2)
    alive = [line for line in ended.text.splitlines() if "'ALIVE'" in line]
    assert [f"[{number}]" in line for number, line in zip((1, 3), alive, strict=True)] == [True, True], alive
    assert "Quitting debugger" in ended.text
    project.gone()


@pytest.mark.fault("pytest --trace", how="`q` in the second test; before that a look at its database")
def test_trace(project: Project) -> None:
    """The database is there for the debugger at the beginning of a test, and dropped once that was left."""
    project.write("test_it.py", TESTS)
    run = project.start("--trace", typed=True, FAILING="")
    waits_for("(Pdb) ", run)
    run.type("c")
    assert until(lambda: run.text.count("(Pdb) ") == 2, 60), run.text
    run.type("p 'ALIVE', rows(db_session, 'select count(*) from note')")
    run.type("q")
    run.end()
    ended = project.ended(run)
    assert "('ALIVE', [(0,)])" in ended.text
    assert ended.outcomes["passed"] == 1, ended.text
    assert ended.tests == ["test_it[0]"]
    project.gone()


@pytest.mark.fault("pytest -p no:cacheprovider", how="a run without pytest's cache, and one more")
def test_without_cache(project: Project) -> None:
    """Two runs pass, the second with the template of the first; pytest's directory is not made."""
    project.write("test_it.py", TESTS)
    for _ in range(2):
        ended = project.run("-p", "no:cacheprovider", FAILING="")
        ended.came_to(passed=6)
    assert "template  found" in ended.text or "template  reused" in ended.text, ended.text
    assert not (project.path / ".pytest_cache").exists()
    project.gone()


@pytest.mark.fault("pytest --lf, --ff and --sw", how="a run in which three of six tests fail, and one more")
def test_failed_again(project: Project) -> None:
    """The tests that failed run alone, run first, or one after the other, and none sees what it wrote before."""
    project.write("test_it.py", TESTS)
    project.run().came_to(passed=3, failed=3)
    ended = project.run("--lf")
    ended.came_to(failed=3)
    assert ended.tests == ["test_it[1]", "test_it[3]", "test_it[5]"]
    ended = project.run("--ff", FAILING="")
    ended.came_to(passed=6)
    assert ended.tests[:3] == ["test_it[1]", "test_it[3]", "test_it[5]"]
    ended = project.run("--sw")
    ended.came_to(passed=1, failed=1)
    ended = project.run("--sw", FAILING="3")
    ended.came_to(passed=2, failed=1, deselected=1)
    assert ended.tests == ["test_it[1]", "test_it[2]", "test_it[3]"]
    project.gone()


@pytest.mark.parametrize(
    ("place", "workers"), [("url", ()), ("local", ("-n", "2"))], indirect=["place"], ids=["alone", "workers"]
)
@pytest.mark.fault("Ctrl-C once, and how long the run then goes on", how="SIGINT while each test waits for its server")
def test_interrupt(project: Project, workers: tuple[str, ...], record_property: Callable[[str, object], None]) -> None:
    """The run ends by itself, and nothing is left even before the next one."""
    project.write(
        "test_it.py",
        TESTS.replace("    assert", "    rows(db_session, 'select pg_sleep(60)')\n    assert"),
    )
    run = project.start(*workers)
    assert until(lambda: len(project.seen(run)) == (2 if workers else 1), 60), run.text
    time.sleep(0.1)
    began = time.monotonic()
    run.interrupt()
    run.end()
    ending = time.monotonic() - began
    run.vanish()
    vanishing = time.monotonic() - began
    record_property("happened", f"pytest ended within {ending:.1f} s, its servers within {vanishing:.1f} s")
    ended = project.ended(run)
    assert ended.status == pytest.ExitCode.INTERRUPTED, ended.text
    ended.private()
    assert vanishing < PROMPT, ended.text
    project.gone()
