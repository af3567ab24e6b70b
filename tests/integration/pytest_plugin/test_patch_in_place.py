"""`patch` leads an engine elsewhere in place: whoever has the engine follows, and it stays the engine that it was."""

from __future__ import annotations

import pytest

from .conftest import Project

DB = """
from sqlalchemy import create_engine
engine = create_engine("postgresql+psycopg://me@127.0.0.1:1/precious")
"""

# Everything that keeps the engine in another way than the name that `patch` has.
HOLDERS = """
import functools
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from app.db import engine
from app.db import engine as other_name

NAME = text("SELECT current_database()")

class Repository:
    shared = engine
    def __init__(self, bind=engine): self.bind = bind

repository = Repository()
registry = {"main": engine, "list": [engine]}
partial = functools.partial(Session, engine)
maker = sessionmaker(engine)
scoped = scoped_session(maker)
connect = engine.connect
begin = engine.begin
raw = engine.raw_connection
options = engine.execution_options(schema_translate_map=None)
nested = options.execution_options(logging_token="x")
def closure(bind=engine):
    def inner(): return bind
    return inner
inner = closure()

def ask(bind):
    with bind.connect() as connection: return connection.scalar(NAME)

def everybody():
    with connect() as one, begin() as two:
        yield from (one.scalar(NAME), two.scalar(NAME))
    pooled = raw()
    cursor = pooled.cursor()
    cursor.execute("SELECT current_database()")
    yield cursor.fetchone()[0]
    pooled.close()
    for bind in (engine, other_name, Repository.shared, repository.bind, Repository().bind, registry["main"],
            registry["list"][0], options, nested, inner()):
        assert ask(bind) == bind.url.database
        yield ask(bind)
    for session in (partial(), maker(), scoped()):
        yield session.scalar(NAME)
        session.close()
"""


@pytest.fixture
def app(project: Project) -> Project:
    """An application whose modules have the engine in many ways."""
    project.configure('patch = ["app.db:engine"]')
    project.file("app/__init__.py", "")
    project.file("app/db.py", DB)
    project.file("app/holders.py", HOLDERS)
    return project


def test_whoever_has_the_engine_follows(app: Project) -> None:
    """Names, defaults, closures, containers, partials, bound methods, options and sessions lead to the test."""
    app.tests(
        "from app import holders\n"
        "def test_one(db): assert set(holders.everybody()) == {db.name}\n"
        "def test_two(db): assert set(holders.everybody()) == {db.name}\n"
    )
    app.run().assert_outcomes(passed=2)


@pytest.mark.parametrize("where", ["test", "fixture", "function"])
def test_what_is_bound_later_follows_in_this_test_and_in_the_next(app: Project, where: str) -> None:
    """A module that is imported while the patch is in force has the engine, and not the database of that test."""
    imports = {
        "test": "def test_one(db):\n    from app import holders\n    assert set(holders.everybody()) == {db.name}\n",
        "fixture": "@pytest.fixture\ndef holders(): from app import holders; return holders\n"
        "def test_one(db, holders): assert set(holders.everybody()) == {db.name}\n",
        "function": "def late(): from app import holders; return holders.everybody()\n"
        "def test_one(db): assert set(late()) == {db.name}\n",
    }[where]
    app.tests(
        f"import pytest\nfrom app import db as _\n{imports}"
        "def test_two(db):\n"
        "    from app import holders\n"
        "    assert set(holders.everybody()) == {db.name}\n"
    )
    app.run().assert_outcomes(passed=2)


def test_outside_of_a_test_it_leads_nowhere_and_says_why(app: Project) -> None:
    """Neither a test without a database, nor a fixture of wider scope, nor a conftest reaches the developer's own."""
    app.file(
        "conftest.py",
        "import pytest\n"
        "from app import db, holders\n"
        "try: db.engine.connect()\n"
        "except Exception as error: EARLY = str(error)\n"
        "@pytest.fixture(scope='module')\n"
        "def wide(): return holders.ask(holders.engine)\n",
    )
    app.tests(
        "import pytest\n"
        "from app import holders\n"
        "from conftest import EARLY\n"
        "from elefast.errors import RefusedError\n"
        "def test_without():\n"
        "    assert EARLY.startswith('app.db:engine was asked for a connection while no test has it')\n"
        "    for use in (holders.connect, holders.raw, holders.engine.pool.connect, holders.options.connect,\n"
        "            lambda: holders.maker().scalar(holders.NAME)):\n"
        "        with pytest.raises(RefusedError, match='Request db, db_session'): use()\n"
        "    assert holders.engine.url.host.endswith('.invalid') and 'precious' not in str(holders.options.url)\n"
        "def test_it(db): assert set(holders.everybody()) == {db.name}\n"
        "def test_after():\n"
        "    with pytest.raises(RefusedError): holders.connect()\n"
        "def test_wide(wide, db): pass\n"
    )
    result = app.run()
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*RefusedError: app.db:engine was asked for a connection while no test has it*"])


