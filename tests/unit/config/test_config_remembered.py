"""What a run remembers of its configuration is what would be read, and nothing once anything differs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from elefast.config import Loaded, load_settings, settings_for_run
from elefast.config.cache import CODE, RememberedSettings, validated
from elefast.config.model import Settings
from elefast.errors import ConfigurationError
from tools.imports import imports

TABLE = """\
[tool.elefast]
provider = "url"
export_env = ["DATABASE_URL", "OTHER=postgresql+asyncpg"]
seed = ["seed.sql"]
[tool.elefast.engine]
url = "postgresql://me:secret@localhost/x"
connect_args = { application_name = "tests", nested = { a = [1, 2] } }
[tool.elefast.tuning]
shared_buffers = "64MB"
settings = { "auto_explain.log_min_duration" = 5 }
[tool.elefast.docker]
tmpfs = "512m"
[tool.elefast.profiles.ci]
keep = "failed"
"""


class Project:
    """A directory with a configuration, and what is remembered of it."""

    def __init__(self, root: Path, caches: Path) -> None:
        self.root = root
        self.caches = caches
        self.env: dict[str, str] = {}
        self.profile: str | None = None
        self.write("pyproject.toml", TABLE)

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def load(self) -> Loaded:
        return settings_for_run(profile=self.profile, env=self.env, start=self.root, caches=str(self.caches))

    def truth(self) -> Loaded:
        return load_settings(profile=self.profile, env=self.env, start=self.root)

    def check(self, *, remembered: bool) -> None:
        """Load it, and compare all of it with what is read anew."""
        found, truth = self.load(), self.truth()
        assert isinstance(found.settings, RememberedSettings) is remembered
        assert isinstance(found.settings, Settings) is not remembered
        assert validated(found.settings) == truth.settings
        assert found.settings.model_dump() == truth.settings.model_dump()
        for part in ("provenance", "files", "directory", "project", "migrator", "profile"):
            assert getattr(found, part) == getattr(truth, part), part


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "project"
    root.mkdir()
    return Project(root, tmp_path / "caches")


def test_the_second_time(project: Project) -> None:
    """Everything is as it would be read, by attribute too."""
    project.check(remembered=False)
    project.check(remembered=True)
    settings = project.load().settings
    assert settings.engine.connect_args == {"application_name": "tests", "nested": {"a": [1, 2]}}
    assert settings.tuning.shared_buffers == "64MB"
    assert settings.tuning.model_dump()["shared_buffers"] == "64MB"
    assert settings.seed == [str(project.root / "seed.sql")]


def test_remembered_settings_are_frozen(project: Project) -> None:
    """As those of the model."""
    for _ in range(2):
        settings = project.load().settings
        for table, name in ((settings, "keep"), (settings.pool, "size")):
            with pytest.raises((AttributeError, ValueError), match="frozen"):
                setattr(table, name, 1)
            with pytest.raises((AttributeError, ValueError), match="frozen"):
                delattr(table, name)


def test_all_code_that_validates_is_part_of_the_digest() -> None:
    """Whatever the configuration imports, at any distance, but for the classes of errors."""
    imported: dict[str, set[str]] = {}
    for one in imports():
        imported.setdefault(one.importer, set()).add(one.imported)
    reached: set[str] = set()
    waiting = ["elefast.config.load"]
    while waiting:
        module = waiting.pop()
        if module not in reached and not module.startswith("elefast.errors"):
            reached.add(module)
            waiting += imported.get(module, ())
    covered = tuple(f"elefast.{name.removesuffix('.py').replace('/', '.')}" for name in CODE)
    assert [name for name in sorted(reached) if not name.startswith(covered)] == []


def _touch_table(project: Project) -> None:
    project.write("pyproject.toml", TABLE.replace("secret", "geheim"))


def _add_alembic(project: Project) -> None:
    project.write("alembic.ini", "")


def _add_alembic_below(project: Project) -> None:
    for name in ("conf", "moves"):
        (project.root / name).mkdir()
    project.write("conf/alembic.ini", "[alembic]\nscript_location = moves\n")
    project.write("moves/env.py", "")


def _add_overlay(project: Project) -> None:
    project.write("elefast.toml", 'leaks = "error"\n')


def _set_variable(project: Project) -> None:
    project.env["ELEFAST_POOL__SIZE"] = "7"


def _set_alias(project: Project) -> None:
    project.env["TESTING_DB_URL"] = "postgresql://localhost/other"


def _choose_profile(project: Project) -> None:
    project.profile = "ci"


def _choose_profile_by_variable(project: Project) -> None:
    project.env["ELEFAST_PROFILE"] = "ci"


def _move_home(project: Project) -> None:
    project.env["HOME"] = "/elsewhere"


@pytest.mark.parametrize(
    "change",
    [
        _touch_table,
        _add_alembic,
        _add_alembic_below,
        _add_overlay,
        _set_variable,
        _set_alias,
        _choose_profile,
        _choose_profile_by_variable,
        _move_home,
    ],
)
def test_any_difference(project: Project, change: Callable[[Project], None]) -> None:
    """It is read again, and remembered as it is then."""
    project.load()
    change(project)
    project.check(remembered=False)
    project.check(remembered=True)


def test_back_and_forth(project: Project) -> None:
    """Who takes turns with environments need not have them read anew each time; the oldest is forgotten."""
    sizes = [str(size) for size in range(1, 10)]
    for remembered in (False, True):
        for size in sizes[:8]:
            project.env["ELEFAST_POOL__SIZE"] = size
            project.check(remembered=remembered)
    project.env["ELEFAST_POOL__SIZE"] = sizes[8]
    project.check(remembered=False)
    project.env["ELEFAST_POOL__SIZE"] = sizes[1]
    project.check(remembered=True)
    project.env["ELEFAST_POOL__SIZE"] = sizes[0]
    project.check(remembered=False)


def test_what_is_wrong(project: Project) -> None:
    """An error is one each time."""
    project.load()
    project.write("pyproject.toml", TABLE.replace('"failed"', '"sometimes"'))
    project.profile = "ci"
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="sometimes"):
            project.load()


def test_variables_are_not_written_down(project: Project) -> None:
    """A password in a variable stays there."""
    project.env["ELEFAST_URL"] = "postgresql://me:very-secret@localhost/y"
    project.check(remembered=False)
    project.check(remembered=True)
    assert project.load().settings.engine.url.endswith("very-secret@localhost/y")
    assert all("very-secret" not in file.read_text() for file in project.caches.iterdir())


@pytest.mark.parametrize(
    "variables",
    [
        {"ELEFAST_ENGINE": '{"url": "postgresql://me:very-secret@localhost/y"}'},
        {"ELEFAST_ENGINE__CONNECT_ARGS": '{"password": "very-secret"}'},
        {"ELEFAST_ENGINE__CONNECT_ARGS__PASSWORD": "very-secret"},
        {"ELEFAST_EXPORT_ENV": "ONE,TWO"},
        {"ELEFAST_LOCAL__BIN_DIR": "bin"},
    ],
)
def test_variables_that_become_something_else(project: Project, variables: dict[str, str]) -> None:
    """What is not the variable's own text could not be taken from it again, so nothing is remembered."""
    project.env |= variables
    project.check(remembered=False)
    project.check(remembered=False)
    assert not project.caches.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"question": 1}', "null"])
