"""Stacks: what `from_config` gives, and how long it lives."""

from __future__ import annotations

import gc
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool

import elefast
from elefast.config.overrides import EngineTable
from elefast.errors import ClosedError, ConfigurationError, DatabaseNotReadyError, ElefastError, MigrationError
from elefast.postgres.connections import maintenance_session as elefast_session
from elefast.postgres.connections.connectors import connectors_to
from elefast.templates import store

Names = Callable[[], set[str]]
Start = Callable[..., "subprocess.Popen[str]"]


def test_the_same_settings_give_the_same_stack(project: Path, env: dict[str, str]) -> None:
    """A conftest and the plugin share one; other settings and a closed stack give another one."""
    first = elefast.from_config(project, env=env)
    assert elefast.from_config(project / "pyproject.toml", env=env) is first
    assert elefast.from_config(project, env=env, pool={"size": 1}) is not first
    first.close()
    second = elefast.from_config(project, env=env)
    assert second is not first
    second.close()


def test_nothing_starts_before_it_is_used(project: Path, env: dict[str, str]) -> None:
    """Settings are there at once, also where the server is not."""
    dead = {**env, "ELEFAST_ENGINE__URL": "postgresql://127.0.0.1:1/x"}
    with elefast.from_config(project, env=dead) as stack:
        assert stack.settings.migrator == "sql"
        assert str(stack.provenance["migrator"]) == "pyproject.toml:5"
        assert "not started" in repr(stack)
        assert not stack.started
        assert str(stack.report()) == "no server was needed"


def test_a_wrong_configuration_is_said_at_once(project: Path, env: dict[str, str]) -> None:
    """Validation is now, not at the first test."""
    with pytest.raises(ConfigurationError, match=r"pool.sice"):
        elefast.from_config(project, env=env, pool={"sice": 1})  # type: ignore[arg-type]


