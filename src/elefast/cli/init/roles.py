"""The roles and policies that the SQL of a project's migrations mentions, as far as its text tells."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from elefast.cli.init.project import Project

__all__ = ["MentionedRoles", "mentioned_roles"]

_LONGEST = 2_000_000
_NAME = r'(?:"(?P<quoted>[^"\s{}%]+)"|(?P<plain>[A-Za-z_][A-Za-z0-9_$]*))'
_POLICY = re.compile(r"\bCREATE\s+POLICY\b|\bENABLE\s+ROW\s+LEVEL\s+SECURITY\b", re.IGNORECASE)
_CREATED = re.compile(rf"\bCREATE\s+(?:ROLE|USER)\s+{_NAME}", re.IGNORECASE)
_GUARD = re.compile(r"\bduplicate_object\b|\bpg_roles\b|\bpg_authid\b", re.IGNORECASE)
_OWNER = re.compile(rf"\b(?:OWNER\s+TO|AUTHORIZATION)\s+{_NAME}", re.IGNORECASE)
_GRANTEE = re.compile(
    rf"\bGRANT\b[^;]*?\bON\b[^;]*?\bTO\s+{_NAME}|\bCREATE\s+POLICY\b[^;]*?\bTO\s+{_NAME.replace('?P<', '?P<policy_')}",
    re.IGNORECASE,
)
_NO_ROLES = {"public", "postgres", "current_user", "current_role", "session_user", "group", "default", "none"}


class MentionedRoles(NamedTuple):
    """The roles that migrations mention.

    Args:
        policies: Whether there are policies.
        grantees: The roles that get rights, or that policies are for.
        owners: The roles that own objects.
        created: The roles that the migrations create, whether they exist or not.
    """

    policies: bool
    grantees: tuple[str, ...]
    owners: tuple[str, ...]
    created: tuple[str, ...]

    @property
    def of_tests(self) -> str:
        """The role that tests should have; empty if there is no reason for one."""
        free = [name for name in self.grantees if name not in self.owners and name not in self.created]
        if free:
            return free[0]
        return "app" if self.policies and not self.created else ""

    @property
    def declared(self) -> tuple[str, ...]:
        """The roles that have to exist before the migrations run."""
        names = dict.fromkeys([*self.grantees, *self.owners])
        return tuple(name for name in names if name not in self.created)


def mentioned_roles(project: Project) -> MentionedRoles:
    """Search the project's SQL files and revisions; nothing of it runs."""
    policies = False
    grantees: dict[str, None] = {}
    owners: dict[str, None] = {}
    created: dict[str, None] = {}
    for text in _texts(project):
        policies = policies or bool(_POLICY.search(text))
        grantees |= dict.fromkeys(_names(_GRANTEE, text))
        owners |= dict.fromkeys(_names(_OWNER, text))
        if not _GUARD.search(text):
            created |= dict.fromkeys(_names(_CREATED, text))
    return MentionedRoles(policies, tuple(grantees), tuple(owners), tuple(created))


def _texts(project: Project) -> Iterator[str]:
    paths = [project.root / path for path in project.sources.tree.sql]
    alembic = project.alembic.directory if project.alembic else None
    if alembic is not None:
        directory = project.root / alembic.path
        paths += [*sorted(directory.rglob("*.py")), *sorted(directory.rglob("*.sql"))]
    for path in dict.fromkeys(map(Path, paths)):
        try:
            yield path.read_text(encoding="utf-8", errors="replace")[:_LONGEST]
        except OSError:
            continue


def _names(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    for match in pattern.finditer(text):
        found = match.groupdict()
        quoted = found.get("quoted") or found.get("policy_quoted")
        plain = found.get("plain") or found.get("policy_plain")
        name = quoted or (plain or "").lower()  # PostgreSQL folds what is not quoted
        if name and name.lower() not in _NO_ROLES and not name.startswith("pg_"):
            yield name
