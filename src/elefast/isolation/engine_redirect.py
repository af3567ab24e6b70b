"""An engine of the application, led to the database of one test after the other, in place.

The engine stays the same object with its own dialect, pool class, options and listeners. Only where it connects to
changes. So every name, closure, partial and session maker that has the engine follows, whenever it was bound.
This module knows SQLAlchemy's engines, and neither pytest nor configuration.
"""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# SQLAlchemy has no public way to change an engine in place, and types little of what is inside.

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

    Lent = DatabaseCheckout | TransactionCheckout

__all__ = ["NOWHERE", "EngineRedirect", "database_of", "root_of"]

NOWHERE = "request-the-db-fixture.elefast.invalid"
"""The host in the engine's URL while no test has it. Names under .invalid never resolve (RFC 6761)."""

# Connect arguments that say where to connect and as whom, in the words of libpq, asyncpg, pg8000 and SQLAlchemy.
_PLACE = frozenset(
    "host hostaddr port dbname database user password passfile service servicefile dsn unix_sock direct_tls "
    "target_session_attrs load_balance_hosts require_auth requirepeer channel_binding async_creator_fn context".split()
)
_PLACE_PREFIXES = ("ssl", "gss", "krb", "oauth")
# Execution options of a whole transaction, which a test that is one transaction cannot change.
_OF_TRANSACTION = {"isolation_level", "postgresql_readonly", "postgresql_deferrable"}
# Attributes that differ between any two dialects that were made with the same keywords.
_EACH_DIALECTS_OWN = {
    "connect",
    "dispatch",
    "identifier_preparer",
    "initialize",
    "type_compiler",
    "type_compiler_instance",
    "_elefast_test",
    "_psycopg_adapters_map",
}
_tests = count()


def root_of(engine: Any) -> Engine:
    """The engine with the pool behind an `Engine`, an ``AsyncEngine`` or what ``execution_options()`` gave."""
    root: Any = getattr(engine, "sync_engine", engine)
    while isinstance(root, OptionEngineMixin):
        root = root._proxied
    found: Engine = root
    return found


def database_of(connection: Any, pool: Any) -> str:
    """The name of the database that a driver's connection leads to; empty where nothing says.

    Args:
        connection: As SQLAlchemy has it.
        pool: The pool that opened it.
    """
    driver = getattr(connection, "driver_connection", connection)
    info = getattr(driver, "info", None)  # psycopg, psycopg2
    parameters = getattr(driver, "_params", None)  # asyncpg
    creator: Any = getattr(pool, "_creator", None)
    asked = creator.keywords if isinstance(creator, _Creator) else _connect_arguments(pool) or {}  # pg8000
    try:
        name: Any = getattr(info, "dbname", "") or getattr(parameters, "database", "") or asked.get("database")
    except Exception:  # of a connection that is closed
        return ""
    return name if isinstance(name, str) else ""


