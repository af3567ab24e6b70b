"""Databases over synchronous engines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import (
    JSON,
    URL,
    VARCHAR,
    Column,
    Connection,
    Integer,
    MetaData,
    NullPool,
    StaticPool,
    Table,
    create_engine,
    event,
    inspect,
    literal,
    make_url,
    select,
    text,
)
from sqlalchemy.orm import Session, sessionmaker

from elefast import Database, DatabaseServer, LeakWarning, MetadataMigrator
from elefast.databases.manager import DatabaseManager
from elefast.databases.sweeper import SweepScope
from elefast.errors import (
    DatabaseNotReadyError,
    MigrationError,
    MissingDependencyError,
    MissingRightsError,
    RefusedError,
)
from elefast.postgres.connections.connectors import connectors_to
from elefast.postgres.names import Kind, Name, new_owner
from elefast.postgres.urls import dsn
from elefast.providers import LocalProvider
from elefast.templates.fingerprint import Input
from elefast.templates.manifest import Manifest

Query = Callable[[str], list[tuple[object, ...]]]


class Counting:
    """A migrator that counts its runs."""

    def __init__(self, mark: str = "") -> None:
        self.runs = 0
        self.mark = mark

    def migrate(self, connection: Connection) -> None:
        self.runs += 1
        connection.execute(text("create table note (id int generated always as identity, body text)"))

    def fingerprint(self) -> str | None:
        return self.mark or None


def test_a_database_has_the_schema_and_is_gone_afterwards(
    sync_url: URL, metadata: MetaData, ours: Callable[[], list[str]]
) -> None:
    """The whole life of a database, with each driver."""
    server = DatabaseServer(sync_url, schema=MetadataMigrator(metadata))
    with server.create_database() as database:
        with database.session() as session:
            session.execute(text("insert into app.note (body) values ('100% fine')"))
            session.commit()
        with database.engine.connect() as connection:
            assert connection.scalar(text("select body from app.note")) == "100% fine"
        assert database.name in ours()
        assert database.url.database == database.name
    assert database.name not in ours()


def test_databases_do_not_see_each_other(server_url: str, metadata: MetaData) -> None:
    """What one test commits, the next does not find."""
    server = DatabaseServer(server_url, schema=MetadataMigrator(metadata))
    with server.create_database() as first, server.create_database() as second:
        with first.session() as session:
            session.execute(text("insert into app.note (body) values ('first')"))
            session.commit()
        with second.session() as session:
            assert session.scalar(text("select count(*) from app.note")) == 0


def test_without_a_schema_databases_are_empty(server_url: str) -> None:
    """No migrator, no tables."""
    with DatabaseServer(server_url).create_database() as database, database.engine.connect() as connection:
        assert connection.scalar(text("select count(*) from pg_class where oid >= 16384")) == 0


def test_a_template_is_built_over_the_users_engine(sync_url: URL) -> None:
    """With each driver, where no other has built it before; and what a failed build leaves can be dropped."""
    metadata = MetaData()
    Table(f"only_of_{sync_url.get_driver_name()}", metadata, Column("id", Integer, primary_key=True))
    engine = create_engine(sync_url)
    with DatabaseServer(engine, schema=MetadataMigrator(metadata)).create_database() as database:
        assert inspect(database.engine).get_table_names() == list(metadata.tables)
    Table("no_such_type", metadata, Column("id", VARCHAR(collation="none of these")))
    with pytest.raises(MigrationError, match='collation "none of these"'):
        DatabaseServer(engine, schema=MetadataMigrator(metadata)).create_database()
    engine.dispose()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"isolation_level": "SERIALIZABLE"},
        {"poolclass": NullPool},
        {"poolclass": StaticPool},
        {"pool_size": 1, "max_overflow": 0},
    ],
    ids=str,
)
def test_a_users_engine_works_whatever_its_pool_and_isolation(
    sync_url: URL, metadata: MetaData, options: dict[str, object]
) -> None:
    """elefast neither needs autocommit of the engine, nor one of its connections."""
    engine = create_engine(sync_url, **options)
    held = engine.connect()
    server = DatabaseServer(engine, schema=MetadataMigrator(metadata))
    with server.create_database() as database, database.session() as session:
        assert session.scalar(text("select count(*) from app.note")) == 0
    assert held.scalar(text("select 1")) == 1
    held.close()
    engine.dispose()


def test_the_options_of_an_engine_reach_the_databases(server_url: str) -> None:
    """Connect arguments, the pool's size and JSON functions are those of the engine that was given."""
    engine = create_engine(
        server_url,
        connect_args={"application_name": "mine"},
        pool_size=2,
        json_serializer=lambda value: '"x"',
    )
    with DatabaseServer(engine).create_database() as database:
        with database.engine.connect() as connection:
            assert connection.scalar(text("show application_name")) == "mine"
            assert connection.scalar(select(literal({}, JSON))) == "x"
        assert database.engine.pool.status().startswith("Pool size: 2 ")
    engine.dispose()


