"""Entries of `export_env`, `alembic.env` and `command.env`: environment variables with the URL of a database.

    DATABASE_URL                              the URL, with the configured driver
    DATABASE_URL=postgresql+asyncpg           the URL, with this driver
    PGPORT={port}                             a part of the URL
    APP_DSN=host={host} dbname={database}     text with parts

The pytest plugin reads entries before any conftest is imported. Therefore this module does not import SQLAlchemy
until a value for a real database is needed, and never imports pydantic.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from string import Formatter
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["PARTS", "PATTERN", "ExportedVariable", "MalformedEntryError", "variable_values"]

PARTS = ("url", "host", "port", "user", "password", "database")
"""The parts of a URL that a template may contain in braces."""

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_DRIVER = r"postgresql(\+[a-z0-9_]+)?"
_TEXT = r"([^{}]|\{\{|\}\})*"
PATTERN = rf"{_NAME}(=({_DRIVER}|{_TEXT}(\{{({'|'.join(PARTS)})\}}{_TEXT})+))?"
"""A regular expression for a whole entry, also for JSON Schema."""

_EXPECTED = '"NAME", "NAME=postgresql", "NAME=postgresql+driver" or "NAME={host}"'

# No server listens on this port, which was tcpmux's. The host name alone would not protect an application that reads
# only the port from the environment and connects to "localhost" by default.
_UNREACHABLE_PORT = "1"
_UNREACHABLE_DATABASE = "request_the_db_fixture"


class MalformedEntryError(ValueError):
    """An entry that cannot be parsed.

    Args:
        expected: The forms that are valid.
        advice: The correction, such as `did you mean "{host}"?`; may be empty.
    """

    def __init__(self, expected: str, advice: str = "") -> None:
        super().__init__(f"expected {expected}" + (f" ({advice})" if advice else ""))
        self.expected = expected
        self.advice = advice


class ExportedVariable(NamedTuple):
    """An environment variable that holds the URL of a database, or parts of it.

    Args:
        name: The name of the variable.
        template: A driver such as ``postgresql+asyncpg``, or text with parts in braces such as ``{host}``.
            Empty for the URL with the configured driver.
    """

    name: str
    template: str = ""

    @classmethod
    def parse(cls, entry: str) -> Self:
        """Parse an entry of the configuration.

        Raises:
            MalformedEntryError: The entry is malformed. The error has the valid forms and, if possible, a correction.
        """
        name, equals, template = entry.partition("=")
        if not re.fullmatch(PATTERN, entry):
            better = f"{name.strip()}={template.strip()}" if equals else name.strip()
            if better != entry and re.fullmatch(PATTERN, better):
                raise MalformedEntryError(_EXPECTED, f'did you mean "{better}"?')
            _check_template(template)
            raise MalformedEntryError(_EXPECTED)
        if "\0" in template:
            raise MalformedEntryError("a template without NUL characters")
        return cls(name, template)

    @property
    def driver(self) -> str:
        """The driver of the URL that the variable holds; empty for the configured driver, and for text with parts."""
        return "" if "{" in self.template else self.template

    @property
    def parts(self) -> frozenset[str]:
        """The parts that the variable holds: ``url`` if it holds the whole URL, or ``host`` and others."""
        if "{" not in self.template:
            return frozenset(["url"])
        return frozenset(field for _, field, _, _ in Formatter().parse(self.template) if field is not None)

    def value(self, url_for: Callable[[str], URL]) -> str:
        """The value of the variable for a database.

        Parts are not percent-encoded. A part that the URL does not have is empty.

        Args:
            url_for: Returns the URL of the database for a driver; ``""`` stands for the configured driver.
        """
        from elefast.postgres.urls import dsn, host_of, libpq_url, port_of

        if self.driver == "postgresql":
            return dsn(url_for("postgresql"))
        if "{" not in self.template:
            return url_for(self.template).render_as_string(hide_password=False)
        plain = libpq_url(url_for("postgresql"))
        values = {
            "host": host_of(plain) or "",
            "port": str(port_of(plain)),
            "user": plain.username or "",
            "password": str(plain.password or ""),
            "database": plain.database or "",
        }
        if "url" in self.parts:
            values["url"] = url_for("").render_as_string(hide_password=False)
        return self.template.format_map(values)

    def unreachable(self, host: str, driver: str) -> str:
        """The value of the variable outside of tests that have a database: of the same form, but unreachable.

        Args:
            host: A host name that never resolves, and that explains why.
            driver: The configured driver, such as ``postgresql+psycopg``.
        """
        if "{" not in self.template:
            return _unreachable_url(host, self.template or driver)
        return self.template.format_map(
            {
                "url": _unreachable_url(host, driver),
                "host": host,
                "port": _UNREACHABLE_PORT,
                "user": "elefast",
                "password": "elefast",
                "database": _UNREACHABLE_DATABASE,
            }
        )


def variable_values(url: URL, templates: Mapping[str, str], driver: str = "psycopg") -> dict[str, str]:
    """The values of several variables for the database of `url`.

    Args:
        url: The URL of the database.
        templates: The `ExportedVariable.template` of each variable, by its name.
        driver: The driver for URLs whose template names none.
    """
    from elefast.postgres.urls import with_driver

    def url_for(drivername: str) -> URL:
        return with_driver(url, drivername or f"postgresql+{driver}")

    return {name: ExportedVariable(name, template).value(url_for) for name, template in templates.items()}


def _unreachable_url(host: str, driver: str) -> str:
    return f"{driver}://elefast@{host}/elefast"


def _check_template(template: str) -> None:
    """Raise a specific error for text that should have parts in braces.

    Raises:
        MalformedEntryError: The mistake is one that this function knows.
    """
    if template in _DRIVERS:
        raise MalformedEntryError(_EXPECTED, f'did you mean "postgresql+{template}"?')
    if template.strip() in PARTS:
        raise MalformedEntryError(_EXPECTED, f'a part stands in braces, did you mean "{{{template.strip()}}}"?')
    try:
        fields = [
            (field, bool(form or conversion))
            for _, field, form, conversion in Formatter().parse(template)
            if field is not None
        ]
    except ValueError:
        raise MalformedEntryError(
            "a template whose braces are closed", 'write "{{" and "}}" for braces that are meant as such'
        ) from None
    for field, decorated in fields:
        if decorated and field in PARTS:
            raise MalformedEntryError("a part without a format", f'did you mean "{{{field}}}"?')
        if field not in PARTS:
            likely = difflib.get_close_matches(_SYNONYMS.get(field.lower(), field.lower()), PARTS, n=1)
            advice = f'unknown part "{{{field[:40]}}}"' + (f', did you mean "{{{likely[0]}}}"?' if likely else "")
            raise MalformedEntryError(f"the parts {', '.join(PARTS)}", advice)


_DRIVERS = frozenset(["psycopg", "psycopg2", "asyncpg", "pg8000"])

_SYNONYMS = {
    "server": "host",
    "hostname": "host",
    "address": "host",
    "username": "user",
    "role": "user",
    "pass": "password",
    "pwd": "password",
    "db": "database",
    "dbname": "database",
    "name": "database",
    "dsn": "url",
    "uri": "url",
}
"""The names of other tools for the parts."""