class EngineRedirect:
    """One engine of the application, for as long as elefast decides where it leads.

    `hold` takes it from the application, `lead` and `part` surround a test, `give_back` ends it all.

    Args:
        engine: The engine with the pool, see `root_of`.
        label: What it is called in messages, such as ``app.db:engine``.
    """

    def __init__(self, engine: Engine, label: str) -> None:
        self.engine = engine
        self.label = label
        self._dialect: Any = engine.dialect
        self._pool: Pool = engine.pool
        self.url = engine.url
        """What the engine was made with."""
        self._creator: Any = vars(self._pool)["_creator_arg"]
        self._own_arguments = _behaviour(_connect_arguments(engine.pool))
        self._dialects = DialectCache()
        self._alike: bool | None = None
        self._derived: weakref.WeakSet[Any] = weakref.WeakSet()
        self._original: list[_State] = []
        self._held: list[_State] = []
        self.in_use = 0
        """Connections that the application had checked out when `hold` came, and that lead past any redirect."""

    # -- outside of tests -----------------------------------------------------------------------------------

    def hold(self) -> None:
        """From here on the engine connects to nothing, and says why where it is asked to."""
        if self._original:
            return
        checked_out = getattr(self._pool, "checkedout", None)
        self.in_use = checked_out() if callable(checked_out) else 0
        self._find_derived()
        self._original = self._states()
        if not self._dialect.is_async:
            self._pool.dispose()
        # The pool object itself, too, for whoever has taken it from the engine.
        _set_creator(self._pool, self._refuse)
        pool = self._pool.recreate()
        _set_creator(pool, self._refuse)
        attributes = vars(self.engine)
        attributes["pool"] = pool
        attributes["_option_cls"] = self._derive
        self._set_url(URL.create(self.url.drivername, "elefast", host=NOWHERE, database="elefast"))
        self._held = self._states()

    def give_back(self) -> None:
        """Make the engine what it was before `hold`."""
        if not self._original:
            return
        _set_creator(self._pool, self._creator)
        _restore(self._original)
        for derived in self._derived:
            vars(derived).pop("_option_cls", None)
            vars(derived)["url"] = self.url
        self._original, self._held = [], []

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

    def lead(self, database: Lent) -> None:
        """Lead the engine to the database of a test.

        Args:
            database: Of the test.
        """
        self.hold()
        target: Any = root_of(database.async_engine) if self._dialect.is_async else database.engine
        self._copy_listeners(self.engine)
        if isinstance(target, SharedConnectionEngine) or self._dialect.name != "postgresql":
            self._become(target)
        else:
            self._connect_to(database, target)
        for derived in self._derived:
            vars(derived)["dispatch"] = derived.dispatch.local._join(_dispatch(self.engine))

    def part(self) -> None:
        """End `lead`: close the connections that are not in use, and let the engine lead nowhere again."""
        pool = self.engine.pool
        if not isinstance(self.engine, SharedConnectionEngine) and not self._dialect.is_async:
            pool.dispose()
        known = {id(state.owner) for state in self._held}
        late = [derived for derived in self._derived if id(derived) not in known]
        _restore(self._held)
        for derived in late:
            # Made during the test, perhaps by a module that keeps it.
            derived.__class__ = Engine._option_cls
            vars(derived).update(dialect=self._dialect, url=self.engine.url)
            vars(derived)["dispatch"] = derived.dispatch.local._join(_dispatch(self.engine))
            self._held.append(_State(derived))

    def _connect_to(self, database: Lent, target: Engine) -> None:
        """Give the engine a pool to the test's database, of its own class and with its own options."""
        dialect, attributes = self._dialect, vars(self._dialect)
        self._copy_listeners(dialect)
        # SQLAlchemy and its mappers remember compiled statements by the dialect. What one test compiled, perhaps with
        # something patched, must not reach the next one.
        kind: Any = type(dialect)
        dialect.__class__ = _renewable(kind)
        attributes["_elefast_test"] = next(_tests)
        url = database.url_for(self.url.drivername)
        arguments: list[Any] = []
        keywords: dict[str, Any] = {}
        theirs = _connect_arguments(target.pool) if type(target.dialect).__name__ == type(dialect).__name__ else None
        if theirs is not None:
            # With what the configuration says of connections, which may be what the server insists on.
            keywords = dict(theirs)
        else:
            given, keywords = dialect.create_connect_args(url)
            arguments = list(given)
        alike = self._is_like(target.dialect) and theirs is not None
        if alike and not dialect.is_async:
            # It may have a connection that was opened ahead.
            attributes["connect"] = target.dialect.connect
        if "_psycopg_adapters_map" in attributes and attributes["_psycopg_adapters_map"] is not None:
            own: Any = attributes["_psycopg_adapters_map"]
            adapters: Any = vars(target.dialect)["_psycopg_adapters_map"] if alike else own.__class__(own)
            attributes["_psycopg_adapters_map"] = keywords["context"] = adapters
        keywords = {**self._own_arguments, **keywords}
        pool = self._new_pool()
        _set_creator(pool, _Creator(dialect, arguments, keywords, database.name, self.label))
        vars(self.engine)["pool"] = pool
        known = {key: value for key, value in self.url.query.items() if _behaves(key)}
        self._set_url(url.update_query_dict(known))
        event.listen(pool, "connect", self._initialize)
        self._dialects.share(self.engine, _ignore)

    def _new_pool(self) -> Pool:
        """A pool like the application's; an async one keeps no connection, since each test has a loop of its own."""
        if not self._dialect.is_async:
            return self._pool.recreate()
        like: Any = self._pool
        return NullPool(
            like._creator,
            recycle=like._recycle,
            echo=like.echo,
            logging_name=like._orig_logging_name,
            reset_on_return=like._reset_on_return,
            pre_ping=like._pre_ping,
            _dispatch=like.dispatch,
            dialect=self._dialect,
        )

    def _initialize(self, connection: Any, record: Any) -> None:
        """Let the dialect ask the first connection of a test what it needs to know.

        SQLAlchemy's own listener does that once in the life of an engine.
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

    def _is_like(self, other: Any) -> bool:
        """Whether `other` was made with the keywords of this engine's dialect."""
        if self._alike is None:
            mine = {key: value for key, value in vars(self._dialect).items() if key not in _EACH_DIALECTS_OWN}
            theirs = {key: value for key, value in vars(other).items() if key not in _EACH_DIALECTS_OWN}
            self._alike = mine == theirs
        return self._alike

    def _become(self, target: Any) -> None:
        """Let the engine share the pool and the dialect of `target`, and keep its own listeners and options."""
        engine: Any = self.engine
        engine.__class__ = type(target)
        self._copy_listeners(engine)  # for the new class
        _forget_characteristics(engine)
        for name in ("pool", "dialect", "_compiled_cache", "_connection_cls"):
            if name in vars(target):
                vars(engine)[name] = vars(target)[name]
        vars(engine)["_execution_options"] = _without_transaction(engine._execution_options)
        for derived in self._derived:
            derived.__class__ = type(target)._option_cls
            vars(derived).update(dialect=target.dialect, _compiled_cache=target._compiled_cache)
            vars(derived)["_execution_options"] = _without_transaction(derived._execution_options)
            local = type(derived).dispatch._for_instance(derived)
            local._update(derived.dispatch.local, only_propagate=False)
            vars(derived)["dispatch"] = local._join(_dispatch(engine))
            _forget_characteristics(derived)
        self._set_url(target.url)

    # -- what belongs to the engine -------------------------------------------------------------------------

    def _states(self) -> list[_State]:
        return [_State(self.engine), _State(self._dialect), *map(_State, self._derived)]

    def _set_url(self, url: URL) -> None:
        for engine in (self.engine, *self._derived):
            vars(engine)["url"] = url

    @staticmethod
    def _copy_listeners(owner: Any) -> None:
        """Let `owner` have a copy of its listeners, so that those of a test go with it."""
        listeners = vars(owner).pop("dispatch", None)
        if listeners is not None:
            _dispatch(owner)._update(listeners, only_propagate=False)

    def _derive(self, engine: Engine, options: Mapping[str, Any]) -> Any:
        """In place of ``Engine._option_cls``: what ``execution_options()`` calls."""
        made: Any = type(engine)._option_cls(engine, options)
        self._adopt(made)
        return made

    def _adopt(self, derived: Any) -> None:
        self._derived.add(derived)
        vars(derived)["_option_cls"] = self._derive

    def _find_derived(self) -> None:
        """Find what ``execution_options()`` gave before elefast knew of the engine."""
        seen: set[int] = set()
        found: list[Any] = [self.engine]
        while found:
            for one in gc.get_referrers(found.pop()):
                owners = gc.get_referrers(one) if isinstance(one, dict) and "_proxied" in one else [one]
                for owner in owners:
                    if isinstance(owner, OptionEngineMixin) and id(owner) not in seen:
                        seen.add(id(owner))
                        if root_of(owner) is self.engine:
                            self._adopt(owner)
                            found.append(owner)


