"""Options, markers, profiles and wrong configurations."""

from __future__ import annotations

import pytest

from .conftest import Project


def test_a_broken_configuration_is_an_error_of_the_tests_that_need_it(project: Project) -> None:
    """Other tests pass, and the error is elefast's message without a line of its code."""
    project.configure('docker.prot = 1\nkeep = "sometimes"')
    project.tests("def test_other(): pass\ndef test_it(db): pass")
    result = project.run()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at setup of test_it*",
            'pyproject.toml:3  docker.prot: unknown key, did you mean "port"?',
            'pyproject.toml:4  keep: expected *, got "sometimes"',
            "2 problems in elefast's configuration",
            'run "elefast config --origin" *',
        ]
    )
    result.stdout.fnmatch_lines(["ERROR test_it.py::test_it - Failed: pyproject.toml:3  docker.p*"])
    result.stdout.no_fnmatch_line("*pytest_plugin*")


def test_a_broken_configuration_is_whole_in_the_header_in_one_line(project: Project) -> None:
    """Whoever runs no test with a database still sees it."""
    project.configure('docker.prot = 1\nkeep = "sometimes"')
    project.tests("def test_other(): pass")
    result = project.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["elefast: 2 problems in elefast's configuration: pyproject.toml:*; pyproject.toml:*"])


def test_a_broken_file_does_not_stop_the_run(project: Project) -> None:
    """An `elefast.toml` that is no TOML belongs to one developer, and his other tests run."""
    project.file("elefast.toml", "keep = ")
    project.tests("def test_other(): pass\ndef test_it(db): pass")
    result = project.run()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["elefast: 1 problem in elefast's configuration: elefast.toml:1 *"])


def test_an_error_of_many_tests_is_shown_in_full_once(project: Project) -> None:
    """Fifty tests with the same error are one thing to read."""
    project.configure("docker.prot = 1")
    project.tests("def test_a(db): pass\ndef test_b(db): pass")
    result = project.run()
    result.assert_outcomes(errors=2)
    assert result.stdout.str().count('run "elefast config') == 1
    result.stdout.fnmatch_lines(
        ['pyproject.toml:3  docker.prot: unknown key, did you mean "port"? (in full at test_it.py::test_a)']
    )


def test_a_server_that_refuses_is_an_error_without_traceback(project: Project) -> None:
    """The message names the server; elefast's own code is no help."""
    url = project.url.set(password="wrong").render_as_string(hide_password=False)
    project.configure(f'engine.url = "{url}"', url=False)
    project.tests("def test_it(db): pass")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ERROR at setup of test_it*", "*password authentication failed*"])
    result.stdout.no_fnmatch_line("*raise *")


def test_the_option_chooses_a_profile(project: Project) -> None:
    """`--elefast-profile` wins over the variable, and a conftest's `from_config()` sees it, too."""
    project.configure('[tool.elefast.profiles.ci]\nleaks = "error"\n[tool.elefast.profiles.dev]\nleaks = "ignore"')
    project.file("conftest.py", "import elefast\nstack = elefast.from_config()")
    project.tests(
        "import conftest\n"
        "def test_it(elefast_stack):\n"
        "    assert elefast_stack is conftest.stack\n"
        "    assert elefast_stack.settings.leaks == 'error'"
    )
    project.env(ELEFAST_PROFILE="dev")
    result = project.run("--elefast-profile=ci")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["elefast: profile ci, *leaks error (pyproject.toml:*)*"])


def test_an_unknown_profile_is_an_error_of_the_tests(project: Project) -> None:
    """It lists the known ones."""
    project.configure('[tool.elefast.profiles.ci]\nleaks = "error"')
    project.tests("def test_it(db): pass")
    result = project.run("--elefast-profile=c")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(['*unknown profile "c", the known *ci*'])


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("keep='sometimes'", "keep: expected failed, always, never, got 'sometimes'"),
        ("kep='failed'", "kep: unknown, expected isolation, keep, scenario or scope"),
        ("'failed'", "takes no positional arguments, got 'failed'"),
        ("isolation='tables'", "isolation: expected database, transaction, got 'tables'"),
    ],
)
def test_a_wrong_marker_is_an_error_of_its_test(project: Project, marker: str, message: str) -> None:
    """It names the test and what was expected."""
    project.tests(f"import pytest\n@pytest.mark.elefast({marker})\ndef test_it(db): pass")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*@pytest.mark.elefast of test_it.py::test_it  {message}"])


@pytest.mark.parametrize("option", ["--elefast-keep", "--elefast-keep=always"])
def test_a_path_after_the_keep_option_is_a_path(project: Project, option: str) -> None:
    """The bare option takes no value, so that it swallows nothing."""
    project.tests("def test_it(): pass")
    project.file("test_other.py", "def test_it(): pass")
    project.run(option, "test_it.py").assert_outcomes(passed=1)
    project.run("test_other.py", option, "test_it.py::test_it").assert_outcomes(passed=2)


def test_the_configuration_is_found_from_the_rootdir_upwards(project: Project) -> None:
    """A package of a monorepo may have its pytest configuration below elefast's."""
    project.configure(pytest_table="")
    project.file("package/pytest.ini", "[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    project.file("package/test_it.py", "def test_it(db): pass")
    project.run("package").assert_outcomes(passed=1)
