"""What can be wrong with what a project wrote: keys, values, names of its own code, markers."""

from __future__ import annotations

from elefast.errors import ConfigurationError
from elefast.errors.explanations.explanation import Explanation

__all__ = ["EXPLANATIONS"]


def _wrong(code: str, title: str, meaning: str, causes: tuple[str, ...], remedy: tuple[str, ...]) -> Explanation:
    return Explanation(code, ConfigurationError, title, meaning, causes, remedy)


EXPLANATIONS = (
    _wrong(
        "config-not-found",
        "There is no configuration",
        "elefast reads the nearest `elefast.toml`, or `pyproject.toml` with a table `[tool.elefast]`, from the working "
        "directory upwards, and found neither.",
        (
            "The command runs in another directory than the project's.",
            "The table has another name, such as `[elefast]` or `[tools.elefast]`.",
            "The project was not set up yet.",
        ),
        (
            "`elefast init` writes a configuration that fits the project.",
            "By hand, an empty table `[tool.elefast]` in `pyproject.toml` is enough to begin with.",
        ),
    ),
    _wrong(
        "file-unreadable",
        "A file of the configuration cannot be read",
        "The file is there, but the operating system does not let this user read it, or it is not text in UTF-8.",
        ("The file belongs to another user.", "It is a link to a file that is gone.", "An editor saved it as UTF-16."),
        ("Look at the file with `ls -l` and `file`, and mend its owner, mode or encoding.",),
    ),
    _wrong(
        "file-unwritable",
        "A file of the project cannot be written",
        "`elefast init` writes a file whole or not at all: it makes the new text beside the old one and renames it. "
        "One of these steps was refused, so everything is as it was.",
        (
            "The directory or the file belongs to another user, or is read-only.",
            "An editor or another program has changed the file in between.",
            "The disk is full.",
        ),
        (
            "`elefast init --dry-run` shows what would be written; it can be pasted by hand.",
            "Mend the owner or the mode, and run `elefast init` again: it goes on where it stopped.",
        ),
    ),
    _wrong(
        "invalid-toml",
        "A file is not valid TOML",
        "The message has the line and the column at which the parser gave up; what is missing may be on the line "
        "before. Nothing of the file is used until it can be read.",
        (
            "A string without its closing quote, or a list without its bracket.",
            "A table or a key that is written twice.",
            "`True` and `False`, which TOML writes `true` and `false`.",
        ),
        ("Mend that line; an editor with support for TOML shows the place.",),
    ),
    _wrong(
        "unknown-key",
        "A key does not exist",
        "elefast refuses keys that it does not know, because a typo would otherwise be a setting that silently does "
        "nothing.",
        (
            "A typo, or a hyphen where the key has an underscore.",
            "The key is in the wrong table.",
            "It is a key of a newer version of elefast.",
        ),
        (
            "Write the key that the message suggests.",
            "`elefast config` lists all keys, and `elefast --version` says which version is installed.",
        ),
    ),
    _wrong(
        "unknown-variable",
        "An environment variable does not exist",
        "Variables that begin with `ELEFAST_` are elefast's own, and one of them is not known. A typo would otherwise "
        "be a setting that silently does nothing.",
        ("One underscore between table and key: it takes two, as in `ELEFAST_DOCKER__PORT`.", "A typo."),
        ("Unset it, or write the name that the message suggests.", "`elefast config --origin` shows what is in force."),
    ),
    _wrong(
        "unknown-profile",
        "A profile does not exist",
        "A profile was asked for that neither file has a table `[profiles.NAME]` for.",
        ("A typo.", "`ELEFAST_PROFILE` is set for another project.", "The profile is in another directory's file."),
        (
            "Choose one of those that the message lists, or write the table "
            "(`[tool.elefast.profiles.NAME]` in `pyproject.toml`).",
        ),
    ),
    _wrong(
        "wrong-value",
        "A value is not what the key takes",
        "The message has the place, the value and what was expected.",
        (
            'A string where a number or a truth value belongs: `"5433"` instead of `5433`.',
            "A value of a similar key, or a typo in one of several choices.",
            "A special character in the password of a URL that is not percent-encoded.",
        ),
        ("Correct the value at the place that is named.", "`elefast.toml.example` has every key with an example."),
    ),
    _wrong(
        "missing-value",
        "A value is needed that nobody set",
        "What was chosen cannot work without a value of another key.",
        (
            'The kind was chosen (`provider = "url"`, `migrator = "sql"`), but not what it works with.',
            "A variable that should hold the value is not set, or is empty.",
        ),
        ("Set the key, or the variable that the message names.", "Or choose another `provider` or `migrator`."),
    ),
    _wrong(
        "several-migrators",
        "Two tables say how the schema is made",
        "Without the key `migrator` the one table of a migrator that is written decides, and there are several.",
        ("A table was left over after a change of tools.", "One migrator is meant for a profile only."),
        ('Delete the table that is not used, or write which one counts: `migrator = "alembic"`.',),
    ),
    _wrong(
        "conflicting-keys",
        "Two settings contradict each other",
        "Each of them is right alone; together one would silently lose, or the server would not start.",
        ("One value comes from a profile or a variable, the other from the file.",),
        ("`elefast config --origin` shows where each of them was written; change one.",),
    ),
    _wrong(
        "reserved-setting",
        "A setting is elefast's own business",
        "`tuning.settings` may set anything but what elefast itself or the image has to set, such as the port, and "
        "`engine.options` anything but what has a key of its own or decides which database an engine leads to.",
        ("A `postgresql.conf` was copied whole.", "A call of `create_engine()` was copied whole."),
        ("Leave the setting out, or use the key that the message names.",),
    ),
    _wrong(
        "setting-overridden",
        "The server has another value than the one configured",
        "elefast looks after the start whether each setting of `tuning` is in force, and one is not.",
        ("The image passes options of its own.", "`ALTER ROLE ... SET` or `ALTER DATABASE ... SET` in a script of it."),
        ("Leave the setting out, or change what the image does.",),
    ),
    _wrong(
        "remote-host",
        "The server is on another machine",
        "Tests create and drop databases. So that they cannot do that to a shared or productive server by mistake, "
        "elefast only works on this machine unless it is allowed to go elsewhere.",
        (
            "A CI service with a host name of its own, such as `postgres`.",
            "`DATABASE_URL` or `PGHOST` of a development environment leads to a shared server.",
            "`PGHOSTADDR` or `PGSERVICE` is set: drivers read them even where the URL has a host, and an address "
            "counts more than a name.",
        ),
        (
            "Unset the variable that the message names.",
            "If tests may use that server: `engine.allow_remote = true`, or `ELEFAST_ENGINE__ALLOW_REMOTE=true` "
            "in CI only.",
            "Otherwise take the URL out, and elefast starts a server itself.",
        ),
    ),
    _wrong(
        "target-not-found",
        "A name of the project's code leads nowhere",
        "A key names code as `package.module:attribute`, and there is no such module or attribute. Modules are looked "
        "for in the project directory and on the import path of the interpreter that runs the tests.",
        (
            "A typo, or the module was moved.",
            "The package lies in `src/` and is not installed.",
            "The tests run in another virtual environment than the one with the package.",
        ),
        (
            'Check it by hand: `python -c "import package.module"`.',
            "Install the project itself (`pip install -e .`), or name its directory in pytest's `pythonpath`.",
        ),
    ),
    _wrong(
        "target-import-failed",
        "A module of the project cannot be imported",
        "The module was found, and code in it raised an error. The message has that error and the lines of the project "
        "that led to it.",
        (
            "A package that the module imports is not installed here.",
            "The module needs a variable or a service at import.",
            "It connects to a database at import, which leads nowhere before a test.",
        ),
        ('Run `python -c "import package.module"` until it works.',),
    ),
    _wrong(
        "target-wrong-kind",
        "A name leads to something of the wrong kind",
        "The object was found, but the key takes another kind of object.",
        (
            "`metadata.target` names a module or an instance instead of the `Base` or `MetaData`.",
            "A function for `callable` or `seed` that does not take exactly one argument, the connection.",
            "`patch` names something that holds no database: it takes engines, session makers, URLs, functions with a "
            "cache, and Flask-SQLAlchemy's extension.",
            "`patch` names something that leads to a database that elefast cannot change: a connection that was opened "
            "at import, or a URL that is read from nowhere in `export_env`.",
        ),
        ("Name the object that the message asks for.",),
    ),
    _wrong(
        "target-not-settable",
        "A name of `patch` cannot be given another value",
        "A URL, unlike an engine, cannot be changed in place. elefast replaces it under its name, and the object that "
        "has the name does not allow that.",
        (
            "A property without a setter, such as a URL that settings compute from parts.",
            "A frozen model of pydantic or a frozen dataclass.",
        ),
        (
            'Name the engine that is made from it: `patch = ["app.db:engine"]`.',
            'Let the settings read it from a variable: `export_env = ["DATABASE_URL"]`, with `patch = '
            '["app.config:get_settings"]` where a cache keeps them.',
        ),
    ),
    _wrong(
        "empty-metadata",
        "The metadata has no tables",
        "SQLAlchemy knows a table once the module with its model was imported, and after importing the named module "
        "there was none.",
        ("The target is the module with the `Base` alone, which imports no models.",),
        ('Name a module that imports all models, or add these imports to it: `metadata.target = "app.models:Base"`.',),
    ),
    _wrong(
        "file-missing",
        "A file that is named does not exist",
        "Paths in a file are relative to the directory of that file. A pattern has to match at least one file.",
        (
            "A typo, or the file was moved.",
            "The path is relative to another directory.",
            "It is not in version control.",
        ),
        ("Correct the path; the message has the directory that was looked in.",),
    ),
    _wrong(
        "alembic-config",
        "The configuration of Alembic is not complete",
        "elefast reads `alembic.ini` or `[tool.alembic]` of `pyproject.toml` as Alembic does, and what it found there "
        "cannot work.",
        (
            "`alembic.config` leads to another file, or `alembic.section` to another section.",
            "`script_location` is relative to the directory of the file, or the directory has no `env.py`.",
            "The configuration is made for several databases.",
        ),
        ("Run `alembic heads` in the project: it has to work without a database.", "`alembic.config` names the file."),
    ),
    _wrong(
        "image-reference",
        "The name of the image is not one",
        "`docker.image` is no reference that the engine understands.",
        ("A space or a capital letter.", "Podman without a default registry, which wants the full name."),
        ("Write it as in `docker pull`, such as `postgres:18` or `docker.io/library/postgres:18`.",),
    ),
    _wrong(
        "image-not-found",
        "The registry has no such image",
        "The registry answered, and has no image of this name and tag, or none for this platform.",
        ("A typo in the tag.", "An image for one architecture only; `docker.platform` asks for another one."),
        ("Check name and tag with `docker pull IMAGE`.", "`docker manifest inspect IMAGE` lists its platforms."),
    ),
    _wrong(
        "bin-dir-empty",
        "There is no PostgreSQL in local.bin_dir",
        "With `local.bin_dir` set, elefast looks nowhere else, and there are no programs `postgres` and `initdb`.",
        (
            "The directory of the client programs, where the distribution keeps the server elsewhere.",
            "A version that was removed in an upgrade.",
        ),
        (
            "`pg_config --bindir` shows the directory of the installed version; Debian keeps it in "
            "`/usr/lib/postgresql/VERSION/bin`.",
            "Or leave the key out: elefast looks in all usual places.",
        ),
    ),
    _wrong(
        "wrong-marker",
        "A marker of a test is wrong",
        "`@pytest.mark.elefast(...)` takes `isolation` and `keep`, each with one of their values. With "
        '`isolation = "transaction"` everything is rolled back, so nothing can be kept.',
        ("A typo.", "`keep` on a test that shares its database with others."),
        ('Write for example `@pytest.mark.elefast(isolation="database", keep="always")`.',),
    ),
)
