"""The fresh interpreter in which code of the project builds a template.

It is started by `elefast.migrators.sandbox.parent`, and runs nothing else: what it imports and reads is recorded,
where it connects is guarded, and neither could be taken back. It answers on the pipe that was its standard
output; what the code prints goes elsewhere.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import IO, Any

from elefast.migrators.sandbox.dependency_recorder import DependencyRecorder
from elefast.templates.project_files import Installed, is_own

__all__ = ["main"]


def main(first: Mapping[str, Any], pipe: IO[bytes]) -> None:
    """Do what is said and answer with the manifest, or with what went wrong.

    Args:
        first: What `elefast.migrators.sandbox.parent` knows before there is a database.
        pipe: Where the rest comes from; its end means that nobody wants it.
    """
    answers = _take_streams()
    sys.argv = ["elefast"]
    if first["root"] not in sys.path:
        sys.path.insert(0, first["root"])
    _compile_anew()
    recorder = DependencyRecorder(Path(first["root"]))
    recorder.start()
    _prepare(first)
    rest = pipe.readline()
    if not rest:
        return
    threading.Thread(target=_end_with, args=(pipe,), name="elefast-parent", daemon=True).start()
    plan = {**first, **json.loads(rest)}
    os.environ.clear()
    os.environ.update(plan["environment"])
    recorder.declare(plan["declared"])
    recorder.watch_variables(plan["given"])
    answer = _build(plan, recorder, answers)
    sys.stdout.flush()
    sys.stderr.flush()
    # Imported late, so that the recorder sees it.
    from elefast.migrators.steps import say

    say(answers, answer)


def _prepare(first: Mapping[str, Any]) -> None:
    """Import what is needed in any case, and nothing of the project's."""
    # Imported late, so that the recorder sees it.
    from elefast.migrators.steps import from_json

    for module in (
        "psycopg",
        "sqlalchemy.orm",
        "elefast.migrators.error_report",
        "elefast.migrators.sandbox.connection_guard",
    ):
        importlib.import_module(module)
    for part in first["parts"]:
        from_json(part)


def _build(plan: Mapping[str, Any], recorder: DependencyRecorder, answers: IO[bytes]) -> dict[str, Any]:
    from sqlalchemy import make_url

    from elefast.errors import ConfigurationError, ElefastError
    from elefast.migrators.cluster_marks import mark_all
    from elefast.migrators.error_report import code_of, explain
    from elefast.migrators.sandbox.connection_guard import ConnectionGuard
    from elefast.migrators.steps import BuildTarget, from_json, say

    target = BuildTarget(
        make_url(plan["url"]),
        Path(plan["root"]),
        plan["driver"],
        plan["async_driver"],
        mark=plan["mark"],
        answers=answers,
    )
    if target.mark:
        mark_all(target.mark)
    guard = ConnectionGuard(target.url)
    guard.install()
    for part in map(from_json, plan["parts"]):
        say(answers, {"begin": part.label})
        try:
            part.run(target)
        except ConfigurationError as error:
            problems = [(problem.origin, problem.key, problem.message, problem.code) for problem in error.problems]
            return {"error": "ConfigurationError", "problems": problems, "hint": error.hint}
        except ElefastError as error:
            refused = [f"  refused: {text}" for text in guard.refused]
            return {"error": type(error).__name__, "message": "\n".join([str(error), *refused]), "code": error.code}
        except BaseException as error:
            # SystemExit too: code of a project must not end the build without a word.
            text = explain(part.label, error, target.root, guard.refused)
            return {"error": "MigrationError", "message": text, "code": code_of(error, guard.refused)}
    return {"manifest": recorder.manifest().to_json()}


def _compile_anew() -> None:
    """Let the project's modules be compiled from their sources, whatever compiled files there are.

    Python takes a compiled file for that of a source by the second of its last change and its size, and so runs what
    is no longer written there after a quick edit or a change of branch.
    """
    installed = Installed()
    as_ever = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        if installed.has(os.path.abspath(path)) or is_own(path):
            return as_ever(self, fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code

    SourceFileLoader.get_code = get_code  # type: ignore[assignment, method-assign]


def _take_streams() -> IO[bytes]:
    """Keep the pipes for ourselves; the code gets an empty input, and one place for all that it prints."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    return answers


def _end_with(pipe: IO[bytes]) -> None:
    """End when the process that wants the result is gone, so that a killed run leaves nobody at work."""
    pipe.read()
    os._exit(1)
