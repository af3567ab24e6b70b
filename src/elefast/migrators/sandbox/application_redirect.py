"""Leads the application's own engines and URLs to the template that is being built, while seed functions run.

The targets are those of the key `patch`. A target is redirected when its module has been imported, so that a seed which
does not use the application does not depend on it either. The interpreter does nothing else, so nothing is restored.

During tests, `elefast.pytest_plugin.patch` does the same work in pytest's process, and restores what it changes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from types import ModuleType
from typing import Any

from sqlalchemy import URL, Engine, event, make_url
from sqlalchemy.exc import SQLAlchemyError

from elefast.migrators.sandbox.connection_guard import PatchOnImport
from elefast.postgres.urls import with_driver

__all__ = ["ApplicationRedirect"]

# Arguments of drivers that say where to connect, and as whom.
_PLACE = frozenset("host hostaddr port user password passfile service dbname database dsn unix_sock".split())
_OF_THE_SERVER = ("ssl", "gss", "krb", "channel_binding", "target_session_attrs", "require_auth")


class ApplicationRedirect:
    """The objects of the application that lead to the template.

    Args:
        targets: ``module:attribute``, as in `patch`.
        url: The template.
    """

    def __init__(self, targets: Sequence[str], url: URL) -> None:
        self._url = url
        self._targets: dict[str, list[str]] = {}
        for target in targets:
            module, _, attribute = target.partition(":")
            self._targets.setdefault(module, []).append(attribute)
        self._places: set[tuple[str, str, str]] = set()
        """The places that the application's own engines and URLs lead to."""
        self._sessions: list[Any] = []

    def install(self) -> None:
        """Redirect the targets as soon as their modules are imported."""
        event.listen(Engine, "do_connect", self._on_do_connect)
        patches: dict[str, Callable[[ModuleType], None]] = dict.fromkeys(self._targets, self._redirect_module)
        for name in list(patches):
            if (module := sys.modules.get(name)) is not None:
                patches.pop(name)(module)
        sys.meta_path.insert(0, PatchOnImport(patches))

    def commit_sessions(self) -> None:
        """Commit the work that scoped sessions of the application have left open, and end these sessions."""
        for registry in self._sessions:
            if registry.registry.has():
                registry.commit()
                registry.remove()

    def _redirect_module(self, module: ModuleType) -> None:
        for attribute in self._targets[module.__name__]:
            owner: Any = module
            *path, name = attribute.split(".")
            try:
                for part in path:
                    owner = getattr(owner, part)
                found = getattr(owner, name)
            except AttributeError:
                continue  # the first test reports it
            self._redirect(owner, name, found)

    def _redirect(self, owner: Any, name: str, found: Any) -> None:
        if hasattr(found, "cache_clear"):
            setattr(owner, name, self._noting(found))
        elif hasattr(found, "_make_engine"):  # Flask-SQLAlchemy
            found._make_engine = self._noting(found._make_engine)
        elif isinstance(found, str | URL):
            with suppress(SQLAlchemyError, ValueError):
                url = make_url(found)
                if url.get_backend_name() == "postgresql":
                    self._note(found)
                    own = with_driver(self._url, url.drivername)
                    setattr(owner, name, own if isinstance(found, URL) else own.render_as_string(hide_password=False))
        else:
            self._note(found)

    def _noting(self, function: Any) -> Any:
        """A function that notes the engines which `function` returns."""

        @wraps(function)
        def noting(*arguments: Any, **keywords: Any) -> Any:
            result = function(*arguments, **keywords)
            self._note(result)
            return result

        for method in ("cache_clear", "cache_info", "cache_parameters"):
            if hasattr(function, method):
                setattr(noting, method, getattr(function, method))
        return noting

    def _note(self, found: Any) -> None:
        """Note where an engine, a session maker or a URL leads, so that connections to that place are redirected."""
        if isinstance(found, str | URL):
            url = make_url(found)
            self._places.add(_place_of(url.get_dialect()().create_connect_args(url)[1]))
            return
        if hasattr(found, "registry") and hasattr(found, "session_factory"):  # a scoped session
            if hasattr(found.registry, "has") and not hasattr(found, "aclose"):
                self._sessions.append(found)
            found = found.session_factory
        options: Mapping[str, Any] = getattr(found, "kw", {})  # of a session maker
        binds: Mapping[Any, Any] = options.get("binds") or {}
        for bound in (found, options.get("bind"), *binds.values()):
            engine = getattr(bound, "sync_engine", bound)
            if isinstance(engine, Engine) and engine.dialect.name == "postgresql":
                arguments: Any = engine.dialect.create_connect_args(engine.url)[1]
                self._places.add(_place_of(arguments))

    def _on_do_connect(self, dialect: Any, record: Any, cargs: Any, cparams: dict[str, Any]) -> None:
        if dialect.name != "postgresql" or _place_of(cparams) not in self._places:
            return
        own = with_driver(self._url, f"postgresql+{_driver_name(dialect)}")
        kept = {
            key: value for key, value in cparams.items() if key not in _PLACE and not key.startswith(_OF_THE_SERVER)
        }
        cparams.clear()
        cparams.update(kept | dialect.create_connect_args(own)[1])
        if isinstance(cargs, list):
            cargs.clear()


def _place_of(arguments: Mapping[str, Any]) -> tuple[str, str, str]:
    """Where the arguments of a driver lead: host, port and database."""
    database = arguments.get("dbname") or arguments.get("database")
    return str(arguments.get("host") or ""), str(arguments.get("port") or ""), str(database or "")


def _driver_name(dialect: Any) -> str:
    return str(dialect.driver).removesuffix("_async")
