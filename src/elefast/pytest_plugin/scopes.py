"""The marker's `scope`: the tests of a class, module, package or session share one database, in their order.

    setup of the first test ──► check out, lead the application to it ──► fixtures of the scope, then the test
    teardown of the last one ──► its fixtures, then those of the scope ──► release

A test that does not belong to the scope never has its database: the application is led away from it meanwhile.
This module knows nodes of pytest and checkouts. It must not know fixtures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from elefast.errors import RefusedError

if TYPE_CHECKING:
    from elefast.databases.report import Leak
    from elefast.isolation.database import DatabaseCheckout
    from elefast.pytest_plugin.application import Application
    from elefast.pytest_plugin.item_options import ItemOptions
    from elefast.pytest_plugin.stale_connections import StaleConnections
    from elefast.stack import Stack

__all__ = ["SharedScopes", "marks_scope"]

_ONE_WORKER = {
    "class": "pytest --dist loadscope",
    "module": "pytest --dist loadscope, or --dist loadfile where the module has classes as well",
    "package": 'pytest --dist loadgroup, and @pytest.mark.xdist_group("name") on all of them',
    "session": 'pytest --dist loadgroup, and @pytest.mark.xdist_group("name") on all of them',
}


def marks_scope(item: pytest.Item) -> bool:
    """Whether a marker of the test names a scope."""
    return any("scope" in marker.kwargs for marker in item.iter_markers("elefast"))


class _Scope:
    """A scope whose tests have begun."""

    def __init__(self, node: pytest.Item | pytest.Collector, checkout: DatabaseCheckout, scenario: str) -> None:
        self.node = node
        self.checkout = checkout
        self.scenario = scenario
        self.is_kept = False
        """Whether one of its tests wants the database to be kept."""
        self.waits = False
        """Whether one of its tests has ``leaks = "error"``."""


class SharedScopes:
    """The scopes of a run whose tests share a database.

    Args:
        application: Is led to the database of the test's scope.
        stale_connections: Refuses connections to the database of a scope that is over.
    """

    def __init__(self, application: Application, stale_connections: StaleConnections) -> None:
        self._application = application
        self._stale_connections = stale_connections
        self._scopes: dict[pytest.Item | pytest.Collector, _Scope] = {}
        self._current: _Scope | None = None
        """The scope that the application is led to."""

    def checkout_of(self, item: pytest.Item, options: ItemOptions) -> DatabaseCheckout:
        """The database that a test shares with its scope."""
        return self._scopes[_node_of(item, options.scope)].checkout

    def leave(self) -> None:
        """Lead the application away from the scope, for a test that does not belong to it."""
        if self._current is not None:
            self._application.leave(self._current.checkout)
            self._current = None

    def begin(self, item: pytest.Item, options: ItemOptions, stack: Stack) -> None:
        """Lead the application to the database of the test's scope; checked out for the first test.

        Raises:
            ElefastError: The scope is split between processes, or there is no database.
        """
        node = _node_of(item, options.scope)
        scope = self._scopes.get(node)
        if scope is None or scope is not self._current:
            self.leave()
        if scope is None:
            name = node.nodeid or "session"
            _claim(node, options.scope, name, stack)
            self._application.check()
            scope = _Scope(node, stack.checkout(name, scenario=options.scenario), options.scenario)
            self._scopes[node] = scope
            self._stale_connections.begin_test(scope.checkout.name, name)
        elif scope.scenario != options.scenario:
            raise RefusedError(
                f"the tests of {node.nodeid or 'session'} share one database, which was made for the scenario "
                f'"{scope.scenario}", but {item.nodeid} asks for "{options.scenario}".\n'
                "Mark the scope with the scenario, or give this test its own database: "
                '@pytest.mark.elefast(scope="function")',
                code="scope-scenario",
            )
        if scope is not self._current:
            self._application.lead_to(scope.checkout)
            self._current = scope

    def end_test(self, item: pytest.Item, options: ItemOptions, *, failed: bool) -> None:
        """Note what a test of a scope wants to become of the database."""
        scope = self._scopes.get(_node_of(item, options.scope))
        if scope is not None:
            scope.is_kept = scope.is_kept or options.keep == "always" or (options.keep == "failed" and failed)
            scope.waits = scope.waits or options.leaks == "error"

    def end_scopes(self, nextitem: pytest.Item | None) -> list[Leak]:
        """Release the databases of all scopes to which the next test does not belong.

        Returns:
            The leaks for which the last test of a scope has waited.
        """
        if not self._scopes:
            return []
        going_on = set(nextitem.listchain()) if nextitem is not None else set[pytest.Item | pytest.Collector]()
        leaks: list[Leak] = []
        for node, scope in list(self._scopes.items())[::-1]:
            if node not in going_on:
                del self._scopes[node]
                leaks += self._release(scope)
        return leaks

    def _release(self, scope: _Scope) -> list[Leak]:
        checkout = scope.checkout
        try:
            if self._current is scope:
                self.leave()
        finally:
            checkout.end_test()
            self._stale_connections.end_test(checkout.name)
            leaks = checkout.release(keep="always" if scope.is_kept else "never", wait=scope.waits)
        return leaks


def _node_of(item: pytest.Item, scope: str) -> pytest.Item | pytest.Collector:
    """The node whose tests share a database, as pytest has it for fixtures: a function without a class is alone."""
    match scope:
        case "session":
            return item.session
        case "package":
            return item.getparent(pytest.Directory) or item.session
        case "module":
            return item.getparent(pytest.Module) or item
        case _:
            return item.getparent(pytest.Class) or item


def _claim(node: pytest.Item | pytest.Collector, scope: str, name: str, stack: Stack) -> None:
    """Claim the scope for this process until its end; another worker of pytest-xdist may have it already.

    Raises:
        RefusedError: Another process has it.
    """
    worker: dict[str, object] = getattr(node.config, "workerinput", {})
    if not worker:
        return
    from elefast.postgres import advisory_locks

    # With --dist each, every worker runs all tests.
    runs_all = worker["workerid"] if worker.get("elefast_dist") == "each" else ""
    lock = f"scope {worker['testrunuid']} {runs_all} {node.nodeid}"
    if stack.service.manager.session.call(advisory_locks.try_acquire, lock):
        return
    raise RefusedError(
        f'the tests of {name} share one database, by @pytest.mark.elefast(scope="{scope}"), but pytest-xdist has given '
        f"them to several workers, and another one has the database.\nLet one worker run them: {_ONE_WORKER[scope]}",
        code="scope-split",
    )