def test_a_module_that_a_test_imports_without_a_database_cannot_connect(app: Project) -> None:
    """It is held as soon as its code has run, also after a reload."""
    app.tests(
        "import importlib, pytest\n"
        "from elefast.errors import RefusedError\n"
        "def test_without():\n"
        "    from app import db\n"
        "    with pytest.raises(RefusedError): db.engine.connect()\n"
        "    assert importlib.reload(db).__spec__.loader.get_source('app.db').startswith('\\nfrom sqlalchemy')\n"
        "    with pytest.raises(RefusedError): db.engine.connect()\n"
        "def test_reloaded(db):\n"
        "    from app import db as module\n"
        "    for engine in module.engine, importlib.reload(module).engine:\n"
        "        with engine.connect() as connection: assert connection.engine.url.database == db.name\n"
        "def test_after():\n"
        "    from app import db\n"
        "    with pytest.raises(RefusedError): db.engine.connect()\n"
    )
    app.run().assert_outcomes(passed=3)


def test_it_keeps_its_own_dialect_pool_options_and_listeners(app: Project) -> None:
    """Several engines on the one database stay as different as they were."""
    app.configure('patch = ["app.db:engine", "app.db:reader", "app.db:other"]')
    app.file(
        "app/db.py",
        "import json\n"
        "from sqlalchemy import create_engine, event, pool\n"
        "URL = 'postgresql+psycopg://me:secret@127.0.0.1:1/precious'\n"
        "engine = create_engine(URL + '?application_name=writer&sslmode=require', pool_size=7, pool_pre_ping=True,\n"
        "    json_serializer=lambda value: json.dumps({'own': value}), connect_args={'prepare_threshold': 3,\n"
        "    'sslrootcert': '/nowhere', 'options': '-c search_path=own'})\n"
        "reader = create_engine(URL, poolclass=pool.NullPool, isolation_level='AUTOCOMMIT',\n"
        "    execution_options={'postgresql_readonly': True}, hide_parameters=True)\n"
        "other = create_engine(URL.replace('psycopg', 'pg8000'), isolation_level='SERIALIZABLE')\n"
        "seen = []\n"
        "@event.listens_for(engine, 'connect')\n"
        "def connected(connection, record): seen.append('connect')\n"
        "@event.listens_for(engine, 'do_connect')\n"
        "def connecting(dialect, record, cargs, cparams): seen.append('do_connect')\n"
        "@event.listens_for(engine, 'before_cursor_execute')\n"
        "def executing(*args): seen.append('execute')\n",
    )
    body = (
        "    with db_module.engine.connect() as one:\n"
        "        assert one.scalar(NAME) == db.name and one.connection.driver_connection.prepare_threshold == 3\n"
        "        assert one.scalar(text('SHOW application_name')) == 'writer'\n"
        "        assert one.scalar(text('SHOW search_path')) == 'own'\n"
        "        assert one.scalar(select(literal(1, JSON))) == {'own': 1}\n"
        "    assert db_module.engine.pool.size() == 7 and db_module.engine.pool._pre_ping\n"
        "    assert db_module.seen[:3] == ['do_connect', 'connect', 'execute'], db_module.seen\n"
        "    with db_module.reader.connect() as two:\n"
        "        assert two.scalar(NAME) == db.name and two.connection.driver_connection.autocommit\n"
        "        assert isinstance(db_module.reader.pool, NullPool) and db_module.reader.hide_parameters\n"
        "    with db_module.other.connect() as three:\n"
        "        assert three.scalar(NAME) == db.name and three.dialect.driver == 'pg8000'\n"
        "        assert three.get_isolation_level() == 'SERIALIZABLE'\n"
        "    assert db_module.engine.dialect.server_version_info and db_module.other.dialect.default_schema_name\n"
        "    db_module.seen.clear()\n"
        "    db_module.engine.dispose()\n"
        "    with db_module.engine.connect() as again: assert again.scalar(NAME) == db.name\n"
        "    db_module.seen.clear()\n"
    )
    app.tests(
        "from sqlalchemy import JSON, literal, select, text\n"
        "from sqlalchemy.pool import NullPool\n"
        "from app import db as db_module\n"
        "NAME = text('SELECT current_database()')\n"
        f"def test_one(db):\n{body}"
        f"def test_two(db):\n{body}"
    )
    app.run().assert_outcomes(passed=2)


