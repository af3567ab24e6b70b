"""An engine of the application, redirected in place to the database of one test after the other.

The engine stays the same object with its own dialect, pool class, options and listeners. Only the database that it
connects to changes. So all code that holds the engine follows, however it got it: by a module's name, a closure, a
partial or a session maker.
This module knows SQLAlchemy's engines. It must not know pytest or configuration.
"""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# SQLAlchemy has no public way to change an engine in place, and types few of its internals.

from __future__ import annotations

import gc
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from functools import cache
from itertools import count
from types import FunctionType
from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.engine.base import OptionEngineMixin
from sqlalchemy.pool import NullPool, Pool
from sqlalchemy.pool.base import _AdhocProxiedConnection
from sqlalchemy.util import immutabledict

from elefast.errors import RefusedError
from elefast.isolation.engine import SharedConnectionEngine
from elefast.postgres.connections.dialect_cache import DialectCache

if TYPE_CHECKING:
    from elefast.isolation.database import DatabaseCheckout
    from elefast.isolation.transaction import TransactionCheckout

    Checkout = DatabaseCheckout | TransactionCheckout

__all__ = ["NOWHERE", "EngineRedirect", "connect_arguments", "database_of", "root_of"]

NOWHERE = "request-the-db-fixture.elefast.invalid"
"""The host in the engine's URL between tests. Names under .invalid never resolve (RFC 6761)."""

# Connect arguments for the server, the database and the user, as libpq, asyncpg, pg8000 and SQLAlchemy name them.
_ADDRESS_ARGUMENTS = frozenset(
    "host hostaddr port dbname database user password passfile service servicefile dsn unix_sock direct_tls "
    "target_session_attrs load_balance_hosts require_auth requirepeer channel_binding async_creator_fn context".split()
)
_ADDRESS_PREFIXES = ("ssl", "gss", "krb", "oauth")
# Execution options of a whole transaction. A test that is one transaction cannot change them.
_TRANSACTION_OPTIONS = {"isolation_level", "postgresql_readonly", "postgresql_deferrable"}
# Attributes in which two dialects differ although they were made with the same keywords.
_DIALECT_IDENTITY = {
    "connect",
    "dispatch",
    "identifier_preparer",
    "initialize",
    "type_compiler",
    "type_compiler_instance",
    "_elefast_test",
    "_psycopg_adapters_map",
}
_test_numbers = count()


def root_of(engine: Any) -> Engine:
    """The engine that has the pool, for an `Engine`, an ``AsyncEngine`` or a result of ``execution_options()``."""
    root: Any = getattr(engine, "sync_engine", engine)
    while isinstance(root, OptionEngineMixin):
        root = root._proxied
    found: Engine = root
    return found


def database_of(connection: Any, pool: Any) -> str:
    """The name of the database that a driver's connection is open to; empty where the driver does not tell.

    Args:
        connection: The connection as SQLAlchemy wraps it.
        pool: The pool that opened it.
    """
    driver = getattr(connection, "driver_connection", connection)
    info = getattr(driver, "info", None)  # psycopg, psycopg2
    parameters = getattr(driver, "_params", None)  # asyncpg
    creator: Any = getattr(pool, "_creator", None)
    asked = creator.keywords if isinstance(creator, _Creator) else connect_arguments(pool) or {}  # pg8000
    try:
        name: Any = getattr(info, "dbname", "") or getattr(parameters, "database", "") or asked.get("database")
    except Exception:  # of a connection that is closed
        return ""
    return name if isinstance(name, str) else ""


