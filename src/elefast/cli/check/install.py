"""How a CI job installs a project with what its tests need, from what the project says of them.

A lock file says which tool installs it; the group, extra or requirement file that has pytest is what tests need.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from elefast.cli.init.project import Project
from elefast.runtime.type_guards import is_mapping

__all__ = ["find_install"]


def find_install(seen: Project) -> tuple[list[str], list[str]]:
    """The commands, and notes about what cannot be known.

    Args:
        seen: The project.
    """
    groups, extras, files = _groups(seen), _extras(seen), _requirements(seen)
    known = bool(groups or extras or any(_has_pytest(_text(seen.root / name).splitlines()) for name in files))
    commands, pip = _commands(seen, groups, extras, files)
    notes: list[str] = []
    if not known:
        wanted = ["pytest", *(name for name in ("pytest-xdist", "pytest-asyncio") if name in seen.installed)]
        commands.append(f"{pip} " + " ".join(f'"{name}"' for name in [_elefast(seen), *wanted]))
        notes.append(
            "No dependency group, extra or requirement file of this project has pytest, so elefast cannot know what "
            "else the tests need: add it to the commands that install."
        )
    elif "elefast" not in seen.declared:
        commands.append(f'{pip} "{_elefast(seen)}"')
    return commands, notes


def _commands(seen: Project, groups: list[str], extras: list[str], files: list[str]) -> tuple[list[str], str]:
    """The commands for what the project names, and the one that installs a distribution beside it."""
    root = seen.root
    if (root / "uv.lock").exists():
        default = seen.document.get("tool", {}).get("uv", {}).get("default-groups", ["dev"])
        further = "" if default == "all" else "".join(f" --group {name}" for name in groups if name not in default)
        further += "".join(f" --extra {name}" for name in extras)
        return ["pip install uv", f"uv sync{further}", ". .venv/bin/activate"], "uv pip install"
    if (root / "poetry.lock").exists():
        optional = [name for name in groups if _poetry_group(seen, name).get("optional") is True]
        further = f" --with {','.join(optional)}" if optional else ""
        further += "".join(f" --extras {name}" for name in extras)
        return (
            ["pip install poetry", "poetry config virtualenvs.create false", f"poetry install{further}"],
            "pip install",
        )
    if (root / "pdm.lock").exists():
        further = "".join(f" --group {name}" for name in [*groups, *extras])
        # The activated environment has no pip, and pdm would write what it adds into pyproject.toml.
        return ["pip install pdm uv", f"pdm install{further}", ". .venv/bin/activate"], "uv pip install"
    if (root / "Pipfile.lock").exists():
        return ["pip install pipenv", "pipenv install --system --dev"], "pip install"
    place = f".[{','.join(extras)}]" if extras else "."
    words = [f'--editable "{place}"'] if "project" in seen.document and not files else []
    words += [f"--group {name}" for name in groups] + [f"-r {name}" for name in files]
    upgrade = ['pip install --upgrade "pip>=25.1"'] if groups else []  # the first that knows groups
    return [*upgrade, *([f"pip install {' '.join(words)}"] if words else [])], "pip install"


def _elefast(seen: Project) -> str:
    return "elefast[alembic,asyncio]" if seen.alembic else "elefast[asyncio]" if seen.is_async else "elefast"


def _groups(seen: Project) -> list[str]:
    """Dependency groups that have pytest, also by a group that they include; those of Poetry as well.

    Of groups that include each other the outer one is enough.
    """
    groups: dict[str, Any] = seen.document.get("dependency-groups", {})
    found = [name for name in groups if _has_pytest(_lines(groups, name, frozenset()))]
    lines: list[Any] = [line for name in found for line in groups[name]]
    inner = {str(line["include-group"]) for line in lines if is_mapping(line) and "include-group" in line}
    found = [name for name in found if name not in inner][:1] if inner else found[:1]
    poetry = seen.document.get("tool", {}).get("poetry", {})
    found += [
        name for name in poetry.get("group", {}) if _has_pytest(_poetry_group(seen, name).get("dependencies", {}))
    ]
    if not found and _has_pytest(poetry.get("dev-dependencies", {})):
        found.append("dev")
    return found


def _lines(groups: dict[str, Any], name: str, seen: frozenset[str]) -> list[str]:
    lines: list[str] = []
    for line in groups.get(name, []):
        if isinstance(line, str):
            lines.append(line)
        elif isinstance(line, dict) and str(line.get("include-group")) not in seen:  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]  # as TOML has it
            lines += _lines(groups, str(line.get("include-group")), seen | {name})  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return lines


def _poetry_group(seen: Project, name: str) -> dict[str, Any]:
    found: dict[str, Any] = seen.document.get("tool", {}).get("poetry", {}).get("group", {}).get(name, {})
    return found


def _extras(seen: Project) -> list[str]:
    """Extras that have pytest; one is enough."""
    extras = seen.document.get("project", {}).get("optional-dependencies", {})
    return [] if _groups(seen) else [name for name, lines in extras.items() if _has_pytest(lines)][:1]


def _requirements(seen: Project) -> list[str]:
    """Requirement files: those that have pytest, and the application's own."""
    if _groups(seen) or _extras(seen):
        return []
    paths = sorted([*seen.root.glob("requirements*.txt"), *seen.root.glob("requirements/*.txt")])
    with_pytest = [path for path in paths if _has_pytest(_text(path).splitlines())]
    if not with_pytest:
        return [path.name for path in paths if path.parent == seen.root]
    # One that is compiled for the tests has the application's as well.
    named = [path for path in with_pytest if re.search("test", path.stem)] or with_pytest
    own = [path for path in paths if path.name in ("requirements.txt", "base.txt", "prod.txt") and path not in named]
    return [path.relative_to(seen.root).as_posix() for path in [*own, *named[:1]]]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _has_pytest(lines: object) -> bool:
    """Whether pytest is among these: lines of requirements, or names of a table."""
    return isinstance(lines, list | dict) and any(re.match(r"pytest\b(?!-)", str(line)) for line in lines)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # as TOML has it
