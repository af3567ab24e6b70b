"""Who imports whom in elefast: read from the source, and drawn for CONTRIBUTING.md.

`tests/test_layers.py` holds the imports to its table of rooms. An import counts wherever it stands: at the top of a
file, inside a function, and under ``TYPE_CHECKING``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import NamedTuple

__all__ = ["ROOMS", "Import", "imports", "picture", "room_of"]

SOURCE = Path(__file__).parents[1] / "src" / "elefast"

ROOMS: dict[str, frozenset[str]] = {
    name: frozenset(may_import.split())
    for name, may_import in {
        "runtime": "",
        "errors": "runtime",
        "postgres": "errors runtime",
        "config": "errors postgres runtime",
        "providers": "errors postgres runtime",
        "templates": "errors postgres runtime",
        "migrators": "errors postgres runtime templates",
        "databases": "errors postgres providers runtime templates",
        "servers": "databases errors postgres runtime templates",
        "isolation": "databases errors postgres runtime servers",
        "stack": "config databases errors isolation migrators postgres runtime servers",
        "factory": "config databases errors migrators postgres providers runtime stack templates",
        "pytest_plugin": "config databases errors factory isolation postgres runtime servers stack",
        "cli": "config databases errors factory isolation migrators postgres providers runtime stack templates",
        "extras": "config errors migrators providers templates",
    }.items()
}
"""The rooms from the bottom to the top, each with the rooms that it may import besides itself."""

_SERVERS = {"sync", "asyncio"}


class Import(NamedTuple):
    """One import of a module of elefast by another.

    Args:
        importer: The importing module, such as ``elefast.stack``.
        imported: The imported one.
        line: Where the import stands in the importer's file.
    """

    importer: str
    imported: str
    line: int


def room_of(module: str) -> str:
    """The room of `module`: its package, or the module itself at the root of elefast; empty for the root."""
    _, _, path = module.partition(".")
    top = path.partition(".")[0]
    return "servers" if top in _SERVERS else top


def imports() -> Iterator[Import]:
    """Every import between modules of elefast."""
    files = dict(_files())
    for module, path in files.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                if node.level:
                    raise ValueError(f"{path}:{node.lineno}: write the whole name of the module")
                package = node.module or ""
                names = [name if (name := f"{package}.{alias.name}") in files else package for alias in node.names]
            for name in names:
                if name in files and name != module:
                    yield Import(module, name, getattr(node, "lineno", 0))


def picture() -> str:
    """The rooms and their imports as a Mermaid diagram; an arrow that follows from others is left out."""
    arrows: dict[str, set[str]] = {room: set() for room in ROOMS}
    for one in imports():
        here, there = room_of(one.importer), room_of(one.imported)
        if here and there and here != there:
            arrows[here].add(there)
    lines = ["```mermaid", "graph TD"]
    lines += [f"    {room}" for room in reversed(ROOMS)]
    for room in reversed(ROOMS):
        direct = arrows[room] - {far for near in arrows[room] for far in _reachable(near, arrows)}
        lines += [f"    {room} --> {other}" for other in ROOMS if other in direct]
    return "\n".join([*lines, "```"])


def _reachable(room: str, arrows: Mapping[str, Set[str]]) -> set[str]:
    found: set[str] = set()
    for other in arrows[room]:
        found |= {other} | _reachable(other, arrows)
    return found


def _files() -> Iterator[tuple[str, Path]]:
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path