def test_a_broken_file(project: Project, text: str) -> None:
    """It is as if there were none."""
    project.load()
    (file,) = project.caches.iterdir()
    file.write_text(text)
    project.check(remembered=False)
    project.check(remembered=True)


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_a_file_of_others(project: Project) -> None:
    """Who else may write it, or read it, cannot have been meant."""
    project.load()
    (file,) = project.caches.iterdir()
    file.chmod(0o644)
    project.check(remembered=False)
    project.check(remembered=True)


def test_a_place_that_is_not_there(project: Project) -> None:
    """Nothing is remembered where nothing can be written."""
    project.caches.write_text("")
    project.check(remembered=False)
    project.check(remembered=False)


def test_nothing_is_imported(project: Project) -> None:
    """That is what it is for."""
    program = """
import json, sys
from pathlib import Path
from elefast.config import settings_for_run
loaded = settings_for_run(env={}, start=Path(sys.argv[1]), caches=sys.argv[2])
heavy = {"pydantic", "pydantic_settings", "sqlalchemy"} & sys.modules.keys()
print(json.dumps([sorted(heavy), loaded.settings.provider]))
"""
    for expected in (True, False):
        done = subprocess.run(
            [sys.executable, "-c", program, str(project.root), str(project.caches)],
            capture_output=True,
            text=True,
            check=True,
        )
        heavy, provider = json.loads(done.stdout)
        assert (bool(heavy), provider) == (expected, "url")
