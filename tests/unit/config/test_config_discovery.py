"""Where the configuration is looked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from elefast.config.discovery import find

if TYPE_CHECKING:
    from tests.unit.config.conftest import Project

TABLE = "[tool.elefast]\n"
NO_TABLE = "[project]\nname = 'x'\n# [tool.elefast] stands further up\n"


@pytest.mark.parametrize("start", ["", "src", "src/package", "tests/deep/er", "src/package/module.py"])
def test_found_from_anywhere_inside(project: Project, start: str) -> None:
    """A directory or a file somewhere in the project leads to its configuration."""
    file = project.write("pyproject.toml", TABLE)
    project.write("src/package/module.py", "")
    found = find(project.directory / start)
    assert found is not None
    assert (found.directory, found.pyproject, found.overlay) == (project.directory, file, None)


def test_a_pyproject_without_the_table_is_passed_over(project: Project) -> None:
    """In a monorepo, a member without a table of its own uses that of the root."""
    project.write("pyproject.toml", TABLE)
    project.write("packages/api/pyproject.toml", NO_TABLE)
    found = find(project.directory / "packages" / "api")
    assert found is not None
    assert found.directory == project.directory


def test_the_nearest_one_wins(project: Project) -> None:
    """A member with a table of its own uses only that."""
    project.write("pyproject.toml", "[tool.elefast]\nkeep = 'failed'\n")
    project.write("packages/api/pyproject.toml", "[tool.elefast]\nleaks = 'error'\n")
    settings = project.load(path="packages/api").settings
    assert (settings.keep, settings.leaks) == ("never", "error")


def test_an_overlay_beside_a_pyproject_without_the_table(project: Project) -> None:
    """`elefast.toml` may be the only file; the one that says nothing is not read."""
    overlay = project.write("elefast.toml", "")
    project.write("pyproject.toml", NO_TABLE)
    found = find(project.directory)
    assert found is not None
    assert (found.overlay, found.pyproject) == (overlay, None)


def test_an_overlay_stops_the_search(project: Project) -> None:
    """What lies further up is not mixed in."""
    project.write("pyproject.toml", "[tool.elefast]\nkeep = 'failed'\n")
    project.write("sub/elefast.toml", "")
    assert project.load(path="sub").settings.keep == "never"


@pytest.mark.parametrize(
    "text",
    [
        "tool.elefast.keep = 'failed'",
        "[tool]\nelefast = { keep = 'failed' }",
        "[tool.elefast.pool]",
        "['tool'.\"elefast\"]",
    ],
)
def test_every_way_to_write_the_table(project: Project, text: str) -> None:
    """TOML has many ways to write a table."""
    project.write("pyproject.toml", text)
    assert find(project.directory) is not None


@pytest.mark.parametrize(("name", "text"), [("pyproject.toml", "[tool.elefast]\nx ="), ("elefast.toml", "x =")])
def test_a_broken_file_counts(project: Project, name: str, text: str) -> None:
    """Somebody wanted elefast here, and must be told that it does not work."""
    project.write(name, text)
    assert find(project.directory) is not None


def test_a_broken_pyproject_of_somebody_else_does_not_count(project: Project) -> None:
    """A broken file that does not seem to have the table is not our business."""
    project.write("pyproject.toml", "dependencies = [elefast")
    assert find(project.directory) is None


def test_a_file_of_great_depth_counts_if_it_seems_to(project: Project) -> None:
    """Python's parser gives up on it in a way of its own."""
    project.write("pyproject.toml", f"[tool.elefast]\nx = {'[' * 9999}")
    assert find(project.directory) is not None
    project.write("pyproject.toml", f"[tool.other]\nelefast = {'[' * 9999}")
    assert find(project.directory) is None


def test_a_directory_of_that_name_is_no_file(project: Project) -> None:
    """`elefast.toml` as a directory is nothing."""
    (project.directory / "elefast.toml").mkdir()
    assert find(project.directory) is None


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_a_dangling_link_counts(project: Project) -> None:
    """A link whose target is gone was meant to be a configuration."""
    (project.directory / "elefast.toml").symlink_to("gone")
    assert find(project.directory) is not None


@pytest.mark.parametrize("path", ["pyproject.toml", "elefast.toml", ".", "src/module.py"])
def test_a_path_may_be_a_file_or_a_directory(project: Project, path: str) -> None:
    """Naming either file means the project: both are read."""
    project.write("pyproject.toml", "[tool.elefast]\nkeep = 'failed'\n")
    project.write("elefast.toml", "leaks = 'error'\n")
    project.write("src/module.py", "")
    settings = project.load(path=path).settings
    assert (settings.keep, settings.leaks) == ("failed", "error")


def test_a_file_of_another_name_stands_alone(project: Project) -> None:
    """A named file with the keys at its top is all that is read."""
    project.write("pyproject.toml", "[tool.elefast]\nkeep = 'failed'\n")
    project.write("configs/old-server.toml", "postgres = '>=14,<15'\nseed = ['seed.sql']\n")
    loaded = project.load(path="configs/old-server.toml")
    assert (loaded.settings.keep, loaded.settings.postgres) == ("never", ">=14,<15")
    assert loaded.settings.seed == [str(project.directory / "configs" / "seed.sql")]


def test_discovery_is_cheap() -> None:
    """The plugin uses it on every start of pytest: neither pydantic nor a TOML parser is imported for it."""
    code = (
        "import sys; from pathlib import Path; from elefast.config.discovery import find; find(Path('/'));"
        "print([name for name in ('pydantic', 'pydantic_settings', 'sqlalchemy', 'tomllib') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd().root
    )
    assert result.stdout.strip() == "[]"
