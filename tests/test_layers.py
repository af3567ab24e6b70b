"""Which room may import which, and what an import costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import elefast
from tools.imports import ROOMS, Import, imports, picture, room_of

SOURCE = Path(elefast.__file__).parent
ALL = list(imports())


def test_the_root_has_the_public_modules_only() -> None:
    """Everything else is in a room, and each room is in the table."""
    modules = {path.stem for path in SOURCE.glob("*.py")}
    assert modules == {"__init__", "asyncio", "factory", "stack", "sync"}
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages | {"factory", "servers", "stack"} == set(ROOMS)


def test_allowed_imports_go_down() -> None:
    """The table lists the rooms from the bottom to the top."""
    order = list(ROOMS)
    assert [
        f"{room} -> {other}" for room in order for other in ROOMS[room] if order.index(other) > order.index(room)
    ] == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_the_table_allows(room: str) -> None:
    """Each import is allowed, and each allowance is used."""
    found = [one for one in ALL if room_of(one.importer) == room and room_of(one.imported) not in ("", room)]
    wrong = [
        f"{one.importer}:{one.line} imports {one.imported}" for one in found if room_of(one.imported) not in ROOMS[room]
    ]
    assert wrong == []
    assert ROOMS[room] - {room_of(one.imported) for one in found} == set()


def test_no_files_import_each_other() -> None:
    """Also inside of a room a reader can follow the imports down to a file that imports none."""
    assert circles(ALL) == []


def test_a_circle_is_found() -> None:
    """The search sees a circle of several files, and not the files beside it."""
    chain = [Import("a", "b", 1), Import("b", "c", 1), Import("c", "a", 1), Import("c", "d", 1), Import("e", "a", 1)]
    assert circles(chain) == ["a", "b", "c"]


def test_the_picture_is_up_to_date() -> None:
    """CONTRIBUTING.md shows the imports as they are."""
    text = SOURCE.parents[1].joinpath("CONTRIBUTING.md").read_text(encoding="utf-8")
    assert picture() in text, "run `python -m tools.generate`"


def circles(found: Sequence[Import]) -> list[str]:
    """The modules that can be reached from themselves."""
    imported: dict[str, set[str]] = {}
    for one in found:
        imported.setdefault(one.importer, set()).add(one.imported)
    return sorted(module for module in imported if module in reachable(module, imported))


def reachable(module: str, imported: Mapping[str, set[str]]) -> set[str]:
    """The modules that `module` imports, directly or not."""
    seen: set[str] = set()
    todo = list(imported.get(module, ()))
    while todo:
        if (one := todo.pop()) not in seen:
            seen.add(one)
            todo += imported.get(one, ())
    return seen


@pytest.mark.parametrize("module", ["elefast", "elefast.pytest_plugin", "elefast.config.discovery", "elefast.cli"])
def test_importing_costs_nothing(module: str) -> None:
    """These are imported by every run of pytest in the environment, or to print a line of help."""
    program = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"pydantic", "pydantic_settings", "sqlalchemy", "psycopg", "docker", "alembic", "rich"}
    assert heavy.isdisjoint(loaded)


def test_the_sync_half_works_without_greenlet() -> None:
    """SQLAlchemy 2.1 does not install it any more."""
    program = (
        "import sys; sys.modules['greenlet'] = None\n"
        "import elefast; from elefast.extras.alembic import AlembicMigrator\n"
        "elefast.DatabaseServer('postgresql+psycopg://localhost/x'); elefast.MetadataMigrator; elefast.from_config\n"
        "assert 'elefast.asyncio' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_all_names_are_there() -> None:
    """What `__all__` promises can be imported, and nothing else is public by accident."""
    assert {name for name in elefast.__all__ if getattr(elefast, name) is None} == set()
    assert sorted(elefast.__all__) == elefast.__dir__()
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        elefast.nonsense  # noqa: B018
