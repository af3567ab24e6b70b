"""What can be wrong with the databases of tests while they are used: isolation, sharing, dropping."""

from __future__ import annotations

from elefast.errors import ClosedError, ElefastError, LeakWarning, RefusedError
from elefast.errors.explanations.explanation import Explanation

__all__ = ["EXPLANATIONS"]

_OWN = 'Give the test a database of its own: `@pytest.mark.elefast(isolation="database")`.'

EXPLANATIONS = (
    Explanation(
        "pool-exhausted",
        ElefastError,
        "All databases are in use",
        "`pool.max` limits how many databases one process has at once, and nobody gives one back.",
        ("A test that creates many databases.", "Databases that a session fixture holds."),
        ("Drop what is not needed any more, with `with server.create_database() as database`.", "Or raise `pool.max`."),
    ),
    Explanation(
        "other-event-loop",
        ElefastError,
        "A connection is used in two event loops",
        "A connection of an async driver belongs to the loop that it was opened in.",
        ("A fixture of the session's loop, and a test with a loop of its own.",),
        (
            "Open a connection where it is needed: `async with async_db.engine.connect() as connection`.",
            "Or give fixture and test the same `loop_scope`.",
        ),
    ),
    Explanation(
        "closed",
        ClosedError,
        "It was closed before",
        "A stack or a server was used after its `close()`, or after its `with` block.",
        ("It was kept in a module or a fixture of a wider scope.",),
        ("Call `elefast.from_config()` again: it gives the open one, or makes a new one.",),
    ),
    Explanation(
        "foreign-database",
        RefusedError,
        "A database is not elefast's own",
        "elefast drops and keeps databases that it made in this run, or that bear its mark and belong to its role.",
        ("The name of another database was given.", "The database was made by another role."),
        ("Drop it yourself, if that is meant: `dropdb NAME`.",),
    ),
    Explanation(
        "shared-database",
        RefusedError,
        "All tests share this database",
        'With `isolation = "transaction"` one database serves all tests, so none of them may drop it.',
        ("A test of code that drops its database.",),
        (_OWN,),
    ),
    Explanation(
        "transaction-autocommit",
        RefusedError,
        "Autocommit and transaction isolation exclude each other",
        'With `isolation = "transaction"` what a test wrote is rolled back. With autocommit nothing could be.',
        ('`isolation_level = "AUTOCOMMIT"` in `engine.options`.',),
        ("Take that option out.", 'Or `isolation = "database"`.'),
    ),
    Explanation(
        "second-connection",
        RefusedError,
        "A test in a transaction has one connection",
        'With `isolation = "transaction"` all that a test does is in one transaction on one connection. A second '
        "connection would not see what the first one wrote.",
        (
            "`engine.connect()` or `engine.begin()` in the test or the application.",
            "Code that detaches its connection.",
            "A process that was forked during the test, such as by `multiprocessing`, and uses a session of it.",
        ),
        ("Use a session, or the fixture `db_connection` or `async_db_connection`.", _OWN),
    ),
    Explanation(
        "transaction-control",
        RefusedError,
        "A setting of the transaction cannot be changed",
        'With `isolation = "transaction"` isolation level, access mode and two-phase commit are those of the one '
        "transaction of the test.",
        ("`execution_options(isolation_level=...)` in the application.",),
        ("Do without in this test.", _OWN),
    ),
    Explanation(
        "sync-and-async",
        RefusedError,
        "A test in a transaction is either sync or async",
        'With `isolation = "transaction"` a test has one connection, and sync and async drivers cannot share one.',
        ("The fixtures `db` and `async_db` in one test, such as a sync factory for an async test.",),
        ("Keep to one of them: `await session.run_sync(...)` runs sync code in an async session.", _OWN),
    ),
    Explanation(
        "sessions-overlap",
        RefusedError,
        "Two sessions overlap in one transaction",
        'With `isolation = "transaction"` sessions are savepoints in one transaction, and savepoints can only end in '
        "the opposite order of their beginning.",
        ("A session that stays open while another one writes and commits.", "A rollback around committed work."),
        ("Commit or close the inner session first.", _OWN),
    ),
    Explanation(
        "concurrent-use",
        RefusedError,
        "Two tasks or threads use the connection at once",
        'With `isolation = "transaction"` a test has one connection, which does one thing at a time.',
        ("`asyncio.gather()` over several sessions.", "A background task or thread of the application."),
        ("Let one wait for the other.", _OWN),
    ),
    Explanation(
        "transaction-other-loop",
        RefusedError,
        "The test's connection belongs to another event loop",
        'With `isolation = "transaction"` a test has one connection, and that was opened in another event loop.',
        ("A `TestClient` without `with`, which makes a loop for each request.", "Fixtures of another loop scope."),
        ("Keep one loop: `with TestClient(app) as client`, or an async test and client.", _OWN),
    ),
    Explanation(
        "transaction-over",
        RefusedError,
        "The test's transaction is over",
        'With `isolation = "transaction"` what a test leaves behind has no connection any more once the test is over, '
        "or once something ended the transaction.",
        (
            "A background task or a session that outlives its test.",
            "`COMMIT` or `ROLLBACK` as a statement, or a migration in the test.",
            "Another program that was connected to the shared database.",
        ),
        ("End what the test started before it ends.", _OWN),
    ),
    Explanation(
        "patched-outside-test",
        RefusedError,
        "An engine of `patch` was used while no test has it",
        "elefast leads an engine that `patch` names to the database of the test that runs. At all other times it keeps "
        "the engine from connecting, so that nothing reaches the database that the engine was made for.",
        (
            "A test uses the application and requests no fixture of elefast's.",
            "A fixture of a wider scope than a function uses the engine.",
            "A module connects when it is imported.",
        ),
        ("Request `db` or `db_session` in the test, or in the fixture that uses the engine.",),
    ),
    Explanation(
        "patched-elsewhere",
        RefusedError,
        "A listener led an engine of `patch` elsewhere",
        "The engine has a listener for `do_connect` that connects by itself, or changes where the engine connects to. "
        "What it reached was not the database of the test, so elefast closed the connection.",
        ("A listener that asks a cloud provider's connector for the connection.",),
        ("Register the listener only outside of tests.", "Let it change the password or options only."),
    ),
    Explanation(
        "stale-database",
        RefusedError,
        "The application is connected to the database of an earlier test",
        "Each test has a database of its own. Something in the application kept an engine, a connection or a URL from "
        "one test to the next, so this test would have seen the rows of the other one.",
        (
            "A function with a cache, such as `lru_cache`, gives the engine or the settings.",
            "A global variable is filled when it is first used.",
            "A session or a connection is never closed.",
        ),
        (
            'Name the function in `patch`: `patch = ["app.db:get_engine"]`. elefast clears its cache before and after '
            "each test.",
            'Name the variable in `patch`: `patch = ["app.db:_engine"]`. elefast sets it to None after each test.',
            "Close sessions where the test ends.",
        ),
    ),
    Explanation(
        "left-behind",
        LeakWarning,
        "A test left something behind",
        "A test left a connection open, which elefast ended so that the database could be dropped; or a prepared "
        "transaction or a subscription, which elefast cleared for the same reason; or it ended the transaction that it "
        "was isolated by, so that the database was thrown away; or it changed what all databases of the server share, "
        "such as roles, which no private database keeps from other tests and which elefast leaves as they are. The key "
        "`leaks` makes errors of such warnings, or ignores them.",
        (
            "An engine that is never disposed.",
            "A connection that is not closed where a test fails.",
            "A thread, a task or a program that goes on after the test.",
            '`COMMIT` as a statement, or a migration, in a test with `isolation = "transaction"`.',
            "`CREATE ROLE`, `ALTER ROLE`, `CREATE TABLESPACE`, `CREATE DATABASE`, `ALTER SYSTEM` or a replication slot "
            "that the test does not undo.",
        ),
        (
            "Undo in the test what belongs to the server; or do it in a migration, so that it is there before the "
            "first test.",
            "`with engine.connect() as connection`, and `engine.dispose()` at the end of what made the engine.",
            _OWN,
            '`leaks = "ignore"` where nothing can be done about it.',
        ),
    ),
)
