"""The workflows are valid, hold no more rights than they need, and name the versions that everything else names."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from elefast.config import Settings
from tests.support.longest import LONGEST, SLOW

REPOSITORY = Path(__file__).parents[3]
WORKFLOWS = {
    path.stem: yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)  # "on" is no truth value, 3.10 no number
    for path in (REPOSITORY / ".github" / "workflows").glob("*.yml")
}
TESTS = WORKFLOWS["tests"]["jobs"]
LINUX = TESTS["linux"]["strategy"]["matrix"]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _text(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def _jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, workflow in WORKFLOWS.items():
        for job, content in workflow["jobs"].items():
            yield f"{name}.{job}", content


def _steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in _jobs():
        for step in job.get("steps", ()):
            yield name, step


def test_they_are_workflows() -> None:
    """By the schema of GitHub's."""
    files = sorted(map(str, (REPOSITORY / ".github" / "workflows").iterdir()))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert WORKFLOWS.keys() == {"tests", "long", "release"}


def test_the_versions_of_python() -> None:
    """Of the classifiers, the workflows, .ci/run, .ci/packages and the README."""
    versions = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    oldest, *others = versions
    assert LINUX["python"] == versions
    assert PROJECT["requires-python"] == f">={oldest}"
    assert f"Python {oldest} or newer" in _text("README.md")
    assert f"for version in {' '.join(others)}; do" in _text(".ci/run")
    assert f"for version in {' '.join(versions)}; do" in _text(".ci/packages")
    for job in ("macos", "windows"):
        assert TESTS[job]["strategy"]["matrix"]["python"] == [versions[0], versions[-1]]
    asked: set[str] = set()
    for _, step in _steps():
        asked.update(re.findall(r"3\.\d+", step.get("with", {}).get("python-version", "")))
    assert asked <= set(versions)


def test_the_versions_of_postgresql() -> None:
    """Of the workflows, .ci/run, the README and the default of the configuration."""
    versions = LINUX["postgres"]
    assert TESTS["services"]["strategy"]["matrix"]["postgres"] == versions
    assert versions == [str(number) for number in range(int(versions[0]), int(versions[-1]) + 1)]
    assert Settings().postgres == f">={versions[0]}"
    assert f"PostgreSQL {versions[0]} or newer" in _text("README.md")
    assert Settings().docker.image == f"postgres:{versions[-1]}"
    run = _text(".ci/run")
    (looped,) = re.findall(r"^for version in ([\d ]+); do$", run, re.MULTILINE)
    named = {*looped.split(), *re.findall(r"\bserver=(\d+)", run), *re.findall(r"/postgresql/(\d+)/bin", run)}
    assert named == set(versions)


def test_the_versions_of_sqlalchemy() -> None:
    """The oldest is the floor's, and .ci/run has both ends."""
    (floor,) = (name for name in PROJECT["dependencies"] if name.startswith("sqlalchemy"))
    assert floor.startswith(f"sqlalchemy>={LINUX['sqlalchemy'][0]}.")
    assert f"SQLAlchemy {floor.partition('>=')[2]} or newer" in _text("README.md")
    assert f'"sqlalchemy[asyncio]>={LINUX["sqlalchemy"][-1]}"' in _text(".ci/run")
    assert '--resolution lowest-direct --overrides "$work/floors"' in _text(".ci/run")


def test_the_lowest_versions() -> None:
    """.ci/floors has one for each dependency of elefast and its extras; pytest's is that of the README."""
    command = [sys.executable, str(REPOSITORY / ".ci" / "floors")]
    floors = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    names = {re.findall(r"^[\w-]+", floor)[0] for floor in floors}
    wanted = [*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)]
    assert names == {re.findall(r"^[\w-]+", one)[0] for one in wanted} - {"elefast"} | {"pytest"}
    (pytest_floor,) = (floor.partition("==")[2] for floor in floors if floor.startswith("pytest=="))
    assert f"pytest {pytest_floor.removesuffix('.0')} or newer for the plugin" in _text("README.md")


def test_they_run_what_ci_runs() -> None:
    """Lint and types by the same words, and only tests that exist."""
    run = re.sub(r"--no-cache |\"\$python\" ", "", _text(".ci/run"))
    for job in ("lint", "types"):
        for step in TESTS[job]["steps"]:
            command = step.get("run", "")
            if command and "pip install" not in command:
                words = command.removeprefix("python ").replace('"$(which python)"', '"$python"')
                assert words in run, command
    for name, step in _steps():
        for place in re.findall(r"\b(?:tests|examples)/\w+", step.get("run", "")):
            assert (REPOSITORY / place).is_dir(), f"{name}: {place}"


def test_the_long_runs_are_all_that_have_a_long_form() -> None:
    """Whatever tests read how long to go on from a variable, the workflow sets it for them."""
    reads: set[tuple[str, str]] = set()
    named = re.compile(r"\bTEST_[A-Z]+_(?:ROUNDS|EXAMPLES|ACQUIRES|LONG)\b")
    for file in (REPOSITORY / "tests").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        place = file.relative_to(REPOSITORY).parts[:3]
        reads |= {("/".join(place), name) for name in named.findall(text)}
    long = WORKFLOWS["long"]["jobs"]["long"]["strategy"]["matrix"]["include"]
    assert {(one["tests"], one["variable"].partition("=")[0]) for one in long} == reads
    assert all(one["variable"].partition("=")[2].isdigit() for one in long)


def test_what_is_left_out_exists_and_runs_elsewhere() -> None:
    """Each slow or long test is there, .ci/run and a workflow have the slow ones, and a workflow the longest."""
    for name in (*SLOW, *LONGEST):
        path, _, test = name.partition("::")
        place = REPOSITORY / "tests" / path
        assert place.exists(), name
        assert not test or f"def {test}(" in place.read_text(encoding="utf-8"), name
    assert "pytest -p no:cacheprovider -n auto -m slow" in _text(".ci/run")
    runs = [step for _, step in _steps() if step.get("env", {}).get("TEST_LONG") == "1"]
    assert [step["run"] for step in runs] == ["python -m pytest -n auto"]


def test_nothing_has_more_rights_than_it_needs() -> None:
    """To write anywhere is for the one job that publishes; there is no secret at all."""
    for name, workflow in WORKFLOWS.items():
        assert workflow["permissions"] in ({}, "{}", {"contents": "read"}), name
        assert "group" in workflow["concurrency"], name
    writing = {name for name, job in _jobs() if "write" in job.get("permissions", {}).values()}
    assert writing == {"release.publish"}
    assert not [name for name in WORKFLOWS if "secrets." in _text(f".github/workflows/{name}.yml")]
    assert "pull_request_target" not in WORKFLOWS["tests"]["on"]


def test_nothing_runs_for_ever_or_changes_under_us() -> None:
    """Each job has a time limit, and each action a major version."""
    for name, job in _jobs():
        assert "timeout-minutes" in job or job["uses"].startswith("./"), name
    for name, step in _steps():
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@(?:v\d+|release/v1)", step["uses"]), f"{name}: {step['uses']}"
