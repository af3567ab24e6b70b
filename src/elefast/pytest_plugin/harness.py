"""One run of pytest in a configured project: its settings, its stack, and the hooks that need them.

Settings are read when somebody asks for them, the stack is made when a test does.
It must not know how a fixture or a report looks.
"""

from __future__ import annotations

import os
import sys
import threading
import uuid
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from elefast.config import current_run
from elefast.config.drivers import sync_driver
from elefast.errors import ElefastError, LeakWarning
from elefast.postgres import libpq_variables
from elefast.postgres.url_variables import ExportedVariable
from elefast.pytest_plugin import terminal_report
from elefast.pytest_plugin.build_timeouts import BuildTimeouts
from elefast.pytest_plugin.export_env import ExportedEnvironment, mentioned, mentions
from elefast.pytest_plugin.import_watch import ImportWatch, mentions_patch
from elefast.pytest_plugin.interrupt_traceback import shorten
from elefast.pytest_plugin.item_options import ItemOptions
from elefast.pytest_plugin.unreachable_host import advice_on_unreachable, met_unreachable
from elefast.runtime import cache_dir, clock
from elefast.runtime.process_lifetime import OwnerProcess
from elefast.runtime.signals import close_unfinished

if TYPE_CHECKING:
    from elefast.config import Loaded, Settings
    from elefast.config.discovery import Found
    from elefast.databases.leak_detector import ClusterChanges
    from elefast.databases.report import Leak, Report
    from elefast.pytest_plugin.patch import Patch
    from elefast.pytest_plugin.stale_connections import StaleConnections
    from elefast.stack import Stack

__all__ = ["Harness", "has_failed", "of"]

_KEY = pytest.StashKey["Harness"]()
_FAILED = pytest.StashKey[bool]()
# The whole message of an error of elefast's, on a failure and on a report; pytest-xdist takes it to the controller.
_ERROR = "elefast_error"


def of(config: pytest.Config) -> Harness:
    """The harness of a run; there is one wherever elefast's fixtures are registered."""
    return config.stash[_KEY]


def has_failed(item: pytest.Item) -> bool:
    """Whether the test failed so far, in its setup or in its call."""
    return item.stash.get(_FAILED, False)