def test_a_listener_that_puts_a_password_in_is_used_for_databases_too(server_url: str) -> None:
    """Tokens that expire are put in by ``do_connect`` listeners; the URL has no password then."""
    engine = create_engine(server_url)
    seen: list[str] = []

    @event.listens_for(engine, "do_connect")
    def put_token(dialect: object, record: object, cargs: list[object], cparams: dict[str, str]) -> None:
        cparams["application_name"] = "with token"
        seen.append(cparams["dbname"])

    with DatabaseServer(engine).create_database() as database, database.engine.connect() as connection:
        assert connection.scalar(text("show application_name")) == "with token"
    assert database.name in seen
    engine.dispose()


def test_a_custom_creator_is_used_for_work_on_the_server(server_url: str, ours: Callable[[], list[str]]) -> None:
    """A creator leads to one database only; elefast's own work goes through it."""
    calls: list[int] = []

    def creator() -> psycopg.Connection[object]:
        calls.append(1)
        return psycopg.connect(server_url.replace("+psycopg", ""))

    engine = create_engine(server_url, creator=creator)
    with DatabaseServer(engine).create_database() as database:
        assert database.name in ours()
    assert calls
    engine.dispose()


def test_the_sessionmaker_can_be_chosen(server_url: str) -> None:
    """A factory on the server makes the sessions of all its databases."""

    class MySession(Session):
        pass

    server = DatabaseServer(server_url, sessionmaker_factory=lambda engine: sessionmaker(engine, class_=MySession))
    with server.create_database() as database:
        assert isinstance(database.session(), MySession)


@pytest.mark.parametrize("prefix", ["test_a[x-1]", 'a"b', "a'b", "a:b", "a%b%s", "ü" * 40, "a b\\c{}"])
def test_any_text_may_be_the_prefix(sync_url: URL, prefix: str, metadata: MetaData) -> None:
    """Node ids of pytest are full of characters that mean something to SQL, to drivers or to URLs."""
    server = DatabaseServer(sync_url, schema=MetadataMigrator(metadata))
    with server.create_database(prefix) as database, database.session() as session:
        assert session.scalar(text("select current_database()")) == database.name
    with psycopg.connect(database.server.create_database(prefix).dsn) as connection:
        assert connection.info.dbname.startswith(prefix[:5])


