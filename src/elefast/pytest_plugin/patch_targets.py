"""The targets of `patch`: finding them, telling their kinds apart, and changing all kinds but engines.

This module knows session makers of SQLAlchemy, and objects of pydantic and Flask-SQLAlchemy. It must not know pytest.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.util import ThreadLocalRegistry

from elefast.isolation.engine_redirect import root_of
from elefast.pytest_plugin.project_modules import is_project_module

if TYPE_CHECKING:
    from elefast.isolation.database import DatabaseCheckout
    from elefast.isolation.transaction import TransactionCheckout

    Checkout = DatabaseCheckout | TransactionCheckout

__all__ = [
    "EXPECTED",
    "WrongTargetError",
    "address_of",
    "call_cached",
    "can_be_called",
    "configure_maker",
    "discard",
    "end_sessions",
    "find_target",
    "has_engines",
    "import_target",
    "is_cached",
    "is_engine",
    "is_extension",
    "is_for_test_database",
    "is_url_value",
    "maker_of",
    "set_attribute",
    "type_name",
    "url_of",
    "url_value_like",
]

_PLUGIN_DIRECTORY = str(Path(__file__).parent)
EXPECTED = (
    "expected an Engine, AsyncEngine, sessionmaker, async_sessionmaker, scoped_session, URL, a string or a pydantic "
    "value with a URL, a function with cache_clear(), or Flask-SQLAlchemy's extension"
)


class WrongTargetError(Exception):
    """A target cannot be patched.

    Args:
        message: The reason.
        code: The code of the error.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


# -- finding a target ---------------------------------------------------------------------------------------


def find_target(target: str) -> tuple[Any, str]:
    """The object that has the attribute, and the attribute's name; ``module:a.b`` is attribute ``b`` of ``a``.

    Raises:
        WrongTargetError: The module or the attribute does not exist.
    """
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise WrongTargetError('expected "module:attribute"', "wrong-value")
    owner = _import_module(module_name)
    *outer, name = path.split(".")
    where = module_name
    for part in outer:
        owner, where = _get_attribute(owner, part, where), f"{where}.{part}"
    _get_attribute(owner, name, where)
    return owner, name


