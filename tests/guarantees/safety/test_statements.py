"""Each statement that destroys or changes a database looks at the moment whether it is elefast's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from elefast import DatabaseServer
from elefast.databases.manager import DatabaseManager
from elefast.databases.sweeper import SweepScope
from elefast.errors import RefusedError
from elefast.postgres import databases, keepalives, spares
from elefast.postgres.connections.control_connection import SyncControlConnection
from elefast.postgres.connections.engines import MAINTENANCE, maintenance_engine
from elefast.postgres.names import Kind, Name, new_owner, new_serial
from elefast.templates import store
from elefast.templates.fingerprint import Input, Key
from tests.robustness.faults.server import Server

_NEW = Name("elefast", Kind.CLONE, new_owner(), new_serial())
_KEY = Key.of([Input.of("a", "b")])

STATEMENTS: dict[str, Callable[[Connection, str], object]] = {
    "drop": databases.drop,
    "drop-by-force": lambda connection, name: databases.drop(connection, name, force=True),
    "drop-unused": lambda connection, name: store.drop_unused(connection, name, "nobody has it"),
    "rename": lambda connection, name: databases.rename(connection, name, _NEW),
    "comment": lambda connection, name: databases.comment(connection, name, "mine"),
    "seal": databases.seal,
    "open": lambda connection, name: databases.allow_connections(connection, name, True),
    "close": lambda connection, name: databases.allow_connections(connection, name, False),
    "terminate": databases.terminate,
    "keepalives": keepalives.set_for_database,
    "take": lambda connection, name: spares.claim(connection, name, _NEW),
}


@pytest.fixture
def connection(server: Server) -> Iterator[Connection]:
    """As elefast has it."""
    with maintenance_engine(server.url, "postgres").connect() as connection:
        yield connection


def _look(server: Server, name: str) -> list[tuple[object, ...]]:
    return server.ask(f"""
        select d.oid, to_jsonb(d), shobj_description(d.oid, 'pg_database'),
               (select jsonb_agg(pid) from pg_stat_activity a where a.datid = d.oid)
        from pg_database d where datname = '{name}'
    """)  # fmt: skip


@pytest.mark.fault("a database that is not elefast's", how="each statement of elefast's, asked to do it to that one")
@pytest.mark.parametrize("what", ["wrong digest", "no mark", "another role's"])
@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement(server: Server, connection: Connection, decoys: dict[str, str], statement: str, what: str) -> None:
    """It is refused, and neither the database nor a session on it notices."""
    name = decoys[what]
    with server.connect(database=name) as somebody:
        before = _look(server, name)
        with pytest.raises(RefusedError, match=rf'database "{name}" is not \w+: ') as caught:
            STATEMENTS[statement](connection, name)
        assert caught.value.code == "foreign-database"
        assert _look(server, name) == before
        assert somebody.execute("select 1").fetchone() == (1,)


@pytest.mark.fault("a database that is not elefast's, by name", how="each method that takes the name of one")
@pytest.mark.parametrize("what", ["wrong digest", "no mark", "another role's"])
def test_a_method(server: Server, decoys: dict[str, str], what: str) -> None:
    """It is refused before a session is ended or a prepared transaction rolled back."""
    name = decoys[what]
    engine = create_engine(server.url, poolclass=NullPool)
    public = DatabaseServer(engine)
    manager = DatabaseManager(
        server.url, [lambda setup: SyncControlConnection(maintenance_engine(server.url, MAINTENANCE), setup)]
    )
    with server.connect(database=name) as somebody:
        somebody.execute("create temporary table t ()")
        with server.connect(database=name) as another:
            another.execute("begin")
            another.execute("create table if not exists prepared ()")
            another.execute("prepare transaction 'precious'")
        before = _look(server, name)
        for method in (public.drop_database, manager.drop, manager.session.drop, manager.session.clear_blockers):
            with pytest.raises(RefusedError):
                method(name)
        with pytest.raises(RefusedError):
            manager.keep_database(name, "a note")
        with pytest.raises(RefusedError):
            manager.session.end_sessions(name, 0)
        assert _look(server, name) == before
        assert server.ask("select gid from pg_prepared_xacts") == [("precious",)]
        with server.connect(database=name) as another:
            another.execute("rollback prepared 'precious'")
        assert somebody.execute("select count(*) from t").fetchone() == (0,)
    manager.close()


def _make(server: Server, name: str, note: str = "") -> None:
    server.ask(f'create database "{name}"')
    server.ask(f"comment on database \"{name}\" is '{note}'")


@pytest.mark.fault(
    "a database made anew under the name of one", how="DROP and CREATE between elefast's look and its drop"
)
@pytest.mark.parametrize("kind", [Kind.CLONE, Kind.KEPT, Kind.TEMPLATE, Kind.DRAFT, Kind.FAILED, Kind.VOLATILE])
def test_another_of_that_name(server: Server, monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    """A sweep that has looked at the old one leaves the new one alone; the next one, which looks at it, does not."""
    name = str(Name("elefast", kind, new_owner(), new_serial()))
    _make(server, name)
    manager = DatabaseManager(
        server.url, [lambda setup: SyncControlConnection(maintenance_engine(server.url, MAINTENANCE), setup)]
    )
    manager.sweeps = False
    seen = [entry for entry in manager.session.call(databases.own_databases) if entry.text == name]
    server.ask(f'drop database "{name}"')
    _make(server, name, "precious")
    with monkeypatch.context() as patch:
        patch.setattr(databases, "own_databases", lambda connection, *kinds, owner="": seen)
        assert manager.sweep(SweepScope(None, 0, templates=True)) == []
    assert name in server.names()
    assert name in manager.sweep(SweepScope(None, 0, templates=True))
    assert name not in server.names()
    manager.close()


@pytest.mark.fault("a template whose comment is somebody's", how="COMMENT ON DATABASE over elefast's own record")
def test_a_template_with_another_comment(server: Server, connection: Connection) -> None:
    """It is not used, and it is nobody's project's to drop."""
    name = str(Name("elefast", Kind.TEMPLATE, store.owner_of(_KEY), new_serial()))
    server.ask(f'create database "{name}" is_template true allow_connections false')
    for note in ("precious", "[]", '{"elefast": 1}', '{"elefast": 2, "project": "another", "key": "x"}', "\x7f{"):
        server.ask(f"comment on database \"{name}\" is '{note}'")
        assert [entry.text for entry in store.of_project(connection, "mine")] == []
        assert store.retire(connection, "mine", 0, set(), set()) == []
    assert name in server.names()
    server.ask(f'alter database "{name}" is_template false')
    server.ask(f'drop database "{name}"')