def test_what_a_test_does_to_the_engine_goes_with_the_test(app: Project) -> None:
    """Listeners, options and what a dialect learns of one database do not reach the next test."""
    app.tests(
        "from sqlalchemy import event, text\n"
        "from app import holders\n"
        "SEEN = []\n"
        "def test_one(db):\n"
        "    with db.engine.begin() as connection:\n"
        "        connection.execute(text('CREATE SCHEMA other'))\n"
        "        connection.execute(text('CREATE EXTENSION hstore'))\n"
        "        connection.execute(text(f'ALTER DATABASE \"{db.name}\" SET search_path = other, public'))\n"
        "    for name in 'before_cursor_execute', 'connect', 'do_connect', 'checkout':\n"
        "        event.listen(holders.engine, name, lambda *args: SEEN.append(args))\n"
        "    holders.engine.update_execution_options(isolation_level='SERIALIZABLE')\n"
        "    assert holders.ask(holders.engine) == db.name and len(SEEN) >= 4\n"
        "    assert holders.engine.dialect.default_schema_name == 'other'\n"
        "    assert holders.engine.dialect._has_native_hstore\n"
        "    SEEN.clear()\n"
        "def test_two(db):\n"
        "    assert holders.ask(holders.engine) == db.name and not SEEN\n"
        "    assert holders.engine.dialect.default_schema_name == 'public'\n"
        "    assert not holders.engine.dialect._has_native_hstore\n"
        "    with holders.engine.connect() as connection:\n"
        "        assert connection.get_isolation_level() == 'READ COMMITTED'\n"
    )
    app.run().assert_outcomes(passed=2)


def test_what_one_test_compiled_does_not_reach_the_next(app: Project) -> None:
    """SQL that was compiled while something was patched is the test's own, also where a mapper remembers it."""
    app.tests(
        "from sqlalchemy import func, insert, literal, select, text\n"
        "from sqlalchemy.ext.compiler import compiles\n"
        "from sqlalchemy.sql import functions\n"
        "from app import holders\n"
        "class answer(functions.FunctionElement):\n    name = 'answer'\n    inherit_cache = True\n"
        "VALUE = 1\n"
        "@compiles(answer)\n"
        "def compile_answer(element, compiler, **kw): return str(VALUE)\n"
        "def ask():\n"
        "    with holders.engine.connect() as one, holders.options.connect() as two:\n"
        "        return one.scalar(select(answer())), two.scalar(select(answer()))\n"
        "def test_one(db, monkeypatch):\n"
        "    monkeypatch.setitem(globals(), 'VALUE', 2)\n"
        "    assert ask() == ask() == (2, 2)\n"
        "def test_two(db): assert ask() == (1, 1)\n"
    )
    app.run().assert_outcomes(passed=2)


def test_a_creator_of_its_own_is_not_asked(app: Project) -> None:
    """It leads to the developer's database; a listener that connects there by itself is refused."""
    app.configure('patch = ["app.db:engine", "app.db:listening"]')
    app.file(
        "app/db.py",
        "from sqlalchemy import create_engine, event\n"
        "import psycopg\n"
        f"def creator(): raise AssertionError('asked')\n"
        "engine = create_engine('postgresql+psycopg://', creator=creator)\n"
        "listening = create_engine('postgresql+psycopg://me@127.0.0.1:1/precious')\n"
        "@event.listens_for(listening, 'do_connect')\n"
        "def connect(dialect, record, cargs, cparams):\n"
        f"    return psycopg.connect({app.server.replace('+psycopg', '')!r})\n",
    )
    app.tests(
        "import pytest\n"
        "from app import holders, db as db_module\n"
        "from elefast.errors import RefusedError\n"
        "def test_it(db):\n"
        "    assert holders.ask(db_module.engine) == db.name\n"
        "    with pytest.raises(RefusedError, match='connected to database \"postgres\" instead'):\n"
        "        db_module.listening.connect()\n"
    )
    app.run().assert_outcomes(passed=1)


