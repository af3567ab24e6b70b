"""``migrator = "command"``: a program that creates the schema.

Elefast cannot see which files the program reads, so its result is kept only where `template.watch` names them.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from elefast.errors import ConfigurationError, MigrationError, Problem
from elefast.migrators.error_report import tail, without_secret
from elefast.migrators.steps import BuildTarget
from elefast.postgres.libpq_variables import libpq_environment
from elefast.postgres.url_variables import ExportedVariable, variable_values
from elefast.templates.fingerprint import Input

__all__ = ["Command"]


@dataclass(frozen=True, slots=True)
class Command:
    """A program that runs in the project directory, with the template's URL in its environment.

    Args:
        arguments: The program and its arguments; no shell.
        variables: Environment variables in the format of `elefast.postgres.url_variables`; ``NAME`` alone gets the
            template's ``postgresql://`` URL.
    """

    arguments: tuple[str, ...]
    variables: tuple[str, ...] = ()
    runs_project_code: ClassVar[bool] = False

    @property
    def label(self) -> str:
        return shlex.join(self.arguments)

    def inputs(self, root: Path) -> Sequence[Input]:
        if not self.arguments:
            raise ConfigurationError(
                [Problem("", "command.run", 'is empty; expected for example ["dbmate", "up"]', code="missing-value")]
            )
        return [Input.of("command.run", *self.arguments), Input.of("command.env", *self.variables)]

    def declared(self, root: Path) -> Sequence[Path]:
        return ()

    def why_not_kept(self, root: Path) -> str:
        return "command without template.watch"

    def describe(self, root: Path) -> tuple[Sequence[Input], str]:
        return self.inputs(root), self.why_not_kept(root)

    def run(self, target: BuildTarget) -> None:
        environment = libpq_environment(target.url, os.environ, target.application_name, owned=target.owned)
        # In this process, the application's variables have an unreachable host. The command needs the template's.
        environment |= variable_values(target.url, target.variables, target.driver)
        own = [ExportedVariable.parse(entry) for entry in self.variables]
        environment |= variable_values(target.url, {it.name: it.template or "postgresql" for it in own}, target.driver)
        # The project's programs, such as `flask`, lie beside the interpreter also where no environment is activated.
        environment["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), environment.get("PATH", os.defpath)])
        # The output goes into a file: a child of the program that lives on would keep a pipe open.
        with tempfile.TemporaryFile() as output:
            status = self._call(target.root, environment, output.fileno())
            if status == 0:
                return
            output.seek(0)
            printed = without_secret(output.read().decode(errors="replace"), target.url)
        how = f"exit status {status}" if status > 0 else f"signal {-status}"
        raise MigrationError(
            "\n".join([f"command.run: {self.label} failed with {how}", *tail(printed)]), code="command-failed"
        )

    def _call(self, root: Path, environment: dict[str, str], output: int) -> int:
        try:
            return subprocess.call(
                self.arguments,
                cwd=root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        except FileNotFoundError:
            words = self.arguments[0].split()
            remedy = "Install it, or write its path."
            if len(words) > 1:
                remedy = f"Each argument is a separate item: {json.dumps([*words, *self.arguments[1:]])}."
            raise MigrationError(
                f'command.run: there is no program "{self.arguments[0]}" beside this Python, on PATH, or in {root}. '
                f"{remedy}",
                code="command-not-found",
            ) from None
        except OSError as error:
            raise MigrationError(
                f'command.run: "{self.arguments[0]}" cannot be run: {error.strerror}', code="command-not-found"
            ) from error
