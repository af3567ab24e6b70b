"""Probes of the server: that it answers and fits, what the role may, the template, what earlier runs have left."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from elefast.cli._server import decisive_build, template_in_words
from elefast.cli.check._probe import Probe, ProbeResult, bad, good, not_checked, warning
from elefast.postgres.names import Kind

if TYPE_CHECKING:
    from elefast.databases.admin import ServerAdmin
    from elefast.stack import Stack

__all__ = ["ServerProbes"]


class ServerProbes:
    """The probes.

    Args:
        stack: Of the project.
        start: Start the server where it does not run, and try everything once.
    """

    def __init__(self, stack: Stack, *, start: bool) -> None:
        self._stack = stack
        self._start = start
        self._admin: ServerAdmin | None = None

    def probes(self) -> list[Probe]:
        """In the order in which they make sense to a reader."""
        return [
            Probe("server", self.server),
            Probe("role", self.role, ["server"]),
            Probe("settings", self.settings, ["server"]),
            Probe("connections", self.connections, ["server"]),
            Probe("extensions", self.extensions, ["server"]),
            Probe("template", self.template, ["server"]),
            Probe("row security", self.row_security, ["server"]),
            Probe("leftovers", self.leftovers, ["server"]),
            Probe("one database", self.one_database, ["server"]),
        ]

    def server(self) -> ProbeResult:
        """Whether the server answers. A connection also checks its version, and refuses a standby and a pooler."""
        if not self._start and not self._stack.server_runs():
            return not_checked("it does not run, and nothing is started; elefast check --start starts it")
        self._admin = self._stack.admin(timeout=30 if self._start else 3)
        return good(f"{self._admin.lease.description}, PostgreSQL {self._admin.version}")

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        assert self._admin is not None, "`server` has found none"
        return self._admin.ask(query)

    def role(self) -> ProbeResult:
        """What the role may."""
        ((name, superuser),) = self._ask("select rolname, rolsuper from pg_roles where rolname = current_user")
        if superuser:
            return good(f"{name}, superuser")
        return warning(
            f"{name} may create databases, but is no superuser: sessions of superusers cannot be ended, and extensions "
            "that are not trusted cannot be created",
            f'on a server for tests: ALTER ROLE "{name}" SUPERUSER',
        )

    def settings(self) -> ProbeResult:
        """Whether an existing server is tuned for tests; elefast tunes the servers that it starts."""
        assert self._admin is not None
        if self._admin.lease.owned:
            return not_checked("elefast has tuned it")
        rows = self._ask(
            "select name, setting from pg_settings where name in ('fsync', 'synchronous_commit', 'full_page_writes')"
        )
        costly = [name for name, value in sorted(rows) if value != "off"]
        if not costly:
            return good("fsync, synchronous_commit and full_page_writes are off")
        return warning(
            f"{', '.join(costly)} on: databases are made and dropped several times slower than they need be",
            "where its data may be lost, start it with " + " ".join(f"-c {name}=off" for name in costly),
        )

    def connections(self) -> ProbeResult:
        """Whether a worker for each processor has enough of them."""
        ((most, used),) = self._ask(
            "select current_setting('max_connections')::int, (select count(*) from pg_stat_activity where datid > 0)"
        )
        workers = os.cpu_count() or 1
        # What a worker has at once: its run, two for the pool, two ahead, and an engine of the test's.
        each = 5 + self._stack.settings.engine.pool_size
        text = f"{most} at most, {used} in use; {workers} workers may want {workers * each}"
        if most - used < workers * each:
            fewer = max(1, (most - used) // each)
            return warning(text, f"raise max_connections, or use fewer workers: pytest -n {fewer}")
        return good(text)

    def extensions(self) -> ProbeResult:
        """Whether those that the project needs can be created."""
        wanted = self._stack.settings.extensions
        if not wanted:
            return not_checked("the project names none")
        there = {name for (name,) in self._ask("select name from pg_available_extensions")}
        missing = [name for name in wanted if name not in there]
        if missing:
            return bad(
                f"the server does not have {', '.join(missing)}",
                "install its package on the server, or use an image that has it",
            )
        return good(", ".join(wanted))

    def template(self) -> ProbeResult:
        """Whether there is one that fits, or why one would be built; nothing is built unless asked for."""
        assert self._admin is not None
        if self._start:
            made = self._admin.build_template(self._stack.settings.scenario)
            return good(decisive_build(made).reason) if made else not_checked("databases are empty")
        states = self._admin.template(self._stack.settings.scenario)
        return good(template_in_words(states)) if states else not_checked("databases are empty")

    def row_security(self) -> ProbeResult:
        """Whether the policies of the template apply to the role of the tests."""
        assert self._admin is not None
        states = self._admin.template(self._stack.settings.scenario)
        secured = states[-1].row_security if states else None
        if secured is None or not secured.tables:
            return not_checked("there is no template with row-level security")
        settings = self._stack.settings
        declared = [name for name, one in settings.roles.items() if not one.bypass_rls]
        if found := self._admin.bypassed_policies(settings.role, declared, secured):
            fact, _, remedy = found.partition(" Add to ")
            return warning(fact, f"add to {remedy}")
        return good(f"{secured.tables} tables have it, and it applies to {settings.role or 'the tests'}")

    def leftovers(self) -> ProbeResult:
        """What `elefast prune` would drop."""
        assert self._admin is not None
        found = self._admin.leftovers()
        kept = sum(1 for item in self._admin.inventory() if item.kind is Kind.KEPT and item.name in found)
        if found:
            return warning(
                f"{len(found)} databases of earlier runs, {kept} of them kept for inspection",
                "elefast prune drops them",
            )
        return good("nothing of earlier runs but what later ones use")

    def one_database(self) -> ProbeResult:
        """A clone, a connection with the project's driver, and a drop."""
        if not self._start:
            return not_checked("elefast check --start makes one, connects to it and drops it")
        with self._stack.server.create_database() as database, database.engine.connect() as connection:
            connection.exec_driver_sql("select 1")
        return good(f"made, connected to with {database.engine.url.drivername}, dropped")