def test_the_template_is_built_once_for_all_threads(server_url: str) -> None:
    """Whoever comes first builds; all others wait for it."""
    migrator = Counting()
    server = DatabaseServer(server_url, schema=migrator)
    made: list[Database] = []
    threads = [threading.Thread(target=lambda: made.append(server.create_database())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert migrator.runs == 1
    assert len({database.name for database in made}) == 6
    for database in made:
        database.drop()


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "for this run"])
def test_a_sweep_beside_a_build_leaves_the_processes_own_alone(server_url: str, kept: bool) -> None:
    """The session's own locks do not keep it out, so a sweep waits for the build, and knows what is in use."""
    url = make_url(server_url)
    sweeps: list[threading.Thread] = []

    class Recipe:
        def inputs(self) -> list[Input] | None:
            return [Input.of("a sweep beside a build", str(kept))]

        def why_not_kept(self) -> str:
            return "" if kept else "a test"

        def build(self, url: URL, *, mark: str = "") -> Manifest:
            sweeps.append(threading.Thread(target=manager.sweep))
            sweeps[0].start()
            sweeps[0].join(0.5)
            with psycopg.connect(dsn(url)) as connection:
                connection.execute("create table note ()")
            return Manifest()

        def still_fits(self, manifest: Manifest) -> list[str]:
            return []

    manager = DatabaseManager(url, connectors_to(url), recipe=Recipe())
    try:
        manager.drop(manager.create()[0])
        sweeps[0].join()
        assert manager.sweep() == []
        manager.drop(manager.create()[0])
    finally:
        manager.sweep(SweepScope(None, 0, templates=True))
        manager.close()


def test_a_template_with_a_fingerprint_is_found_by_the_next_server(server_url: str) -> None:
    """The next run of the same project migrates nothing; another fingerprint migrates again."""
    first, second, third = Counting("same"), Counting("same"), Counting("other")
    for migrator in (first, second, third):
        DatabaseServer(server_url, schema=migrator).create_database().drop()
    assert (first.runs, second.runs, third.runs) == (1, 0, 1)


def test_a_template_without_a_fingerprint_is_not_kept(server_url: str, ours: Callable[[], list[str]]) -> None:
    """What cannot be known to be the same is built again, and gone when the process ends."""
    program = (
        "import sys; from elefast import DatabaseServer; from sqlalchemy import text\n"
        "class M:\n"
        "    def migrate(self, c): c.execute(text('create table t ()')); print('migrated')\n"
        "d = DatabaseServer(sys.argv[1], schema=M()).create_database()\n"
    )
    before = ours()
    for _ in range(2):
        run = subprocess.run([sys.executable, "-c", program, server_url], capture_output=True, text=True, check=True)
        assert run.stdout == "migrated\n"
        assert run.stderr == ""
    assert ours() == before


def test_a_failing_migration_is_tried_once_and_leaves_nothing(server_url: str, ours: Callable[[], list[str]]) -> None:
    """The second test gets the same error without another migration."""

    class Failing(Counting):
        def migrate(self, connection: Connection) -> None:
            super().migrate(connection)
            raise MigrationError("no luck")

    migrator = Failing()
    server = DatabaseServer(server_url, schema=migrator)
    before = ours()
    for _ in range(2):
        with pytest.raises(MigrationError, match="no luck"):
            server.create_database()
    assert migrator.runs == 1
    server._backend._manager.close()  # type: ignore[attr-defined]
    assert ours() == before


def test_settings_and_grants_of_the_database_are_in_every_clone(server_url: str, query: Query) -> None:
    """PostgreSQL copies neither; a migration that sets them on its database must find them in the clones."""

    class Sets:
        def migrate(self, connection: Connection) -> None:
            name = connection.scalar(text("select current_database()"))
            for statement in (
                f'alter database "{name}" set search_path to "$user", app, public',
                f"alter database \"{name}\" set timezone to 'Asia/Tokyo'",
                f"alter database \"{name}\" set my_app.tenant to 'it''s'",
                f"comment on database \"{name}\" is 'mine'",
                f'revoke connect on database "{name}" from public',
            ):
                connection.execute(text(statement))

    with DatabaseServer(server_url, schema=Sets()).create_database() as database:
        with database.engine.connect() as connection:
            shown = [connection.scalar(text(f"show {name}")) for name in ("search_path", "timezone", "my_app.tenant")]
        assert shown == ['"$user", app, public', "Asia/Tokyo", "it's"]
        (row,) = query(
            "select shobj_description(oid, 'pg_database'), datacl::text from pg_database "
            f"where datname = '{database.name}'"
        )
        assert row[0] == "mine"
        assert "=c/" not in str(row[1]).replace("=Tc", "=c")