class EngineRedirect:
    """One engine of the application, while elefast decides which database it connects to.

    `block` makes it refuse connections, `redirect` and `end_redirect` surround a test, and `restore` ends all of that.

    Args:
        engine: The engine with the pool, see `root_of`.
        label: The name of the engine in messages, such as ``app.db:engine``.
    """

    def __init__(self, engine: Engine, label: str) -> None:
        self.engine = engine
        self.label = label
        self._dialect: Any = engine.dialect
        self._pool: Pool = engine.pool
        self.url = engine.url
        """The URL that the engine was made with."""
        self._creator: Any = vars(self._pool)["_creator_arg"]
        self.own_arguments = connect_arguments(engine.pool)
        """The arguments that the engine called its driver with; None where it has a creator of its own."""
        self._own_arguments = _without_address(self.own_arguments)
        self._dialects = DialectCache()
        self._same_dialect: bool | None = None
        self._derived: weakref.WeakSet[Any] = weakref.WeakSet()
        self._original: list[_Snapshot] = []
        self._blocked: list[_Snapshot] = []
        self.in_use = 0
        """Connections that were checked out when `block` was called. No redirect reaches them."""

    # -- outside of tests -----------------------------------------------------------------------------------

    def block(self) -> None:
        """Let the engine refuse connections from now on."""
        if self._original:
            return
        checked_out = getattr(self._pool, "checkedout", None)
        self.in_use = checked_out() if callable(checked_out) else 0
        self._find_derived()
        self._original = self._snapshots()
        if not self._dialect.is_async:
            self._pool.dispose()
        # Code that took the pool from the engine gets the refusal as well.
        _set_creator(self._pool, self._refuse)
        pool = self._pool.recreate()
        _set_creator(pool, self._refuse)
        attributes = vars(self.engine)
        attributes["pool"] = pool
        attributes["_option_cls"] = self._derive
        self._set_url(URL.create(self.url.drivername, "elefast", host=NOWHERE, database="elefast"))
        self._blocked = self._snapshots()

    def restore(self) -> None:
        """Make the engine what it was before `block`."""
        if not self._original:
            return
        _set_creator(self._pool, self._creator)
        _restore(self._original)
        for derived in self._derived:
            vars(derived).pop("_option_cls", None)
            vars(derived)["url"] = self.url
        self._original, self._blocked = [], []

    def _refuse(self, record: object = None) -> NoReturn:
        __tracebackhide__ = True
        raise RefusedError(
            f"{self.label} was asked for a connection while no test has it. elefast leads this engine to the database "
            "of the test that runs, and keeps it from connecting anywhere else.\n"
            "Request db, db_session or another fixture of elefast's in the test. A fixture that uses the engine must "
            "request one of them as well, and have the scope of a function",
            code="patched-outside-test",
        )

    # -- during a test --------------------------------------------------------------------------------------

    def redirect(self, database: Checkout) -> None:
        """Let the engine connect to the database of a test.

        Args:
            database: The checkout of the test.
        """
        self.block()
        target: Any = root_of(database.async_engine) if self._dialect.is_async else database.engine
        self._copy_listeners(self.engine)
        if isinstance(target, SharedConnectionEngine) or self._dialect.name != "postgresql":
            self._share(target)
        else:
            self._connect_to(database, target)
        for derived in self._derived:
            vars(derived)["dispatch"] = derived.dispatch.local._join(_dispatch(self.engine))

    def end_redirect(self) -> None:
        """End `redirect`: close the idle connections, and let the engine refuse connections again."""
        pool = self.engine.pool
        if not isinstance(self.engine, SharedConnectionEngine) and not self._dialect.is_async:
            pool.dispose()
        known = {id(snapshot.owner) for snapshot in self._blocked}
        late = [derived for derived in self._derived if id(derived) not in known]
        _restore(self._blocked)
        for derived in late:
            # The test made it, and a module may keep it.
            derived.__class__ = Engine._option_cls
            vars(derived).update(dialect=self._dialect, url=self.engine.url)
            vars(derived)["dispatch"] = derived.dispatch.local._join(_dispatch(self.engine))
            self._blocked.append(_Snapshot(derived))

    def _connect_to(self, database: Checkout, target: Engine) -> None:
        """Give the engine a pool for the test's database, of the class and with the options of its own pool."""
        dialect, attributes = self._dialect, vars(self._dialect)
        self._copy_listeners(dialect)
        # SQLAlchemy and its mappers cache compiled statements by dialect. A statement that one test compiled, perhaps
        # with something patched, must not be used by the next test. So the dialect gets another hash.
        kind: Any = type(dialect)
        dialect.__class__ = _class_with_hash_per_test(kind)
        attributes["_elefast_test"] = next(_test_numbers)
        url = database.url_for(self.url.drivername)
        arguments: list[Any] = []
        keywords: dict[str, Any] = {}
        target_arguments = (
            connect_arguments(target.pool) if type(target.dialect).__name__ == type(dialect).__name__ else None
        )
        if target_arguments is not None:
            # The server may require connect arguments that only elefast's configuration has.
            keywords = dict(target_arguments)
        else:
            given, keywords = dialect.create_connect_args(url)
            arguments = list(given)
        same_dialect = self._has_same_dialect(target.dialect) and target_arguments is not None
        if same_dialect and not dialect.is_async:
            # The target's dialect may have a connection that was opened in advance.
            attributes["connect"] = target.dialect.connect
        if "_psycopg_adapters_map" in attributes and attributes["_psycopg_adapters_map"] is not None:
            own: Any = attributes["_psycopg_adapters_map"]
            adapters: Any = vars(target.dialect)["_psycopg_adapters_map"] if same_dialect else own.__class__(own)
            attributes["_psycopg_adapters_map"] = keywords["context"] = adapters
        keywords = {**self._own_arguments, **keywords}
        pool = self._new_pool()
        _set_creator(pool, _Creator(dialect, arguments, keywords, database.name, self.label))
        vars(self.engine)["pool"] = pool
        database.note_engine(self.engine)
        query = {key: value for key, value in self.url.query.items() if not _is_address(key)}
        self._set_url(url.update_query_dict(query))
        event.listen(pool, "connect", self._initialize)
        self._dialects.share(self.engine, _ignore)

    def _new_pool(self) -> Pool:
        """A pool like the application's. An async one keeps no connection, because each test has its own event loop."""
        if not self._dialect.is_async:
            return self._pool.recreate()
        own: Any = self._pool
        return NullPool(
            own._creator,
            recycle=own._recycle,
            echo=own.echo,
            logging_name=own._orig_logging_name,
            reset_on_return=own._reset_on_return,
            pre_ping=own._pre_ping,
            _dispatch=own.dispatch,
            dialect=self._dialect,
        )

    def _initialize(self, connection: Any, record: Any) -> None:
        """Initialize the dialect with the first connection of a test.

        SQLAlchemy's own listener does that only with the first connection of an engine.
        """
        dialect = self._dialect
        if "initialize" not in vars(dialect):
            return
        adhoc: Any = Connection(
            self.engine,
            connection=_AdhocProxiedConnection(connection, record),
            _has_events=False,
            _allow_revalidate=False,
            _allow_autobegin=False,
        )
        adhoc._execution_options = immutabledict()
        dialect.initialize(adhoc)
        dialect.do_rollback(adhoc.connection)

    def _has_same_dialect(self, other: Any) -> bool:
        """Whether `other` was made with the keywords of this engine's dialect."""
        if self._same_dialect is None:
            own = {key: value for key, value in vars(self._dialect).items() if key not in _DIALECT_IDENTITY}
            others = {key: value for key, value in vars(other).items() if key not in _DIALECT_IDENTITY}
            self._same_dialect = own == others
        return self._same_dialect

    def _share(self, target: Any) -> None:
        """Let the engine share the pool and the dialect of `target`, and keep its own listeners and options."""
        engine: Any = self.engine
        engine.__class__ = type(target)
        self._copy_listeners(engine)  # for the new class
        _remove_isolation_level(engine)
        for name in ("pool", "dialect", "_compiled_cache", "_connection_cls"):
            if name in vars(target):
                vars(engine)[name] = vars(target)[name]
        vars(engine)["_execution_options"] = _without_transaction_options(engine._execution_options)
        for derived in self._derived:
            derived.__class__ = type(target)._option_cls
            vars(derived).update(dialect=target.dialect, _compiled_cache=target._compiled_cache)
            vars(derived)["_execution_options"] = _without_transaction_options(derived._execution_options)
            local = type(derived).dispatch._for_instance(derived)
            local._update(derived.dispatch.local, only_propagate=False)
            vars(derived)["dispatch"] = local._join(_dispatch(engine))
            _remove_isolation_level(derived)
        self._set_url(target.url)

    # -- the engine and its parts ---------------------------------------------------------------------------

    def _snapshots(self) -> list[_Snapshot]:
        return [_Snapshot(self.engine), _Snapshot(self._dialect), *map(_Snapshot, self._derived)]

    def _set_url(self, url: URL) -> None:
        for engine in (self.engine, *self._derived):
            vars(engine)["url"] = url

    @staticmethod
    def _copy_listeners(owner: Any) -> None:
        """Give `owner` a copy of its listeners, so that those which a test adds end with the test."""
        listeners = vars(owner).pop("dispatch", None)
        if listeners is not None:
            _dispatch(owner)._update(listeners, only_propagate=False)

    def _derive(self, engine: Engine, options: Mapping[str, Any]) -> Any:
        """Stand in for ``Engine._option_cls``, which ``execution_options()`` calls."""
        derived: Any = type(engine)._option_cls(engine, options)
        self._add_derived(derived)
        return derived

    def _add_derived(self, derived: Any) -> None:
        self._derived.add(derived)
        vars(derived)["_option_cls"] = self._derive

    def _find_derived(self) -> None:
        """Find the results of ``execution_options()`` from before elefast knew the engine."""
        seen: set[int] = set()
        found: list[Any] = [self.engine]
        while found:
            for one in gc.get_referrers(found.pop()):
                owners = gc.get_referrers(one) if isinstance(one, dict) and "_proxied" in one else [one]
                for owner in owners:
                    if isinstance(owner, OptionEngineMixin) and id(owner) not in seen:
                        seen.add(id(owner))
                        if root_of(owner) is self.engine:
                            self._add_derived(owner)
                            found.append(owner)