class _State:
    """The class and the attributes of an object at one time."""

    def __init__(self, owner: Any) -> None:
        self.owner: Any = owner
        self._class: type[Any] = type(owner)
        self._attributes = _attributes(owner).copy()

    def restore(self) -> None:
        """Give them back; in an order that never leaves the object without an attribute that it needs."""
        attributes = _attributes(self.owner)
        self.owner.__class__ = self._class
        attributes.update(self._attributes)
        for name in attributes.keys() - self._attributes.keys():
            del attributes[name]


def _restore(states: list[_State]) -> None:
    for state in states:
        state.restore()


class _Creator:
    """Connects as SQLAlchemy does, and refuses what a listener has led elsewhere.

    Args:
        dialect: Connects.
        arguments: For the driver.
        keywords: For the driver.
        database: The name of the only database that a connection may lead to.
        label: Of the engine.
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
            made = listener(self._dialect, connection_record, arguments, keywords)
            if made is not None:
                break
        else:
            made = self._dialect.connect(*arguments, **keywords)
        found = database_of(made, None)
        if found and found != self._database:
            made.close()
            raise RefusedError(
                f'a listener for "do_connect" of {self._label} connected to database "{found}" instead of the '
                f'database of the test, "{self._database}". Let it change only what does not say where to connect to',
                code="patched-elsewhere",
            )
        return made


@cache
def _renewable(kind: type[Any]) -> type[Any]:
    """A class like `kind`, whose objects have another hash in each test."""

    def digest(one: Any) -> int:
        return hash((id(one), one._elefast_test))

    content: dict[str, Any] = {"__module__": kind.__module__, "__hash__": digest}
    if "supports_statement_cache" in vars(kind):  # which each class must say of itself
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


def _connect_arguments(pool: Pool) -> Mapping[str, Any] | None:
    """The keywords that SQLAlchemy's own creator calls the driver with; None where the pool has another creator.

    They are read from the closure of the creator. To ask the creator itself would connect, where it is the user's.
    """
    creator: Any = getattr(pool, "_creator", None)
    if not isinstance(creator, FunctionType) or creator.__module__ != "sqlalchemy.engine.create":
        return None
    cells = dict(zip(creator.__code__.co_freevars, creator.__closure__ or (), strict=True))
    found: Any = cells["cparams"].cell_contents if "cparams" in cells else None
    return found if isinstance(found, Mapping) else None


def _behaves(name: str) -> bool:
    return name not in _PLACE and not name.startswith(_PLACE_PREFIXES)


def _behaviour(arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those of `arguments` that say how to connect, and not where or as whom."""
    return {name: value for name, value in (arguments or {}).items() if _behaves(name)}


def _without_transaction(options: Any) -> Any:
    return type(options)({name: value for name, value in options.items() if name not in _OF_TRANSACTION})


def _forget_characteristics(engine: Any) -> None:
    """Take out the listener by which SQLAlchemy sets an engine's isolation level on its connections."""
    dispatch = getattr(engine.dispatch, "local", engine.dispatch)
    listeners = dispatch.engine_connect
    if getattr(listeners, "listeners", None):
        collection = listeners.for_modify(dispatch)
        collection.listeners = deque(
            fn for fn in collection.listeners if getattr(fn, "__module__", "") != "sqlalchemy.engine.default"
        )
