"""`patch`: what the application has at module level leads to the test's database while the test lasts.

What is done depends on what is there. It knows SQLAlchemy's engines and session makers,
and must not know pytest.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import scoped_session, sessionmaker

from elefast.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from elefast.lent import LentDatabase
    from elefast.shared import LentTransaction

    Lent = LentDatabase | LentTransaction

__all__ = ["patched"]


@contextmanager
def patched(targets: Sequence[str], database: Lent, origin: str) -> Generator[None]:
    """Let every target lead to `database`, and give back what was there.

    Args:
        targets: ``module:attribute``, as in the setting `patch`; modules are imported if they are not yet.
        database: The test's.
        origin: Where the setting was written.

    Raises:
        ConfigurationError: A target is not there, or is nothing that could be led elsewhere.
    """
    with ExitStack() as undo:
        for target in targets:
            try:
                undo.callback(_patch(target, database))
            except _WrongTargetError as error:
                raise ConfigurationError(
                    [Problem(origin, "patch", f'"{target}": {error}', code=error.code)]
                ) from error.__cause__
        yield


class _WrongTargetError(Exception):
    """Why a target cannot be patched, and the code of that."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def _patch(target: str, database: Lent) -> Callable[[], object]:
    """Patch one target; what is returned undoes it."""
    owner, name = _find(target)
    found: Any = getattr(owner, name)
    if isinstance(found, scoped_session):
        return _rebind_scoped(found, database)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(found, sessionmaker):
        return _rebind(found, database.engine, database)
    if _is_async(found, "async_sessionmaker"):
        return _rebind(found, database.async_engine, database)
    if isinstance(found, Engine):
        replacement: object = database.engine
    elif _is_async(found, "AsyncEngine"):
        replacement = database.async_engine
    elif isinstance(found, URL):
        replacement = database.url_for(found.drivername)
    elif isinstance(found, str):
        url = database.url_for(_scheme(found))
        replacement = url.render_as_string(hide_password=False)
    else:
        raise _WrongTargetError(
            "expected an Engine, AsyncEngine, sessionmaker, async_sessionmaker, scoped_session, URL or a "
            f"string with a URL, found {_described(found)}",
            "target-wrong-kind",
        )
    setattr(owner, name, replacement)
    return lambda: setattr(owner, name, found)


def _find(target: str) -> tuple[Any, str]:
    """The object that has the attribute, and its name; ``module:a.b`` means attribute ``b`` of ``a``."""
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise _WrongTargetError('expected "module:attribute"', "wrong-value")
    owner = _import(module_name)
    *outer, name = path.split(".")
    where = module_name
    for part in [*outer, name]:
        if not hasattr(owner, part):
            raise _WrongTargetError(f"{where} has no attribute {part!r}", "target-not-found")
        if part is not name:
            owner, where = getattr(owner, part), f"{where}.{part}"
    return owner, name


def _import(name: str) -> Any:
    if name in sys.modules:
        return sys.modules[name]
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise _WrongTargetError(
                f"there is no module {error.name!r}; the directories to import from are pytest's `pythonpath`",
                "target-not-found",
            ) from None
        raise _WrongTargetError(_failed_import(name, error), "target-import-failed") from error
    except Exception as error:
        raise _WrongTargetError(_failed_import(name, error), "target-import-failed") from error


def _failed_import(name: str, error: BaseException) -> str:
    """The project's own traceback, without the machinery of imports and without elefast."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    text = "".join([*traceback.format_list(own), *traceback.format_exception_only(error)])
    return f"importing {name} failed\n{text.rstrip()}"


def _rebind(maker: Any, engine: Any, database: Lent) -> Callable[[], object]:
    """Bind a session maker in place, because others may have imported the object itself."""
    before = dict(maker.kw)

    def restore() -> None:
        maker.kw.clear()
        maker.kw.update(before)

    maker.configure(bind=engine, **database.session_options)
    return restore


def _rebind_scoped(registry: scoped_session[Any], database: Lent) -> Callable[[], object]:
    """As `_rebind`; sessions that it holds from before, or of the test, belong elsewhere and are removed."""
    maker: Any = registry.session_factory
    if not isinstance(maker, sessionmaker):
        raise _WrongTargetError(
            f"expected a scoped_session over a sessionmaker, found one over {_described(maker)}", "target-wrong-kind"
        )
    registry.remove()
    restore = _rebind(maker, database.engine, database)

    def undo() -> None:
        registry.remove()
        restore()

    return undo


def _is_async(found: object, name: str) -> bool:
    """Whether it is this class of SQLAlchemy's asyncio extension, without importing that where nobody did."""
    module = sys.modules.get("sqlalchemy.ext.asyncio")
    return module is not None and isinstance(found, getattr(module, name))


def _scheme(text: str) -> str:
    try:
        return make_url(text).drivername
    except ArgumentError:
        raise _WrongTargetError("expected a URL, found a string that is none", "target-wrong-kind") from None


def _described(found: object) -> str:
    return f"{type(found).__module__}.{type(found).__qualname__}"
