"""Ways to be wrong in what a project writes: files, keys, values, names of its own code."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from elefast.cli import main
from tests.guarantees.messages.conftest import Same, error_of, messages
from tests.integration.pytest_plugin.conftest import PYTEST, Project

TEST = "def test_it(elefast_db): pass"


@dataclass(frozen=True)
class Case:
    """A project whose one test has an error before there is a server.

    Args:
        elefast: What stands in `[tool.elefast]`, from the second line on.
        files: Further files.
        options: Of pytest.
        env: Variables.
    """

    elefast: str = 'migrator = "none"'
    files: dict[str, str] = field(default_factory=dict[str, str])
    options: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict[str, str])


CASES = {
    "typo in a key": Case("docker.prot = 1"),
    "hyphen in a key": Case("[tool.elefast.engine]\npool-size = 1"),
    "wrong type": Case('docker.port = "5433"'),
    "wrong choice": Case('provider = "dockre"'),
    "unknown profile": Case("[tool.elefast.profiles.ci]\nkeep = 'never'", options=("--elefast-profile=cl",)),
    "unknown variable": Case(env={"ELEFAST_DOCKER_PORT": "5433"}),
    "broken elefast.toml": Case(files={"elefast.toml": 'provider = "local\n'}),
    "two migrators": Case('sql.files = ["a.sql"]\nmetadata.target = "app:Base"'),
    "migrator without its value": Case('migrator = "metadata"'),
    "url without a url": Case('provider = "url"'),
    "no url": Case('engine.url = "localhost:5432"'),
    "another kind of database": Case('engine.url = "mysql://root:secret@localhost/app"'),
    "remote host": Case('engine.url = "postgresql://app:secret@db.example.com/app"'),
    "contradiction": Case('[tool.elefast.tuning]\nwal_level = "minimal"\nmax_wal_senders = 1'),
    "elefast's own setting": Case('provider = "local"\ntuning.settings.port = "5432"'),
    "three at once": Case('docker.prot = 1\nkeep = "all"\npool.size = -1'),
    "wrong marker": Case(files={"test_it.py": 'import pytest\n@pytest.mark.elefast(isolation="db", keeep=1)\n' + TEST}),
    "keep with a transaction": Case(
        files={"test_it.py": 'import pytest\n@pytest.mark.elefast(isolation="transaction", keep="always")\n' + TEST}
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_pytest_says(project: Project, same: Same, name: str) -> None:
    """The error of the test that wanted a database, from its headline to the next."""
    case = CASES[name]
    project.configure(case.elefast, url=False)
    for file, text in case.files.items():
        project.file(file, text)
    project.env(**case.env)
    result = project.run(*case.options)
    result.assert_outcomes(errors=1)
    same(name, error_of(result))


FILES = {
    "broken pyproject.toml": {"pyproject.toml": "[tool.elefast]\nkeep = \n"},
    "broken header in pyproject.toml": {"pyproject.toml": '[project]\nname = "x"\n[tool.elefast\nkeep = "never"\n'},
    "broken pyproject.toml beside elefast.toml": {
        "pyproject.toml": '[project]\nname = "x\n',
        "elefast.toml": 'migrator = "none"\n',
    },
    "broken pyproject.toml without a table": {"pyproject.toml": "[project]\nname = x\n"},
    "no table": {"pyproject.toml": '[project]\nname = "x"\n'},
    "table of another name": {"elefast.toml": "[tool.elefast]\nkeep = 'never'\n"},
}


@pytest.mark.parametrize("name", FILES)
def test_the_command_line_says(
    project: Project, same: Same, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where pytest itself would not read the file: from any command, with status 2."""
    (project.path / "pyproject.toml").unlink()
    for file, text in FILES[name].items():
        project.file(file, text)
    monkeypatch.chdir(project.path)
    assert main(["prune"]) == 2
    same(name, capsys.readouterr().err)


def test_an_unreadable_file(project: Project, same: Same) -> None:
    """A link to itself cannot be read by anybody, not even by root."""
    (project.path / "elefast.toml").symlink_to("elefast.toml")
    same("unreadable file", error_of(project.run()))


def test_the_header_has_it_in_one_line(project: Project, same: Same) -> None:
    """Also of a run in which no test wants a database."""
    project.configure("docker.prot = 1\npool.size = -1", url=False)
    project.tests("def test_it(): pass")
    result = project.run()
    result.assert_outcomes(passed=1)
    (line,) = [line for line in result.stdout.lines if line.startswith("elefast:")]
    same("header", line)


def test_a_wrong_option(project: Project, same: Same) -> None:
    """pytest's own usage error, in one line."""
    result = project.run("--elefast-keep=nothing")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.stderr.lines if "error:" in line]
    same("wrong option", line.partition("error: ")[2])


def test_workers_say_it_once(project: Project, same: Same) -> None:
    """Each worker has the error; the report has it in full for one test, and in a line for the others."""
    project.configure("docker.prot = 1", url=False, pytest_table=PYTEST)
    project.tests(
        "import elefast, pytest\n"
        "@pytest.fixture\ndef own(): return elefast.from_config()\n"
        "@pytest.mark.parametrize('n', range(10))\ndef test_many(elefast_db, n): pass\n"
        "@pytest.mark.parametrize('n', range(10))\ndef test_own(own, n): pass\n"
    )
    result = project.run_apart("-n2", "--dist=worksteal")
    result.assert_outcomes(errors=20)
    out = result.stdout.str()
    assert out.count('run "elefast config --origin"') == 1
    assert (
        out.count('\npyproject.toml:2  docker.prot: unknown key, did you mean "port"? (in full at test_it.py::test_')
        == 19
    )
    assert out.count("more: elefast explain unknown-key") == 2  # there, and in the header


def test_every_message_is_of_a_case() -> None:
    """What is written is compared."""
    assert messages("configuration").keys() == {*CASES, *FILES, "unreadable file", "header", "wrong option"}