class _Snapshot:
    """The class and the attributes of an object at one time."""

    def __init__(self, owner: Any) -> None:
        self.owner: Any = owner
        self._class: type[Any] = type(owner)
        self._attributes = _attributes(owner).copy()

    def restore(self) -> None:
        """Set the class and the attributes again. At no time does the object lack an attribute that it needs."""
        attributes = _attributes(self.owner)
        self.owner.__class__ = self._class
        attributes.update(self._attributes)
        for name in attributes.keys() - self._attributes.keys():
            del attributes[name]


def _restore(snapshots: list[_Snapshot]) -> None:
    for snapshot in snapshots:
        snapshot.restore()


class _Creator:
    """Connects as SQLAlchemy does, and refuses a connection that a listener opened to another database.

    Args:
        dialect: The dialect to connect with.
        arguments: Positional arguments for the driver.
        keywords: Keyword arguments for the driver.
        database: The only database that a connection may be open to.
        label: The name of the engine in messages.
    """

    def __init__(self, dialect: Any, arguments: list[Any], keywords: dict[str, Any], database: str, label: str) -> None:
        self._dialect = dialect
        self._arguments = arguments
        self.keywords = keywords
        self._database = database
        self._label = label

    def __call__(self, connection_record: Any) -> Any:
        arguments, keywords = list(self._arguments), dict(self.keywords)
        for listener in self._dialect.dispatch.do_connect:
            connection = listener(self._dialect, connection_record, arguments, keywords)
            if connection is not None:
                break
        else:
            connection = self._dialect.connect(*arguments, **keywords)
        found = database_of(connection, None)
        if found and found != self._database:
            connection.close()
            raise RefusedError(
                f'a listener for "do_connect" of {self._label} connected to database "{found}" instead of the '
                f'database of the test, "{self._database}". It may change only arguments that do not name '
                "the server, the database or the user",
                code="patched-elsewhere",
            )
        return connection


