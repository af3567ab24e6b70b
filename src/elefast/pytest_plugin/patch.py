"""`patch`: what the application has at module level leads to the test's database while the test lasts.

Engines are led there in place, see `elefast.isolation.engine_redirect`; values such as URLs are replaced under every
name that modules of the project have for them. This module knows SQLAlchemy's engines and session makers, and must
not know pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine

from elefast.errors import ConfigurationError, Problem
from elefast.isolation.engine_redirect import EngineRedirect, root_of
from elefast.pytest_plugin.patch_targets import (
    EXPECTED,
    WrongTargetError,
    bind,
    called,
    can_be_called,
    described,
    end_sessions,
    find,
    forget,
    found_by,
    has_engines,
    imports,
    is_bind_of_ours,
    is_cached,
    is_engine,
    is_extension,
    is_kept_by_name,
    maker_of,
    place_of,
    set_attribute,
    url_of,
    value_like,
)
from elefast.pytest_plugin.project_modules import Names

if TYPE_CHECKING:
    from elefast.isolation.database import DatabaseCheckout
    from elefast.isolation.transaction import TransactionCheckout

    Lent = DatabaseCheckout | TransactionCheckout

__all__ = ["Patch"]

_INVALID = ".elefast.invalid"


class Patch:
    """The key `patch` of one run.

    Args:
        targets: ``module:attribute``, as in the setting; a module that is not imported yet is imported by `check`.
        origin: Where the setting was written.
        exports: Whether `export_env` names a variable, so that what reads its URL late reads the right one.
    """

    def __init__(self, targets: Sequence[str], origin: str, *, exports: bool) -> None:
        self._targets = targets
        self._origin = origin
        self._exports = exports
        self._redirects: dict[int, EngineRedirect] = {}
        self._extensions: list[Any] = []
        self._cached: dict[int, list[Engine]] = {}
        """By the identity of a cached function, the engines that its cache keeps between tests."""
        self._names = Names()
        self.renews_caches = False
        """Whether one of the targets is a function with a cache, whose engines may be connected to the database of a
        test when it ends."""
        self._checked = False
        self._database: Lent | None = None
        """Of the test that runs; None between tests."""
        self._undo = ExitStack()
        """What ends with that test."""
        self._led: set[int] = set()

    def imported(self, module: str) -> None:
        """Keep the engines of a module, whose code has just run, from the database that they were made for."""
        for target in self._targets:
            if target.partition(":")[0] != module:
                continue
            try:
                found = found_by(target)
                for engine in self._engines_of(found, target):
                    if self._database is None:
                        self._redirect(engine, target).block()
                    else:  # imported again by the test
                        self._lead(engine, target, self._database)
            except WrongTargetError:
                continue  # `check` says so where a test needs the target

    def check(self) -> None:
        """See that every target can be patched, before anything is done for it; once that is known, this is free.

        Raises:
            ConfigurationError: A target is not there, or is nothing that could be led elsewhere.
        """
        if self._checked:
            return
        problems: list[Problem] = []
        deferred = False
        for target in self._targets:
            try:
                if imports(target):
                    self._check(target)
                else:
                    deferred = True
            except WrongTargetError as error:
                problems.append(self._problem(target, error))
        if problems:
            raise ConfigurationError(problems)
        self._checked = not deferred

    @contextmanager
    def during_test(self, database: Lent) -> Generator[None]:
        """Let every target lead to `database`, and end that.

        Args:
            database: The test's.

        Raises:
            ConfigurationError: A target is not there, or is nothing that could be led elsewhere.
        """
        with ExitStack() as undo:
            undo.callback(self._led.clear)
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
        """Give everything back to the application."""
        for extension in self._extensions:
            del extension._make_engine
        for redirect in reversed(self._redirects.values()):
            redirect.restore()
        self._extensions, self._redirects = [], {}

    def _problem(self, target: str, error: WrongTargetError) -> Problem:
        return Problem(self._origin, "patch", f'"{target}": {error}', code=error.code)

    # -- what a target is -----------------------------------------------------------------------------------

    def _check(self, target: str) -> None:
        """Raise what is wrong with one target; its module is imported."""
        owner, name = find(target)
        found = getattr(owner, name)
        if is_cached(found):
            return
        if found is None:
            self._require_export()
            set_attribute(owner, name, found)
            return
        if is_kept_by_name(found):
            set_attribute(owner, name, found)
            for engine in self._made_from(url_of(found)):
                self._redirect(engine, f"the engine made from {target}").block()
            return
        if not has_engines(found):
            raise WrongTargetError(f"{EXPECTED}, found {described(found)}", "target-wrong-kind")
        if is_engine(found) and getattr(owner, name) is not found:
            raise WrongTargetError(
                "gives another engine each time that it is asked; name what keeps one", "target-wrong-kind"
            )
        for engine in self._engines_of(found, target):
            redirect = self._redirect(engine, target)
            redirect.block()
            _require_free(redirect)

    def _require_export(self) -> None:
        if not self._exports:
            raise WrongTargetError(
                "is None, so the application makes it later, from a URL that elefast does not know; name the variable "
                "that the URL is read from in export_env",
                "target-wrong-kind",
            )

    def _patch(self, target: str, database: Lent) -> None:
        owner, name = find(target)
        found = getattr(owner, name)
        if is_kept_by_name(found):
            self._replace(target, owner, name, found, database)
        elif found is None:
            self._require_export()
            self._undo.callback(forget, owner, name)
        elif is_cached(found):
            self._patch_cached(target, found, database)
        else:
            self._lead_all(found, target, database)

    def _lead_all(self, found: Any, target: str, database: Lent) -> None:
        """Lead what has engines to the test's database."""
        if not has_engines(found):
            raise WrongTargetError(f"{EXPECTED}, found {described(found)}", "target-wrong-kind")
        for engine in self._engines_of(found, target):
            self._lead(engine, target, database)
        if (maker := maker_of(found)) is not None:
            end_sessions(found)
            self._undo.callback(bind(maker, database, binds=not is_extension(found)))
            self._undo.callback(end_sessions, found)

    def _lead(self, engine: Any, target: str, database: Lent) -> None:
        redirect = self._redirect(engine, target)
        if id(redirect.engine) in self._led:
            return
        redirect.block()
        _require_free(redirect)
        # Before it is led: what an error interrupts is ended as well.
        self._undo.callback(redirect.end_redirect)
        redirect.redirect(database)
        self._led.add(id(redirect.engine))

    def _redirect(self, engine: Any, target: str) -> EngineRedirect:
        root = root_of(engine)
        redirect = self._redirects.get(id(root))
        if redirect is None:
            redirect = self._redirects[id(root)] = EngineRedirect(root, target)
        return redirect

    def _engines_of(self, found: Any, target: str) -> Iterator[Any]:
        """The engines that a target consists of; those that an extension makes later are taken care of by then."""
        if is_engine(found):
            yield found
        elif is_extension(found):
            self._watch(found, target)
            for engines in list(found._app_engines.values()):
                for key, engine in list(engines.items()):
                    if is_bind_of_ours(key, engine):
                        yield engine
        elif (maker := maker_of(found)) is not None:
            options: dict[str, Any] = maker.kw
            binds: dict[Any, Any] = options.get("binds") or {}
            for bound in (options.get("bind"), *binds.values()):
                if is_engine(bound):
                    yield bound

    # -- Flask-SQLAlchemy -----------------------------------------------------------------------------------

    def _watch(self, extension: Any, target: str) -> None:
        """Have the engines that the extension makes for an application, which may be made during a test."""
        if "_make_engine" in vars(extension):
            return
        make: Callable[..., Any] = extension._make_engine

        def made(bind_key: str | None, *args: Any, **keywords: Any) -> Any:
            engine = make(bind_key, *args, **keywords)
            if is_bind_of_ours(bind_key, engine):
                if self._database is None:
                    self._redirect(engine, target).block()
                else:
                    # An application that is made for one test ends with it, and so must what elefast keeps of it.
                    self._undo.callback(self._redirects.pop, id(root_of(engine)), None)
                    self._lead(engine, target, self._database)
            return engine

        vars(extension)["_make_engine"] = made
        self._extensions.append(extension)

    # -- functions with a cache -----------------------------------------------------------------------------

    def _patch_cached(self, target: str, function: Any, database: Lent) -> None:
        """Let a cached function begin anew for the test, and see that what it gives leads there."""
        self.renews_caches = True
        function.cache_clear()
        result = called(target, function) if can_be_called(function) else None
        if has_engines(result):
            engines = [root_of(engine) for engine in self._engines_of(result, target)]
            if self._exports:
                self._undo.callback(function.cache_clear)
                for engine in engines:
                    self._undo.callback(self._redirects.pop, id(engine), None)
            else:
                # The cache keeps it, since another one would lead to the developer's database between tests.
                self._kept_for(function, engines)
            self._lead_all(result, target, database)
            return
        self._undo.callback(function.cache_clear)
        if is_kept_by_name(result):
            url = url_of(result)
            if url.database != database.name and not (url.host or "").endswith(_INVALID):
                raise WrongTargetError(
                    "gives the URL of another database than the test's; name the variable that it is read from in "
                    "export_env",
                    "target-wrong-kind",
                )

    def _kept_for(self, function: Any, engines: list[Engine]) -> None:
        """Forget the engines that a cached function gave for an earlier test."""
        for engine in self._cached.pop(id(function), []):
            self._redirects.pop(id(engine), None)
        self._cached[id(function)] = engines

    # -- values ---------------------------------------------------------------------------------------------

    def _replace(self, target: str, owner: Any, name: str, found: Any, database: Lent) -> None:
        """Replace a URL under every name of the project's, and lead the engines that were made from it."""
        url = url_of(found)
        value = value_like(found, database.url_for(url.drivername))
        set_attribute(owner, name, value)
        self._undo.callback(self._names.replace, value, found)
        self._undo.callback(setattr, owner, name, found)
        self._names.replace(found, value)
        for engine in self._made_from(url):
            self._lead(engine, f"the engine made from {target}", database)

    def _made_from(self, url: URL) -> Iterator[Any]:
        """The engines that modules of the project made from a URL, perhaps with another driver."""
        for engine in self._names.engines():
            redirect = self._redirects.get(id(root_of(engine)))
            made_from = redirect.url if redirect is not None else root_of(engine).url
            if place_of(made_from) == place_of(url):
                yield engine


def _require_free(redirect: EngineRedirect) -> None:
    if redirect.in_use:
        raise WrongTargetError(
            f"has {redirect.in_use} connection(s) in use that were opened at import, and that elefast cannot lead "
            "elsewhere; connect in a function",
            "target-wrong-kind",
        )
