"""One run of pytest in a configured project: its settings, its stack, and the hooks that need them.

The settings are read at their first use, and the stack is made for the first test that needs a database.
This module must not know what fixtures provide, or how a report is laid out.
"""

from __future__ import annotations

import os
import sys
import threading
import uuid
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from elefast.config import current_run
from elefast.config.drivers import sync_driver
from elefast.errors import ElefastError, LeakWarning, RefusedError
from elefast.postgres import libpq_variables
from elefast.postgres.url_variables import ExportedVariable
from elefast.pytest_plugin import terminal_report
from elefast.pytest_plugin.build_timeouts import BuildTimeouts
from elefast.pytest_plugin.export_env import ExportedEnvironment, mentions_key, variables_in_text
from elefast.pytest_plugin.import_watch import ImportWatch
from elefast.pytest_plugin.interrupt_traceback import shorten_traceback
from elefast.pytest_plugin.item_options import ItemOptions
from elefast.pytest_plugin.scopes import marks_scope
from elefast.pytest_plugin.unreachable_host import advice_on_unreachable, is_unreachable_host_error
from elefast.runtime import cache_dir, clock
from elefast.runtime.process_lifetime import OwnerProcess
from elefast.runtime.signals import close_unfinished

if TYPE_CHECKING:
    from elefast.config import Loaded, Settings
    from elefast.config.discovery import FoundFiles
    from elefast.databases.cluster_leak_detector import ClusterChanges
    from elefast.databases.report import Leak, Report
    from elefast.isolation.database import DatabaseCheckout
    from elefast.isolation.transaction import TransactionCheckout
    from elefast.pytest_plugin.application import Application
    from elefast.pytest_plugin.patch import Patch
    from elefast.pytest_plugin.scopes import SharedScopes
    from elefast.pytest_plugin.stale_connections import StaleConnections
    from elefast.stack import Stack

    Checkout = DatabaseCheckout | TransactionCheckout

__all__ = ["Harness", "harness_of", "has_failed", "note_database"]

_FORESIGHT = 64
"""How many of the next tests the pool knows."""
_KEY = pytest.StashKey["Harness"]()
_FAILED = pytest.StashKey[bool]()
_DATABASE = pytest.StashKey["Checkout | None"]()
# The attribute of failures and reports that has the message of an error of elefast. pytest-xdist sends it along.
_ERROR = "elefast_error"


def harness_of(config: pytest.Config) -> Harness:
    """The harness of a run; it exists where elefast's fixtures are registered."""
    return config.stash[_KEY]


def has_failed(item: pytest.Item) -> bool:
    """Whether the test failed so far, in its setup or in its call."""
    return item.stash.get(_FAILED, False)


def note_database(item: pytest.Item, checkout: Checkout | None) -> None:
    """Note the database that a test has now; None where it has none any more."""
    item.stash[_DATABASE] = checkout


