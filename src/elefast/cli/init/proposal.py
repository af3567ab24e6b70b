"""The configuration that a project needs, as far as its files tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from elefast.cli.init.alembic import Alembic
from elefast.cli.init.project import Project
from elefast.cli.init.roles import MentionedRoles, mentioned_roles
from elefast.cli.init.variables import PARTS, Variable
from elefast.config.toml_writer import toml_key

__all__ = ["InitOptions", "Line", "Proposal", "propose", "variable_entries"]


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
class InitOptions:
    """What the user asked for, which wins over what the project's files tell.

    Args:
        driver: The driver of the engines; empty for the project's own.
        is_async: Whether tests are async; None if they are what the application is.
    """

    driver: str = ""
    is_async: bool | None = None


@dataclass
class Proposal:
    """The configuration to write, and notes about it.

    Args:
        lines: The keys, those of the top first.
        is_async: Whether the example test is async.
        notes: Facts that the user should know, each with a remedy.
    """

    lines: list[Line]
    is_async: bool
    notes: list[str] = field(default_factory=list[str])

    def text(self, prefix: str) -> str:
        """As TOML.

        Args:
            prefix: Of the table names: `tool.elefast` in a `pyproject.toml`, empty in an `elefast.toml`.
        """
        from elefast.config.toml_writer import toml_value

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


def propose(project: Project, options: InitOptions) -> Proposal:
    """Propose what this project needs. A key whose default is right is left out."""
    is_async = project.is_async if options.is_async is None else options.is_async
    lines = [*_schema(project), *_variables(project), *_patches(project), *_drivers(project, options, is_async)]
    lines += _roles(mentioned_roles(project))
    lines.sort(key=lambda line: line.table != "")  # a key after a table would belong to that
    proposal = Proposal(lines, is_async)
    proposal.notes += _notes(project, proposal)
    return proposal


def _schema(project: Project) -> list[Line]:
    alembic = project.alembic
    targets = project.sources.declared.targets
    if alembic and alembic.is_flask:
        return _flask(project, alembic)
    if alembic and not (targets and alembic.misses(project.sources.declared.tables)):
        lines = [Line("", "migrator", "alembic", f"{alembic.config} as it is; env.py needs no change")]
        if alembic.config not in ("alembic.ini", "pyproject.toml"):
            lines.append(Line("alembic", "config", alembic.config))
        return lines
    if targets:
        value = targets[0] if len(targets) == 1 else targets
        extensions = project.sources.extensions
        return [
            Line("", "migrator", "metadata"),
            *([Line("", "extensions", extensions)] if extensions else []),
            Line("metadata", "target", value),
        ]
    if project.sql:
        return [Line("", "migrator", "sql"), Line("sql", "files", list(project.sql))]
    return [Line("", "migrator", "none", "or metadata, alembic, sql, callable, command: how tables get there")]


def _roles(mentioned: MentionedRoles) -> list[Line]:
    """The lines for the roles and policies in the migrations."""
    lines: list[Line] = []
    if mentioned.of_tests:
        why = "row-level security does not apply to a superuser" if mentioned.policies else "as in production"
        lines.append(Line("", "role", mentioned.of_tests, why))
    lines += [
        Line(f"roles.{toml_key(name)}", "grants", "none", "the migrations grant what it needs")
        for name in mentioned.declared
    ]
    if mentioned.of_tests and mentioned.of_tests not in mentioned.declared:
        lines.append(Line(f"roles.{toml_key(mentioned.of_tests)}", "grants", "write"))
    return lines


def _flask(project: Project, alembic: Alembic) -> list[Line]:
    """The lines for Flask-Migrate. Its env.py needs the application, so only its own command can run it."""
    named = ["--app", project.sources.flask_app] if project.sources.flask_app else []
    directory = alembic.directory.path.as_posix() if alembic.directory else "migrations"
    where = ["--directory", directory] if directory != "migrations" else []
    variables = [_exported(project, variable) for variable in project.sources.variables.urls.values()]
    return [
        Line("", "migrator", "command", "env.py needs the Flask application, which this command has"),
        Line("command", "run", ["flask", *named, "db", "upgrade", *where]),
        *([Line("command", "env", [name.partition("=")[0] for name in variables])] if variables else []),
        Line("template", "watch", [f"{directory}/**/*.py"], "a change of these builds the template again"),
    ]


def _variables(project: Project) -> list[Line]:
    entries = variable_entries(project)
    return [Line("", "export_env", entries)] if entries else []


def variable_entries(project: Project) -> list[str]:
    """The entries of `export_env` for the variables with the application's URL, or with parts of it."""
    variables = project.sources.variables
    entries = [_exported(project, variable) for variable in variables.urls.values()]
    order = list(PARTS)
    parts = sorted(variables.parts.items(), key=lambda item: order.index(item[1]))
    return entries + [f"{name}={{{part}}}" for name, part in parts]


def _exported(project: Project, variable: Variable) -> str:
    """The entry of a variable, with the driver for the call that makes an engine of it."""
    kinds = variable.kinds
    if variable.adds_driver or kinds == {"raw"}:
        return f"{variable.name}=postgresql"
    if kinds <= {"async", "raw"} and (kinds or (project.is_async and not project.sources.makes_sync_engines)):
        return f"{variable.name}=postgresql+{_async_driver(project)}"
    return variable.name  # for both kinds of engines the URL has psycopg, which can be both