class Harness:
    """The plugin object of a run; also what its fixtures work with.

    Args:
        config: Of this run.
        found: The files of the configuration.
    """

    def __init__(self, config: pytest.Config, found: Found) -> None:
        self.config = config
        self.found = found
        self._owner = OwnerProcess()
        self.environment = ExportedEnvironment(config, (), "")
        self._lock = threading.RLock()
        self._loaded: Loaded | ElefastError | None = None
        self._loaded_for: dict[str, str] = {}
        self._stack: Stack | None = None
        self._load_seconds = 0.0
        self._told: dict[str, str] = {}
        self._reports: list[Report] = []
        self._late_leaks: list[Leak] = []
        self._findings: list[ClusterChanges] = []
        self._problems: list[str] = []
        self._intrusions: list[str] = []
        self.build_timeouts = BuildTimeouts()
        self._patch: Patch | None = None
        self._imports: ImportWatch | None = None
        self._stale: StaleConnections | None = None
        config.stash[_KEY] = self
        # From here on `elefast.from_config()` in a conftest means the stack of this run.
        self._outer_run = current_run.enter(
            current_run.CurrentRun(
                start=config.rootpath,
                profile=self.option("elefast_profile") or "",
                rebuild=bool(self.option("elefast_rebuild")),
                test_run=os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex,
                resolve=self._resolve_now,
            )
        )

    def __dir__(self) -> list[str]:
        """The hooks alone: pytest 8.0 and 8.1 read every attribute of a plugin, in search of fixtures.

        They would evaluate the properties as well, and so read the settings and open the stack.
        """
        return [name for name in super().__dir__() if name.startswith("pytest_")]

    # -- what the project said ------------------------------------------------------------------------------

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
        return [path.name for path in self._paths]

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
        """The settings and their origins for the environment as it is now: a conftest may set variables of elefast's.

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
        """Add what is done meanwhile to what the report says of it."""
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
        """Whether `autouse` is set. Settings are read for it only where the key seems to be used.

        Raises:
            pytest.fail.Exception: The settings are wrong.
        """
        if not mentions("autouse", self._paths):
            return False
        with self.explaining():
            return self.settings.autouse

    @property
    def _paths(self) -> list[Path]:
        return [path for path in (self.found.overlay, self.found.pyproject) if path is not None]

    def protect(self) -> None:
        """Give the variables of `export_env` unreachable values, before the project's own code is imported.

        Reading the settings costs some tenths of a second, so it is done only where the key seems to be used.
        """
        if self.option("help") or self.option("version") or not mentions("export_env", self._paths):
            return
        try:
            settings = self.settings
        except ElefastError:
            variables, driver = mentioned(self._paths), "postgresql+psycopg"
        else:
            variables, driver = [ExportedVariable.parse(entry) for entry in settings.export_env], sync_driver(settings)
        if variables:
            self.environment = ExportedEnvironment(self.config, variables, driver)
            self.environment.protect()
            self.config.pluginmanager.register(self.environment, "elefast-environment")

    def watch_imports(self) -> None:
        """Hold the engines that `patch` names as soon as their modules are imported, which conftests may do."""
        files = [path for path in (self.found.overlay, self.found.pyproject) if path is not None]
        if self.option("help") or self.option("version") or not mentions_patch(files):
            return
        try:
            targets = self.settings.patch
        except ElefastError:
            return  # tests that need a database say so
        modules = [target.partition(":")[0] for target in targets]
        if modules:
            self._imports = ImportWatch(modules, lambda module: self.patch.imported(module))
            self._imports.start()

    @property
    def patch(self) -> Patch:
        """What the key `patch` names."""
        if self._patch is None:
            from elefast.pytest_plugin.patch import Patch

            settings = self.settings
            origin = str(self.loaded.provenance["patch"])
            self._patch = Patch(settings.patch, origin, exports=bool(settings.export_env))
        return self._patch

    @property
    def stale(self) -> StaleConnections:
        """What the application keeps of databases whose tests are over."""
        if self._stale is None:
            from elefast.pytest_plugin.stale_connections import StaleConnections

            self._stale = StaleConnections()
            self._stale.start()
        return self._stale

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

    @property
    def may_build_template(self) -> bool:
        """Whether the next database may have to wait for the server and the template: this process has had none."""
        service = self._stack.started if self._stack is not None else None
        return service is None or not service.report.databases

    @contextmanager
    def explaining(self) -> Generator[None]:
        """Report an error of elefast as the test's own, by its message alone."""
        try:
            yield
        except ElefastError as error:
            message = terminal_report.failure(error)
            failure = pytest.fail.Exception(message, pytrace=False)
            setattr(failure, _ERROR, message)
            raise failure from None

    def close(self) -> None:
        """End everything; pytest calls it when the configuration goes out of use, whatever happened."""
        try:
            self._finish()
        finally:
            if self._imports is not None:
                self._imports.stop()
            if self._patch is not None:
                self._patch.close()
            if self._stale is not None:
                self._stale.stop()
            self.environment.restore()
            current_run.enter(self._outer_run)

    def _finish(self) -> None:
        """Close the stack, also one that only a conftest has used, and keep what it has to tell."""
        with self._lock:
            if self._stack is None and "elefast.factory" in sys.modules:
                with suppress(ElefastError):
                    self.stack  # noqa: B018  the one of the run; without any use, closing it costs nothing
            stack, self._stack = self._stack, None
        if stack is None:
            return
        stack.close()
        if (service := stack.started) is not None:
            service.report.load_seconds = self._load_seconds
            self._reports.append(service.report)
            self._late_leaks += service.take_leaks()
            if (findings := service.leak_detector.changes()) is not None:
                self._findings.append(findings)

    # -- hooks ----------------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        """Note which libpq variables the environment has, so that those of a test are told apart from them."""
        current = current_run.current()
        if current is not None:
            current_run.enter(current._replace(variables=libpq_variables.variables_in_effect()))

    def pytest_report_header(self) -> str | None:
        """One line: what was configured, and where.

        Collecting alone reads no settings, so that it stays instant; what is known already is shown.
        """
        if self.config.getoption("collectonly") and self._loaded is None:
            return f"elefast: configured in {' and '.join(self.files)}"
        try:
            return terminal_report.header(self.loaded)
        except ElefastError as error:
            return terminal_report.broken_header(error)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Remember whether the test failed, for ``keep = "failed"``, and which error of elefast's it had."""
        outcome = yield
        error = call.excinfo.value if call.excinfo is not None else None
        # Fixtures of the project's own raise elefast's errors as they are, and get a traceback.
        message = terminal_report.failure(error) if isinstance(error, ElefastError) else getattr(error, _ERROR, "")
        if call.when == "setup" and message:
            setattr(outcome, _ERROR, message)
        if error is not None and (who := self._holders(error)):
            outcome.sections.append(("The server's connections", "\n".join(who)))
        if error is not None and self._stale is not None and (stale := self._stale.named_in(str(error))):
            outcome.sections.append(("elefast", stale))
        if error is not None and (advice := self._advice_on_unreachable(item, error)):
            outcome.sections.append(("elefast", advice))
        item.stash[_FAILED] = outcome.failed or (call.when != "setup" and has_failed(item))
        return outcome

    def _advice_on_unreachable(self, item: pytest.Item, error: BaseException) -> str:
        """What to do where something connected to the host that the variables of `export_env` name outside of tests."""
        if not self.environment.variables or not met_unreachable(error):
            return ""
        asked = "_elefast_database" in getattr(item, "fixturenames", ()) or self.gives_every_test_a_database
        return advice_on_unreachable(
            [variable.name for variable in self.environment.variables],
            asked=asked,
            shared=asked and self.item_options(item).isolation == "transaction",
        )

    def _holders(self, error: BaseException) -> list[str]:
        """Who has the server's connections, where a test failed because there are no more."""
        try:
            service = self._stack.started if self._stack is not None else None
            return service.manager.holders(error) if service is not None and service.is_ours else []
        except ElefastError:
            return []

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, nextitem: pytest.Item | None) -> Generator[None, object, object]:
        """Close the stack with the last test of a forked child: nobody calls `pytest_sessionfinish` there."""
        __tracebackhide__ = True
        try:
            return (yield)
        finally:
            if nextitem is None and not self._owner.is_current:
                self._finish()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Generator[None, None, None]:
        """Before pytest renders the traceback of Ctrl-C, and after that."""
        shorten(self.config, excinfo)
        try:
            return (yield)
        finally:
            close_unfinished(excinfo.value)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Show an error that several tests have in full once; the others name the test that has it.

        Workers of pytest-xdist send all that they have, and it is for the controller to tell.
        """
        message: str = getattr(report, _ERROR, "")
        if message and not hasattr(self.config, "workeroutput"):
            first = self._told.setdefault(message, report.nodeid)
            if first != report.nodeid:
                report.longrepr = f"{message.splitlines()[0]} (in full at {first})"

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """When all fixtures are gone: close the stack, so that its report is complete.

        This is the innermost wrapper, inside pytest's own that collects warnings.
        """
        try:
            return (yield)
        finally:
            self._finish()
            output: dict[str, Any] | None = getattr(self.config, "workeroutput", None)
            if output is not None:
                intrusions = [str(it) for it in self.environment.intrusions]
                output["elefast"] = terminal_report.packed(self._reports, self._late_leaks, self._findings, intrusions)
            else:
                self._tell_late_leaks(session)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a worker of pytest-xdist has to tell; one that crashed has nothing."""
        packed = getattr(node, "workeroutput", {}).get("elefast")
        if packed is not None:
            reports, leaks, findings, intrusions = terminal_report.unpacked(packed)
            self._reports += reports
            self._late_leaks += leaks
            self._findings += findings
            self._intrusions += intrusions

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show what was used, what was kept and what it cost."""
        intrusions = dict.fromkeys([*map(str, self.environment.intrusions), *self._intrusions])
        costs = bool(self.option("elefast_report"))
        terminal_report.summary(terminalreporter, self._reports, self._problems, tuple(intrusions), costs=costs)

    def _tell_late_leaks(self, session: pytest.Session) -> None:
        """Leaks that were seen only after the test: when the database was dropped, or at the end of all tests."""
        leaks, self._late_leaks = self._late_leaks, []
        if self._findings:
            from elefast.databases.leak_detector import leaks_of

            leaks += leaks_of(self._findings)
            self._findings = []
        if not leaks:
            return
        mode = self.settings.leaks
        for leak in leaks if mode != "ignore" else ():
            try:
                if mode == "error":
                    raise LeakWarning(terminal_report.leak_line(leak))
                warnings.warn(LeakWarning(terminal_report.leak_line(leak)), stacklevel=1)
            except LeakWarning as warning:
                # Its test is over; the run as a whole can still fail.
                self._problems.append(str(warning))
                if session.exitstatus == pytest.ExitCode.OK:
                    session.exitstatus = pytest.ExitCode.TESTS_FAILED
