"""`elefast init`: from a project as it is to its first migrated test.

The steps, one module each: `project` reads the project without running any of it, `proposal` makes the configuration
of that, `write_files` writes it with an example test, and `trial_run` runs both once.

    $ elefast init --yes
    pyproject.toml:
        [tool.elefast]
        migrator = "alembic"  # alembic.ini as it is; env.py needs no change
    ✓ pyproject.toml: added

With the standard output redirected to a file, the command prints a conftest instead, as it did in its first version.
This room must not know how a stack works: only `trial_run` starts one, through `elefast.factory`.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elefast.cli._output import add_json, add_profile, console, print_json

if TYPE_CHECKING:
    from elefast.cli.init.project import Project
    from elefast.cli.init.proposal import Proposal

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "init"
HELP = (
    "set up elefast in this directory: write [tool.elefast] and an example test, and run it once; "
    "`elefast init > conftest.py` prints fixtures instead"
)
SCHEMA = "elefast.schema.json"
"""The JSON Schema beside an elefast.toml, for editors."""
DRIVERS = ("psycopg", "psycopg2", "pg8000", "asyncpg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--driver", choices=DRIVERS, help="the driver of the engines; default: the application's own")
    parser.add_argument("--async", dest="want_async", action="store_true", help="the tests are async")
    parser.add_argument("--sync", dest="want_sync", action="store_true", help="the tests are sync")
    parser.add_argument("--yes", action="store_true", help="write the files and ask nothing")
    parser.add_argument("--no-interaction", action="store_true", help="ask nothing, as without a terminal")
    parser.add_argument("--print", action="store_true", help="print a conftest, as where the output is a file")
    parser.add_argument("--no-run", action="store_true", help="start nothing at the end")
    parser.add_argument("--dry-run", action="store_true", help="say what would be written, and write and start nothing")
    add_profile(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Set the project up.

    Raises:
        ConfigurationError: A file cannot be read or written.
        UsageError: The options contradict each other.
        ElefastError: The run at the end failed; what was written stays.
    """
    from elefast.cli.init.project import read_project
    from elefast.cli.init.proposal import InitOptions, propose

    writes = arguments.yes or arguments.json or arguments.dry_run
    prints = arguments.print or (not writes and _is_file(sys.stdout))
    both = arguments.want_async and arguments.want_sync
    if both and not prints:
        from elefast.errors import UsageError

        raise UsageError(
            "--async and --sync contradict each other: the example test is one or the other. Give one of them, or "
            "none for what the application is; a conftest with fixtures of both kinds is printed by: "
            "elefast init --print --async --sync",
            code="contradicting-options",
        )
    project = read_project(Path.cwd())
    is_async = None if both or not (arguments.want_async or arguments.want_sync) else bool(arguments.want_async)
    if is_async is None:
        is_async = {"asyncpg": True, "psycopg2": False, "pg8000": False}.get(arguments.driver)
    proposal = propose(project, InitOptions(arguments.driver or "", is_async))
    if prints:
        from elefast.cli.init.example import conftest

        print(conftest(project, proposal, both=both), end="")
        return 0
    return _Setup(arguments, project, proposal).run()