def _async_driver(project: Project) -> str:
    used = _used(project)
    return "psycopg" if "psycopg" in used and "asyncpg" not in used else "asyncpg"


def _used(project: Project) -> set[str]:
    """The drivers that the application names, in URLs, dependencies and imports."""
    found = {_name_of(name) for name in (*project.sources.drivers, *project.declared, *project.sources.imports)}
    return found & {"asyncpg", "psycopg", "psycopg2", "pg8000"}


def _patches(project: Project) -> list[Line]:
    """The entry of `patch`: engines, session factories and URLs that exist from import on."""
    sources = project.sources
    frozen = [target for variable in sources.variables.urls.values() for target in variable.frozen]
    targets = list(dict.fromkeys([*sources.engines, *sources.declared.extensions, *frozen]))
    return [Line("", "patch", targets, "made at import; led to each test's database")] if targets else []


def _drivers(project: Project, options: InitOptions, is_async: bool) -> list[Line]:
    driver = options.driver
    if driver in ("psycopg2", "pg8000") or (driver == "psycopg" and not is_async):
        return [Line("engine", "driver", driver)]
    if driver:
        return [Line("engine", "async_driver", driver)]
    used = _used(project)
    if project.is_async and _async_driver(project) == "psycopg" and "asyncpg" in project.installed:
        return [Line("engine", "async_driver", "psycopg", "the application's own")]
    return [
        Line("engine", "driver", name, "the application's own")
        for name in ("psycopg2", "pg8000")
        if name in used and "psycopg" not in used and not project.is_async
    ][:1]


def _name_of(distribution: str) -> str:
    return "psycopg2" if distribution == "psycopg2-binary" else distribution


def _notes(project: Project, proposal: Proposal) -> list[str]:
    notes: list[str] = []
    for name, place in project.hidden().items():
        notes.append(
            f"{place} has a fixture `{name}` of its own, which wins over elefast's; "
            "`elefast explain from-fixtures` says how to replace it"
        )
    notes += [
        f"{fixture.place}: `{fixture.name}` runs before a test has its database; if it uses the application's, "
        "docs/how-to/from-fixtures.md says what to do"
        for fixture in project.sources.fixtures
        if fixture.is_early
    ]
    for name, place in project.sources.variables.of_tests.items():
        if name in project.sources.variables.urls:
            notes.append(
                f"{place} reads {name}, which now has the URL of each test's database; fixtures of a wider scope than "
                "a test find none there: docs/how-to/from-fixtures.md"
            )
    notes += _notes_on_alembic(project)
    notes += [
        f'a migration creates the role "{name}"; let it do so only where the role does not exist, and declare it with '
        f"[tool.elefast.roles.{toml_key(name)}]: docs/how-to/roles.md"
        for name in mentioned_roles(project).created
    ]
    guides = {"pytest_postgresql": "from-pytest-postgresql", "testcontainers": "from-testcontainers"}
    for module, guide in guides.items():
        if module in project.sources.test_imports or module.replace("_", "-") in project.declared:
            notes.append(f"{module} is in use; `elefast explain {guide}` says what becomes of it")
    if "pytest-django" in project.installed:
        notes.append("pytest-django has a fixture `db` of its own; elefast's is called `elefast_db` then")
    notes += _missing(project, proposal)
    return notes


def _notes_on_alembic(project: Project) -> list[str]:
    alembic = project.alembic
    if alembic is None:
        return []
    notes: list[str] = []
    missing = [] if alembic.is_flask else alembic.misses(project.sources.declared.tables)
    if missing and project.sources.declared.targets:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        notes.append(
            f"the revisions of {alembic.config} begin with tables that they do not create ({shown}), so the models "
            "make the schema, and not Alembic"
        )
    if alembic.others:
        notes.append(f"further Alembic projects are left out: {', '.join(alembic.others)}")
    return notes


def _missing(project: Project, proposal: Proposal) -> list[str]:
    """The distributions to install, one line each."""
    drivers = {str(line.value) for line in proposal.lines if line.table == "engine"}
    wanted: list[tuple[bool, str, str]] = [
        *(
            (True, f"{name} is not installed", "psycopg2-binary" if name == "psycopg2" else name)
            for name in sorted(drivers)
            if not {name, f"{name}-binary"} & project.installed
        ),
        ("pytest" not in project.installed, "pytest is not installed", "pytest>=8"),
        (
            project.alembic is not None and not project.alembic.is_flask and "alembic" not in project.installed,
            "alembic is not installed",
            "elefast[alembic]",
        ),
        (proposal.is_async and "greenlet" not in project.installed, "greenlet is not installed", "elefast[asyncio]"),
        (
            proposal.is_async and not {"pytest-asyncio", "anyio"} & project.installed,
            "no plugin runs async tests",
            "pytest-asyncio",
        ),
    ]
    return [f'{what}: pip install "{package}"' for is_missing, what, package in wanted if is_missing]
