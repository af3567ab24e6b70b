"""The address of a template as environment variables, for code and programs that look there."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import URL

from elefast.postgres import libpq
from elefast.postgres.url_variables import ExportedVariable
from elefast.postgres.urls import host_of, libpq_url, port_of, with_driver

__all__ = ["libpq_environment", "variables"]

# What would lead libpq elsewhere than the host, port and database that we name.
_MISLEADING = ("PGSERVICE", "PGSERVICEFILE", "PGHOSTADDR", "PGTARGETSESSIONATTRS", "PGLOADBALANCEHOSTS")

_OF_THE_ROLE = ("PGUSER", "PGPASSWORD")

# What else a URL may say that a connection would fail without.
_FURTHER = {
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "options": "PGOPTIONS",
}


def variables(url: URL, templates: Mapping[str, str], driver: str = "psycopg") -> dict[str, str]:
    """Environment variables with the URL of the template, or with parts of it.

    Args:
        url: The template.
        templates: Name of each variable, and what it holds, as `ExportedVariable.template` has it.
        driver: The driver of URLs that name none.
    """

    def url_for(drivername: str) -> URL:
        return with_driver(url, drivername or f"postgresql+{driver}")

    return {name: ExportedVariable(name, template).value(url_for) for name, template in templates.items()}


def libpq_environment(
    url: URL, environment: Mapping[str, str], application_name: str, *, owned: bool = False
) -> dict[str, str]:
    """`environment` such that libpq and the programs of PostgreSQL meet the template without being told.

    Where the URL names no user or has no password, these variables say it to elefast, and so they do to others.

    Args:
        url: The template.
        environment: That of this process.
        application_name: What the server calls connections that do not name themselves.
        owned: Elefast has started the server, so libpq's variables in `environment` are meant for another one.
    """
    plain = libpq_url(url)
    misleading = libpq.VARIABLES if owned else _MISLEADING
    result = {name: value for name, value in environment.items() if name not in misleading}
    for name, value in (
        ("PGHOST", host_of(plain)),
        ("PGPORT", str(port_of(plain))),
        ("PGUSER", plain.username),
        ("PGPASSWORD", plain.password),
        ("PGDATABASE", plain.database),
        ("PGAPPNAME", application_name),
        *((variable, plain.query.get(option)) for option, variable in _FURTHER.items() if option in plain.query),
    ):
        if value:
            result[name] = str(value)
        elif name not in _OF_THE_ROLE:
            result.pop(name, None)
    return result
