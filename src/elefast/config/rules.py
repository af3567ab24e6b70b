"""Rules between keys: values that are each valid alone, but not together.

This module must not know where values came from. `load` turns a violation into a line of the error.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from elefast.config import local_hosts
from elefast.config.keys import KeyPath, closest, dotted, variable
from elefast.config.messages import quoted_list, suggestion
from elefast.config.migrator_selection import ESSENTIAL, Migrator, migrator_tables
from elefast.config.model import Settings
from elefast.config.scenarios import broken_scenarios
from elefast.postgres.url_variables import ExportedVariable
from elefast.runtime.text import one_line

__all__ = ["Facts", "Violation", "violations"]

REMOTE_HOST_MESSAGE = (
    "is not this machine; where tests may use it, such as a CI service with a host name of its own, "
    "set engine.allow_remote = true or ELEFAST_ENGINE__ALLOW_REMOTE=true"
)


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts that rules need besides the settings.

    Args:
        written: The tables that the project wrote.
        env: The environment.
        complete: False if a file could not be read. Then a value that a rule misses may be in that file.
    """

    written: Container[object]
    env: Mapping[str, str]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken rule.

    Args:
        path: The key to change.
        message: What is wrong.
        others: Further keys that the rule looked at.
        variable: Set where an environment variable that is not ours is the culprit.
        code: Its name in `elefast.errors.explanations`.
    """

    path: KeyPath
    message: str
    others: tuple[KeyPath, ...] = ()
    variable: str = ""
    code: str = field(kw_only=True)


def violations(settings: Settings, facts: Facts) -> Iterator[Violation]:
    """Every broken rule, in no particular order."""
    for rule in (
        _needed,
        _one_table,
        _contradictions,
        _duplicates,
        _exported_twice,
        _exported_and_needed,
        _engine_options,
        _remote_host_not_allowed,
        _scenarios,
        _role_names,
        _role_not_declared,
        _role_memberships,
        _role_and_connect_args,
    ):
        yield from rule(settings, facts)


def _needed(settings: Settings, facts: Facts) -> Iterator[Violation]:
    """A provider or migrator that cannot work without a value of its own table."""
    if settings.provider == "url" and not settings.engine.url:
        yield _lacks(("provider",), "url", ("engine", "url"))
    kinds: list[Migrator] = (
        [settings.migrator] if settings.migrator != "auto" else migrator_tables(settings, facts.written)
    )
    for kind in kinds[:1]:
        if kind != "none" and not getattr(getattr(settings, kind), ESSENTIAL[kind]):
            yield _lacks(("migrator",), kind, (kind, ESSENTIAL[kind]))


def _lacks(selector: KeyPath, kind: str, needed: KeyPath) -> Violation:
    message = f'"{kind}" needs {dotted(needed)}; write it, or set {variable(needed)}'
    return Violation(selector, message, (needed, needed[:1]), code="missing-value")


def _one_table(settings: Settings, facts: Facts) -> Iterator[Violation]:
    kinds = migrator_tables(settings, facts.written)
    if settings.migrator == "auto" and len(kinds) > 1:
        message = f'"auto" means the one migrator table that is written, but {quoted_list(kinds)} are: choose one'
        yield Violation(("migrator",), message, tuple((kind,) for kind in kinds), code="several-migrators")


def _contradictions(settings: Settings, _: Facts) -> Iterator[Violation]:
    tuning = settings.tuning
    level: KeyPath = ("tuning", "wal_level")
    if tuning.wal_level == "minimal" and tuning.max_wal_senders > 0:
        path = ("tuning", "max_wal_senders")
        yield Violation(path, 'must be 0 with tuning.wal_level = "minimal"', (level,), code="conflicting-keys")
    if tuning.wal_level == "minimal" and tuning.archive_mode:
        yield Violation(
            ("tuning", "archive_mode"),
            'must be false with tuning.wal_level = "minimal"',
            (level,),
            code="conflicting-keys",
        )


def _duplicates(settings: Settings, _: Facts) -> Iterator[Violation]:
    """Server settings that are keys as well. If both were set, one would silently lose."""
    for name in settings.tuning.settings:
        own = "log_statements" if name.lower() == "log_statement" else name.lower()
        if own != "settings" and own in type(settings.tuning).model_fields:
            yield Violation(
                ("tuning", "settings", name), f"has a key of its own, write tuning.{own}", code="reserved-setting"
            )


def _exported_twice(settings: Settings, _: Facts) -> Iterator[Violation]:
    for path in (("export_env",), ("alembic", "env"), ("command", "env")):
        written: Sequence[str] = settings.export_env if len(path) == 1 else getattr(settings, path[0]).env
        names = [ExportedVariable.parse(entry).name for entry in dict.fromkeys(written)]
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            message = f"{quoted_list(twice)} {'is' if len(twice) == 1 else 'are'} listed twice, with different values"
            yield Violation(path, message, code="conflicting-keys")


def _exported_and_needed(settings: Settings, _: Facts) -> Iterator[Violation]:
    """Variables of libpq that elefast itself needs for `engine.url`, and that `export_env` would overwrite."""
    if not settings.engine.url or settings.provider not in ("auto", "url"):
        return
    named = local_hosts.named_in(settings.engine.url)
    exported = {ExportedVariable.parse(entry).name for entry in settings.export_env}
    needed = {name: part for name, part in _LIBPQ.items() if name in exported and part not in named}
    if needed:
        yield Violation(
            ("export_env",),
            f"{' and '.join(needed)} cannot be set for tests, because engine.url names no "
            f"{' and no '.join(needed.values())}, so that libpq takes {'it' if len(needed) == 1 else 'them'} from "
            f"{'this variable' if len(needed) == 1 else 'these variables'}; write "
            f"{'it' if len(needed) == 1 else 'them'} into engine.url",
            (("engine", "url"),),
            code="conflicting-keys",
        )


_LIBPQ = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password"}
"""What libpq takes from the environment where a URL does not say it."""


def _engine_options(settings: Settings, _: Facts) -> Iterator[Violation]:
    """Keywords of create_engine() that are keys as well, or that would connect every engine to one database."""
    for name in settings.engine.options:
        path: KeyPath = ("engine", "options", name)
        if name in type(settings.engine).model_fields:
            yield Violation(path, f"has a key of its own, write engine.{name}", code="reserved-setting")
        elif name == "creator":
            message = "would lead every engine to one database, write engine.connect_args"
            yield Violation(path, message, code="reserved-setting")


def _remote_host_not_allowed(settings: Settings, facts: Facts) -> Iterator[Violation]:
    engine = settings.engine
    if not engine.url or engine.allow_remote or settings.provider not in ("auto", "url"):
        return
    url: KeyPath = ("engine", "url")
    looked_at: tuple[KeyPath, ...] = (url, ("engine", "allow_remote"), ("provider",))
    if host := local_hosts.remote_host(engine.url):
        yield Violation(url, f"the host {_quoted(host)} {REMOTE_HOST_MESSAGE}", looked_at, code="remote-host")
    for name in ("connect_args", "async_connect_args"):
        if host := local_hosts.remote_in_arguments(getattr(engine, name)):
            yield Violation(
                ("engine", name), f"the host {_quoted(host)} {REMOTE_HOST_MESSAGE}", looked_at, code="remote-host"
            )
    # Drivers read the variables of the process, even if the configuration was read from another environment.
    arguments = (engine.connect_args, engine.async_connect_args)
    libpq, host = local_hosts.remote_in_environment(engine.url, arguments, facts.env, os.environ)
    if libpq:
        yield Violation(
            url, f"the host {_quoted(host)} {REMOTE_HOST_MESSAGE}", looked_at, variable=libpq, code="remote-host"
        )


def _scenarios(settings: Settings, _: Facts) -> Iterator[Violation]:
    for path, message, code in broken_scenarios(settings):
        yield Violation(path, message, code=code)


_LONGEST_ROLE = 63
_RESERVED_ROLES = ("public", "none", "current_user", "current_role", "session_user")


def _role_names(settings: Settings, _: Facts) -> Iterator[Violation]:
    """Names that PostgreSQL does not take for a role, or would cut."""
    for name in settings.roles:
        if not name or len(name.encode()) > _LONGEST_ROLE:
            message = f"the name of a role has 1 to {_LONGEST_ROLE} bytes"
        elif name.startswith("pg_") or name in _RESERVED_ROLES:
            message = "PostgreSQL reserves this name; choose another one for the role"
        else:
            continue
        yield Violation(("roles", name), message, code="role-name")


def _role_not_declared(settings: Settings, facts: Facts) -> Iterator[Violation]:
    name = settings.role
    if name and name not in settings.roles:
        better = suggestion(closest(name, settings.roles))
        known = f"the known ones are {quoted_list(settings.roles)}" if settings.roles else "there is no table of a role"
        found = f"{_quoted(name)} is not declared, {known}{better or '.'}"
        message = f"{found} Write the table [roles.{name}]"
        yield Violation(("role",), message, (("roles",),), code="unknown-role")


def _role_memberships(settings: Settings, _: Facts) -> Iterator[Violation]:
    """Roles that are members of themselves, by way of others or not."""
    for name in settings.roles:
        reached: set[str] = set()
        ahead = list(settings.roles[name].member_of)
        while ahead:
            other = ahead.pop()
            if other in settings.roles and other not in reached:
                reached.add(other)
                ahead += settings.roles[other].member_of
        if name in reached:
            message = f"{_quoted(name)} would be a member of itself, which PostgreSQL refuses"
            yield Violation(("roles", name, "member_of"), message, code="conflicting-keys")


def _role_and_connect_args(settings: Settings, _: Facts) -> Iterator[Violation]:
    """Arguments of the driver that would lead to another user than the role."""
    for table in ("connect_args", "async_connect_args"):
        for name in ("user", "password"):
            if settings.roles and name in getattr(settings.engine, table):
                message = "would win over the role that tests connect as; take it out, engine.url has a place for it"
                yield Violation(("engine", table, name), message, (("roles",), ("role",)), code="conflicting-keys")


def _quoted(host: str) -> str:
    return host if host.startswith("of ") else f'"{one_line(host)}"'
