"""What may be left when no run is under way, and what may not: on a server, and in the directories of a local one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from elefast.postgres.names import Kind, Name
from elefast.postgres.spares import owner_of as owner_of_ready
from elefast.providers.local import state_file
from elefast.providers.local.cluster import SERVING
from tests.robustness.crashes.project import KEEP, LAYERS, POOL

__all__ = ["Configured", "half_written", "leftovers", "of_a_kept_server"]


class Configured(Protocol):
    """A project, as far as it says what may be left of it."""

    path: Path
    temporary: Path

    @property
    def keeps(self) -> bool:
        """Whether a database may have been kept for a look."""
        ...


def leftovers(ask: Callable[[str], list[tuple[Any, ...]]], project: Configured, foreign: set[str]) -> list[str]:
    """What is on a server that should not be: only sealed templates stay, and few databases ready for each of them.

    Args:
        ask: Gives the rows of a query.
        project: The only one on this server.
        foreign: Names of databases that are not elefast's.
    """
    rows = ask("select datname, datistemplate and not datallowconn, datallowconn, datconnlimit from pg_database")
    names = {text: name for text, *_ in rows if text not in foreign if (name := Name.parse(text))}
    sealed = {text for text, is_sealed, *_ in rows if is_sealed}
    templates = [text for text, name in names.items() if name.kind is Kind.TEMPLATE]
    left = [f"{text} (not sealed)" for text in templates if text not in sealed]
    left += [f"{text} (invalid)" for text, _, _, limit in rows if text in names and limit == -2]
    if len(templates) > LAYERS * (KEEP + 1):
        left.append(f"{len(templates)} templates: {templates}")
    waiting = Counter(name.owner for name in names.values() if name.kind is Kind.SPARE)
    owners = {owner_of_ready(text) for text in templates}
    left += [f"{count} databases ready for {owner}" for owner, count in waiting.items() if count > POOL]
    left += [f"databases ready for no template ({owner})" for owner in waiting if owner not in owners]
    opened = {text for text, _, allowed, _ in rows if allowed}
    left += [f"{text} (open)" for text, name in names.items() if name.kind is Kind.SPARE and text in opened]
    allowed_kinds = {Kind.TEMPLATE, Kind.SPARE, *([Kind.KEPT] if project.keeps else [])}
    left += [text for text, name in names.items() if name.kind not in allowed_kinds]
    unknown = {text for text, *_ in rows} - names.keys() - foreign - {"postgres", "template0", "template1"}
    return left + sorted(unknown)


def of_a_kept_server(path: Path) -> bool:
    """Whether a path below the root is of a server whose data stay; what PostgreSQL has in them is its own business."""
    known = {
        ".elefast",
        state_file.USERS,
        state_file.SUPERVISOR,
        state_file.START,
        state_file.STATE,
        state_file.LOG,
        "s",
        "cluster",
    }
    match path.parts:
        case ("named",) | ("named", ".elefast" | "cluster"):
            return True
        case ("named", "cluster", *rest):
            return of_a_kept_server(Path("memory", "any", "cluster", *rest))
        case ("memory", name):
            return "-" not in name
        case ("memory", _, name):
            return name in known
        case ("memory", _, "cluster", "data", *rest):
            return rest != ["postmaster.pid"]
        case ("memory", _, "cluster", name):
            return name in {".elefast", "cluster.json", "data", SERVING}
    return False


def half_written(root: Path) -> list[str]:
    """Files of processes that were killed while they wrote down what saves time."""
    directory = root / "caches"
    names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    return [f"caches/{name}" for name in names if name.rpartition(".")[2].isdigit()]