class Harness:
    """The plugin object of a run. The fixtures get the settings and the stack from it.

    Args:
        config: The configuration of pytest for this run.
        found: The files of elefast's configuration.
    """

    def __init__(self, config: pytest.Config, found: FoundFiles) -> None:
        self.config = config
        self.found = found
        self._owner = OwnerProcess()
        self.environment = ExportedEnvironment(config, (), "")
        self._lock = threading.RLock()
        self._loaded: Loaded | ElefastError | None = None
        self._loaded_for: dict[str, str] = {}
        self._stack: Stack | None = None
        self._load_seconds = 0.0
        self._first_with_message: dict[str, str] = {}
        self._reports: list[Report] = []
        self._late_leaks: list[Leak] = []
        self._cluster_changes: list[ClusterChanges] = []
        self._failing_leaks: list[str] = []
        self._worker_changes: list[str] = []
        self.build_timeouts = BuildTimeouts()
        self._patch: Patch | None = None
        self._next_item: pytest.Item | None = None
        self._scenarios: list[str | None] | None = None
        """The scenarios of all tests, in the order of collection."""
        self._places: dict[pytest.Item, int] = {}
        self._import_watch: ImportWatch | None = None
        self._stale_connections: StaleConnections | None = None
        self._has_scopes = False
        config.stash[_KEY] = self
        # From now on `elefast.from_config()` in a conftest gives the stack of this run.
        self._previous_run = current_run.enter(
            current_run.CurrentRun(
                start=config.rootpath,
                profile=self.option("elefast_profile") or "",
                rebuild=bool(self.option("elefast_rebuild")),
                test_run=os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex,
                resolve=self._resolve_now,
                leading_application_to=self.leading_application_to,
            )
        )

    def __dir__(self) -> list[str]:
        """Only the hooks, because pytest 8.0 and 8.1 read every listed attribute of a plugin to find fixtures.

        They would evaluate the properties, and so read the settings and make the stack.
        """
        return [name for name in super().__dir__() if name.startswith("pytest_")]

    # -- settings and options -------------------------------------------------------------------------------

    def option(self, name: str) -> Any:
        """The value of a command line option, also before all of them are parsed."""
        early = getattr(self.config.known_args_namespace, name, None)
        return getattr(self.config.option, name, early) or early

    def item_options(self, item: pytest.Item) -> ItemOptions:
        """The options of one test.

        Raises:
            ConfigurationError: Its marker is wrong.
        """
        return ItemOptions.of(item, self.settings, self.option("elefast_keep") or "")

    @property
    def files(self) -> list[str]:
        """The names of the files of the configuration."""
        return [path.name for path in self._files]

    @property
    def loaded(self) -> Loaded:
        """The settings and their origins; read once.

        Raises:
            ConfigurationError: They are wrong; the same error each time.
        """
        with self._lock:
            if self._loaded is None:
                with self._loading():
                    self._loaded_for = current_run.deciding_variables(os.environ)
                    self._loaded = self._load()
            if isinstance(self._loaded, ElefastError):
                raise self._loaded.with_traceback(None)
            return self._loaded

    def _resolve_now(self) -> Loaded:
        """The settings and their origins for the current environment, because a conftest may set elefast's variables.

        Raises:
            ConfigurationError: They are wrong.
        """
        with self._lock:
            if self._loaded is None or self._loaded_for == current_run.deciding_variables(os.environ):
                return self.loaded
        loaded = self._load()
        if isinstance(loaded, ElefastError):
            raise loaded
        return loaded

    def _load(self) -> Loaded | ElefastError:
        try:
            from elefast.config import settings_for_run

            return settings_for_run(
                profile=self.option("elefast_profile") or None,
                env=os.environ,
                start=self.config.rootpath,
                caches=cache_dir.cache_directory(os.environ),
            )
        except ElefastError as error:
            return error

    @contextmanager
    def _loading(self) -> Generator[None]:
        """Add the time that this takes to the loading time in the report."""
        start = clock.now()
        try:
            yield
        finally:
            self._load_seconds += clock.now() - start

    @property
    def settings(self) -> Settings:
        """The settings; see `loaded`."""
        return self.loaded.settings

    @cached_property
    def gives_every_test_a_database(self) -> bool:
        """Whether `autouse` is set. The settings are read for it only where a file contains the word.

        Raises:
            pytest.fail.Exception: The settings are wrong.
        """
        if not mentions_key("autouse", self._files):
            return False
        with self.failing_by_message():
            return self.settings.autouse

    @property
    def _files(self) -> list[Path]:
        return [path for path in (self.found.overlay, self.found.pyproject) if path is not None]

    def protect(self) -> None:
        """Set the variables of `export_env` to unreachable values, before code of the project is imported.

        Reading the settings takes some tenths of a second, so it is done only where a file contains the key.
        """
        if self.option("help") or self.option("version") or not mentions_key("export_env", self._files):
            return
        try:
            settings = self.settings
        except ElefastError:
            variables, driver = variables_in_text(self._files), "postgresql+psycopg"
        else:
            variables, driver = [ExportedVariable.parse(entry) for entry in settings.export_env], sync_driver(settings)
        if variables:
            self.environment = ExportedEnvironment(self.config, variables, driver)
            self.environment.protect()
            self.config.pluginmanager.register(self.environment, "elefast-environment")

    def watch_imports(self) -> None:
        """Block the engines that `patch` names as soon as their modules are imported, which a conftest may do."""
        if self.option("help") or self.option("version") or not mentions_key("patch", self._files):
            return
        try:
            targets = self.settings.patch
        except ElefastError:
            return  # tests that need a database fail with this error
        modules = [target.partition(":")[0] for target in targets]
        if modules:
            self._import_watch = ImportWatch(modules, lambda module: self.patch.module_imported(module))
            self._import_watch.start()

    @property
    def patch(self) -> Patch:
        """The targets of the key `patch`."""
        if self._patch is None:
            from elefast.pytest_plugin.patch import Patch

            settings = self.settings
            origin = str(self.loaded.provenance["patch"])
            self._patch = Patch(settings.patch, origin, exports=bool(settings.export_env))
        return self._patch

    @contextmanager
    def leading_application_to(self, database: DatabaseCheckout) -> Generator[None]:
        """Lead the application to the database of a fixture; for ``Stack.database(application=True)``."""
        self.application.check()
        self.stale_connections.begin_test(database.name, database.test)
        try:
            with self.application.leading_to(database):
                yield
        finally:
            self.stale_connections.end_test(database.name)

    @property
    def stale_connections(self) -> StaleConnections:
        """The check for connections that the application keeps after their test."""
        if self._stale_connections is None:
            from elefast.pytest_plugin.stale_connections import StaleConnections

            self._stale_connections = StaleConnections()
            self._stale_connections.start()
        return self._stale_connections

    @cached_property
    def application(self) -> Application:
        """The application under test, which `export_env` and `patch` lead to a database.

        Raises:
            ConfigurationError: The settings are wrong.
        """
        from elefast.pytest_plugin.application import Application

        patch = self.patch if self.settings.patch else None
        return Application(self.environment, patch, self.stale_connections)

    @cached_property
    def scopes(self) -> SharedScopes:
        """The scopes whose tests share a database."""
        from elefast.pytest_plugin.scopes import SharedScopes

        self._has_scopes = True
        return SharedScopes(self.application, self.stale_connections)

    # -- the stack ------------------------------------------------------------------------------------------

    @property
    def stack(self) -> Stack:
        """The stack of the run; made when first asked for.

        Raises:
            ElefastError: The configuration is wrong, or what it names is not there.
        """
        with self._lock:
            if self._stack is None:
                with self._loading():
                    from elefast.factory import from_config

                    self._stack = from_config()
            return self._stack

    def may_build_template(self, scenario: str) -> bool:
        """Whether the first database of `scenario` may have to wait for the server and the template."""
        service = self._stack.started if self._stack is not None else None
        return service is None or not service.has_template(scenario)

    def upcoming_scenarios(self) -> Sequence[str]:
        """The scenarios of the tests after this one; empty where the project has no scenarios.

        With pytest-xdist a worker knows the next test. That the tests after it follow in the order of collection is a
        guess, which is mostly right.
        """
        if self._next_item is None or not self.settings.scenarios:
            return ()
        if self._scenarios is None:
            items = self._next_item.session.items
            self._scenarios = [self._scenario_of(item) for item in items]
            self._places = {item: place for place, item in enumerate(items)}
        place = self._places.get(self._next_item)
        following = self._scenarios[place : place + _FORESIGHT] if place is not None else ()
        return [scenario for scenario in following if scenario is not None]

    def _scenario_of(self, item: pytest.Item) -> str | None:
        """The scenario of a test; None where it uses no private database."""
        if "_elefast_database" not in getattr(item, "fixturenames", ()) and not self.gives_every_test_a_database:
            return None
        try:
            options = self.item_options(item)
        except ElefastError:  # the test fails with it
            return None
        return options.scenario if options.isolation == "database" else None

    @contextmanager
    def failing_by_message(self) -> Generator[None]:
        """Turn an error of elefast into a failure of the test that shows the message and no traceback."""
        try:
            yield
        except ElefastError as error:
            message = terminal_report.failure_message(error)
            failure = pytest.fail.Exception(message, pytrace=False)
            setattr(failure, _ERROR, message)
            raise failure from None

    def close(self) -> None:
        """End the run. pytest calls it after the run, also after one that failed."""
        try:
            self._finish()
        finally:
            if self._import_watch is not None:
                self._import_watch.stop()
            if self._patch is not None:
                self._patch.close()
            if self._stale_connections is not None:
                self._stale_connections.stop()
            self.environment.restore()
            current_run.enter(self._previous_run)

    def _finish(self) -> None:
        """Close the stack, also one that only a conftest used, and keep its report and its leaks."""
        with self._lock:
            if self._stack is None and "elefast.factory" in sys.modules:
                with suppress(ElefastError):
                    self.stack  # noqa: B018  from_config() returns the run's stack; closing an unused one is free
            stack, self._stack = self._stack, None
        if stack is None:
            return
        if self._has_scopes and self._owner.is_current:
            self.scopes.end_scopes(None)  # of a run that was stopped
        stack.close()
        if (service := stack.started) is not None:
            service.report.load_seconds = self._load_seconds
            self._reports.append(service.report)
            self._late_leaks += service.take_leaks()
            if (changes := service.cluster_leak_detector.changes()) is not None:
                self._cluster_changes.append(changes)

    # -- hooks ----------------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, nextitem: pytest.Item | None) -> None:
        """Note the next test, so that the pool can prepare a database of its scenario."""
        self._next_item = nextitem

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        """Note the libpq variables of the environment, to tell variables that a test sets from them."""
        current = current_run.current()
        if current is not None:
            current_run.enter(current._replace(variables=libpq_variables.variables_in_effect()))

    def pytest_report_header(self) -> str | None:
        """One line with the configured values and their sources.

        A run that only collects does not read the settings for it, because that takes time.
        """
        if self.config.getoption("collectonly") and self._loaded is None:
            return f"elefast: configured in {' and '.join(self.files)}"
        try:
            return terminal_report.header(self.loaded)
        except ElefastError as error:
            return terminal_report.error_header(error)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note whether the test failed, for ``keep = "failed"``, and add explanations to its report."""
        outcome = yield
        error = call.excinfo.value if call.excinfo is not None else None
        if isinstance(error, ElefastError):  # from a fixture of the project, and so not turned into a failure
            message = terminal_report.failure_message(error)
        else:
            message = getattr(error, _ERROR, "")
        if call.when == "setup" and message:
            setattr(outcome, _ERROR, message)
        if error is not None:
            outcome.sections += self._explanations(item, error)
        outcome.sections += self._changes(item, outcome)
        item.stash[_FAILED] = outcome.failed or (call.when != "setup" and has_failed(item))
        return outcome

    def _changes(self, item: pytest.Item, report: pytest.TestReport) -> list[tuple[str, str]]:
        """A section with what the test changed in its database, while the database is still there."""
        checkout = item.stash.get(_DATABASE, None)
        if checkout is None:
            return []
        from elefast.isolation.database import DatabaseCheckout

        if not isinstance(checkout, DatabaseCheckout) or report.when == "teardown":
            return []  # the writes of a transaction can only be seen in its session
        wanted = self.settings.changes
        if not (report.failed if wanted == "failed" else wanted == "always" and report.when == "call"):
            return []
        from elefast.pytest_plugin.changes_section import changes_section

        text = changes_section(checkout, item.nodeid)
        return [("elefast", text)] if text else []

    def _explanations(self, item: pytest.Item, error: BaseException) -> list[tuple[str, str]]:
        """Sections of the report that explain an error of a driver."""
        texts = [
            ("The server's connections", "\n".join(self._connection_holders(error))),
            ("elefast", "" if self._stale_connections is None else self._stale_connections.explain(str(error))),
            ("elefast", self._advice_on_unreachable(item, error)),
        ]
        return [(title, text) for title, text in texts if text]

    def _advice_on_unreachable(self, item: pytest.Item, error: BaseException) -> str:
        """Advice where code connected to the host that the variables of `export_env` name outside of tests."""
        if not self.environment.variables or not is_unreachable_host_error(error):
            return ""
        has_database = "_elefast_database" in getattr(item, "fixturenames", ()) or self.gives_every_test_a_database
        return advice_on_unreachable(
            [variable.name for variable in self.environment.variables],
            has_database=has_database,
            in_transaction=has_database and self.item_options(item).isolation == "transaction",
        )

    def _connection_holders(self, error: BaseException) -> list[str]:
        """The holders of the server's connections, where a test failed because none was free."""
        try:
            service = self._stack.started if self._stack is not None else None
            return service.manager.holders(error) if service is not None and service.is_ours else []
        except ElefastError:
            return []

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of pytest-xdist how tests are distributed."""
        node.workerinput["elefast_dist"] = self.config.getoption("dist", "")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Give a test the database of its scope, before fixtures of that scope are set up."""
        if not marks_scope(item):
            if self._has_scopes:
                self.scopes.leave()
            return
        if self.option("setupplan"):
            return
        with self.failing_by_message():
            options = self.item_options(item)
        may_build = self.may_build_template(options.scenario)
        limits = self.build_timeouts.during_build(item) if may_build else nullcontext()
        with self.failing_by_message(), limits:
            if options.scope == "function":
                self.scopes.leave()
                return
            if not self._owner.is_current:
                raise RefusedError(
                    f'@pytest.mark.elefast(scope="{options.scope}") lets tests share one database, but each test runs '
                    "in a forked process.\nRun these tests without forks",
                    code="scope-split",
                )
            self.scopes.begin(item, options, self.stack)

    def _end_scopes(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """Release the databases of scopes that end with `item`."""
        if not self._has_scopes or not self._owner.is_current:
            return
        with self.failing_by_message():
            if marks_scope(item):
                options = self.item_options(item)
                if options.scope != "function":
                    self.scopes.end_test(item, options, failed=has_failed(item))
            leaks = self.scopes.end_scopes(nextitem)
        if leaks and not has_failed(item):
            pytest.fail(terminal_report.leaks_message(leaks), pytrace=False)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """End scopes with their last test, after their fixtures.

        The last test of a forked child closes the stack as well, because `pytest_sessionfinish` is not called there.
        """
        __tracebackhide__ = True
        try:
            return (yield)
        finally:
            self._end_scopes(item, nextitem)
            if nextitem is None and not self._owner.is_current:
                self._finish()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Generator[None, None, None]:
        """Shorten the traceback of Ctrl-C before pytest renders it."""
        shorten_traceback(self.config, excinfo)
        try:
            return (yield)
        finally:
            close_unfinished(excinfo.value)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Show an error that several tests have in full once. The other tests refer to the first one.

        Workers of pytest-xdist send the full message, and the controller shortens it.
        """
        message: str = getattr(report, _ERROR, "")
        if message and not hasattr(self.config, "workeroutput"):
            first = self._first_with_message.setdefault(message, report.nodeid)
            if first != report.nodeid:
                report.longrepr = f"{message.splitlines()[0]} (in full at {first})"

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Close the stack after all fixtures, so that its report is complete.

        This is the innermost wrapper, so that pytest still collects the warnings that come from it.
        """
        try:
            return (yield)
        finally:
            self._finish()
            output: dict[str, Any] | None = getattr(self.config, "workeroutput", None)
            if output is not None:
                changes = [str(change) for change in self.environment.unexpected_changes]
                output["elefast"] = terminal_report.pack(
                    self._reports, self._late_leaks, self._cluster_changes, changes
                )
            else:
                self._report_late_leaks(session)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over the reports of a worker of pytest-xdist; one that crashed has none."""
        packed = getattr(node, "workeroutput", {}).get("elefast")
        if packed is not None:
            reports, leaks, cluster_changes, variable_changes = terminal_report.unpack(packed)
            self._reports += reports
            self._late_leaks += leaks
            self._cluster_changes += cluster_changes
            self._worker_changes += variable_changes

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write the section of elefast: kept databases, changed variables, leaks and costs."""
        changes = dict.fromkeys([*map(str, self.environment.unexpected_changes), *self._worker_changes])
        costs = bool(self.option("elefast_report"))
        terminal_report.write_summary(
            terminalreporter,
            self._reports,
            self._failing_leaks,
            tuple(changes),
            costs=costs,
            profile=self.option("elefast_profile") or "",
        )

    def _report_late_leaks(self, session: pytest.Session) -> None:
        """Warn of leaks that were found after their test, or let the run fail because of them."""
        leaks, self._late_leaks = self._late_leaks, []
        if self._cluster_changes:
            from elefast.databases.cluster_leak_detector import cluster_leaks

            leaks += cluster_leaks(self._cluster_changes)
            self._cluster_changes = []
        if not leaks:
            return
        mode = self.settings.leaks
        for leak in leaks if mode != "ignore" else ():
            try:
                if mode == "error":
                    raise LeakWarning(terminal_report.leak_line(leak))
                warnings.warn(LeakWarning(terminal_report.leak_line(leak)), stacklevel=1)
            except LeakWarning as warning:
                # The test has passed already, so the run fails as a whole.
                self._failing_leaks.append(str(warning))
                if session.exitstatus == pytest.ExitCode.OK:
                    session.exitstatus = pytest.ExitCode.TESTS_FAILED
