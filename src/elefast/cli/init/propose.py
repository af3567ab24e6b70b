"""The configuration that a project needs, as far as it can be told from a look at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from elefast.cli.init.look import Look

__all__ = ["Line", "Proposal", "Wishes", "propose"]


@dataclass(frozen=True)
class Line:
    """One key.

    Args:
        table: Its table; empty for the top.
        key: Its name.
        value: Its value.
        why: A comment, where a reader would ask why; else empty.
    """

    table: str
    key: str
    value: Any
    why: str = ""


@dataclass(frozen=True)
class Wishes:
    """What the user said, as opposed to what can be seen.

    Args:
        driver: Of the engines; empty for the one that the project has.
        is_async: Whether tests are async; None for as the project is.
    """

    driver: str = ""
    is_async: bool | None = None


@dataclass
class Proposal:
    """What to write, and what to say about it.

    Args:
        lines: The keys, those of the top first.
        is_async: Whether the example test is async.
        notes: Facts that the user should know, each with what to do.
    """

    lines: list[Line]
    is_async: bool
    notes: list[str] = field(default_factory=list[str])

    def text(self, prefix: str) -> str:
        """As TOML.

        Args:
            prefix: Of the table names: `tool.elefast` in a `pyproject.toml`, empty in an `elefast.toml`.
        """
        from elefast.config.writing import toml_value

        out: list[str] = []
        for table in dict.fromkeys(["", *(line.table for line in self.lines)]):
            name = ".".join(part for part in (prefix, table) if part)
            if name:
                out += [*([""] if out else []), f"[{name}]"]
            for line in self.lines:
                if line.table == table:
                    comment = f"  # {line.why}" if line.why else ""
                    out.append(f"{line.key} = {toml_value(line.value)}{comment}")
        return "\n".join(out) + "\n"


def propose(seen: Look, wishes: Wishes) -> Proposal:
    """What this project needs; a key that is as it would be without is left out."""
    is_async = seen.is_async if wishes.is_async is None else wishes.is_async
    lines = [*_schema(seen), *_variables(seen), *_patches(seen), *_drivers(seen, wishes, is_async)]
    lines.sort(key=lambda line: line.table != "")  # a key after a table would belong to that
    proposal = Proposal(lines, is_async)
    proposal.notes += _notes(seen, proposal)
    return proposal


def _schema(seen: Look) -> list[Line]:
    if seen.alembic:
        return [Line("", "migrator", "alembic", f"{seen.alembic} as it is; env.py needs no change")]
    if targets := _targets(seen):
        value = targets[0] if len(targets) == 1 else targets
        return [Line("", "migrator", "metadata"), Line("metadata", "target", value)]
    if seen.sql:
        return [Line("", "migrator", "sql"), Line("sql", "files", list(seen.sql))]
    return [Line("", "migrator", "none", "or metadata, alembic, sql, callable, command: how tables get there")]


def _targets(seen: Look) -> list[str]:
    """What has all tables: modules whose import registers models, each by its base."""
    models = [f"{model.module}:{model.base}" for model in seen.sources.models]
    return list(dict.fromkeys(models)) or list(dict.fromkeys(seen.sources.metadata))


def _variables(seen: Look) -> list[Line]:
    """The variables that the application has its URL from; not those that tests read for a database of their own."""
    names = [*seen.sources.variables, *seen.alembic_variables]
    names = [name for name in dict.fromkeys(names) if name not in seen.sources.test_variables]
    drivers = {_name_of(driver) for driver in seen.sources.drivers}
    # A URL that both kinds of engines are made from says no driver, or an async one.
    entry = "{}=postgresql+asyncpg" if seen.sources.uses_async and "asyncpg" in drivers else "{}"
    return [Line("", "export_env", [entry.format(name) for name in names])] if names else []


def _patches(seen: Look) -> list[Line]:
    engines = seen.sources.engines
    return [Line("", "patch", engines, "made at import; led to each test's database")] if engines else []


def _drivers(seen: Look, wishes: Wishes, is_async: bool) -> list[Line]:
    driver = wishes.driver
    if driver in ("psycopg2", "pg8000") or (driver == "psycopg" and not is_async):
        return [Line("engine", "driver", driver)]
    if driver:
        return [Line("engine", "async_driver", driver)]
    used = {_name_of(name) for name in seen.sources.drivers} | {_name_of(name) for name in seen.declared}
    return [
        Line("engine", "driver", name, "the application's own")
        for name in ("psycopg2", "pg8000")
        if name in used and "psycopg" not in used and not seen.is_async
    ][:1]


def _name_of(distribution: str) -> str:
    return "psycopg2" if distribution == "psycopg2-binary" else distribution


def _notes(seen: Look, proposal: Proposal) -> list[str]:
    notes: list[str] = []
    for name, place in seen.hidden().items():
        notes.append(
            f"{place} has a fixture `{name}` of its own, which wins over elefast's; "
            "docs/how-to/from-fixtures.md says how to replace it"
        )
    for name, place in seen.sources.test_variables.items():
        if name in seen.sources.variables or name in seen.alembic_variables:
            notes.append(
                f'{place} reads {name}, so it is not exported; once no test needs it, write export_env = ["{name}"]'
            )
    guides = {"pytest_postgresql": "from-pytest-postgresql", "testcontainers": "from-testcontainers"}
    for module, guide in guides.items():
        if module in seen.sources.test_imports or module.replace("_", "-") in seen.declared:
            notes.append(f"{module} is in use; docs/how-to/{guide}.md says which lines can go")
    if "pytest-django" in seen.installed:
        notes.append("pytest-django has a fixture `db` of its own; elefast's is called `elefast_db` then")
    notes += _missing(seen, proposal)
    return notes


def _missing(seen: Look, proposal: Proposal) -> list[str]:
    """What is to be installed, one line each."""
    drivers = {str(line.value) for line in proposal.lines if line.table == "engine"}
    wanted: list[tuple[bool, str, str]] = [
        *(
            (True, f"{name} is not installed", "psycopg2-binary" if name == "psycopg2" else name)
            for name in sorted(drivers)
            if not {name, f"{name}-binary"} & seen.installed
        ),
        ("pytest" not in seen.installed, "pytest is not installed", "pytest>=9"),
        (
            bool(seen.alembic) and "alembic" not in seen.installed,
            "alembic is not installed",
            "elefast[alembic]",
        ),
        (proposal.is_async and "greenlet" not in seen.installed, "greenlet is not installed", "elefast[asyncio]"),
        (
            proposal.is_async and not {"pytest-asyncio", "anyio"} & seen.installed,
            "no plugin runs async tests",
            "pytest-asyncio",
        ),
    ]
    return [f'{what}: pip install "{package}"' for is_missing, what, package in wanted if is_missing]
