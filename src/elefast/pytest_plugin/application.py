"""Leads the application under test to a database: by the variables of `export_env`, and by the objects of `patch`.

Several databases may want the application at once: that of a session's fixture, that of a module, that of a test. The
last one has it. When that one is over, the application goes back to the one before.
This module must not know where databases come from, or how long they live.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elefast.isolation.database import DatabaseCheckout
    from elefast.isolation.transaction import TransactionCheckout
    from elefast.pytest_plugin.export_env import ExportedEnvironment
    from elefast.pytest_plugin.patch import Patch
    from elefast.pytest_plugin.stale_connections import StaleConnections

    Checkout = DatabaseCheckout | TransactionCheckout

__all__ = ["Application"]


class Application:
    """The application of one run.

    Args:
        environment: The variables of `export_env`.
        patch: The targets of `patch`; None without any.
        stale_connections: Knows the connections of the application.
    """

    def __init__(
        self, environment: ExportedEnvironment, patch: Patch | None, stale_connections: StaleConnections
    ) -> None:
        self._environment = environment
        self._patch = patch
        self._stale_connections = stale_connections
        self._wanting: list[Checkout] = []
        """The databases that want the application; the last one has it."""
        self._end = ExitStack()
        """Ends what leads the application to its present database."""

    def check(self) -> None:
        """Check that every target of `patch` can be led to a database.

        Raises:
            ConfigurationError: A target cannot.
        """
        if self._patch is not None:
            self._patch.check()

    @contextmanager
    def leading_to(self, database: Checkout) -> Generator[None]:
        """Lead the application to `database` until the end of the block.

        Raises:
            ConfigurationError: A target of `patch` does not exist, or is of a kind that cannot be patched.
        """
        self.lead_to(database)
        try:
            yield
        finally:
            self.leave(database)

    def lead_to(self, database: Checkout) -> None:
        """Lead the application to `database` from now on; see `leading_to`."""
        self._end.close()
        try:
            self._lead_to(database)
        except BaseException:
            self._go_back()
            raise
        self._wanting.append(database)

    def leave(self, database: Checkout) -> None:
        """End `lead_to`; the application goes back to the database that had it before, if that still wants it."""
        if database not in self._wanting:
            return
        has_it = self._wanting[-1] is database
        self._wanting.remove(database)
        if has_it:
            self._end.close()
            self._go_back()

    def _go_back(self) -> None:
        if self._wanting:
            self._lead_to(self._wanting[-1])

    def _lead_to(self, database: Checkout) -> None:
        with ExitStack() as end:
            if database.is_private:
                end.enter_context(self._environment.during_test(database.url_for))
            if self._patch is not None:
                end.enter_context(self._patch.during_test(database))
                if self._patch.clears_caches and database.is_private:
                    # This runs before the caches are cleared, because that would lose the pools to be closed.
                    end.callback(self._stale_connections.close_idle, database.name)
            self._end = end.pop_all()