def test_an_engine_that_is_connected_at_import_is_refused(app: Project) -> None:
    """What has the connection would go on with the developer's database."""
    app.file(
        "app/db.py",
        "from sqlalchemy import create_engine\n"
        f"engine = create_engine({app.server!r})\n"
        "connection = engine.connect()\n",
    )
    app.tests("def test_it(db): pass\ndef test_close():\n    from app import db\n    db.connection.invalidate()\n")
    result = app.run()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(['*patch: "app.db:engine": has 1 connection(s) in use that were opened at import*'])


def test_a_module_that_connects_at_import_is_imported_during_the_test(app: Project) -> None:
    """Reflection at import needs a database; the application's other modules are imported again with it."""
    app.configure('patch = ["app.models:engine"]\nexport_env = ["DATABASE_URL"]')
    app.file(
        "app/db.py",
        "import os\nfrom sqlalchemy import create_engine\nengine = create_engine(os.environ['DATABASE_URL'])\n",
    )
    app.file(
        "app/models.py",
        "from sqlalchemy import MetaData\nfrom app.db import engine\nmetadata = MetaData()\nmetadata.reflect(engine)\n"
        "engine.dispose()\n",
    )
    app.tests(
        "def test_one(db):\n"
        "    from app import holders\n"
        "    assert set(holders.everybody()) == {db.name}\n"
        "def test_two(db):\n"
        "    from app import holders\n"
        "    assert set(holders.everybody()) == {db.name}\n"
    )
    app.run().assert_outcomes(passed=2)


def test_async_engines_follow_in_any_loop(app: Project) -> None:
    """Each test, and each loop of one test, connects anew; the driver is the application's."""
    app.configure('patch = ["app.db:engine"]')
    app.file(
        "app/db.py",
        "from sqlalchemy import text\n"
        "from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine\n"
        "engine = create_async_engine('postgresql+asyncpg://me@127.0.0.1:1/precious', pool_size=2,\n"
        "    connect_args={'server_settings': {'application_name': 'own'}})\n"
        "options = engine.execution_options(isolation_level='AUTOCOMMIT')\n"
        "sync = engine.sync_engine\n"
        "maker = async_sessionmaker(engine)\n"
        "NAME = text('SELECT current_database()')\n"
        "async def everybody():\n"
        "    for one in engine, options:\n"
        "        async with one.connect() as connection:\n"
        "            yield await connection.scalar(NAME)\n"
        "            assert await connection.scalar(text('SHOW application_name')) == 'own'\n"
        "    async with maker() as session: yield await session.scalar(NAME)\n"
        "async def names(): return {name async for name in everybody()}\n",
    )
    app.tests(
        "import asyncio, pytest\n"
        "from app import db as module\n"
        "from elefast.errors import RefusedError\n"
        "@pytest.mark.asyncio\n"
        "async def test_one(async_db): assert await module.names() == {async_db.name}\n"
        "def test_two(db):\n"
        "    for loop in range(2): assert asyncio.run(module.names()) == {db.name}\n"
        "@pytest.mark.asyncio\n"
        "async def test_without():\n"
        "    with pytest.raises(RefusedError): await module.names()\n"
        "@pytest.mark.asyncio\n"
        "async def test_three(async_db):\n"
        "    assert await module.names() == {async_db.name}\n"
        "    await module.engine.dispose()\n"
        "    assert await module.names() == {async_db.name}\n"
    )
    app.run().assert_outcomes(passed=4)


def test_with_a_transaction_the_engine_shares_it(app: Project) -> None:
    """Its sessions are part of the test's transaction; connections of its own are refused."""
    app.configure('isolation = "transaction"\npatch = ["app.db:engine", "app.db:reader"]')
    app.file(
        "app/db.py",
        DB + "reader = engine.execution_options(isolation_level='AUTOCOMMIT')\n"
        "engine.update_execution_options(isolation_level='SERIALIZABLE')\n",
    )
    body = (
        "    db_session.execute(text('CREATE TABLE item (id int)'))\n"
        "    for bind in holders.engine, holders.options, holders.nested, app.db.reader:\n"
        "        with Session(bind) as session, session.begin():\n"
        "            session.execute(text('INSERT INTO item VALUES (1)'))\n"
        "        with pytest.raises(RefusedError): bind.connect()\n"
        "    with pytest.raises(RefusedError): holders.connect()\n"
        "    assert db_session.scalar(text('SELECT count(*) FROM item')) == 4\n"
    )
    app.tests(
        "import pytest\n"
        "import app.db\n"
        "from app import holders\n"
        "from sqlalchemy import text\n"
        "from sqlalchemy.orm import Session\n"
        "from elefast.errors import RefusedError\n"
        f"def test_one(db_session):\n{body}"
        f"def test_two(db_session):\n{body}"
        "@pytest.mark.elefast(isolation='database')\n"
        "def test_three(db): assert set(holders.everybody()) == {db.name}\n"
    )
    app.run().assert_outcomes(passed=3)