def _is_file(stream: Any) -> bool:
    """Whether output goes to a regular file, as after `>`; a pipe, a terminal and /dev/null are none."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


class _Setup:
    """One run of the command that writes files."""

    def __init__(self, arguments: argparse.Namespace, project: Project, proposal: Proposal) -> None:
        from elefast.cli.init.importing import find_importing

        self._arguments = arguments
        self._project = project
        self._proposal = proposal
        self._importing = find_importing(project, proposal)
        self._json: dict[str, Any] = {"configuration": None, "example": None, "notes": [], "stack": None, "tests": None}

    def run(self) -> int:
        """Write and try; the exit status."""
        try:
            return self._run_steps()
        finally:
            if self._arguments.json:
                print_json(self._json)

    def _run_steps(self) -> int:
        if not self._configure():
            return 0
        example = self._write_example()
        if self._importing.file is None and self._importing.note:
            self._proposal.notes.append(self._importing.note)
        self._json["notes"] = self._proposal.notes
        for note in self._proposal.notes:
            self._say(f"! {note}", "yellow")
        if self._arguments.dry_run or self._arguments.no_run:
            return 0
        is_complete = self._try_stack()
        if "pytest" not in self._project.installed:
            return 0 if is_complete else 1
        command = self._try_example(example)
        if not is_complete or not command:
            return 1
        self._say(f"Next: {command}; `elefast check` if something is wrong, `elefast config --origin` for all keys")
        return 0

    def _configure(self) -> bool:
        """Write the configuration, unless there is one; False if the user does not want it."""
        from elefast.cli.init.write_files import append, create
        from elefast.config.discovery import OVERLAY, PYPROJECT

        project = self._project
        if project.configured:
            files = " and ".join(project.configured)
            self._say(f"✓ {files}: elefast is configured already, nothing was changed", "green")
            return True
        pyproject = project.pyproject
        file = project.root / (OVERLAY if pyproject is None else PYPROJECT)
        if pyproject is None:
            text = f"#:schema ./{SCHEMA}\n{self._proposal.text('')}"
        else:
            text = self._proposal.text("tool.elefast")
        self._show(file.name, text)
        self._json["configuration"] = {"file": file.name, "text": text}
        importing = self._importing
        if importing.file is not None:
            self._show(importing.file.name, importing.text)
        if self._arguments.dry_run:
            return True
        names = [file.name, *([importing.file.name] if importing.file and importing.file != file else [])]
        if not self._agreed(f"Write this to {' and '.join(names)}?"):
            self._say("nothing was written")
            return False
        if pyproject is None:
            from elefast.cli.schema import schema_text

            create(project.root / SCHEMA, schema_text())
            create(file, text)
            self._say(f"✓ {file.name}: written", "green")
        else:
            append(file, pyproject, text)
            self._say(f"✓ {file.name}: added", "green")
        self._let_tests_import()
        return True

    def _let_tests_import(self) -> None:
        from elefast.cli.init.importing import write_importing

        importing = self._importing
        if importing.file is None:
            return
        line = importing.text.strip().splitlines()[-1]
        if write_importing(importing, self._project.pytest.section):
            self._say(f"✓ {importing.file.name}: {line}, since {importing.note}", "green")
        else:
            self._proposal.notes.append(f"{importing.note}; write `{line}` into {importing.file.name}")

    def _write_example(self) -> Path:
        from elefast.cli.init.example import example, example_path
        from elefast.cli.init.write_files import create

        path = example_path(self._project)
        file = self._project.root / path
        text = example(self._project, self._proposal)
        self._json["example"] = {"file": path.as_posix(), "text": text}
        if self._arguments.dry_run:
            self._show(path.as_posix(), text)
            return file
        written = create(file, text)
        self._say(f"✓ {path.as_posix()}: {'written' if written else 'is there, nothing was changed'}", "green")
        return file

    def _try_stack(self) -> bool:
        """Run the stack; whether a database has every table of the models."""
        from elefast.cli.init.trial_run import as_tests_import, try_stack

        project = self._project
        with as_tests_import(project.root):
            trial = try_stack(project.root, self._arguments.profile, project.sources.declared.tables)
        self._json["stack"] = trial.to_dict()
        if not trial.missing:
            self._say(f"✓ one database\n{_indented(str(trial))}", "green")
            return True
        shown = ", ".join(trial.missing[:5]) + (", ..." if len(trial.missing) > 5 else "")
        missing = f"    missing   {len(trial.missing)} tables that the models declare: {shown}"
        self._say(f"✗ one database\n{_indented(str(trial))}\n{missing}", "red")
        return False

    def _try_example(self, example: Path) -> str:
        """Run the example; the command that it passes with, or an empty string."""
        from elefast.cli.init.trial_run import run_example

        name = example.relative_to(self._project.root).as_posix()
        done = run_example(self._project.root, example)
        self._json["tests"] = {"exit_status": done.exit_status, "output": done.output}
        if done.exit_status:
            self._say(f"✗ {name} does not pass with {done.command}:\n{_indented(done.output)}", "red")
            return ""
        last = done.output.strip().splitlines()[-1] if done.output.strip() else "passed"
        self._say(f"✓ {name}: {last.strip('= ')}", "green")
        if done.command != "pytest":
            self._say(f"! the command `pytest` cannot import what the tests need; `{done.command}` can", "yellow")
        return done.command

    def _agreed(self, question: str) -> bool:
        asks = not (self._arguments.yes or self._arguments.no_interaction or self._arguments.json)
        if not asks or not (sys.stdin.isatty() and sys.stdout.isatty()):
            return True
        from rich.prompt import Confirm

        try:
            return Confirm.ask(question, default=True, console=console())
        except EOFError:  # Ctrl-D: there is no answer, so nothing is written
            self._say("")
            return False

    def _show(self, name: str, text: str) -> None:
        """Show what a file has, or would have."""
        self._say(f"{name}:", "bold")
        self._say(_indented(text))

    def _say(self, text: str, style: str = "") -> None:
        """Print `text`; if it begins with a mark, only that has the style."""
        if self._arguments.json:
            return
        from rich.text import Text

        mark, space, rest = text.partition(" ")
        if mark in _MARKS:
            console().print(Text.assemble((_printable(mark), style), space + rest))
        else:
            console().print(text, style=style or None)


_MARKS = {"✓": "ok", "✗": "FAILED", "!": "!"}
"""Each mark, with what replaces it on a terminal that does not have it."""


def _printable(mark: str) -> str:
    try:
        mark.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return _MARKS[mark]
    return mark


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())