def test_what_no_engine_takes_is_said_at_once(project: Path, env: dict[str, str]) -> None:
    """Keywords of create_engine() and arguments of the drivers, each with its place; nothing is started for them."""
    (project / "elefast.toml").write_text(
        "[engine]\noptions = { nonsense = 1, pool_timeout = 5, plugins = ['nothing'] }\n"
        "connect_args = { nonsense = 1, connect_timeout = 5, prepare_threshold = 1 }\n"
        "[engine.async_connect_args]\n"
        "connect_timeout = 1\nstatement_cache_size = 0\nprepared_statement_cache_size = 0\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        elefast.from_config(project, env={**env, "ELEFAST_ENGINE__ASYNC_DRIVER": "asyncpg"})
    assert [str(problem) for problem in caught.value.problems] == [
        "elefast.toml:2  engine.options.nonsense: create_engine() does not take it: "
        "TypeError: Invalid argument(s) 'nonsense' sent to create_engine()",
        "elefast.toml:2  engine.options.plugins: create_engine() does not take it: "
        "NoSuchModuleError: Can't load plugin: sqlalchemy.plugins:nothing",
        "elefast.toml:3  engine.connect_args.nonsense: postgresql+psycopg has no such argument",
        "elefast.toml:5  engine.async_connect_args.connect_timeout: postgresql+asyncpg has no such argument",
    ]


def test_what_no_engine_takes_together_is_said_at_once(project: Path, env: dict[str, str]) -> None:
    """SQLAlchemy would say so when the first test connects."""
    with pytest.raises(
        ConfigurationError, match=r"engine\.options: .*: label_length is greater than max_identifier_length, 20"
    ):
        elefast.from_config(project, env=env, engine__options={"label_length": 30, "max_identifier_length": 20})
    with pytest.raises(ConfigurationError, match=r"engine\.options\.label_length: .*_identifier_length, 63"):
        elefast.from_config(project, env=env, engine__options={"label_length": 64})


def test_options_of_pools_are_no_trouble_for_async_engines(project: Path, env: dict[str, str]) -> None:
    """They have no pool, and so nothing to wait for in it, unless the project wants them to have one."""
    variants: tuple[EngineTable, ...] = (
        {"options": {"pool_timeout": 5, "pool_use_lifo": True}},
        {"options": {"pool_timeout": 5}, "pool_size": 1},
    )
    for engine in variants:
        with elefast.from_config(project, env=env, engine=engine) as stack:
            lent = stack.checkout()
            assert isinstance(lent.async_.engine.pool, NullPool) == ("pool_size" not in engine)
            lent.release(wait=True)


def test_options_that_do_not_go_together(project: Path, env: dict[str, str]) -> None:
    """Each of them is right alone, so the table is named."""
    with pytest.raises(ConfigurationError, match=r"engine.options: create_engine\(\) does not take it: .*pool_timeout"):
        elefast.from_config(project, env=env, engine={"options": {"poolclass": NullPool, "pool_timeout": 5}})


def test_a_stack_gives_databases_of_both_kinds(stack: elefast.Stack, names: Names) -> None:
    """One database, two views, gone after its release."""
    lent = stack.checkout("a test")
    with lent.sync.session() as session:
        session.execute(text("insert into note values ('x')"))
        session.commit()

    async def read() -> object:
        async with lent.async_.session() as session:
            return await session.scalar(text("select body from note"))

    import asyncio

    assert asyncio.run(read()) == "x"
    assert lent.url.drivername == "postgresql+psycopg"
    assert lent.url_for("postgresql+asyncpg").render_as_string(hide_password=False).startswith("postgresql+asyncpg://")
    with psycopg.connect(lent.dsn) as connection:
        assert connection.info.dbname == lent.name
    assert lent.release() == []
    stack.close()
    assert lent.name not in names()


def test_the_report_says_what_was_done_and_why(project: Path, env: dict[str, str]) -> None:
    """The first stack builds, the second one finds the template, a changed file builds with the reason."""
    reasons = []
    for change in (False, False, True):
        if change:
            (project / "schema.sql").write_text(f"create table note (body text, n int);\n-- {project}\n")
        with elefast.from_config(project, env=env) as stack:
            stack.server.create_database().drop()
            report = stack.report()
            reasons.append((report.builds, report.template_reason))
            assert report.databases == 1
            assert "engine.url is set, env ELEFAST_ENGINE__URL" in str(report)
    assert [builds for builds, _ in reasons] == [1, 0, 1]
    assert reasons[1][1].startswith("reused, built 20")
    assert reasons[2][1] == "built: changed schema.sql"


def test_reports_add_up(stack: elefast.Stack) -> None:
    """xdist's workers send theirs, and the sum is what the controller shows."""
    stack.server.create_database().drop()
    one = stack.report()
    both = type(one).merge([type(one).from_dict(one.to_dict()), one, type(one)()])
    assert (both.databases, both.processes, both.builds) == (2, 2, one.builds * 2)


def test_an_unchanged_template_is_not_built_again_after_a_rebuild_of_another(
    project: Path, env: dict[str, str], names: Names
) -> None:
    """Going back to an earlier state of the files finds the earlier template."""
    original = (project / "schema.sql").read_text()
    builds = []
    for content in (original, original + "-- other\n", original):
        (project / "schema.sql").write_text(content)
        with elefast.from_config(project, env=env) as stack:
            stack.server.create_database().drop()
            builds.append(stack.report().builds)
    assert builds == [1, 1, 0]


def test_older_templates_retire(project: Path, env: dict[str, str]) -> None:
    """No more than `template.keep` older ones stay."""
    for number in range(4):
        (project / "schema.sql").write_text(f"create table note_{number} ();\n-- {project}\n")
        with elefast.from_config(project, env=env, template={"keep": 1}) as stack:
            stack.server.create_database().drop()
    with elefast.from_config(project, env=env, template={"keep": 1}) as stack:
        assert stack.server.create_database().name
        assert stack.report().builds == 0
        made = stack.service.manager.session.call(store.of_project, stack.project)
        assert len(made) == 2


def test_template_cache_false_builds_for_the_run_and_leaves_nothing(
    project: Path, env: dict[str, str], names: Names
) -> None:
    """Two stacks, two builds, no template afterwards."""
    before = names()
    for _ in range(2):
        with elefast.from_config(project, env=env, template={"cache": False}) as stack:
            stack.server.create_database().drop()
            assert stack.report().template_reason == "built for this run: template.cache is false"
    assert names() == before


def test_a_failing_migration_is_tried_once(project: Path, env: dict[str, str], names: Names) -> None:
    """Every test gets the error, the database sees one try."""
    (project / "schema.sql").write_text("create table note (body nonsense_type);\n")
    before = names()
    with elefast.from_config(project, env=env) as stack:
        for _ in range(3):
            with pytest.raises(MigrationError, match=r"schema\.sql:1"):
                stack.checkout()
    assert names() == before


def test_a_server_that_is_not_there_is_waited_for_once(
    project: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second test fails at once; it must not wait another half minute."""
    from elefast.postgres.connections.maintenance_session import MaintenanceSession

    original = MaintenanceSession.ensure_ready
    monkeypatch.setattr(MaintenanceSession, "ensure_ready", lambda self, *a: original(self, 0.3, 0.1))
    dead = {**env, "ELEFAST_ENGINE__URL": "postgresql://127.0.0.1:1/x"}
    with elefast.from_config(project, env=dead) as stack:
        for _ in range(2):
            with pytest.raises(DatabaseNotReadyError, match="did not answer"):
                stack.checkout()


def test_a_server_of_the_wrong_version_is_refused(project: Path, env: dict[str, str]) -> None:
    """`postgres = ">=99"` names the version that there is, and the key."""
    with (
        elefast.from_config(project, env=env, postgres=">=99") as stack,
        pytest.raises(ElefastError, match=r'is PostgreSQL \d+\.\d+, but the project needs postgres = ">=99"'),
    ):
        stack.checkout()


def test_the_pool_fills_only_for_a_second_database(stack: elefast.Stack, names: Names) -> None:
    """A single test pays for one database; then others are ready before they are asked for."""
    before = names()
    first = stack.checkout()
    time.sleep(0.3)
    assert len(names() - before) == 2  # the database and its template
    stack.checkout()
    deadline = time.monotonic() + 60
    while len(names() - before) < 7 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(names() - before) == 7
    third = stack.checkout()
    assert stack.report().from_pool == 1
    first.release()
    third.release()


@pytest.mark.fault("a run's sign of life lost", how="pg_terminate_backend of the session that holds its lock")
def test_nothing_is_handed_out_that_was_made_before_the_run_was_taken_for_dead(
    stack: elefast.Stack, names: Names, env: dict[str, str]
) -> None:
    """While its connection was cut, anybody may have swept the databases that were ready."""
    before = names()
    first, second = stack.checkout(), stack.checkout()
    deadline = time.monotonic() + 60
    while len(names() - before) < 7 and time.monotonic() < deadline:
        time.sleep(0.02)
    stale = names() - before - {first.name, second.name}
    with psycopg.connect(env["ELEFAST_ENGINE__URL"].replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name like 'elefast run %'"
        )
    third = stack.checkout()
    assert third.name not in stale
    with third.sync.session() as session:
        assert session.scalar(text("select count(*) from note")) == 0
    third.release()


def test_a_limit_on_live_databases_is_kept(project: Path, env: dict[str, str], names: Names) -> None:
    """Released ones are dropped first; with all in use it is an error that names the key."""
    with elefast.from_config(project, env=env, pool={"size": 2, "max": 3}) as stack:
        before = names()
        for _ in range(10):
            stack.checkout().release()
        held = [stack.checkout() for _ in range(3)]
        assert len(names() - before) <= 3 + 1
        with pytest.raises(ElefastError, match=r"3 databases are in use at once, and pool.max = 3"):
            stack.checkout()
        for lent in held:
            lent.release()


def test_a_leak_is_named_with_its_test(stack: elefast.Stack) -> None:
    """Found in the background, or at once where that is asked for."""
    first, second = stack.checkout("test_one"), stack.checkout("test_two")
    leaked = [psycopg.connect(lent.dsn, application_name="culprit") for lent in (first, second)]
    (leak,) = first.release(wait=True)
    assert (leak.test, "culprit" in leak.text) == ("test_one", True)
    second.release()
    found: list[object] = []
    deadline = time.monotonic() + 60
    while not found and time.monotonic() < deadline:
        found = [(leak.test, "culprit" in leak.text) for leak in stack.service.take_leaks()]
        time.sleep(0.02)
    assert found == [("test_two", True)]
    assert stack.service.take_leaks() == []
    for connection in leaked:
        connection.close()


def test_a_leak_on_a_database_that_is_not_the_pools_is_named_too(stack: elefast.Stack) -> None:
    """One with another prefix is made and dropped at once, and its leaks are told like all others."""
    database = stack.server.create_database(prefix="mine")
    leaked = psycopg.connect(database.dsn, application_name="culprit")
    database.drop()
    assert ["culprit" in leak.text for leak in stack.service.take_leaks()] == [True]
    assert stack.report().databases == 1
    leaked.close()


def test_engine_options_reach_the_engines(project: Path, env: dict[str, str]) -> None:
    """Those of the configuration, and objects that only a call can give, such as a pool class."""
    options: EngineTable = {
        "echo": False,
        "connect_args": {"application_name": "mine"},
        "options": {"poolclass": NullPool},
    }
    with elefast.from_config(project, env=env, engine=options) as stack:
        lent = stack.checkout()
        assert isinstance(lent.sync.engine.pool, NullPool)
        with lent.sync.session() as session:
            assert session.scalar(text("show application_name")) == "mine"
        lent.release()
    with elefast.from_config(project, env=env, engine={"pool_size": 2}) as stack:
        lent = stack.checkout()
        assert lent.sync.engine.pool.status().startswith("Pool size: 2 ")
        assert not isinstance(lent.async_.engine.pool, NullPool)
        lent.release()


def test_a_leak_is_named_though_the_database_is_kept(project: Path, env: dict[str, str]) -> None:
    """Keeping it for a look is no excuse."""
    with elefast.from_config(project, env=env) as stack:
        lent = stack.checkout("a test")
        leaked = psycopg.connect(lent.dsn, application_name="culprit")
        (leak,) = lent.release(keep="always")
        assert "culprit" in leak.text
        assert len(stack.admin().prune()) == 1
        leaked.close()


def test_the_servers_sessionmaker_makes_the_sessions_of_tests(stack: elefast.Stack) -> None:
    """A factory that is set on the server is for all of its databases."""

    class MySession(Session):
        pass

    stack.server.sessionmaker_factory = lambda engine: sessionmaker(engine, class_=MySession)
    lent = stack.checkout()
    assert isinstance(lent.sync.session(), MySession)
    lent.release()


def test_a_failed_create_wakes_those_who_wait(stack: elefast.Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one database allowed, a thread whose create fails must not leave the other one waiting for ever."""
    from elefast.databases.manager import DatabaseManager
    from elefast.databases.pool import DatabasePool

    stack.checkout().release(wait=True)
    manager = stack.service.manager
    pool = DatabasePool(manager, size=0, limit=1)
    failing = threading.Event()

    def create(self: DatabaseManager, *arguments: object, **keywords: object) -> tuple[str, None]:
        if not failing.is_set():
            failing.set()
            time.sleep(0.2)
            raise DatabaseNotReadyError("no")
        return "made", None

    def fail() -> None:
        with pytest.raises(DatabaseNotReadyError):
            pool.checkout()

    monkeypatch.setattr(DatabaseManager, "create", create)
    first = threading.Thread(target=fail)
    first.start()
    failing.wait()
    second: list[object] = []
    waiting = threading.Thread(target=lambda: second.append(pool.checkout()))
    waiting.start()
    waiting.join(60)
    first.join()
    assert second == [("made", False)]
    pool.close()


def test_a_lost_lease_at_the_limit_does_not_block(project: Path, env: dict[str, str]) -> None:
    """What was ready makes room for what is asked for."""
    with elefast.from_config(project, env=env, pool={"size": 1, "max": 2}) as stack:
        first = stack.checkout()
        stack.checkout().release(wait=True)
        deadline = time.monotonic() + 60
        while not stack.service.pool.state().idle and time.monotonic() < deadline:
            time.sleep(0.01)
        with psycopg.connect(env["ELEFAST_ENGINE__URL"].replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
                "where application_name like 'elefast run %'"
            )
        stack.checkout().release()
        first.release()


def test_a_kept_database_stays_and_can_be_looked_at(project: Path, env: dict[str, str], names: Names) -> None:
    """It has another name, survives the stack and the sweep of the next one."""
    with elefast.from_config(project, env=env) as stack:
        lent = stack.checkout("tests/test_x.py::test_a")
        with lent.sync.session() as session:
            session.execute(text("insert into note values ('evidence')"))
            session.commit()
        lent.release(failed=True, keep="failed")
        (kept,) = stack.report().kept
        stack.checkout().release(failed=False, keep="failed")
    with elefast.from_config(project, env=env) as stack:
        stack.checkout().release()
    with psycopg.connect(kept.dsn) as connection:
        assert connection.execute("select body from note").fetchone() == ("evidence",)
    assert kept.test == "tests/test_x.py::test_a"
    password = make_url(kept.dsn).password
    assert password
    assert password not in kept.psql
    assert kept.name in kept.psql
    with psycopg.connect(env["ELEFAST_ENGINE__URL"].replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f'drop database "{kept.name}"')


def test_a_closed_stack_says_so(project: Path, env: dict[str, str]) -> None:
    """And closing twice does no harm."""
    stack = elefast.from_config(project, env=env)
    stack.checkout()
    stack.close()
    stack.close()
    with pytest.raises(ClosedError, match="from_config"):
        stack.checkout()


def test_a_forgotten_stack_warns_and_is_stopped_later(project: Path, env: dict[str, str], names: Names) -> None:
    """The garbage collector may run in any thread, so it only says so; the next stack does the work."""
    from elefast import factory

    before = names()
    stack = elefast.from_config(project, env=env)
    stack.checkout()
    factory._stacks.clear()
    left, last = names(), [stack]
    del stack

    def forget() -> None:
        last.clear()
        gc.collect()

    with pytest.warns(ResourceWarning, match="was not closed"):
        forget()
    assert names() == left
    with elefast.from_config(project, env=env):
        assert len(names() - before) == 1  # the template


def test_closing_at_exit_is_silent_and_complete(start: Start, names: Names) -> None:
    """A program that never closes its stack leaves its template, and no word."""
    program = (
        "import elefast, sys; s = elefast.from_config(); [s.checkout() for _ in range(3)]; print(s.report().template)"
    )
    before = names()
    process = start(program, PYTHONDEVMODE="1", PYTHONWARNINGS="error")
    out, err = process.communicate(timeout=60)
    assert err == ""
    assert names() - before == {out.strip()}


def test_ctrl_c_at_the_end_leaves_nothing(start: Start, names: Names) -> None:
    """What had begun to go is gone, and then the program ends as it should."""
    program = """
import signal, elefast
from elefast.postgres import databases
signal.signal(signal.SIGINT, signal.default_int_handler)
with elefast.from_config() as stack:
    for _ in range(3):
        stack.checkout()
    print(stack.report().template, flush=True)
    drop = databases.drop
    def interrupted(*given, **named):
        databases.drop = drop
        signal.raise_signal(signal.SIGINT)
        return drop(*given, **named)
    databases.drop = interrupted
"""
    before = names()
    process = start(program)
    out, err = process.communicate(timeout=60)
    assert err.strip().endswith("KeyboardInterrupt")
    assert names() - before == {out.strip()}


def test_the_end_does_not_wait_for_a_server_that_is_gone() -> None:
    """A thread that is patient with it is told that nobody needs it any more."""
    url = make_url("postgresql+psycopg://127.0.0.1:1/x")
    session = elefast_session.MaintenanceSession(url, connectors_to(url))
    seen: list[str] = []

    def connect() -> None:
        with pytest.raises(DatabaseNotReadyError) as error:
            session.ensure_ready(timeout=600)
        seen.append(str(error.value))

    thread = threading.Thread(target=connect)
    thread.start()
    session.stop_reconnecting()
    thread.join(60)
    assert len(seen) == 1
    assert "did not answer" in seen[0]


def test_threads_share_a_stack(stack: elefast.Stack) -> None:
    """Eight threads, one server, one template, eight databases."""
    seen: list[str] = []

    def use() -> None:
        lent = stack.checkout()
        seen.append(lent.name)
        lent.release()

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == 8
    assert stack.report().builds == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_databases_of_its_own(stack: elefast.Stack, names: Names) -> None:
    """It shares the server with its parent, but neither the connection nor the databases."""
    mine = stack.checkout()

    def backend() -> object:
        return stack.service.manager.session.call(lambda connection: connection.scalar(text("select pg_backend_pid()")))

    before = backend()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            other = stack.checkout()
            with other.sync.session() as session:
                session.execute(text("insert into note values ('child')"))
            code = 0 if other.name != mine.name else 2
            stack.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert backend() == before
    with mine.sync.session() as session:
        assert session.scalar(text("select count(*) from note")) == 0
    mine.release()
