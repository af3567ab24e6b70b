"""`elefast init`: from a project as it is to its first migrated test.

It looks, proposes, writes `[tool.elefast]` and an example test, and runs both once. With the standard output
redirected to a file it does what it has always done, and prints a conftest instead.
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
    from elefast.cli.init.project import Look
    from elefast.cli.init.proposal import Proposal
    from elefast.cli.init.trial_run import Trial

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
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--print", action="store_true", help="print a conftest, as where the output is a file")
    where.add_argument("--write", action="store_true", help="write the files, also where the output is a file")
    parser.add_argument("--elefast-toml", action="store_true", help="write elefast.toml instead of pyproject.toml")
    parser.add_argument("--no-example", action="store_true", help="write no example test")
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
    from elefast.cli.init.project import look
    from elefast.cli.init.proposal import Wishes, propose

    writes = arguments.write or arguments.yes or arguments.json or arguments.dry_run
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
    seen = look(Path.cwd())
    wanted = None if both or not (arguments.want_async or arguments.want_sync) else bool(arguments.want_async)
    wishes = Wishes(arguments.driver or "", _is_async(arguments.driver, wanted))
    proposal = propose(seen, wishes)
    if prints:
        from elefast.cli.init.example import conftest

        print(conftest(seen, proposal, both=both), end="")
        return 0
    return _Setup(arguments, seen, proposal).run()


def _is_async(driver: str | None, wanted: bool | None) -> bool | None:
    if wanted is None and driver:
        return {"asyncpg": True, "psycopg2": False, "pg8000": False}.get(driver)
    return wanted


def _is_file(stream: Any) -> bool:
    """Whether what is written goes to a regular file, as after `>`; a pipe, a terminal and /dev/null are none."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


