"""The program of the fresh interpreter in which code of the project builds a template.

`elefast.migrators.sandbox.parent` starts it, and shows the messages between the two. The interpreter runs nothing
else: audit hooks that record what the code uses, and guards against other connections, cannot be removed again.
Modules are imported in functions here, so that the recorder sees the imports.
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


def main(setup: Mapping[str, Any], pipe: IO[bytes]) -> None:
    """Prepare, wait for the database, run the steps, and reply with the manifest or with an error.

    Args:
        setup: The first message of the parent: import path, project directory and steps.
        pipe: The pipe with the second message. It ends when the parent is gone, or needs no build.
    """
    replies = _take_streams()
    sys.argv = ["elefast"]
    if setup["root"] not in sys.path:
        sys.path.insert(0, setup["root"])
    _ignore_stale_bytecode()
    recorder = DependencyRecorder(Path(setup["root"]))
    recorder.start()
    _import_libraries(setup)

    line = pipe.readline()
    if not line:
        return
    threading.Thread(target=_exit_with_parent, args=(pipe,), name="elefast-parent", daemon=True).start()
    build = {**setup, **json.loads(line)}
    os.environ.clear()
    os.environ.update(build["environment"])
    recorder.declare(build["declared"])
    recorder.watch_variables(build["given"])
    reply = _build(build, recorder, replies)
    sys.stdout.flush()
    sys.stderr.flush()
    from elefast.migrators.steps import send

    send(replies, reply)


def _take_streams() -> IO[bytes]:
    """Keep the pipe for replies. The code gets an empty standard input, and one file for all its output."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    return replies


def _ignore_stale_bytecode() -> None:
    """Compile the project's modules from their sources, even where compiled files exist.

    Python takes a compiled file for current where the source's size and its time of change, in whole seconds, are
    the same. After a quick edit, or a change of branch, it would run code that is no longer in the source.
    """
    installed = Installed()
    original = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        if installed.has(os.path.abspath(path)) or is_own(path):
            return original(self, fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code

    SourceFileLoader.get_code = get_code  # type: ignore[assignment, method-assign]


def _import_libraries(setup: Mapping[str, Any]) -> None:
    """Import the libraries that every build needs, and the modules of the steps, but no code of the project."""
    from elefast.migrators.steps import from_json

    for module in (
        "psycopg",
        "sqlalchemy.orm",
        "elefast.migrators.error_report",
        "elefast.migrators.sandbox.application_redirect",
        "elefast.migrators.sandbox.connection_guard",
    ):
        importlib.import_module(module)
    for step in setup["steps"]:
        from_json(step)


def _exit_with_parent(pipe: IO[bytes]) -> None:
    """Exit when the parent is gone, so that no build goes on for a run that was killed."""
    pipe.read()
    os._exit(1)


def _build(build: Mapping[str, Any], recorder: DependencyRecorder, replies: IO[bytes]) -> dict[str, Any]:
    """Run the steps; the reply."""
    from sqlalchemy import make_url

    from elefast.errors import ConfigurationError, ElefastError
    from elefast.migrators.cluster_marks import mark_all
    from elefast.migrators.error_report import code_of, explain
    from elefast.migrators.sandbox.application_redirect import ApplicationRedirect
    from elefast.migrators.sandbox.connection_guard import ConnectionGuard
    from elefast.migrators.steps import BuildTarget, from_json, send

    target = BuildTarget(
        make_url(build["url"]),
        Path(build["root"]),
        build["driver"],
        build["async_driver"],
        mark=build["mark"],
        replies=replies,
        patch=tuple(build["patch"]),
    )
    if target.mark:
        mark_all(target.mark)
    guard = ConnectionGuard(target.url)
    guard.install()
    redirect = ApplicationRedirect(target.patch, target.url)
    if target.patch:
        redirect.install()
    for step in map(from_json, build["steps"]):
        send(replies, {"begin": step.label})
        try:
            step.run(target)
            redirect.commit_sessions()
        except ConfigurationError as error:
            problems = [(problem.origin, problem.key, problem.message, problem.code) for problem in error.problems]
            return {"error": "ConfigurationError", "problems": problems, "hint": error.hint}
        except ElefastError as error:
            refused = [f"  refused: {text}" for text in guard.refused]
            return {"error": type(error).__name__, "message": "\n".join([str(error), *refused]), "code": error.code}
        except BaseException as error:
            # Also SystemExit: code of the project must not end the build without a reply.
            text = explain(step.label, error, target.root, guard.refused)
            return {"error": "MigrationError", "message": text, "code": code_of(error, guard.refused)}
    return {"manifest": recorder.manifest().to_json(), "returned": target.returned}
