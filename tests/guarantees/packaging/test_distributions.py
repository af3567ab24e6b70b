"""What is built and installed: the wheel, the source distribution, and the licences of what they bring."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with both, built from a copy by the project's own build backend."""
    out = tmp_path_factory.mktemp("dist")
    program = (
        f"import sys, hatchling.build as b\nprint(b.build_wheel({str(out)!r})); print(b.build_sdist({str(out)!r}))\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, capture_output=True)
    return out


def test_the_wheel_has_the_package_and_nothing_else(built: Path) -> None:
    """Types, explanations, templates, entry points, licence; no tests, no caches."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        (entries,) = (name for name in names if name.endswith("entry_points.txt"))
        points = file.read(entries).decode()
        (metadata,) = (name for name in names if name.endswith("METADATA"))
        described = file.read(metadata).decode()
    assert "elefast/py.typed" in names
    source = REPOSITORY / "src"
    data = [path for path in (source / "elefast").rglob("*") if path.suffix in (".md", ".yml", ".sh")]
    assert data
    assert {path.relative_to(source).as_posix() for path in data} <= set(names)
    assert {name.partition("/")[0] for name in names} == {"elefast", Path(metadata).parent.name}
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]
    assert any(name.endswith("licenses/LICENSE") for name in names)
    for line in ("elefast = elefast.cli:main", "elefast = elefast.pytest_plugin", "get_schema"):
        assert line in points
    assert "License-Expression: MIT" in described
    assert "Requires-Python: >=3.11" in described
    assert set(re.findall(r"^Provides-Extra: (.+)$", described, re.MULTILINE)) == {
        "asyncio", "docker", "alembic", "embedded", "all",
    }  # fmt: skip


def test_the_source_has_what_builds_and_tests_it(built: Path) -> None:
    """And no file of this machine."""
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    for name in (
        "pyproject.toml",
        "src/elefast/__init__.py",
        "tests/conftest.py",
        "CHANGELOG.md",
        "elefast.toml.example",
    ):
        assert name in names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc") or ".venv" in name]


def test_the_page_of_licences_is_up_to_date() -> None:
    """Names and licences, by the metadata of what is installed; versions do not count."""
    place = REPOSITORY / "docs" / "licences.py"
    spec = spec_from_file_location("licences", place)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    listed = dict(
        re.findall(
            r"^\| \[(\S+?)\]\(\S+\) \| (.+?) \|$", (REPOSITORY / "docs" / "licences.md").read_text(), re.MULTILINE
        )
    )
    there = dict(re.findall(r"^\| \[(\S+?)\]\(\S+\) \| (.+?) \|$", module.page(), re.MULTILINE))
    # Another version of Python or of a dependency may need others; what both have must say the same.
    assert {"sqlalchemy", "psycopg", "pydantic", "docker", "alembic"} <= there.keys() & listed.keys()
    assert {name for name in there if name in listed and not _same(there[name], listed[name])} == set()
    assert "Lesser" in listed["psycopg"] or "LGPL" in listed["psycopg"]


def _same(one: str, other: str) -> bool:
    """A project that moves from a classifier to an expression has not changed its licence."""
    return bool(set(re.findall(r"[A-Z]{2,}", one)) & set(re.findall(r"[A-Z]{2,}", other))) or one == other
