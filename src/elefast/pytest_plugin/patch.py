"""The key `patch`: module-level objects of the application lead to the database of the test that runs.

Engines are redirected in place, see `elefast.isolation.engine_redirect`. Values such as URLs are replaced under every
name that modules of the project have for them.
This module knows SQLAlchemy's engines and session makers. It must not know pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import URL, Engine

from elefast.errors import ConfigurationError, Problem
from elefast.isolation.engine_redirect import NOWHERE, EngineRedirect, root_of
from elefast.pytest_plugin.application_databases import ApplicationDatabases
from elefast.pytest_plugin.patch_targets import (
    EXPECTED,
    WrongTargetError,
    address_of,
    call_cached,
    can_be_called,
    configure_maker,
    discard,
    end_sessions,
    find_target,
    has_engines,
    import_target,
    is_cached,
    is_engine,
    is_extension,
    is_for_test_database,
    is_url_value,
    maker_of,
    set_attribute,
    type_name,
    url_of,
    url_value_like,
)
from elefast.pytest_plugin.project_modules import ProjectNamespaces

if TYPE_CHECKING:
    from elefast.isolation.database import DatabaseCheckout
    from elefast.isolation.transaction import TransactionCheckout

    Checkout = DatabaseCheckout | TransactionCheckout

__all__ = ["Patch"]

_INVALID = ".elefast.invalid"


class Patch:
    """The targets of `patch` in one run.

    Args:
        targets: ``module:attribute``, as in the setting. `check` imports modules that are not imported yet.
        origin: The place of the setting, for messages.
        exports: Whether `export_env` names a variable, from which an engine that is made in a test gets its URL.
    """

    def __init__(self, targets: Sequence[str], origin: str, *, exports: bool) -> None:
        self._targets = targets
        self._origin = origin
        self._exports = exports
        self._redirects: dict[int, EngineRedirect] = {}
        self._extensions: list[Any] = []
        self._cached: dict[int, list[Engine]] = {}
        """The engines that the cache of a function keeps between tests, by the identity of the function."""
        self._namespaces = ProjectNamespaces()
        self.clears_caches = False
        """Whether a target is a function with a cache, whose engines may have connections when the test ends."""
        self._checked = False
        self._databases = ApplicationDatabases()
        self._urls: dict[str, _HiddenURL] = {}
        """The URLs of the application that are hidden outside of tests, by target."""
        self._database: Checkout | None = None
        """The checkout of the test that runs; None between tests."""
        self._undo = ExitStack()
        """Callbacks for the end of that test."""
        self._redirected: set[int] = set()

    def module_imported(self, module: str) -> None:
        """Keep what a module has that has just been imported from leading to the application's own database."""
        for target in self._targets:
            if target.partition(":")[0] != module:
                continue
            try:
                self._block(target)
                if self._database is not None:  # the test has imported it, perhaps again
                    self._patch(target, self._database)
            except WrongTargetError:
                continue  # `check` raises it for the first test that needs a database

    def _block(self, target: str) -> None:
        """Let the engines of a target refuse connections, and hide its URL."""
        owner, name = find_target(target)
        found = getattr(owner, name)
        if is_url_value(found):
            self._hide(target, owner, name, found)
            return
        for engine in self._engines_of(found, target):
            self._redirect_of(engine, target).block()

    def check(self) -> None:
        """Check that every target can be patched. The check runs once.

        Raises:
            ConfigurationError: A target does not exist, or is of a kind that cannot be patched.
        """
        if self._checked:
            return
        problems: list[Problem] = []
        deferred = False
        for target in self._targets:
            try:
                if import_target(target):
                    self._check(target)
                else:
                    deferred = True
            except WrongTargetError as error:
                problems.append(self._problem(target, error))
        if problems:
            raise ConfigurationError(problems)
        self._checked = not deferred

    @contextmanager
    def during_test(self, database: Checkout) -> Generator[None]:
        """Let every target lead to `database`, and end that.

        Args:
            database: The checkout of the test.

        Raises:
            ConfigurationError: A target does not exist, or is of a kind that cannot be patched.
        """
        with ExitStack() as undo:
            undo.callback(self._redirected.clear)
            self._database, self._undo = database, undo
            try:
                for target in self._targets:
                    try:
                        self._patch(target, database)
                    except WrongTargetError as error:
                        raise ConfigurationError([self._problem(target, error)]) from error.__cause__
                yield
            finally:
                self._database = None

    def close(self) -> None:
        """Restore the objects of the application."""
        self._databases.close()
        for extension in self._extensions:
            del extension._make_engine
        for redirect in reversed(self._redirects.values()):
            redirect.restore()
        for hidden in self._urls.values():
            setattr(hidden.owner, hidden.name, hidden.own)
            self._namespaces.replace(hidden.unreachable, hidden.own)
        self._extensions, self._redirects, self._urls = [], {}, {}

    def _problem(self, target: str, error: WrongTargetError) -> Problem:
        return Problem(self._origin, "patch", f'"{target}": {error}', code=error.code)

    # -- kinds of targets -----------------------------------------------------------------------------------

    def _check(self, target: str) -> None:
        """Check one target, whose module is imported."""
        owner, name = find_target(target)
        found = getattr(owner, name)
        if is_cached(found):
            return
        if found is None:
            self._require_export()
            set_attribute(owner, name, found)
            return
        if is_url_value(found):
            set_attribute(owner, name, found)
            for engine in self._engines_made_from(target, url_of(found)):
                self._redirect_of(engine, f"the engine made from {target}").block()
            return
        if not has_engines(found):
            raise WrongTargetError(f"{EXPECTED}, found {type_name(found)}", "target-wrong-kind")
        if is_engine(found) and getattr(owner, name) is not found:
            raise WrongTargetError(
                "returns another engine at each access; name the object that keeps one", "target-wrong-kind"
            )
        for engine in self._engines_of(found, target):
            redirect = self._redirect_of(engine, target)
            redirect.block()
            _require_free(redirect)

    def _require_export(self) -> None:
        if not self._exports:
            raise WrongTargetError(
                "is None, so the application makes it later, from a URL that elefast does not know; name the variable "
                "that the URL is read from in export_env",
                "target-wrong-kind",
            )

    def _patch(self, target: str, database: Checkout) -> None:
        owner, name = find_target(target)
        found = getattr(owner, name)
        if is_url_value(found):
            self._replace(target, owner, name, found, database)
        elif found is None:
            self._require_export()
            self._undo.callback(discard, owner, name)
        elif is_cached(found):
            self._patch_cached(target, found, database)
        else:
            self._redirect_engines(found, target, database)

    def _redirect_engines(self, found: Any, target: str, database: Checkout) -> None:
        """Redirect the engines of a target to the test's database."""
        if not has_engines(found):
            raise WrongTargetError(f"{EXPECTED}, found {type_name(found)}", "target-wrong-kind")
        for engine in self._engines_of(found, target):
            self._redirect_engine(engine, target, database)
        if (maker := maker_of(found)) is not None:
            end_sessions(found)
            self._undo.callback(configure_maker(maker, database, binds=not is_extension(found)))
            self._undo.callback(end_sessions, found)

    def _redirect_engine(self, engine: Any, target: str, database: Checkout) -> None:
        redirect = self._redirect_of(engine, target)
        if id(redirect.engine) in self._redirected:
            return
        redirect.block()
        _require_free(redirect)
        # This comes first, so that a redirect which fails half-way is ended as well.
        self._undo.callback(redirect.end_redirect)
        redirect.redirect(database)
        self._redirected.add(id(redirect.engine))

    def _redirect_of(self, engine: Any, target: str) -> EngineRedirect:
        root = root_of(engine)
        redirect = self._redirects.get(id(root))
        if redirect is None:
            redirect = self._redirects[id(root)] = EngineRedirect(root, target)
            if root.dialect.name == "postgresql":
                self._databases.add(redirect.own_arguments or {}, target)
        return redirect

    def _engines_of(self, found: Any, target: str) -> Iterator[Any]:
        """The engines of a target. Engines that an extension makes later are redirected when they are made."""
        if is_engine(found):
            yield found
        elif is_extension(found):
            self._watch_extension(found, target)
            for engines in list(found._app_engines.values()):
                for key, engine in list(engines.items()):
                    if is_for_test_database(key, engine):
                        yield engine
        elif (maker := maker_of(found)) is not None:
            options: dict[str, Any] = maker.kw
            binds: dict[Any, Any] = options.get("binds") or {}
            for bound in (options.get("bind"), *binds.values()):
                if is_engine(bound):
                    yield bound

    # -- Flask-SQLAlchemy -----------------------------------------------------------------------------------

    def _watch_extension(self, extension: Any, target: str) -> None:
        """Redirect the engines that the extension makes for an application, which a test may make."""
        if "_make_engine" in vars(extension):
            return
        make: Callable[..., Any] = extension._make_engine

        def make_redirected(bind_key: str | None, *args: Any, **keywords: Any) -> Any:
            engine = make(bind_key, *args, **keywords)
            if is_for_test_database(bind_key, engine):
                if self._database is None:
                    self._redirect_of(engine, target).block()
                else:
                    # An application that a test makes ends with the test, and so must its redirect.
                    self._undo.callback(self._redirects.pop, id(root_of(engine)), None)
                    self._redirect_engine(engine, target, self._database)
            return engine

        vars(extension)["_make_engine"] = make_redirected
        self._extensions.append(extension)

    # -- functions with a cache -----------------------------------------------------------------------------

    def _patch_cached(self, target: str, function: Any, database: Checkout) -> None:
        """Clear the cache of a function for the test, and redirect the engines that it returns."""
        self.clears_caches = True
        function.cache_clear()
        result = call_cached(target, function) if can_be_called(function) else None
        if has_engines(result):
            engines = [root_of(engine) for engine in self._engines_of(result, target)]
            if all(_leads_to_test(engine.url, database) for engine in engines):
                self._undo.callback(function.cache_clear)
                for engine in engines:
                    self._undo.callback(self._redirects.pop, id(engine), None)
            else:
                # The cache keeps the engine, because a new one would connect to the developer's database between tests.
                self._remember_cached(function, engines)
            self._redirect_engines(result, target, database)
            return
        self._undo.callback(function.cache_clear)
        if is_url_value(result):
            url = url_of(result)
            if not _leads_to_test(url, database):
                raise WrongTargetError(
                    "gives the URL of another database than the test's; name the variable that it is read from in "
                    "export_env",
                    "target-wrong-kind",
                )

    def _remember_cached(self, function: Any, engines: list[Engine]) -> None:
        """Note the engines of a cached function, in place of those that it returned for an earlier test."""
        for engine in self._cached.pop(id(function), []):
            self._redirects.pop(id(engine), None)
        self._cached[id(function)] = engines

    # -- values ---------------------------------------------------------------------------------------------

    def _replace(self, target: str, owner: Any, name: str, found: Any, database: Checkout) -> None:
        """Replace a URL under every name in the project, and redirect the engines that were made from it."""
        url = url_of(found)
        value = url_value_like(found, database.url_for(url.drivername))
        set_attribute(owner, name, value)
        self._undo.callback(self._namespaces.replace, value, found)
        self._undo.callback(setattr, owner, name, found)
        self._namespaces.replace(found, value)
        for engine in self._engines_made_from(target, url):
            self._redirect_engine(engine, f"the engine made from {target}", database)

    def _hide(self, target: str, owner: Any, name: str, found: Any) -> None:
        """Replace a URL by one that cannot be connected to, because it is the developer's, outside of tests as well."""
        url = url_of(found)
        if url.get_backend_name() != "postgresql" or (url.host or "").endswith(_INVALID):
            return
        # User and database stay, so that two URLs which differ do not become one.
        self._databases.add_url(url, target)
        unreachable = url_value_like(found, url.set(host=NOWHERE, port=1, query={}))
        set_attribute(owner, name, unreachable)
        self._urls[target] = _HiddenURL(owner, name, found, unreachable)
        self._namespaces.replace(found, unreachable)
        for engine in self._engines_made_from(target, url):
            self._redirect_of(engine, f"the engine made from {target}").block()

    def _engines_made_from(self, target: str, url: URL) -> Iterator[Any]:
        """The engines of the project's modules that were made from a URL, perhaps with another driver.

        An engine may have been made before the URL of the target was hidden.
        """
        addresses = {address_of(url)}
        if (hidden := self._urls.get(target)) is not None:
            addresses |= {address_of(url_of(hidden.own)), address_of(url_of(hidden.unreachable))}
        for engine in self._namespaces.engines():
            redirect = self._redirects.get(id(root_of(engine)))
            made_from = redirect.url if redirect is not None else root_of(engine).url
            if address_of(made_from) in addresses:
                yield engine


class _HiddenURL(NamedTuple):
    """A URL of the application that is replaced outside of tests.

    Args:
        owner: The object that has the attribute.
        name: The attribute's name.
        own: The application's value.
        unreachable: The value in its place.
    """

    owner: Any
    name: str
    own: Any
    unreachable: Any


def _leads_to_test(url: URL, database: Checkout) -> bool:
    """Whether a URL leads to the database of the test, or nowhere, as one from a variable of `export_env` does."""
    return url.database == database.name or (url.host or "").endswith(_INVALID)


def _require_free(redirect: EngineRedirect) -> None:
    if redirect.in_use:
        raise WrongTargetError(
            f"has {redirect.in_use} connection(s) in use that were opened at import, and that elefast cannot lead "
            "elsewhere; connect in a function",
            "target-wrong-kind",
        )
