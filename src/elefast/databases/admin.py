"""Administration of a stack's server by hand: list databases, build and drop templates, clean up, keep it running.

It is for the command line and for tools. Tests use none of it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from elefast.databases.current_checkouts import current
from elefast.databases.inventory import Item, inventory
from elefast.databases.report import bypassed_policies
from elefast.databases.roles import unused_roles
from elefast.databases.sweeper import SweepScope, would_sweep
from elefast.postgres import roles, sql
from elefast.postgres.names import Kind
from elefast.postgres.row_security import RowSecurity
from elefast.templates.store import State, Template

if TYPE_CHECKING:
    from elefast.databases.manager import DatabaseManager
    from elefast.providers import Lease

__all__ = ["ServerAdmin"]


class ServerAdmin:
    """The server of one stack, for commands.

    Args:
        manager: The manager of this process on the server.
        lease: The lease on the server.
        project: The name of the project.
    """

    def __init__(self, manager: DatabaseManager, lease: Lease, project: str) -> None:
        self._manager = manager
        self.project = project
        self.lease = lease

    @property
    def version(self) -> str:
        """The version of PostgreSQL, such as ``18.1``."""
        return self._manager.session.server_info.version_text

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query to the maintenance database."""
        return self._manager.session.call(lambda connection: sql.rows(connection, query))

    def inventory(self) -> list[Item]:
        """The databases of elefast on the server that belong to this role, oldest first.

        Databases of tests that run on this machine now have the name of the test.
        """
        checkouts = current(os.environ)
        return [
            item._replace(project=checkouts[item.name].project, test=checkouts[item.name].test)
            if item.kind is Kind.CLONE and item.name in checkouts
            else item
            for item in self._manager.session.call(inventory)
        ]

    def leftovers(self, *, kept: int = 0, templates: bool = False, all_projects: bool = False) -> list[str]:
        """The names of the databases that `prune` would drop; this drops nothing.

        Args:
            kept: How many kept databases stay.
            templates: Whether to drop templates that no run uses now.
            all_projects: Whether to drop kept databases and templates of other projects, and of none.
        """
        ours = set(self._manager.templates.names) if self._manager.templates else set[str]()
        scope = SweepScope(None if all_projects else self.project, kept, templates)
        return would_sweep(self._manager.session, self._manager.run, ours, scope)

    def prune(self, *, kept: int = 0, templates: bool = False, all_projects: bool = False) -> list[str]:
        """Drop kept databases and those of dead runs; the names of the dropped ones. Arguments as for `leftovers`."""
        return self._manager.sweep(SweepScope(None if all_projects else self.project, kept, templates))

    def unused_roles(self, *, gone: Sequence[str] = (), all_projects: bool = False) -> list[str]:
        """The roles that `prune_roles` would try to drop; this drops nothing.

        Args:
            gone: The databases that will be dropped before.
            all_projects: Whether to drop roles of other projects as well.
        """
        return unused_roles(self._manager.session, None if all_projects else self.project, gone)

    def prune_roles(self, *, all_projects: bool = False) -> tuple[list[str], dict[str, str]]:
        """Drop the roles that elefast has created, and that no template and no process needs any more.

        Returns:
            The dropped roles, and those that stay with the reason.
        """
        return self._manager.prune_roles(None if all_projects else self.project)

    def bypassed_policies(self, role: str, declared: Sequence[str], secured: RowSecurity) -> str:
        """The warning that policies do not apply to the role of the tests; empty where they do.

        Args:
            role: The role; empty for the server's user.
            declared: The declared roles to which they would apply.
            secured: The tables with policies.
        """
        session = self._manager.session
        role = role or session.server_info.role
        bypassed = session.call(roles.bypasses_row_security, role, secured.owners)
        return bypassed_policies(secured.tables, role, [name for name in declared if name != role]) if bypassed else ""

    def template(self, scenario: str = "") -> list[State]:
        """What a run would do for each layer of a template now: reuse or build it; none where databases are empty.

        Args:
            scenario: The scenario of the uppermost layer.
        """
        templates = self._manager.templates
        return [] if templates is None else templates.state("utf8", scenario)

    def build_template(self, scenario: str = "") -> list[Template]:
        """The layers of a template, those built that do not fit; none where databases are empty.

        Args:
            scenario: The scenario of the uppermost layer.

        Raises:
            MigrationError: A layer could not be built.
        """
        self._manager.template(scenario=scenario)
        templates = self._manager.templates
        return [] if templates is None else templates.take_used()

    def drop_templates(self, layer: str = "") -> list[str]:
        """Drop the unused templates of the project, with their spare databases; the names of the templates.

        Args:
            layer: Drop only those of one layer, and those that were built on them.
        """
        templates = self._manager.templates
        return [] if templates is None else templates.drop_all(layer)

    def hold(self) -> None:
        """Keep the server running after the end of this process, until ``elefast down``."""
        self.lease.hold()
