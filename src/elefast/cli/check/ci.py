"""`elefast check --ci`: a job for a CI system, with a server beside it, the server's URL, and the commands.

A server beside the job works everywhere and needs neither Docker nor PostgreSQL in the job itself. Each job is a file
of `ci_templates`. Users paste it, so it is a whole file, or the part of one that its first line names.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from elefast.cli.check.install import find_install
from elefast.cli.init.project import Project
from elefast.errors import UsageError

if TYPE_CHECKING:
    from elefast.config.model import Settings

__all__ = ["SYSTEMS", "block"]

SYSTEMS = {
    "github": "github.yml",
    "gitlab": "gitlab.yml",
    "circleci": "circleci.yml",
    "azure": "azure.yml",
    "bitbucket": "bitbucket.yml",
    "shell": "shell.sh",
}
"""The template of each CI system, by the system's name."""

_TEMPLATES = Path(__file__).with_name("ci_templates")
_FILES = {
    ".github/workflows": "github",
    ".gitlab-ci.yml": "gitlab",
    ".circleci": "circleci",
    "azure-pipelines.yml": "azure",
    "bitbucket-pipelines.yml": "bitbucket",
}
_PASSWORD = "elefast"
_TUNING = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off"


def block(system: str, settings: Settings, seen: Project) -> str:
    """The text of the job for one CI system.

    Args:
        system: The name of the CI system. If it is empty, the project's files decide; without any, it is GitHub.
        settings: The configuration of the project.
        seen: The files of the project.

    Raises:
        UsageError: There is no such system.
    """
    name = system or next((name for path, name in _FILES.items() if (seen.root / path).exists()), "github")
    if name not in SYSTEMS:
        raise UsageError(f'"{name}" is not known; expected one of {", ".join(SYSTEMS)}', code="unknown-ci-system")
    template = (_TEMPLATES / SYSTEMS[name]).read_text(encoding="utf-8")
    variables = _server_variables(settings.docker.image)
    install, notes = find_install(seen)
    values = {
        "environment": " ".join(f"--env {name}='{value}'" for name, value in variables.items()),
        "image": settings.docker.image,
        "password": _PASSWORD,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "test": "pytest -n auto" if "pytest-xdist" in seen.installed else "pytest",
    }
    repeated = {
        "note": [{"note": note} for note in notes],
        "variable": [{"variable": name, "value": value} for name, value in variables.items()],
        "install": [{"install": command} for command in install],
    }
    return "".join(f"{line}\n" for line in _filled(template, values, repeated))


def _server_variables(image: str) -> dict[str, str]:
    """The environment variables of the server's container."""
    variables = {"POSTGRES_PASSWORD": _PASSWORD}
    major = re.search(r":(\d+)", image)
    # initdb takes settings since PostgreSQL 16.
    if major and int(major[1]) >= 16:
        variables["POSTGRES_INITDB_ARGS"] = _TUNING
    return variables


def _filled(
    template: str, values: Mapping[str, str], repeated: Mapping[str, Sequence[Mapping[str, str]]]
) -> Iterator[str]:
    """The lines of the template with their values.

    Args:
        template: Text with the placeholders of `string.Template`.
        values: The value of each placeholder that has one value.
        repeated: By the placeholder that marks a line: the line stands once for each of these sets of values, so a
            list without elements removes it.
    """
    once: Sequence[Mapping[str, str]] = [{}]
    for line in template.splitlines():
        sets = next((sets for name, sets in repeated.items() if f"${{{name}}}" in line), once)
        yield from (Template(line).substitute(values, **one) for one in sets)