def _get_attribute(owner: Any, name: str, where: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        raise WrongTargetError(f"{where} has no attribute {name!r}", "target-not-found") from None
    except Exception as error:
        raise WrongTargetError(_failure(f"reading {where}.{name}", error), "target-import-failed") from error


def import_target(target: str) -> bool:
    """Import the module of a target; False where that fails now, perhaps because the module connects at import."""
    name = target.partition(":")[0]
    if not name or name in sys.modules:
        return True
    before = set(sys.modules)
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            return True  # `find_target` raises the error
        _remove_modules(before)
        return False
    except Exception:
        _remove_modules(before)
        return False
    return True


def _remove_modules(before: set[str]) -> None:
    """Remove the project's modules that a failed import has left, so that the next import runs them again."""
    for name in sys.modules.keys() - before:
        if is_project_module(sys.modules[name]):
            del sys.modules[name]


def _import_module(name: str) -> Any:
    if name in sys.modules:
        return sys.modules[name]
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise WrongTargetError(
                f"there is no module {error.name!r}; the directories to import from are pytest's `pythonpath`",
                "target-not-found",
            ) from None
        raise WrongTargetError(_failure(f"importing {name}", error), "target-import-failed") from error
    except Exception as error:
        raise WrongTargetError(_failure(f"importing {name}", error), "target-import-failed") from error


def _failure(what: str, error: BaseException) -> str:
    """A message with the traceback of the project's code, without frames of the import system and of elefast."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if "importlib" not in frame.filename and not frame.filename.startswith(_PLUGIN_DIRECTORY)
    ]
    text = "".join([*traceback.format_list(own), *traceback.format_exception_only(error)])
    return f"{what} failed\n{text.rstrip()}"


# -- kinds of targets ---------------------------------------------------------------------------------------


def is_engine(found: object) -> bool:
    return isinstance(found, Engine) or _is_async(found, "AsyncEngine")


def has_engines(found: object) -> bool:
    return is_engine(found) or is_extension(found) or maker_of(found) is not None


def is_extension(found: object) -> bool:
    """Whether it is Flask-SQLAlchemy's extension."""
    return any(
        kind.__name__ == "SQLAlchemy" and kind.__module__.partition(".")[0] == "flask_sqlalchemy"
        for kind in type(found).__mro__
    )


def is_for_test_database(bind: str | None, engine: Any) -> bool:
    """Whether an engine of Flask-SQLAlchemy is for the test's database, which one for SQLite is not."""
    return bind is None or engine.dialect.name == "postgresql"


def is_cached(found: object) -> bool:
    return callable(found) and callable(getattr(found, "cache_clear", None))


def can_be_called(function: Any) -> bool:
    """Whether a cached function can be called here: without arguments, and without an event loop."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(inspect.unwrap(function)):
        return False
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(one.default is not inspect.Parameter.empty or one.kind in optional for one in parameters)


def call_cached(target: str, function: Any) -> Any:
    """The result of a cached function.

    Raises:
        WrongTargetError: The call failed.
    """
    try:
        result = function()
    except Exception as error:
        raise WrongTargetError(_failure(f"calling {target}", error), "target-import-failed") from error
    if inspect.iscoroutine(result):
        result.close()
    return result


def maker_of(found: Any) -> Any:
    """The session maker of a target that makes sessions; None for other targets."""
    if is_extension(found):
        return found.session.session_factory
    if isinstance(found, scoped_session) or _is_async(found, "async_scoped_session"):
        maker: Any = cast("Any", found).session_factory
        if _is_maker(maker):
            return maker
        raise WrongTargetError(
            f"expected a scoped_session over a sessionmaker, found one over {type_name(maker)}", "target-wrong-kind"
        )
    return found if _is_maker(found) else None


def _is_maker(found: object) -> bool:
    return isinstance(found, sessionmaker) or _is_async(found, "async_sessionmaker")


def _is_async(found: object, name: str) -> bool:
    """Whether it is this class of SQLAlchemy's asyncio extension. The extension is not imported for that."""
    module = sys.modules.get("sqlalchemy.ext.asyncio")
    return module is not None and isinstance(found, getattr(module, name))


def configure_maker(maker: Any, database: Checkout, *, binds: bool) -> Callable[[], object]:
    """Configure a session maker for a test in place, because other modules may have imported it.

    The engine of the maker is redirected already. A maker without one gets the engine of the test.

    Args:
        maker: The session maker.
        database: The checkout of the test.
        binds: Whether to give the maker an engine.

    Returns:
        A function that restores the configuration.
    """
    before = dict(maker.kw)

    def restore() -> None:
        maker.kw.clear()
        maker.kw.update(before)

    maker.configure(**database.session_options)
    if binds and not (is_engine(before.get("bind")) or before.get("binds")):
        is_async = _is_async(maker, "async_sessionmaker")
        maker.configure(bind=database.async_engine if is_async else database.engine)
    return restore


def end_sessions(found: Any) -> None:
    """Close the sessions that a scoped session keeps, because they belong to the database before."""
    scoped = found.session if is_extension(found) else found
    if not isinstance(scoped, scoped_session):
        return
    registry: Any = scoped.registry  # pyright: ignore[reportUnknownVariableType,reportUnknownMemberType]
    if isinstance(registry, ThreadLocalRegistry):
        scoped.remove()
        return
    for session in list(registry.registry.values()):
        session.close()
    registry.registry.clear()


def discard(owner: Any, name: str) -> None:
    """Set an attribute to None again, and dispose the engine that the application made for it during the test."""
    made = getattr(owner, name, None)
    if is_engine(made) and not root_of(made).dialect.is_async:
        root_of(made).dispose()
    setattr(owner, name, None)


# -- values -------------------------------------------------------------------------------------------------


def address_of(url: URL) -> tuple[object, ...]:
    return url.host, url.port, url.database, url.username


class _Secret(NamedTuple):
    kind: Callable[[Any], Any]
    value: Any


def _secret(found: Any) -> _Secret | None:
    """The content of pydantic's ``SecretStr`` or ``Secret``."""
    if any(kind.__module__.partition(".")[0] == "pydantic" for kind in type(found).__mro__) and hasattr(
        found, "get_secret_value"
    ):
        return _Secret(type(found), found.get_secret_value())
    return None


def _is_pydantic_url(found: Any) -> bool:
    modules = {kind.__module__.partition(".")[0] for kind in type(found).__mro__}
    return bool(modules & {"pydantic", "pydantic_core"}) and hasattr(found, "scheme")


def is_url_value(found: Any) -> bool:
    """Whether it is a value with a URL. It cannot be changed in place, only replaced under each of its names."""
    return isinstance(found, URL | str) or _secret(found) is not None or _is_pydantic_url(found)


def url_of(found: Any) -> URL:
    if (secret := _secret(found)) is not None:
        return url_of(secret.value)
    try:
        return make_url(found if isinstance(found, URL | str) else str(found))
    except ArgumentError:
        raise WrongTargetError("expected a URL, found a string that is none", "target-wrong-kind") from None


def url_value_like(found: Any, url: URL) -> Any:
    """`url` as a value of the type of `found`."""
    if isinstance(found, URL):
        return url
    if (secret := _secret(found)) is not None:
        return secret.kind(url_value_like(secret.value, url))
    text = url.render_as_string(hide_password=False)
    if isinstance(found, str):
        return text
    try:
        return type(found)(text)
    except ValueError:
        # The error of pydantic shows the value, which has a password.
        raise WrongTargetError(
            f"a {type_name(found)} cannot hold a URL such as {url.render_as_string()}", "target-wrong-kind"
        ) from None


def set_attribute(owner: Any, name: str, value: Any) -> None:
    try:
        setattr(owner, name, value)
    except Exception as error:
        # The error of pydantic shows the value, which has a password.
        raise WrongTargetError(_why_not_set(owner, name, error), "target-not-settable") from None


def _why_not_set(owner: Any, name: str, error: Exception) -> str:
    kind = cast("Any", type(owner))
    settings: Any = getattr(kind, "model_config", {})
    if isinstance(inspect.getattr_static(kind, name, None), property):
        why = f"{name} is a property of {type_name(owner)} that cannot be set"
    elif hasattr(settings, "get") and settings.get("frozen"):
        why = f"{type_name(owner)} is frozen, so its {name} cannot be set"
    else:
        why = f"{type_name(owner)} does not let its {name} be set ({type(error).__name__})"
    return (
        f"{why}. Name the engine that is made from it, or what it is computed from, or let it be read from a variable "
        "in export_env"
    )


def type_name(found: object) -> str:
    return f"{type(found).__module__}.{type(found).__qualname__}"
