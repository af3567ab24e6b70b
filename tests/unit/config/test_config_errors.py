"""A table of wrong configurations, each with the exact error it gives."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from elefast.config.load import HINT
from elefast.errors import ConfigurationError

if TYPE_CHECKING:
    from tests.unit.config.conftest import Project

REMOTE = (
    "is not this machine; where tests may use it, such as a CI service with a host name of its own, "
    "set engine.allow_remote = true or ELEFAST_ENGINE__ALLOW_REMOTE=true"
)
URL = "postgresql://user:password@127.0.0.1:5432/postgres"


_RECURSIVE: dict[str, Any] = {"options": {}}
_RECURSIVE["options"]["x"] = [_RECURSIVE, _RECURSIVE]


@dataclass(frozen=True)
class Case:
    """A wrong configuration: `pyproject` goes below `[tool.elefast]`, on line 2 and the following ones."""

    problems: list[str]
    pyproject: str = ""
    overlay: str | None = None
    env: dict[str, str] = field(default_factory=dict[str, str])
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])


CASES = {
    # Keys
    "unknown key": Case(
        ['pyproject.toml:2  docker.prot: unknown key, did you mean "port"?'], pyproject="docker.prot = 1"
    ),
    "unknown key without a suggestion": Case(
        ["pyproject.toml:2  zzz: unknown key"],
        pyproject="zzz = 1",
    ),
    "kebab-case key": Case(
        ['pyproject.toml:3  engine.pool-size: unknown key, did you mean "pool_size"?'],
        pyproject="[tool.elefast.engine]\npool-size = 1",
    ),
    "key of another table": Case(
        ['pyproject.toml:2  url: unknown key, did you mean "engine.url"?'], pyproject='url = "x"'
    ),
    "unknown table": Case(
        ['elefast.toml:2  dokcer: unknown key, did you mean "docker"?'], overlay="\n[dokcer]\nport = 1"
    ),
    "unknown key in a profile that is not in force": Case(
        ['elefast.toml:2  profiles.ci.docker.prot: unknown key, did you mean "port"?'],
        overlay="[profiles.ci.docker]\nprot = 1",
    ),
    "profile in a profile": Case(
        ["elefast.toml:1  profiles.ci.profiles: unknown key"], overlay="[profiles.ci.profiles.x]"
    ),
    "value for a table": Case(["elefast.toml:1  docker: expected a table, got 3"], overlay="docker = 3"),
    "value for an open table": Case(
        ['elefast.toml:1  engine.options: expected a table, got "x"'], overlay='engine.options = "x"'
    ),
    "key that would break the line": Case(
        ["pyproject.toml:2  a\\n\\u001b[31m: unknown key"], pyproject='"a\\n\\u001b[31m" = 1'
    ),
    "key of great length": Case([f"elefast.toml:1  {'x' * 250}...: unknown key"], overlay=f"{'x' * 3000} = 1"),
    "value for profiles": Case(["elefast.toml:1  profiles: expected a table, got 3"], overlay="profiles = 3"),
    "value for a profile": Case(
        ["elefast.toml:1  profiles.ci: expected a table, got true"], overlay="profiles.ci = true"
    ),
    "the table in elefast.toml": Case(
        ["elefast.toml:1  tool: the keys of this file stand at its top, without [tool.elefast]"],
        overlay="[tool.elefast]\nprovider = 'local'",
    ),
    # Types
    "text for an integer": Case(
        ['pyproject.toml:2  docker.port: expected an integer, got "5432"'], pyproject='docker.port = "5432"'
    ),
    "boolean for an integer": Case(
        ["pyproject.toml:2  pool.size: expected an integer, got true"], pyproject="pool.size = true"
    ),
    "text for a boolean": Case(
        ['pyproject.toml:2  tuning.fsync: expected true or false, got "off"'], pyproject='tuning.fsync = "off"'
    ),
    "integer for text": Case(
        ["pyproject.toml:2  docker.image: expected a string, got 18"], pyproject="docker.image = 18"
    ),
    "text for a list": Case(
        ['pyproject.toml:2  seed: expected a list of strings, got "a.sql"'], pyproject='seed = "a.sql"'
    ),
    "integer in a list": Case(
        ["pyproject.toml:4  extensions: expected a string in the list, got 3"],
        pyproject='extensions = [\n  "a",\n  3,\n]',
    ),
    "table for a value": Case(
        ['pyproject.toml:2  docker.port: expected an integer, got {"a": 1}'], pyproject="docker.port = { a = 1 }"
    ),
    "list in server settings": Case(
        ["pyproject.toml:2  tuning.settings.x: expected true, false, an integer, a number or a string, got [1]"],
        pyproject="tuning.settings = { x = [1] }",
    ),
    # Values
    "unknown choice": Case(
        [
            'pyproject.toml:2  provider: expected "auto", "url", "docker" or "local", got "dokcer", '
            'did you mean "docker"?'
        ],
        pyproject='provider = "dokcer"',
    ),
    "async driver for sync engines": Case(
        ['pyproject.toml:2  engine.driver: expected "psycopg", "psycopg2" or "pg8000", got "asyncpg"'],
        pyproject='engine.driver = "asyncpg"',
    ),
    "choice beside booleans": Case(
        ['pyproject.toml:2  local.reuse: expected true, false or "auto", got "sometimes"'],
        pyproject='local.reuse = "sometimes"',
    ),
    "port out of range": Case(
        ["pyproject.toml:2  docker.port: expected an integer from 0 to 65535, got 65536"],
        pyproject="docker.port = 65536",
    ),
    "negative size": Case(["pyproject.toml:2  pool.size: expected at least 0, got -1"], pyproject="pool.size = -1"),
    "empty value": Case(
        ['pyproject.toml:2  docker.image: expected a string that is not empty, got ""'],
        pyproject='docker.image = ""',
    ),
    "bare server version": Case(
        [
            'pyproject.toml:2  postgres: expected a version specifier such as ">=14" or ">=16,<19", got "18", '
            'did you mean ">=18"?'
        ],
        pyproject='postgres = "18"',
    ),
    "bare server version that nobody reads to its end": Case(
        [
            'pyproject.toml:2  postgres: expected a version specifier such as ">=14" or ">=16,<19", '
            f'got "{"9" * 79}..., did you mean ">={"9" * 78}..."?'
        ],
        pyproject=f'postgres = "{"9" * 5000}"',
    ),
    "memory size in lower case": Case(
        [
            'pyproject.toml:2  tuning.shared_buffers: expected a memory size such as "128MB", got "128mb", '
            'did you mean "128MB"?'
        ],
        pyproject='tuning.shared_buffers = "128mb"',
    ),
    "memory size that is none": Case(
        ['pyproject.toml:2  tuning.work_mem: expected a memory size such as "128MB", got "lots"'],
        pyproject='tuning.work_mem = "lots"',
    ),
    "time that is none": Case(
        ['pyproject.toml:2  tuning.checkpoint_timeout: expected a time such as "30min", got "1 day"'],
        pyproject='tuning.checkpoint_timeout = "1 day"',
    ),
    "time out of range": Case(
        ['pyproject.toml:2  tuning.checkpoint_timeout: expected a time from "30s" to "1d", got "2d"'],
        pyproject='tuning.checkpoint_timeout = "2d"',
    ),
    "size of a tmpfs": Case(
        [
            'pyproject.toml:2  docker.tmpfs: expected true, false or a size such as "512m", got "512 MB", '
            'did you mean "512m"?'
        ],
        pyproject='docker.tmpfs = "512 MB"',
    ),
    "container name": Case(
        ['pyproject.toml:2  docker.name: expected a container name: letters, digits and _ . -, got "a b"'],
        pyproject='docker.name = "a b"',
    ),
    "target without a colon": Case(
        ['pyproject.toml:2  patch: expected "module:name", got "app.db.engine", did you mean "app.db:engine"?'],
        pyproject='patch = ["app.db.engine"]',
    ),
    "target that is a file": Case(
        ['pyproject.toml:2  metadata.target: expected "module:name", got ["a:b", "models.py:Base/x"]'],
        pyproject='metadata.target = ["a:b", "models.py:Base/x"]',
    ),
    "exported driver without a scheme": Case(
        [
            'pyproject.toml:2  export_env: expected "NAME", "NAME=postgresql", "NAME=postgresql+driver" or '
            '"NAME={host}", got "DATABASE_URL=asyncpg", did you mean "postgresql+asyncpg"?'
        ],
        pyproject='export_env = ["DATABASE_URL=asyncpg"]',
    ),
    "exported variable with spaces": Case(
        [
            'pyproject.toml:2  export_env: expected "NAME", "NAME=postgresql", "NAME=postgresql+driver" or '
            '"NAME={host}", got " A = postgresql", did you mean "A=postgresql"?'
        ],
        pyproject='export_env = [" A = postgresql"]',
    ),
    "exported variable of our own": Case(
        [
            "pyproject.toml:2  export_env: expected a variable of the application, "
            'not one that elefast itself reads, got "TESTING_DB_URL"'
        ],
        pyproject='export_env = ["TESTING_DB_URL"]',
    ),
    "an unknown part": Case(
        [
            "pyproject.toml:2  export_env: expected the parts url, host, port, user, password, database, "
            'got "PGHOST={hots}", unknown part "{hots}", did you mean "{host}"?'
        ],
        pyproject='export_env = ["PGHOST={hots}"]',
    ),
    "a part as others call it": Case(
        [
            "pyproject.toml:2  alembic.env: expected the parts url, host, port, user, password, database, "
            'got "DB=x {dbname}", unknown part "{dbname}", did you mean "{database}"?'
        ],
        pyproject='alembic = { env = ["DB=x {dbname}"] }',
    ),
    "a part without braces": Case(
        [
            'pyproject.toml:2  export_env: expected "NAME", "NAME=postgresql", "NAME=postgresql+driver" or '
            '"NAME={host}", got "PGHOST=host", a part stands in braces, did you mean "{host}"?'
        ],
        pyproject='export_env = ["PGHOST=host"]',
    ),
    "an open brace": Case(
        [
            "pyproject.toml:2  export_env: expected a template whose braces are closed, "
            'got "PGHOST={host", write "{{" and "}}" for braces that are meant as such'
        ],
        pyproject='export_env = ["PGHOST={host"]',
    ),
    "a part with a format": Case(
        [
            'pyproject.toml:2  export_env: expected a part without a format, got "PGPORT={port:5}", '
            'did you mean "{port}"?'
        ],
        pyproject='export_env = ["PGPORT={port:5}"]',
    ),
    "one variable twice": Case(
        ['pyproject.toml:2  export_env: "A" is listed twice, with different values'],
        pyproject='export_env = ["A={host}", "B", "A={port}", "B"]',
    ),
    "a variable that the server's URL needs": Case(
        [
            "pyproject.toml:2  export_env: PGPORT and PGUSER cannot be set for tests, because engine.url names no port "
            "and no user, so that libpq takes them from these variables; write them into engine.url"
        ],
        pyproject='export_env = ["PGHOST={host}", "PGPORT={port}", "PGUSER={user}"]\nengine.url = "postgresql://localhost"',
    ),
    "variable of a command": Case(
        [
            'pyproject.toml:2  command.env: expected "NAME", "NAME=postgresql", "NAME=postgresql+driver" or '
            '"NAME={host}", got "A-B"'
        ],
        pyproject='command = { run = ["x"], env = ["A-B"] }',
    ),
    # URLs
    "URL of another database": Case(
        [
            'pyproject.toml:2  engine.url: expected a PostgreSQL URL, "postgresql://..." or '
            '"postgresql+driver://...", got "mysql://me:***@localhost/x"'
        ],
        pyproject='engine.url = "mysql://me:secret@localhost/x"',
    ),
    "URL with the old name": Case(
        [
            'pyproject.toml:2  engine.url: expected a URL that begins with "postgresql", '
            'got "postgres://localhost/x", write "postgresql://..."'
        ],
        pyproject='engine.url = "postgres://localhost/x"',
    ),
    "URL that is none": Case(
        [f'pyproject.toml:2  engine.url: expected a URL such as "{URL}", got "localhost"'],
        pyproject='engine.url = "localhost"',
    ),
    "libpq's keywords": Case(
        [f'env ELEFAST_URL  engine.url: expected a URL such as "{URL}", got "host=localhost password=***"'],
        env={"ELEFAST_URL": "host=localhost password=secret"},
    ),
    "URL with a port that is none": Case(
        [
            f'env TESTING_DB_URL  engine.url: expected a URL such as "{URL}", '
            'got "postgresql://me:***@localhost:abc/x", '
            'write "@", ":" and "/" in a password as %40, %3A and %2F'
        ],
        env={"TESTING_DB_URL": "postgresql://me:secret@localhost:abc/x"},
    ),
    "URL with a port out of range": Case(
        [
            "env ELEFAST_ENGINE__URL  engine.url: expected a URL with a port from 1 to 65535, "
            'got "postgresql://localhost:99999/x"'
        ],
        env={"ELEFAST_ENGINE__URL": "postgresql://localhost:99999/x"},
    ),
    "remote server": Case(
        [f'pyproject.toml:2  engine.url: the host "db.prod" {REMOTE}'],
        pyproject='engine.url = "postgresql://me:secret@db.prod/x"',
    ),
    "remote server among the driver's arguments": Case(
        [f'pyproject.toml:3  engine.connect_args: the host "db.prod" {REMOTE}'],
        pyproject='engine.url = "postgresql:///x"\nengine.connect_args.host = "db.prod"',
    ),
    "remote server by libpq's own variable": Case(
        [f'env PGHOST  engine.url: the host "db.prod" {REMOTE}'],
        pyproject='engine.url = "postgresql:///x"',
        env={"PGHOST": "db.prod"},
    ),
    # What no key can use
    "NUL": Case(
        ['pyproject.toml:2  docker.user: expected text without the character NUL, got "a\\u0000b"'],
        pyproject='docker.user = "a\\u0000b"',
    ),
    "NUL in a list": Case(
        ['env ELEFAST_SEED  seed: expected text without the character NUL, got ["a", "b\\u0000"]'],
        env={"ELEFAST_SEED": '["a", "b\\u0000"]'},
    ),
    "NUL in a name of an open table": Case(
        ["pyproject.toml:2  engine.connect_args.x.\\u0000: expected text without the character NUL, got 1"],
        pyproject='engine.connect_args = { x = { "\\u0000" = 1 } }',
    ),
    "bytes that are no UTF-8 in a variable": Case(
        ['env ELEFAST_DOCKER__USER  docker.user: expected text that is UTF-8, got "\\udcff"'],
        env={"ELEFAST_DOCKER__USER": "\udcff"},
    ),
    "bytes that are no UTF-8 in the name of a variable": Case(
        ["env ELEFAST_ENGINE__OPTIONS__\\udcff  engine.options.\\udcff: expected text that is UTF-8, got 1"],
        env={"ELEFAST_ENGINE__OPTIONS__\udcff": "1"},
    ),
    "integer beyond 64 bits": Case(
        [f"pyproject.toml:2  pool.size: expected an integer of 64 bits, got {2**63}"], pyproject=f"pool.size = {2**63}"
    ),
    "integer that Python does not write": Case(
        ["pyproject.toml:2  engine.options.x: expected an integer of 64 bits, got an object of type int"],
        pyproject=f"engine.options.x = 0x{'F' * 4000}",
    ),
    "value of great depth": Case(
        [
            "pyproject.toml:2  engine.options.x: expected at most 50 levels of lists and tables, "
            f"got {'[' * 60}{']' * 20}..."
        ],
        pyproject=f"engine.options = {{ x = {'[' * 60}{']' * 60} }}",
    ),
    "tables of great depth": Case(
        [
            f"pyproject.toml:2  engine.options{'.a' * 48}: expected at most 50 levels of lists and tables, "
            'got {"a": {"a": {"a": 1}}}'
        ],
        pyproject=f"engine.options{'.a' * 51} = 1",
    ),
    "path that is too long": Case(
        [f'pyproject.toml:2  sql.files: expected a path that is not longer than any can be, got ["{"x" * 78}...'],
        pyproject=f"sql.files = ['{'x' * 256}']",
    ),
    "path of too many parts": Case(
        [f'pyproject.toml:2  local.data_dir: expected a path that is not longer than any can be, got "{"x/" * 39}x...'],
        pyproject=f"local.data_dir = '{'x/' * 3000}'",
    ),
    "argument that contains itself": Case(
        ["from_config(engine=...)  engine: expected at most 50 levels of lists and tables, got an object of type dict"],
        arguments={"engine": _RECURSIVE},
    ),
    "value and table at once": Case(
        ["env ELEFAST_ENGINE__OPTIONS__A__B  engine.options.a.b: is a value here and a table elsewhere, choose one"],
        env={"ELEFAST_ENGINE__OPTIONS__A": "1", "ELEFAST_ENGINE__OPTIONS__A__B": "2"},
    ),
    "date": Case(["pyproject.toml:2  postgres: expected a string, got 2025-01-02"], pyproject="postgres = 2025-01-02"),
    "time that no number can hold": Case(
        [f'pyproject.toml:2  tuning.checkpoint_timeout: expected a time such as "30min", got "{"9" * 79}...'],
        pyproject=f"tuning.checkpoint_timeout = '{'9' * 400}us'",
    ),
    "version that no number can hold": Case(
        [
            'pyproject.toml:2  postgres: expected a version specifier such as ">=14" or ">=16,<19", '
            f'got ">={"9" * 77}...'
        ],
        pyproject=f"postgres = '>={'9' * 5000}'",
    ),
    # Keys that do not fit together
    "provider without its URL": Case(
        ['pyproject.toml:2  provider: "url" needs engine.url; write it, or set ELEFAST_ENGINE__URL'],
        pyproject='provider = "url"',
    ),
    "migrator without its value": Case(
        ['pyproject.toml:2  migrator: "sql" needs sql.files; write it, or set ELEFAST_SQL__FILES'],
        pyproject='migrator = "sql"',
    ),
    "one table of a migrator, without its value": Case(
        ['pyproject.toml:2  migrator: "command" needs command.run; write it, or set ELEFAST_COMMAND__RUN'],
        pyproject="command.env = ['DATABASE_URL']",
    ),
    "two tables of migrators": Case(
        [
            'pyproject.toml:2  migrator: "auto" means the one migrator table that is written, '
            'but "alembic", "sql" are: choose one'
        ],
        pyproject="[tool.elefast.alembic]\n[tool.elefast.sql]\nfiles = ['a.sql']",
    ),
    "senders without a log to send": Case(
        ['pyproject.toml:3  tuning.max_wal_senders: must be 0 with tuning.wal_level = "minimal"'],
        pyproject='tuning.wal_level = "minimal"\ntuning.max_wal_senders = 2',
    ),
    "archive without a log to archive": Case(
        ['env ELEFAST_TUNING__ARCHIVE_MODE  tuning.archive_mode: must be false with tuning.wal_level = "minimal"'],
        pyproject='tuning.wal_level = "minimal"',
        env={"ELEFAST_TUNING__ARCHIVE_MODE": "on"},
    ),
    "server setting with a key of its own": Case(
        [
            "pyproject.toml:3  tuning.settings.Fsync: has a key of its own, write tuning.fsync",
            "pyproject.toml:4  tuning.settings.log_statement: has a key of its own, write tuning.log_statements",
        ],
        pyproject="[tool.elefast.tuning.settings]\nFsync = 'off'\nlog_statement = 'all'",
    ),
    "keyword of the engine with a key of its own": Case(
        ["pyproject.toml:2  engine.options.pool_size: has a key of its own, write engine.pool_size"],
        pyproject="engine.options.pool_size = 1",
    ),
    "keyword of the engine that leads to one database": Case(
        [
            "from_config(engine=...)  engine.options.creator: would lead every engine to one database, "
            "write engine.connect_args"
        ],
        arguments={"engine": {"options": {"creator": print}}},
    ),
    # Environment
    "variable of the wrong type": Case(
        ['env ELEFAST_DOCKER__PORT  docker.port: expected an integer, got "abc"'],
        env={"ELEFAST_DOCKER__PORT": "abc"},
    ),
    "alias of the wrong type": Case(
        ['env ELEFAST_HOST_PORT  docker.port: expected an integer, got "abc"'],
        env={"ELEFAST_HOST_PORT": "abc"},
    ),
    "variable that is no boolean": Case(
        ['env ELEFAST_TUNING__JIT  tuning.jit: expected true or false, got "maybe"'],
        env={"ELEFAST_TUNING__JIT": "maybe"},
    ),
    "variable that is no JSON list": Case(
        ['env ELEFAST_EXTENSIONS  extensions: expected a list of strings, got "[a"'],
        env={"ELEFAST_EXTENSIONS": "[a"},
    ),
    "variable that is no JSON object": Case(
        ['env ELEFAST_ENGINE__OPTIONS  engine.options: expected a JSON object, got "a=1"'],
        env={"ELEFAST_ENGINE__OPTIONS": "a=1"},
    ),
    "variable of a table that is no JSON object": Case(
        ['env ELEFAST_DOCKER  docker: expected a JSON object, got "5432"'], env={"ELEFAST_DOCKER": "5432"}
    ),
    "variable with broken JSON and a password": Case(
        ['env ELEFAST_DOCKER  docker: expected a JSON object, got "{\\"password\\": ***"'],
        env={"ELEFAST_DOCKER": '{"password": "secret"'},
    ),
    "password of the wrong type": Case(
        ['elefast.toml:1  docker.password: expected a string, got "***"'],
        overlay="docker.password = 12345",
    ),
    "unknown key in a variable's JSON": Case(
        ['env ELEFAST_DOCKER  docker.prot: unknown key, did you mean "port"?'],
        env={"ELEFAST_DOCKER": '{"prot": 1}'},
    ),
    "mistyped variable": Case(
        ['env ELEFAST_PROVDER  unknown variable, did you mean "ELEFAST_PROVIDER"?'],
        env={"ELEFAST_PROVDER": "url"},
    ),
    "one underscore instead of two": Case(
        ['env ELEFAST_DOCKER_PORT  unknown variable, did you mean "ELEFAST_DOCKER__PORT"?'],
        env={"ELEFAST_DOCKER_PORT": "1"},
    ),
    "variable in lower case": Case(
        ['env ELEFAST_docker__port  unknown variable, did you mean "ELEFAST_DOCKER__PORT"?'],
        env={"ELEFAST_docker__port": "1"},
    ),
    "variable below a value": Case(
        ['env ELEFAST_DOCKER__PORT__X  unknown variable, did you mean "ELEFAST_DOCKER__PORT"?'],
        env={"ELEFAST_DOCKER__PORT__X": "1"},
    ),
    "variable of nothing": Case(["env ELEFAST_QQQ  unknown variable"], env={"ELEFAST_QQQ": "1"}),
    # Arguments
    "unknown argument": Case(
        ['from_config(dokcer=...)  dokcer: unknown key, did you mean "docker"?'], arguments={"dokcer": {}}
    ),
    "unknown argument with two underscores": Case(
        ['from_config(docker__prot=...)  docker.prot: unknown key, did you mean "port"?'],
        arguments={"docker__prot": 1},
    ),
    "argument of the wrong type": Case(
        ["from_config(docker=...)  docker.port: expected an integer, got an object of type object"],
        arguments={"docker": {"port": object()}},
    ),
    # Profiles
    "unknown profile": Case(
        ['env ELEFAST_PROFILE  unknown profile "cj", the known ones are "ci", "local"'],
        pyproject="profiles.ci = {}",
        overlay="profiles.local = {}",
        env={"ELEFAST_PROFILE": "cj"},
    ),
    "unknown profile by argument": Case(
        ['from_config(profile=...)  unknown profile "docekr", the known ones are "docker", did you mean "docker"?'],
        pyproject="profiles.docker = {}",
        arguments={"profile": "docekr"},
    ),
    "profile with a password": Case(
        ['env ELEFAST_PROFILE  unknown profile "postgresql://me:***@localhost", there are no profiles'],
        env={"ELEFAST_PROFILE": "postgresql://me:secret@localhost"},
    ),
    "profile where there are none": Case(
        ['env ELEFAST_PROFILE  unknown profile "ci", there are no profiles'], env={"ELEFAST_PROFILE": "ci"}
    ),
    # Files
    "broken TOML": Case(
        ["elefast.toml:2  not valid TOML: Expected '=' after a key in a key/value pair (column 10)"],
        overlay="\nprovider local",
    ),
    "TOML that ends too early": Case(
        ["elefast.toml:2  not valid TOML: Invalid value"],
        overlay="\nextensions = [",
    ),
    "broken pyproject.toml with the table": Case(
        ["pyproject.toml:2  not valid TOML: Invalid value (column 12)"], pyproject="provider = local"
    ),
    "number of too many digits": Case(
        ["elefast.toml:2  not valid TOML: an integer has more digits than 64 bits can hold"],
        overlay=f"\npool.size = {'9' * 5000}",
    ),
    "document of great depth": Case(
        ["elefast.toml  not valid TOML: it is nested too deeply"], overlay=f"engine.options.x = {'[' * 9999}"
    ),
    "byte order mark": Case(
        ["elefast.toml:1  not valid TOML: it begins with a byte order mark, save it as UTF-8 without one"],
        overlay="\ufeffkeep = 'always'",
    ),
    "what a broken file may say is not missed": Case(
        ["elefast.toml:1  not valid TOML: Expected '=' after a key in a key/value pair (column 8)"],
        pyproject='provider = "url"',
        overlay="engine url\nprofiles.ci = {}",
        env={"ELEFAST_PROFILE": "ci"},
    ),
    # All at once, in order
    "everything at once": Case(
        [
            'from_config(keep=...)  keep: expected "never", "failed" or "always", got "all"',
            'env ELEFAST_DOCKER_PORT  unknown variable, did you mean "ELEFAST_DOCKER__PORT"?',
            'env ELEFAST_DOCKER__PORT  docker.port: expected an integer, got "abc"',
            "elefast.toml:1  pool.size: expected an integer, got 1.5",
            'elefast.toml:2  pool.maxx: unknown key, did you mean "max"?',
            'pyproject.toml:2  docker.prot: unknown key, did you mean "port"?',
            'pyproject.toml:3  tuning.max_wal_senders: must be 0 with tuning.wal_level = "minimal"',
        ],
        pyproject="docker.prot = 1\ntuning = { wal_level = 'minimal', max_wal_senders = 1 }",
        overlay="pool.size = 1.5\npool.maxx = 3",
        env={"ELEFAST_DOCKER__PORT": "abc", "ELEFAST_DOCKER_PORT": "1"},
        arguments={"keep": "all"},
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_error_says_exactly_this(project: Project, case: Case) -> None:
    """Every problem is one line with its place; the last line says what to run."""
    project.write("pyproject.toml", f"[tool.elefast]\n{case.pyproject}\n")
    if case.overlay is not None:
        project.write("elefast.toml", case.overlay)
    with pytest.raises(ConfigurationError) as caught:
        project.load(case.env, **case.arguments)
    count = f"{len(case.problems)} problem{'s' if len(case.problems) > 1 else ''}"
    lines = [f"{count} in elefast's configuration", *(f"  {problem}" for problem in case.problems), HINT]
    assert str(caught.value).splitlines() == lines
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_no_error_shows_a_password(project: Project, case: Case) -> None:
    """The word "secret" is the password in every case above that has one."""
    assert not any("secret" in problem for problem in case.problems)


def test_a_file_that_was_asked_for_must_have_the_table(project: Project) -> None:
    """A pyproject.toml that is named has to say something."""
    file = project.write("pyproject.toml", "[project]\nname = 'x'\n")
    assert project.problems(path=file) == ["pyproject.toml  has no table [tool.elefast]"]


def test_a_broken_file_that_was_asked_for(project: Project) -> None:
    """That it is broken matters more than that it has no table."""
    file = project.write("pyproject.toml", "project")
    assert project.problems(path=file) == [
        "pyproject.toml:1  not valid TOML: Expected '=' after a key in a key/value pair"
    ]


def test_the_table_is_a_value(project: Project) -> None:
    """`tool.elefast = 3` is not a table."""
    project.write("pyproject.toml", "\n[tool]\nelefast = 3\n")
    assert project.problems() == ["pyproject.toml:3  tool.elefast: expected a table, got 3"]


def test_a_path_that_does_not_exist(project: Project) -> None:
    """A mistyped path is not searched upwards from."""
    missing = project.directory / "nowhere"
    assert project.problems(path="nowhere") == [f"{missing}  does not exist"]


def test_a_path_in_nobodys_home(project: Project) -> None:
    """A user that does not exist has no home, and what is below it does not exist either."""
    (problem,) = project.problems(path="~nobody-of-this-name/x")
    assert problem.endswith("~nobody-of-this-name/x  does not exist")


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_an_unreadable_file(project: Project) -> None:
    """The reason is the operating system's; a link to itself cannot be read by anybody, not even by root."""
    (project.directory / "elefast.toml").symlink_to("elefast.toml")
    assert project.problems() == ["elefast.toml  cannot be read: Too many levels of symbolic links"]


def test_a_file_that_is_not_text(project: Project) -> None:
    """TOML is UTF-8."""
    (project.directory / "elefast.toml").write_bytes(b'provider = "\xff"\n')
    assert project.problems() == ["elefast.toml:1  cannot be read: it is not UTF-8 text"]


def test_no_configuration(project: Project) -> None:
    """The error lists what was looked at, so that a wrong directory is seen at once."""
    file = project.write("pyproject.toml", "[project]\nname = 'x'\n")
    inside = project.directory / "src"
    inside.mkdir()
    with pytest.raises(ConfigurationError) as caught:
        project.load(path=inside)
    problems = [str(problem) for problem in caught.value.problems]
    assert problems[:2] == [
        f"no configuration found, looked in {inside} and the directories above it",
        f"{file}  has no table [tool.elefast]",
    ]
    assert caught.value.hint == (
        'run "elefast init" in the project\'s directory, or write a table [tool.elefast] in its pyproject.toml'
    )


def test_a_path_without_configuration_is_an_error_even_with_arguments(project: Project) -> None:
    """Whoever names a place expects something there."""
    (problem, *_) = project.problems(path=".", provider="local")
    assert problem.startswith("no configuration found")
