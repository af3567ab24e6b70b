"""`elefast check --ci`: valid YAML, and commands that run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from elefast.cli import main
from elefast.cli.check.ci import SYSTEMS

PROJECT = """
[project]
name = "shop"
version = "1"
[dependency-groups]
lint = ["pytest-flakes"]
checks = ["elefast", "pytest>=8"]
[tool.elefast]
migrator = "none"
"""


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text(PROJECT)


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command prints."""
    assert main(["check", "--ci", *words]) == 0
    return capsys.readouterr().out


def strings(value: Any) -> list[str]:
    """All text in a document, keys as well."""
    if isinstance(value, dict):
        return [text for key, inner in value.items() for text in [str(key), *strings(inner)]]
    if isinstance(value, list):
        return [text for inner in value for text in strings(inner)]
    return [str(value)]


@pytest.mark.parametrize("system", [name for name in SYSTEMS if name != "shell"])
def test_each_block_is_yaml_with_server_url_and_commands(capsys: pytest.CaptureFixture[str], system: str) -> None:
    """The group of the project that has pytest is the one that is installed."""
    text = printed(capsys, system)
    found = "\n".join(strings(yaml.safe_load(text)))
    assert "postgres:18" in found
    assert "postgresql://postgres:elefast@" in found
    assert 'pip install --editable "." --group checks' in found
    assert "pytest -n auto" in found
    assert "-c fsync=off" in found


def test_gitlab_allows_its_service_host(capsys: pytest.CaptureFixture[str]) -> None:
    """A host with a name of its own is refused otherwise."""
    job = yaml.safe_load(printed(capsys, "gitlab"))["test"]
    assert job["variables"]["ELEFAST_ENGINE__ALLOW_REMOTE"] == "true"
    assert "@postgres:5432" in job["variables"]["ELEFAST_ENGINE__URL"]


@pytest.mark.parametrize(
    ("file", "first"),
    [("", "# .github"), (".gitlab-ci.yml", "# .gitlab-ci.yml"), ("azure-pipelines.yml", "# azure-pipelines.yml")],
)
def test_the_system_is_that_of_the_files(capsys: pytest.CaptureFixture[str], file: str, first: str) -> None:
    """GitHub where there is none."""
    if file:
        Path(file).touch()
    assert printed(capsys).startswith(first)


@pytest.mark.parametrize(
    ("files", "text", "expected"),
    [
        ({"uv.lock": ""}, PROJECT, ["pip install uv", "uv sync"]),
        ({"requirements.txt": ""}, "[tool.elefast]\n", ["pip install -r requirements.txt", '"elefast"']),
        (
            {},
            PROJECT.replace("checks =", "none =").replace('"pytest>=8"', ""),
            ['pip install --editable "."', '"pytest"'],
        ),
        (
            {},
            '[project]\nname = "x"\n[project.optional-dependencies]\ntest = ["pytest"]\n[tool.elefast]\n',
            ['pip install --editable ".[test]"', '"elefast"'],
        ),
        (
            {"uv.lock": ""},
            PROJECT.replace("checks =", "test =") + '[project.optional-dependencies]\nall = ["pytest"]\n',
            ["uv sync --group test\n", ". .venv/bin/activate"],
        ),
        ({"uv.lock": ""}, PROJECT.replace("checks =", "dev ="), ["uv sync\n"]),
        (
            {"uv.lock": ""},
            '[dependency-groups]\nchecks = [{include-group = "none"}]\n[tool.elefast]\n',
            ["uv sync\n", 'uv pip install "elefast" "pytest"'],
        ),
        (
            {"poetry.lock": ""},
            "[tool.poetry.group.test]\noptional = true\ndependencies.pytest = '*'\n[tool.elefast]\n",
            ["poetry install --with test\n", 'pip install "elefast"'],
        ),
        ({"pdm.lock": ""}, PROJECT, ["pdm install --group checks\n"]),
        ({"Pipfile.lock": ""}, "[tool.elefast]\n", ["pipenv install --system --dev\n"]),
        (
            {"requirements/tests.txt": "pytest==9.0.1\nelefast\n", "requirements/prod.txt": "flask\n"},
            "[tool.elefast]\n",
            ["pip install -r requirements/prod.txt -r requirements/tests.txt\n"],
        ),
        (
            {},
            PROJECT.replace("checks =", 'all = [{include-group = "checks"}]\nchecks ='),
            ['pip install --editable "." --group all\n'],
        ),
    ],
)
def test_the_project_is_installed_as_it_is_meant_to_be(
    capsys: pytest.CaptureFixture[str], files: dict[str, str], text: str, expected: list[str]
) -> None:
    """By its lock file, its group, its extra, its requirements, or from nothing."""
    Path("pyproject.toml").write_text(text)
    for name, content in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(content)
    found = printed(capsys, "github")
    assert all(part in found for part in expected), found


@pytest.mark.parametrize("system", list(SYSTEMS))
def test_what_cannot_be_known_is_said(capsys: pytest.CaptureFixture[str], system: str) -> None:
    """In a comment; a project whose group has pytest has none."""
    assert "elefast cannot know" not in printed(capsys, system)
    Path("pyproject.toml").write_text('[project]\nname = "x"\n[tool.elefast]\n')
    text = printed(capsys, system)
    assert "\n# No dependency group, extra or requirement file of this project has pytest" in text
    assert yaml.safe_load(text) if system != "shell" else "trap" in text


def test_an_old_image_gets_no_arguments_that_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    """initdb takes settings since PostgreSQL 16."""
    Path("elefast.toml").write_text('docker.image = "postgres:15"\n')
    assert "INITDB" not in printed(capsys, "github")


def test_an_unknown_system_is_an_error_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """And a code."""
    assert main(["check", "--ci", "jenkins"]) == 2
    message = capsys.readouterr().err
    assert "expected one of github, gitlab" in message
    assert "unknown-ci-system" in message


def test_the_commands_run(capsys: pytest.CaptureFixture[str], tmp_path: Path, server_url: str) -> None:
    """The job of GitHub, with its service replaced by the server of these tests and pip by one that only looks."""
    job = yaml.safe_load(printed(capsys, "github"))["jobs"]["test"]
    (script,) = [step["run"] for step in job["steps"] if "run" in step]
    Path("test_one.py").write_text("def test_one(db_session):\n    assert db_session.connection()\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, line in {
        "pip": f'exec {sys.executable} -m pip "$1" --dry-run --no-deps --no-index --quiet pytest',
        "pytest": f'exec {sys.executable} -m pytest -p no:cacheprovider "$@"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={"PATH": f"{programs}:/usr/bin:/bin", "ELEFAST_ENGINE__URL": server_url, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