class _Setup:
    """One run of the command in its usual form."""

    def __init__(self, arguments: argparse.Namespace, seen: Look, proposal: Proposal) -> None:
        from elefast.cli.init.importing import find_importing

        self._arguments = arguments
        self._seen = seen
        self._proposal = proposal
        self._quiet = arguments.json
        self._importing = find_importing(seen, proposal)
        self._told: dict[str, Any] = {"configuration": None, "example": None, "notes": [], "stack": None, "tests": None}

    def run(self) -> int:
        """Write and try; the exit status."""
        try:
            return self._go()
        finally:
            if self._quiet:
                print_json(self._told)

    def _go(self) -> int:
        if not self._configure():
            return 0
        example = self._write_example()
        if self._importing.file is None and self._importing.note:
            self._proposal.notes.append(self._importing.note)
        self._told["notes"] = self._proposal.notes
        for note in self._proposal.notes:
            self._say(f"! {note}", "yellow")
        if self._arguments.dry_run or self._arguments.no_run:
            return 0
        return self._try(example)

    def _configure(self) -> bool:
        """Write the configuration, unless there is one; False where the user does not want it."""
        from elefast.cli.init.write_files import append, create
        from elefast.config.discovery import OVERLAY, PYPROJECT

        seen = self._seen
        if seen.configured:
            self._say(f"✓ {' and '.join(seen.configured)}: elefast is configured already, nothing was changed", "green")
            return True
        into_pyproject = seen.pyproject is not None and not self._arguments.elefast_toml
        file = seen.root / (PYPROJECT if into_pyproject else OVERLAY)
        text = self._proposal.text("tool.elefast" if into_pyproject else "")
        schema = "" if into_pyproject or (seen.root / SCHEMA).exists() else SCHEMA
        if not into_pyproject:
            text = f"#:schema ./{SCHEMA}\n{text}"
        self._show(file.name, text)
        self._told["configuration"] = {"file": file.name, "text": text}
        importing = self._importing
        if importing.file is not None:
            self._show(importing.file.name, importing.text)
        if self._arguments.dry_run:
            return True
        names = [file.name, *([importing.file.name] if importing.file and importing.file != file else [])]
        if not self._agreed(f"Write this to {' and '.join(names)}?"):
            self._say("nothing was written")
            return False
        if schema:
            from elefast.cli.schema import schema_text

            create(seen.root / SCHEMA, schema_text())
        if into_pyproject:
            append(file, seen.pyproject or "", text)
        else:
            create(file, text)
        self._say(f"✓ {file.name}: {'added' if into_pyproject else 'written'}", "green")
        self._let_tests_import()
        return True

    def _let_tests_import(self) -> None:
        from elefast.cli.init.importing import write_importing

        importing = self._importing
        if importing.file is None:
            return
        line = importing.text.strip().splitlines()[-1]
        if write_importing(importing, self._seen.pytest.section):
            self._say(f"✓ {importing.file.name}: {line}, since {importing.note}", "green")
        else:
            self._proposal.notes.append(f"{importing.note}; write `{line}` into {importing.file.name}")

    def _write_example(self) -> Path | None:
        from elefast.cli.init.example import example, example_path
        from elefast.cli.init.write_files import create

        if self._arguments.no_example:
            return None
        path = example_path(self._seen)
        file = self._seen.root / path
        text = example(self._seen, self._proposal)
        self._told["example"] = {"file": path.as_posix(), "text": text}
        if self._arguments.dry_run:
            self._show(path.as_posix(), text)
            return None
        written = create(file, text)
        self._say(f"✓ {path.as_posix()}: {'written' if written else 'is there, nothing was changed'}", "green")
        return file

    def _try(self, example: Path | None) -> int:
        """Run the stack, then the example."""
        from elefast.cli.init.trial_run import as_tests_import, run_example, try_stack

        with as_tests_import(self._seen):
            trial: Trial = try_stack(self._seen.root, self._arguments.profile, self._seen.sources.declared.tables)
        self._told["stack"] = trial.to_dict()
        if trial.missing:
            shown = ", ".join(trial.missing[:5]) + (", ..." if len(trial.missing) > 5 else "")
            self._say(
                f"✗ one database\n{_indented(str(trial))}\n"
                f"    missing   {len(trial.missing)} tables that the models declare: {shown}",
                "red",
            )
        else:
            self._say(f"✓ one database\n{_indented(str(trial))}", "green")
        if example is None or "pytest" not in self._seen.installed:
            return 1 if trial.missing else 0
        name = example.relative_to(self._seen.root).as_posix()
        done = run_example(self._seen.root, example)
        self._told["tests"] = {"exit_status": done.exit_status, "output": done.output}
        if done.exit_status:
            self._say(f"✗ {name} does not pass with {done.command}:\n{_indented(done.output)}", "red")
            return 1
        last = done.output.strip().splitlines()[-1] if done.output.strip() else "passed"
        self._say(f"✓ {name}: {last.strip('= ')}", "green")
        if done.command != "pytest":
            self._say(f"! the command `pytest` cannot import what the tests need; `{done.command}` can", "yellow")
        if trial.missing:
            return 1
        self._say(
            f"Next: {done.command}; `elefast check` if something is wrong, `elefast config --origin` for all keys"
        )
        return 0

    def _agreed(self, question: str) -> bool:
        asks = not (self._arguments.yes or self._arguments.no_interaction or self._quiet)
        if not asks or not (sys.stdin.isatty() and sys.stdout.isatty()):
            return True
        from rich.prompt import Confirm

        try:
            return Confirm.ask(question, default=True, console=console())
        except EOFError:  # Ctrl-D: there is no answer, so it is no
            self._say("")
            return False

    def _show(self, name: str, text: str) -> None:
        """What a file has, or would have."""
        self._say(f"{name}:", "bold")
        self._say("".join(f"    {line}".rstrip() + "\n" for line in text.splitlines()).rstrip("\n"))

    def _say(self, text: str, style: str = "") -> None:
        if not self._quiet:
            out = console()
            mark, _, rest = text.partition(" ")
            if mark in ("✓", "✗", "!"):
                from rich.text import Text

                out.print(Text.assemble((_shown(mark), style), f" {rest}"))
            else:
                out.print(text, style=style or None)


def _shown(mark: str) -> str:
    """The mark, or what stands for it where the output cannot have it."""
    try:
        mark.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return {"✓": "ok", "✗": "FAILED"}.get(mark, mark)
    return mark


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())
