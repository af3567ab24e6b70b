"""What people do with a stack's server by hand: look at what is there, build and drop templates, clean up, hold it.

Tests do none of this; it is for the command line and for tools.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from elefast.databases.current_checkouts import current
from elefast.databases.inventory import Item, inventory
from elefast.databases.sweeper import Scope, would_sweep
from elefast.postgres import sql
from elefast.postgres.names import Kind
from elefast.templates.store import State, Template

if TYPE_CHECKING:
    from elefast.databases.manager import DatabaseManager
    from elefast.providers import Lease

__all__ = ["ServerAdmin"]


class ServerAdmin:
    """The server of one stack, for whoever looks after it.

    Args:
        control: On the server.
        lease: The server.
        project: The stack's.
    """

    def __init__(self, control: DatabaseManager, lease: Lease, project: str) -> None:
        self._control = control
        self.project = project
        self.lease = lease

    @property
    def version(self) -> str:
        """Of PostgreSQL, such as ``18.1``."""
        return self._control.session.server_info.version_text

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query to the maintenance database."""
        return self._control.session.call(lambda connection: sql.rows(connection, query))

    def inventory(self) -> list[Item]:
        """Every database of elefast's own on the server, of this role, oldest first.

        Those of tests that run on this machine are shown with the test.
        """
        has = current(os.environ)
        return [
            item._replace(project=has[item.name].project, test=has[item.name].test)
            if item.kind is Kind.CLONE and item.name in has
            else item
            for item in self._control.session.call(inventory)
        ]

    def leftovers(self, *, kept: int = 0, templates: bool = False, all_projects: bool = False) -> list[str]:
        """The names of what `prune` would drop; it drops nothing.

        Args:
            kept: How many databases that were kept for a look would stay.
            templates: Templates that no run uses now as well.
            all_projects: Kept databases and templates of other projects as well, and those that name no project.
        """
        ours = set(self._control.templates.names) if self._control.templates else set[str]()
        scope = Scope(None if all_projects else self.project, kept, templates)
        return would_sweep(self._control.session, self._control.run, ours, scope)

    def prune(self, *, kept: int = 0, templates: bool = False, all_projects: bool = False) -> list[str]:
        """Drop kept databases and what dead runs left; the names of what went. Arguments as for `leftovers`."""
        return self._control.sweep(Scope(None if all_projects else self.project, kept, templates))

    def template(self) -> State | None:
        """What would become of a template that is asked for now; None where databases are empty."""
        templates = self._control.templates
        return None if templates is None else templates.state("utf8")

    def build_template(self) -> Template | None:
        """The template, built if there is none that fits; None where databases are empty.

        Raises:
            MigrationError: It could not be built.
        """
        return self._control.template()

    def drop_templates(self) -> list[str]:
        """Drop the project's templates that nobody uses, with the databases that wait for them; their names."""
        templates = self._control.templates
        return [] if templates is None else templates.drop_all()

    def hold(self) -> None:
        """Leave the server running when this process has gone, until ``elefast down``."""
        self.lease.hold()
