"""Who may import whom, and what an import costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import elefast

SOURCE = Path(elefast.__file__).parent

# Each part, and the parts of elefast that it may import at run time, besides itself. Leaves may be imported by all.
LEAVES = {
    "caches",
    "checkouts",
    "clock",
    "errors",
    "explanations",
    "exported",
    "interrupts",
    "lazy",
    "libpq",
    "loops",
    "printable",
    "report",
    "run",
    "samples",
    "terminal",
    "urls",
    "waiting",
}
ALLOWED = {
    "config": set[str](),
    "kernel": set[str](),
    "engines": set[str](),
    "engine_options": set[str](),
    "diagnosis": set[str](),
    "link": set[str](),
    "providers": {"engines"},
    "stalls": {"kernel", "diagnosis", "engines", "link"},
    "session": {"kernel", "diagnosis", "link", "stalls"},
    "templates": {"kernel", "diagnosis", "session"},
    "leftovers": {"kernel", "diagnosis", "session", "templates"},
    "control": {"kernel", "diagnosis", "leftovers", "session", "templates"},
    "dialects": set[str](),
    "ahead": {"dialects", "engines"},
    "restorer": {"kernel", "ahead", "control", "diagnosis", "session"},
    "returns": {"kernel", "ahead", "control", "restorer", "session"},
    "pace": set[str](),
    "pool": {"ahead", "control", "pace", "returns", "session", "stalls"},
    "backing": {"kernel", "control", "diagnosis", "engines", "link", "session"},
    "located": set[str](),
    "sync": {"kernel", "backing", "located"},
    "asyncio": {"kernel", "backing", "located", "sync"},
    "migrators": {"kernel", "engines"},
    "extras": {"kernel", "migrators", "providers"},
    "frames": set[str](),
    "lasting": {"kernel"},
    "outer": {"diagnosis", "frames", "lasting"},
    "joined": {"diagnosis", "frames", "outer"},
    "shared": {"asyncio", "joined", "kernel", "lasting", "outer", "sync"},
    "lent": {"engines", "sync", "asyncio"},
    "blueprint": set[str](),
    "watch": set[str](),
    "running": {
        "kernel",
        "ahead",
        "backing",
        "control",
        "dialects",
        "engines",
        "pool",
        "restorer",
        "returns",
        "session",
        "watch",
    },
    "stack_backing": {"kernel"},
    "upkeep": {"kernel", "leftovers"},
    "stack": {"upkeep", "kernel", "running", "lent", "shared", "stack_backing", "sync", "asyncio"},
    "factory": {"blueprint", "config", "engine_options", "kernel", "migrators", "providers", "stack"},
    "redirect": {"dialects", "joined"},
    "pytest_plugin": {"config", "factory", "joined", "kernel", "redirect", "watch"},
    "generate": {"cli", "config", "explanations"},
    "cli": {"config", "engines", "factory", "kernel", "migrators", "providers"},
}


def parts() -> list[str]:
    """Every module and package at the top of elefast."""
    found = [path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    return sorted(name for name in found if name not in ("__init__", "__main__"))


def imports_of(part: str) -> Iterator[tuple[Path, int, str]]:
    """File, line and part of each import of elefast's own, but for those that only a type checker sees."""
    package = SOURCE / part
    for path in sorted(package.rglob("*.py")) if package.is_dir() else [package.with_suffix(".py")]:
        tree = ast.parse(path.read_text())
        hidden = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if id(node) in hidden or not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                assert node.level == 0, f"{path}:{node.lineno}: write the whole name of the module"
                module = node.module or ""
                names = [f"{module}.{alias.name}" for alias in node.names] if module == "elefast" else [module]
            for name in names:
                if name.startswith("elefast."):
                    yield path, node.lineno, name.split(".")[1]


def test_every_part_is_listed() -> None:
    """A new module at the top has to say where it stands."""
    assert set(parts()) == set(ALLOWED) | LEAVES


@pytest.mark.parametrize("part", sorted(set(ALLOWED) | LEAVES))
def test_imports_go_in_one_direction(part: str) -> None:
    """Nobody imports what is above; the configuration and the kernel know nothing of each other."""
    allowed = ALLOWED.get(part, set()) | LEAVES | {part}
    wrong = [f"{path.name}:{line} imports {name}" for path, line, name in imports_of(part) if name not in allowed]
    assert not wrong


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
