"""`elefast url`: how another program reaches the server, password and all."""

from __future__ import annotations

import argparse

from elefast.cli._output import add_all_projects, add_profile

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "url"
HELP = "print the URL of the running server, or of a database on it, with its password"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("database", nargs="?", help="a database, or the test that it was kept of, or a part of either")
    parser.add_argument(
        "--driver", metavar="NAME", help="as SQLAlchemy writes it, such as postgresql+asyncpg; default: as libpq does"
    )
    add_all_projects(parser)
    add_profile(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print it.

    Raises:
        ServerUnavailableError: The server does not run.
        UsageError: There is no such database, or there are several.
    """
    from elefast.cli._choose_database import chosen
    from elefast.cli._server import running
    from elefast.postgres.urls import dsn

    with running(arguments) as stack:
        admin = stack.admin()
        name = None
        if arguments.database:
            everything = arguments.all_projects
            name = chosen(admin.inventory(), arguments.database, stack.project, everything=everything).name
        if arguments.driver:
            print(stack.service.url_for(arguments.driver, name).render_as_string(hide_password=False))
        else:
            print(dsn(stack.service.url_for(database=name)))
    return 0
