"""How `elefast init` lets tests import the project: in the file that pytest reads, and with no other byte changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from elefast.cli.init.importing import find_importing, write_importing
from elefast.cli.init.project import read_project
from elefast.cli.init.proposal import InitOptions, propose
from elefast.cli.init.pytest_file import find_pytest_file

MODELS = """\
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
class Base(DeclarativeBase): ...
class A(Base):
    __tablename__ = "a"
    id: Mapped[int] = mapped_column(primary_key=True)
"""


def project(root: Path, files: dict[str, str], models: str = "elefast_unknown_shop/models.py") -> None:
    """A project with a package of models, whose name nothing installed has."""
    for name, text in {models: MODELS, f"{Path(models).parent}/__init__.py": "", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode())


def added(root: Path) -> str:
    """Let tests import the project; the note."""
    seen = read_project(root)
    found = find_importing(seen, propose(seen, InitOptions()))
    if found.file is not None:
        assert write_importing(found, seen.pytest.section)
    return found.note


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        (
            "pyproject.toml",
            "a = 1\n[tool.pytest.ini_options]  # ours\naddopts = '-q'\n\n[tool.x]\ny = 1",
            "a = 1\n[tool.pytest.ini_options]  # ours\npythonpath = [\".\"]\naddopts = '-q'\n\n[tool.x]\ny = 1",
        ),
        ("pyproject.toml", "[tool.pytest]\nstrict = true\n", '[tool.pytest]\npythonpath = ["."]\nstrict = true\n'),
        ("pyproject.toml", "a = 1\r\n", 'a = 1\r\n\r\n[tool.pytest.ini_options]\r\npythonpath = ["."]\r\n'),
        ("pytest.ini", "[pytest]\r\naddopts = -q\r\n", "[pytest]\r\npythonpath = .\r\naddopts = -q\r\n"),
        ("tox.ini", "[tox]\nx = 1\n[pytest]", "[tox]\nx = 1\n[pytest]\npythonpath = .\n"),
        ("setup.cfg", "[metadata]\nname = x\n[tool:pytest]\n", "[metadata]\nname = x\n[tool:pytest]\npythonpath = .\n"),
    ],
)
def test_the_line_goes_where_pytest_reads_it(tmp_path: Path, name: str, before: str, after: str) -> None:
    """Into the section that is there, with the line endings that are there, else into one of its own."""
    project(tmp_path, {name: before})
    assert "tests cannot import elefast_unknown_shop.models" in added(tmp_path)
    assert (tmp_path / name).read_bytes() == after.encode()
    assert find_pytest_file(tmp_path).pythonpath == [tmp_path]
    assert added(tmp_path) == ""


@pytest.mark.parametrize("command", [["-P", "-m", "pytest"], ["-m", "pytest"]], ids=["pytest", "python -m pytest"])
def test_pytest_agrees(tmp_path: Path, command: list[str]) -> None:
    """A test of the user's own that imports the models."""
    project(
        tmp_path, {"tests/test_own.py": "from elefast_unknown_shop.models import A\ndef test_own():\n    assert A\n"}
    )
    before = subprocess.run([sys.executable, *command, "-q"], cwd=tmp_path, capture_output=True, text=True)
    assert added(tmp_path)
    after = subprocess.run([sys.executable, *command, "-q"], cwd=tmp_path, capture_output=True, text=True)
    assert (tmp_path / "pytest.ini").read_text() == "[pytest]\npythonpath = .\n"
    assert "1 passed" in after.stdout
    assert ("ModuleNotFoundError" in before.stdout) == ("-P" in command)


def test_a_source_directory_is_added_and_installing_is_named(tmp_path: Path) -> None:
    """Either works."""
    project(tmp_path, {"pyproject.toml": '[project]\nname = "x"\n'}, "src/elefast_unknown_shop/models.py")
    assert added(tmp_path).endswith("pytest does not look in src (or: pip install -e .)")
    assert find_pytest_file(tmp_path).pythonpath == [tmp_path / "src"]


@pytest.mark.parametrize(
    "files",
    [
        {"conftest.py": ""},
        {"tests/__init__.py": ""},
        {"pyproject.toml": "[tool.pytest.ini_options]\npythonpath = '.'\n"},
        {"pytest.ini": "[pytest]\npythonpath = . src\n"},
    ],
)
def test_nothing_is_added_where_pytest_adds_it_already(tmp_path: Path, files: dict[str, str]) -> None:
    """By a conftest, by a package of tests, or because it is written down."""
    project(tmp_path, files)
    assert added(tmp_path) == ""


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"pyproject.toml": "[tool.pytest.ini_options]\npythonpath = ['lib']\n"}, 'write `pythonpath = ["."]` into'),
        ({"pyproject.toml": "tool.pytest.ini_options.addopts = '-q'\n"}, None),
        ({"pytest.ini": "# empty\n"}, "write `pythonpath = .` into"),
    ],
    ids=["a list of others", "no header", "no section"],
)
def test_the_line_is_named_where_it_cannot_be_written(tmp_path: Path, files: dict[str, str], line: str | None) -> None:
    """And nothing is changed."""
    project(tmp_path, files)
    seen = read_project(tmp_path)
    found = find_importing(seen, propose(seen, InitOptions()))
    if line is None:
        assert not write_importing(found, seen.pytest.section)
    else:
        assert found.file is None
        assert line in found.note
    assert {name: (tmp_path / name).read_text() for name in files} == files


def test_the_configuration_is_found_as_pytest_finds_it(tmp_path: Path) -> None:
    """The nearest directory with one, and in it the first in pytest's order."""
    inner = tmp_path / "inner"
    project(inner, {"pyproject.toml": "[project]\nname = 'x'\n", "setup.cfg": "[metadata]\n"})
    assert find_pytest_file(inner).rootdir == inner
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    assert find_pytest_file(inner).file == tmp_path / "pytest.ini"
    (inner / "tox.ini").write_text("[pytest]\n")
    assert find_pytest_file(inner).file == inner / "tox.ini"
    (inner / "pyproject.toml").write_text("[tool.pytest]\naddopts = []\n")
    assert find_pytest_file(inner).section == "tool.pytest"
