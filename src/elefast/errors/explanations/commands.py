"""What can be wrong with what a command of `elefast` was asked for."""

from __future__ import annotations

from elefast.errors import ServerUnavailableError, UsageError
from elefast.errors.explanations.explanation import Explanation

__all__ = ["EXPLANATIONS"]

EXPLANATIONS = (
    Explanation(
        "database-not-found",
        UsageError,
        "There is no such database of elefast's",
        "A command takes the name of a database, or of the test that it was kept for or that runs, or a part of either "
        "that is enough. No database of the project on the configured server has it.",
        (
            "The test passed, or the run did not keep databases.",
            "A newer kept database pushed it out, or `elefast prune` dropped it.",
            "It is on the server of another profile.",
            "It belongs to another project on the same server.",
        ),
        (
            "`elefast ls` lists all databases with their tests, with `--all-projects` those of other projects as well.",
            "`pytest --elefast-keep` keeps those of failed tests.",
        ),
    ),
    Explanation(
        "database-ambiguous",
        UsageError,
        "Several databases could be meant",
        "What was given is a part of several names; the message lists them.",
        ("A parametrized test, of which several were kept.",),
        ("Give the whole name of one of them.",),
    ),
    Explanation(
        "no-command",
        UsageError,
        "No command was given",
        "`elefast run` makes a database for a command, and was given none.",
        ("Everything after the options of `elefast run` is the command; there was nothing.",),
        ("Name it after two hyphens: `elefast run -- npx playwright test`.",),
    ),
    Explanation(
        "several-keys",
        UsageError,
        "Several keys were asked for",
        "`elefast config` shows all keys, those of one table, or one key.",
        ("Two keys were named.",),
        ("Ask for the table that has them, such as `elefast config docker`, or for one after the other.",),
    ),
    Explanation(
        "output-unwritable",
        UsageError,
        "The output cannot be written",
        "The file that was named cannot be made.",
        ("Its directory does not exist, or is somebody else's.",),
        ("Make the directory, or name another file.",),
    ),
    Explanation(
        "contradicting-options",
        UsageError,
        "Two options of the command contradict each other",
        "`elefast init` writes one example test, which is either async or sync.",
        ("Fixtures of both kinds were wanted, which only the printed conftest has.",),
        (
            "Leave both options out: the example test is of the application's own kind.",
            "`elefast init --print --async --sync` prints fixtures of both kinds.",
        ),
    ),
    Explanation(
        "unknown-ci-system",
        UsageError,
        "There is no block for this CI system",
        "`elefast check --ci` prints what a CI system needs to run the tests, and knows only some of them.",
        ("A typo.", "Another system, which has services of another form."),
        ("The message lists the names.", "`elefast check --ci shell` has the commands, which work anywhere."),
    ),
    Explanation(
        "server-not-running",
        ServerUnavailableError,
        "The server does not run",
        "The command is about a server that runs; one that is started for it would end with it.",
        ("No test runs at this moment, and nothing was kept.", "The server of another profile is the one that runs."),
        ("`elefast up` starts it, and `elefast down` ends it.", "`elefast status` shows what runs."),
    ),
    Explanation(
        "psql-not-found",
        ServerUnavailableError,
        "There is no psql here",
        "`elefast psql` starts the client of PostgreSQL that stands beside the server's programs, one of the `PATH`, "
        "or the one in the server's container, and passes over one that does not run. There is none that does.",
        (
            "Only a server was installed.",
            "Debian's `psql` is a wrapper, and there is no package `postgresql-client-VERSION` behind it.",
        ),
        (
            "Install one, such as `apt-get install postgresql-client`.",
            "`elefast url` prints the address for any other client.",
        ),
    ),
)