def test_a_connection_that_was_left_open_is_named(server_url: str, ours: Callable[[], list[str]]) -> None:
    """The database goes all the same, and the warning says who held it and what it asked last."""
    database = DatabaseServer(server_url).create_database()
    leaked = psycopg.connect(database.dsn, application_name="the culprit")
    leaked.execute("select 'last words'")
    with pytest.warns(LeakWarning, match=r"the culprit .*idle in transaction.*select 'last words'"):
        database.drop()
    assert database.name not in ours()
    leaked.close()


def test_autovacuum_is_nobodys_leak(elefast_root: Path) -> None:
    """A server that is not tuned has its workers in every database that a test wrote much to."""
    provider = LocalProvider(
        bin_dir=os.environ.get("TEST_POSTGRES_BIN", ""),
        reuse=False,
        root=elefast_root,
        settings={
            "autovacuum": "on",
            "autovacuum_naptime": "1s",
            # Once it has come, it stays.
            "autovacuum_vacuum_cost_delay": "100ms",
            "autovacuum_vacuum_cost_limit": "1",
        },
    )
    lease = provider.acquire()
    try:
        database = DatabaseServer(lease.url).create_database()
        with database.session() as session:
            session.execute(text("create table note as select from generate_series(1, 20000)"))
            session.execute(text("delete from note"))
            session.commit()
            worker = text(
                "select count(*) from pg_stat_activity "
                "where datname = current_database() and backend_type = 'autovacuum worker'"
            )
            deadline = time.monotonic() + 120
            while not session.scalar(worker):
                session.rollback()
                assert time.monotonic() < deadline
                time.sleep(0.02)
        database.drop()  # a warning would be an error
    finally:
        lease.release()


def test_a_leak_does_not_hide_the_tests_own_error(server_url: str) -> None:
    """Warnings are errors in this suite, and still the assertion is what is raised."""
    database = DatabaseServer(server_url).create_database()
    leaked = psycopg.connect(database.dsn)

    def fail() -> None:
        with database:
            raise AssertionError("mine")

    with pytest.raises(AssertionError, match="mine") as caught:
        fail()
    leaked.close()
    assert "left open" in caught.value.__notes__[0]


def test_a_users_migrator_that_fails_is_told_with_its_own_error_and_not_run_again(server_url: str) -> None:
    """What it raised is the cause; the second database does not cost another try."""

    class Failing(Counting):
        def migrate(self, connection: Connection) -> None:
            super().migrate(connection)
            connection.execute(text("select nonsense"))

    migrator = Failing()
    server = DatabaseServer(server_url, schema=migrator)
    for _ in range(2):
        with pytest.raises(MigrationError, match='Failing failed: ProgrammingError: column "nonsense" does not exist'):
            server.create_database()
    assert migrator.runs == 1


def test_an_interrupt_in_the_middle_of_a_query_is_survived(server_url: str) -> None:
    """Ctrl-C or a timeout of a plugin ends the connection, and the next call has another one."""
    server = DatabaseServer(server_url).ensure_is_ready()
    session = server._backend._manager.session  # type: ignore[attr-defined]

    def interrupted(connection: Connection) -> None:
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        connection.execute(text("select pg_sleep(10)"))

    with pytest.raises(KeyboardInterrupt):
        session.call(interrupted)
    with server.create_database() as database:
        assert database.name


def test_another_roles_sessions_are_not_ended(server_url: str, query: Query) -> None:
    """A database with a right mark that belongs to another role is refused before anything happens to it."""
    name = str(Name("elefast", Kind.CLONE, new_owner(), "1"))
    query("create role other login createdb password 'pw'")
    query(f'create database "{name}" owner other')
    try:
        theirs = make_url(server_url).set(username="other", password="pw", database=name)
        with psycopg.connect(theirs.render_as_string(hide_password=False).replace("+psycopg", "")) as connection:
            with pytest.raises(RefusedError, match='it belongs to role "other"'):
                DatabaseServer(server_url).drop_database(name)
            assert connection.execute("select 1").fetchone() == (1,)
    finally:
        query(f'drop database "{name}" with (force)')
        query("drop role other")


