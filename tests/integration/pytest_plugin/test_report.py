"""What a run shows before and after the tests, with one process and with several."""

from __future__ import annotations

from .conftest import Project

SQL = '[tool.elefast.sql]\nfiles = ["schema.sql"]'
SCHEMA = "CREATE TABLE {name} ();"


def _with_schema(project: Project, name: str) -> Project:
    project.configure(SQL)
    project.file("schema.sql", SCHEMA.format(name=name))
    project.tests(
        f"import pytest\nfrom sqlalchemy import text\n@pytest.mark.parametrize('n', range(4))\n"
        f"def test_it(db_session, n): db_session.execute(text('SELECT FROM {name}'))\n"
    )
    return project


def test_the_header_has_values_and_their_sources(project: Project) -> None:
    """Nothing has started yet, so it says what was configured; passwords are hidden."""
    project.configure('migrator = "none"\nkeep = "failed"')
    project.file("elefast.toml", 'leaks = "error"')
    project.env(ELEFAST_PROVIDER="url")
    project.tests("def test_it(): pass")
    result = project.run()
    result.stdout.fnmatch_lines(
        [
            "elefast: migrator none (pyproject.toml:3), provider url (env ELEFAST_PROVIDER), "
            "engine.url postgresql*:[*][*][*]@* (pyproject.toml:2), keep failed (pyproject.toml:4), "
            "leaks error (elefast.toml:1)"
        ]
    )
    result.stdout.no_fnmatch_line(f"*{project.url.password}*")


def test_the_header_says_what_auto_means(project: Project) -> None:
    """A project that named no migrator sees which one it has."""
    _with_schema(project, "auto")
    project.run().stdout.fnmatch_lines(["elefast: migrator sql (auto: *sql*), provider auto (default)*"])


def test_the_summary_has_server_and_template(project: Project) -> None:
    """Which provider and why, which server, and why the template was built, or that it was not."""
    _with_schema(project, "summary")
    result = project.run()
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        ["*- elefast -*", "provider  url (auto: *)", "server    *127.0.0.1*", "template  built: * (*.?? s)"]
    )
    result.stdout.no_fnmatch_line("cost *")
    project.run().stdout.fnmatch_lines(["template  reused*"])


def test_the_summary_says_which_file_changed(project: Project) -> None:
    """The reason of a build is the file that somebody edited."""
    _with_schema(project, "changed").run()
    project.file("schema.sql", SCHEMA.format(name="changed") + "CREATE TABLE further ();")
    project.run().stdout.fnmatch_lines(["template  built: *changed schema.sql* (*.?? s)"])


def test_rebuild_builds_though_nothing_changed(project: Project) -> None:
    """`--elefast-rebuild` is for what elefast cannot see."""
    _with_schema(project, "rebuild").run()
    project.run("--elefast-rebuild").stdout.fnmatch_lines(["template  built: asked for (*.?? s)"])


def test_the_report_has_the_costs(project: Project) -> None:
    """`--elefast-report` shows what the databases cost."""
    project.tests("def test_it(db): pass")
    result = project.run("--elefast-report", "-q")
    result.stdout.fnmatch_lines(
        [
            "databases 1, *",
            "acquire   p50 *",
            "release   p50 *",
            "on server *",
            "cost      *.?? s of wall clock: load *(0 builds *",
        ]
    )


def test_there_is_no_summary_with_q(project: Project) -> None:
    """Quiet is quiet."""
    project.tests("def test_it(db): pass")
    project.run("-q").stdout.no_fnmatch_line("*- elefast -*")


def test_several_workers_build_once_and_report_together(kept: Project) -> None:
    """One template for all, printed once, with the numbers of all workers in one sum."""
    _with_schema(kept, "together")
    result = kept.run_apart("-n", "2", "--dist=load", "--elefast-report", "--elefast-keep=always")
    result.assert_outcomes(passed=4)
    output = result.stdout.str()
    assert output.count("template  built") == output.count("elefast: migrator sql") == 1
    result.stdout.fnmatch_lines(
        ["databases 4, *", "cost * of 2 processes; *(1 build *", "kept      test_it.py::test_it*"]
    )
    assert output.count("elefast psql 'test_it.py::test_it[") == 4


def test_workers_get_the_options(project: Project) -> None:
    """A profile that the controller was given is the workers' profile, and a leak in one is told by the controller."""
    project.configure('[tool.elefast.profiles.ci]\nleaks = "warn"')
    project.tests(
        "from sqlalchemy import text\n"
        "LEFT = []\n"
        "def test_profile(elefast_stack): assert str(elefast_stack.provenance['leaks']) == 'pyproject.toml:4'\n"
        "def test_leak(db):\n"
        "    LEFT.append(db.engine.connect())\n"
        "    LEFT[0].execute(text('SELECT 4711'))\n"
    )
    result = project.run_apart("-n", "2", "--elefast-profile=ci", "-W", "default")
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(["*LeakWarning: test_it.py::test_leak *SELECT 4711*"])
