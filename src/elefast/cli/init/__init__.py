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

from elefast.cli.output import add_json, add_profile, console, print_json

if TYPE_CHECKING:
    from elefast.cli.init.look import Look
    from elefast.cli.init.propose import Proposal
    from elefast.cli.init.trial import Trial

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "init"
HELP = (
    "set up elefast in this directory: write [tool.elefast] and an example test, and run it once; "
    "`elefast init > conftest.py` prints fixtures instead"
)
EXAMPLE = "tests/test_elefast_example.py"
DRIVERS = ("psycopg", "psycopg2", "pg8000", "asyncpg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--driver", choices=DRIVERS, help="the driver of the engines; default: the application's own")
    parser.add_argument("--async", dest="want_async", action="store_true", help="the tests are async")
    parser.add_argument("--sync", dest="want_sync", action="store_true", help="the tests are sync")
    parser.add_argument(
        "--yes", "--no-interaction", dest="yes", action="store_true", help="ask nothing; so it is without a terminal"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--print", action="store_true", help="print a conftest; so it is where the output is a file")
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
        ElefastError: The run at the end failed; what was written stays.
    """
    from elefast.cli.init.look import look
    from elefast.cli.init.propose import Wishes, propose

    seen = look(Path.cwd())
    # Both of them mean fixtures of both kinds, but there is one example.
    wanted = None if arguments.want_async == arguments.want_sync else arguments.want_async
    wishes = Wishes(arguments.driver or "", _is_async(arguments.driver, wanted))
    proposal = propose(seen, wishes)
    if arguments.print or (not arguments.write and not arguments.json and _is_file(sys.stdout)):
        from elefast.cli.init.example import conftest

        both = arguments.want_async and arguments.want_sync
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
        self._arguments = arguments
        self._seen = seen
        self._proposal = proposal
        self._quiet = arguments.json
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
        self._told["notes"] = self._proposal.notes
        for note in self._proposal.notes:
            self._say(f"! {note}", "yellow")
        if self._arguments.dry_run or self._arguments.no_run:
            return 0
        return self._try(example)

    def _configure(self) -> bool:
        """Write the configuration, unless there is one; False where the user does not want it."""
        from elefast.cli.init.write import append, create
        from elefast.config.discovery import OVERLAY, PYPROJECT

        seen = self._seen
        if seen.configured:
            self._say(f"✓ {' and '.join(seen.configured)}: elefast is configured already, nothing was changed", "green")
            return True
        into_pyproject = seen.pyproject is not None and not self._arguments.elefast_toml
        file = seen.root / (PYPROJECT if into_pyproject else OVERLAY)
        text = self._proposal.text("tool.elefast" if into_pyproject else "")
        self._say(f"{file.name}:", "bold")
        self._say("".join(f"    {line}".rstrip() + "\n" for line in text.splitlines()).rstrip("\n"))
        self._told["configuration"] = {"file": file.name, "text": text}
        if self._arguments.dry_run:
            return True
        if not self._agreed(f"Write this to {file.name}?"):
            self._say("nothing was written")
            return False
        if into_pyproject:
            append(file, seen.pyproject or "", text)
        else:
            create(file, text)
        self._say(f"✓ {file.name}: {'added' if into_pyproject else 'written'}", "green")
        return True

    def _write_example(self) -> Path | None:
        from elefast.cli.init.example import example
        from elefast.cli.init.write import create

        if self._arguments.no_example:
            return None
        file = self._seen.root / EXAMPLE
        text = example(self._seen, self._proposal)
        self._told["example"] = {"file": EXAMPLE, "text": text}
        if self._arguments.dry_run:
            self._say(f"{EXAMPLE}:", "bold")
            self._say("".join(f"    {line}".rstrip() + "\n" for line in text.splitlines()).rstrip("\n"))
            return None
        written = create(file, text)
        self._say(f"✓ {EXAMPLE}: {'written' if written else 'is there, nothing was changed'}", "green")
        return file

    def _try(self, example: Path | None) -> int:
        """Run the stack, then the example."""
        from elefast.cli.init.trial import as_tests_import, run_example, try_stack

        with as_tests_import(self._seen):
            trial: Trial = try_stack(self._seen.root, self._arguments.profile)
        self._told["stack"] = trial.to_dict()
        self._say(f"✓ one database\n{_indented(str(trial))}", "green")
        if example is None or "pytest" not in self._seen.installed:
            return 0
        status, output = run_example(self._seen.root, example)
        self._told["tests"] = {"exit_status": status, "output": output}
        if status:
            self._say(f"✗ {EXAMPLE} does not pass:\n{_indented(output)}", "red")
            return 1
        last = output.strip().splitlines()[-1] if output.strip() else "passed"
        self._say(f"✓ {EXAMPLE}: {last.strip('= ')}", "green")
        self._say("Next: pytest; `elefast check` if something is wrong, `elefast config --origin` for all keys")
        return 0

    def _agreed(self, question: str) -> bool:
        if self._arguments.yes or self._quiet or not (sys.stdin.isatty() and sys.stdout.isatty()):
            return True
        from rich.prompt import Confirm

        return Confirm.ask(question, default=True, console=console())

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