def test_an_engine_for_another_kind_of_database_becomes_the_tests(app: Project) -> None:
    """SQLite is what many applications fall back on where no URL is configured."""
    app.file("app/db.py", "from sqlalchemy import create_engine\nengine = create_engine('sqlite://')\n")
    app.tests(
        "from app import holders\n"
        "def test_one(db): assert set(holders.everybody()) == {db.name}\n"
        "def test_two(db): assert set(holders.everybody()) == {db.name}\n"
    )
    app.run().assert_outcomes(passed=2)


def test_after_the_run_the_engine_is_what_it_was(app: Project) -> None:
    """Other runs in the same process, and what the application does at exit, find it untouched."""
    app.file(
        "app/db.py",
        DB + "from sqlalchemy import event\nevent.listen(engine, 'before_cursor_execute', print)\n"
        "import builtins\nbuiltins.elefast_test = [engine, engine.dialect, engine.pool, engine.url]\n"
        "before = dict(vars(engine)), dict(vars(engine.dialect))\n",
    )
    app.tests("from app import holders, db as module\ndef test_one(db): assert set(holders.everybody()) == {db.name}\n")
    app.run().assert_outcomes(passed=1)
    import builtins

    engine, dialect, pool, url = vars(builtins).pop("elefast_test")
    assert (engine.dialect, engine.pool, engine.url) == (dialect, pool, url)
    assert engine.pool._creator.__qualname__ == "create_engine.<locals>.connect"
    assert "_option_cls" not in vars(engine)
    assert not vars(dialect).keys() & {"connect", "initialize"}


def test_xdist_workers_lead_their_own(app: Project) -> None:
    """Each process has engines of its own."""
    app.tests(
        "import pytest\nfrom app import holders\n"
        "@pytest.mark.parametrize('n', range(6))\n"
        "def test_it(db, n): assert set(holders.everybody()) == {db.name}\n"
    )
    app.run_apart("-n", "2").assert_outcomes(passed=6)


@pytest.mark.parametrize("target", ["engine", "URL"])
def test_no_other_engine_reaches_the_same_database(app: Project, target: str) -> None:
    """A module that is run again, a default argument and another driver are refused; elefast and fixtures are not."""
    app.configure(f'patch = ["app.db:{target}"]')
    app.file(
        "app/db.py",
        "from sqlalchemy import create_engine, text\n"
        f"URL = {app.server!r}\n"
        "engine = create_engine(URL)\n"
        "def default(url=URL): return create_engine(url)\n"
        "other = [create_engine(engine.url.set(drivername='postgresql+pg8000', query={}))]\n"
        "if __name__ == '__main__':\n"
        "    with engine.begin() as connection: connection.execute(text('CREATE TABLE left_behind (id int)'))\n",
    )
    app.tests(
        "import runpy, sys, pytest\n"
        "from app import db as module\n"
        "from elefast.errors import RefusedError\n"
        "def use():\n"
        "    for engine in module.default(), module.other[0]:\n"
        "        with pytest.raises(RefusedError, match='app.db:'): engine.connect()\n"
        "    imported = sys.modules.pop('app.db')\n"
        "    with pytest.raises(RefusedError, match='app.db:'): runpy.run_module('app.db', run_name='__main__')\n"
        "    sys.modules['app.db'] = imported\n"
        "@pytest.fixture(scope='module')\n"
        "def wide(db_server):\n"
        "    with db_server.create_database() as database: yield database\n"
        "def test_before(): use()\n"
        "def test_it(wide, db):\n"
        "    use()\n"
        "    for engine in wide.engine, db.engine, module.engine:\n"
        "        with engine.connect() as connection:\n"
        "            assert not connection.scalar(module.text(\"SELECT to_regclass('left_behind')\"))\n"
        "def test_after(wide): use()\n"
    )
    app.run().assert_outcomes(passed=3)