def test_a_database_without_the_mark_is_never_dropped(server_url: str, query: Query) -> None:
    """Not even when asked by name."""
    query("create database precious")
    try:
        with pytest.raises(RefusedError, match='"precious" is not dropped'):
            DatabaseServer(server_url).drop_database("precious")
        assert query("select 1 from pg_database where datname = 'precious'")
    finally:
        query("drop database precious")


def test_dropping_twice_does_no_harm(server_url: str) -> None:
    """`drop()` in the test and at the end of the block."""
    with DatabaseServer(server_url).create_database() as database:
        database.drop()


def test_a_dead_runs_databases_are_swept(server_url: str, ours: Callable[[], list[str]]) -> None:
    """A process that was killed leaves databases; the next one drops them, and only them."""
    program = (
        "import os, signal, sys; from elefast import DatabaseServer\n"
        "d = DatabaseServer(sys.argv[1]).create_database('dead'); print(d.name, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", program, server_url], capture_output=True, text=True, check=False)
    dead = run.stdout.strip()
    with DatabaseServer(server_url).create_database("alive") as alive:
        assert dead not in ours()
        DatabaseServer(server_url).ensure_is_ready()
        assert alive.name in ours()


def test_a_dead_runs_prepared_transaction_is_rolled_back(server_url: str, ours: Callable[[], list[str]]) -> None:
    """PostgreSQL drops no database with one, and nobody is left to finish it; one of a living run stays."""
    program = (
        "import os, signal, sys; from elefast import DatabaseServer\n"
        "d = DatabaseServer(sys.argv[1]).create_database('dead'); print(d.name, flush=True)\n"
        "with d.engine.connect() as c:\n"
        "    c.exec_driver_sql('create table t ()'); c.exec_driver_sql(\"prepare transaction 'dead'\")\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with DatabaseServer(server_url).create_database("alive") as alive:
        with alive.engine.connect() as connection:
            connection.exec_driver_sql("create table t ()")
            connection.exec_driver_sql("prepare transaction 'alive'")
        run = subprocess.run([sys.executable, "-c", program, server_url], capture_output=True, text=True, check=False)
        dead = run.stdout.strip()
        deadline = time.monotonic() + 60
        while dead in ours() and time.monotonic() < deadline:  # its sessions take a moment to be gone
            DatabaseServer(server_url).ensure_is_ready()
        assert dead
        assert dead not in ours()
        with alive.engine.connect() as connection:
            assert connection.exec_driver_sql("select gid from pg_prepared_xacts").scalars().all() == ["alive"]
            connection.rollback()
        with pytest.warns(LeakWarning, match='prepared transaction "alive" was left in alive_.* and was cleared'):
            alive.drop()


@pytest.mark.parametrize("role", ["postgres", "nobody_of_this_name"])
def test_what_waiting_cannot_mend_fails_at_once(sync_url: URL, role: str) -> None:
    """A wrong role or password will not get better in a minute; the message does not repeat it."""
    server = DatabaseServer(create_engine(sync_url.set(username=role, password="wrong")))
    with pytest.raises(
        DatabaseNotReadyError, match=r"authentication failed.*Check the user and the password"
    ) as caught:
        server.ensure_is_ready(timeout=60)
    assert "wrong" not in str(caught.value)


def test_a_missing_driver_is_said_at_once(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the line that installs it, and before a database is made."""
    monkeypatch.setitem(sys.modules, "pg8000", None)
    server = DatabaseServer(server_url.replace("psycopg", "pg8000"))
    for use in (server.ensure_is_ready, server.create_database):
        with pytest.raises(MissingDependencyError, match=r"pg8000 is not installed.*pip install pg8000"):
            use()


def test_a_missing_database_is_no_obstacle(server_url: str) -> None:
    """elefast works on the maintenance database; the URL's own is not needed where that one answers."""
    DatabaseServer(make_url(server_url).set(database="not_there")).create_database().drop()


@pytest.mark.fault("no server at the address", how="a port that nobody listens on")
def test_a_server_that_does_not_answer_is_waited_for_and_named(server_url: str) -> None:
    """The error has the URL without the password, how long it waited, and the driver's own words."""
    with pytest.raises(DatabaseNotReadyError) as caught:
        DatabaseServer("postgresql+psycopg://me:secret@127.0.0.1:1/x").ensure_is_ready(timeout=0.4, interval=0.1)
    message = str(caught.value)
    assert "postgresql+psycopg://me:***@127.0.0.1:1/x did not answer within 0." in message
    assert "refused" in message
    assert "secret" not in message


def test_a_role_that_may_not_create_databases_is_told_how(server_url: str, query: Query) -> None:
    """The message has the statement to run."""
    query("create role poor login password 'pw'")
    try:
        with pytest.raises(
            MissingRightsError, match=r'role "poor" may not create databases.*ALTER ROLE "poor" CREATEDB;'
        ):
            DatabaseServer(make_url(server_url).set(username="poor", password="pw")).create_database()
    finally:
        query("drop role poor")


def test_a_role_with_createdb_alone_is_enough(server_url: str, query: Query, metadata: MetaData) -> None:
    """No superuser is needed: create, seal, rename, clone, comment and drop are allowed to the owner."""
    query("create role modest login createdb nosuperuser password 'pw'")
    try:
        server = DatabaseServer(
            make_url(server_url).set(username="modest", password="pw"), schema=MetadataMigrator(metadata)
        )
        with server.create_database() as database, database.session() as session:
            assert session.scalar(text("select count(*) from app.note")) == 0
        for (name,) in query("select datname from pg_database where pg_get_userbyid(datdba) = 'modest'"):
            server._backend._manager.session.drop(str(name))  # type: ignore[attr-defined]
        server._backend._manager.close()  # type: ignore[attr-defined]
    finally:
        query("drop role modest")


def test_without_the_maintenance_database_the_urls_own_will_do(server_url: str, query: Query) -> None:
    """Where the role may not connect to `postgres`, work goes through the database that the URL names."""
    query("create role outsider login createdb password 'pw'")
    query("create database home owner outsider")
    query("revoke connect on database postgres from public")
    try:
        url = make_url(server_url).set(username="outsider", password="pw", database="home")
        server = DatabaseServer(url)
        server.create_database().drop()
        server._backend._manager.close()  # type: ignore[attr-defined]
        with pytest.raises(DatabaseNotReadyError, match='permission denied for database "postgres"'):
            DatabaseServer(url.set(database="postgres")).ensure_is_ready(timeout=60)
    finally:
        query("grant connect on database postgres to public")
        query("drop database home")
        query("drop role outsider")


@pytest.mark.fault("elefast's own connection ended", how="pg_terminate_backend between two databases")
def test_a_lost_connection_is_opened_again(server_url: str, query: Query, caplog: pytest.LogCaptureFixture) -> None:
    """A server that restarts, or a firewall that cuts, costs one warning in the log."""
    server = DatabaseServer(server_url)
    server.create_database().drop()
    query("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'elefast run%'")
    with server.create_database() as database:
        assert database.name
    assert "lost the connection" in caplog.text


def test_pghostaddr_does_not_lead_elsewhere(
    server_url: str, metadata: MetaData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URL says which server it is, and no variable of libpq another one."""
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.254")
    server = DatabaseServer(server_url, schema=MetadataMigrator(metadata)).ensure_is_ready(timeout=1)
    monkeypatch.delenv("PGHOSTADDR")
    server.create_database().drop()