@cache
def _class_with_hash_per_test(kind: type[Any]) -> type[Any]:
    """A class like `kind`, whose objects have another hash in each test."""

    def hash_per_test(dialect: Any) -> int:
        return hash((id(dialect), dialect._elefast_test))

    content: dict[str, Any] = {"__module__": kind.__module__, "__hash__": hash_per_test}
    if "supports_statement_cache" in vars(kind):  # SQLAlchemy does not look for it in base classes
        content["supports_statement_cache"] = kind.supports_statement_cache
    return type(kind.__name__, (kind,), content)


def _attributes(owner: Any) -> dict[str, Any]:
    found: dict[str, Any] = vars(owner)
    return found


def _dispatch(owner: Any) -> Any:
    return owner.dispatch


def _ignore(seconds: float) -> None: ...


def _set_creator(pool: Any, creator: Callable[..., Any]) -> None:
    pool._creator = creator


def connect_arguments(pool: Pool) -> Mapping[str, Any] | None:
    """The keywords that SQLAlchemy's own creator calls the driver with; None where the pool has another creator.

    They are read from the closure of the creator, because a call of the creator would connect.
    """
    creator: Any = getattr(pool, "_creator", None)
    if not isinstance(creator, FunctionType) or creator.__module__ != "sqlalchemy.engine.create":
        return None
    cells = dict(zip(creator.__code__.co_freevars, creator.__closure__ or (), strict=True))
    found: Any = cells["cparams"].cell_contents if "cparams" in cells else None
    return found if isinstance(found, Mapping) else None


def _is_address(name: str) -> bool:
    """Whether a connect argument says where to connect, or as which user."""
    return name in _ADDRESS_ARGUMENTS or name.startswith(_ADDRESS_PREFIXES)


def _without_address(arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (arguments or {}).items() if not _is_address(name)}


def _without_transaction_options(options: Any) -> Any:
    return type(options)({name: value for name, value in options.items() if name not in _TRANSACTION_OPTIONS})


def _remove_isolation_level(engine: Any) -> None:
    """Remove the listener with which SQLAlchemy sets an engine's isolation level on its connections."""
    dispatch = getattr(engine.dispatch, "local", engine.dispatch)
    listeners = dispatch.engine_connect
    if getattr(listeners, "listeners", None):
        collection = listeners.for_modify(dispatch)
        collection.listeners = deque(
            fn for fn in collection.listeners if getattr(fn, "__module__", "") != "sqlalchemy.engine.default"
        )
