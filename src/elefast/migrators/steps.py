"""The steps of a plan: extensions, a migrator, seeds. Each step knows what it depends on and how to run.

A step is a frozen dataclass of plain values, so that it can be sent to another interpreter as JSON.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from sqlalchemy import URL

    from elefast.templates.fingerprint import Input

__all__ = ["BuildTarget", "Step", "from_json", "send", "to_json"]

# The module of each kind of step, so that only the kinds that a plan has are imported.
_MODULES = {
    "Alembic": "elefast.migrators.alembic.step",
    "Command": "elefast.migrators.command",
    "Extensions": "elefast.migrators.extensions",
    "Function": "elefast.migrators.callable",
    "Grants": "elefast.migrators.grants",
    "Metadata": "elefast.migrators.metadata",
    "Sql": "elefast.migrators.sql",
}


@dataclass(frozen=True, slots=True)
class BuildTarget:
    """The database that steps work on, and how the project's code learns about it.

    Args:
        url: The template that is being built: ``postgresql+psycopg://``, with its password.
        root: The project directory; the working directory of the project's code.
        driver: Driver of the connection that a function gets: ``psycopg``, ``psycopg2``, ``pg8000``.
        async_driver: Driver of the connection that an async function gets: ``psycopg`` or ``asyncpg``.
        variables: Environment variables that hold the URL or parts of it, each with its driver or its template:
            ``postgresql+asyncpg``, ``{host}``.
        application_name: The ``application_name`` of connections that do not set one themselves.
        owned: Elefast has started the server, so libpq's environment variables are meant for another one.
        mark: The comment for roles and tablespaces that the build makes; empty for none.
        replies: The pipe to the process that waits for the build; None in that process itself.
        patch: Attributes of modules, as ``module:name``, that lead to the template while seed functions run.
        returned: What seed functions returned, later values in place of earlier ones.
    """

    url: URL
    root: Path
    driver: str = "psycopg"
    async_driver: str = "psycopg"
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    application_name: str = "elefast build"
    owned: bool = False
    mark: str = ""
    replies: IO[bytes] | None = None
    patch: tuple[str, ...] = ()
    returned: dict[str, Any] = field(default_factory=dict[str, Any])

    def report_progress(self, number: int, total: int, unit: str) -> None:
        """Tell the process that waits for the build that item `number` of `total` begins.

        Args:
            number: Counted from 1.
            total: How many items the current step has.
            unit: The plural of what an item is: ``revisions``.
        """
        if self.replies is not None:
            send(self.replies, {"item": number, "of": total, "unit": unit})


class Step(Protocol):
    """One step of a plan."""

    runs_project_code: ClassVar[bool]
    """Whether it runs Python code of the project, and so needs a fresh interpreter."""

    @property
    def label(self) -> str:
        """The name of the step in messages: ``alembic upgrade heads``."""
        ...

    def inputs(self, root: Path) -> Sequence[Input]:
        """All declared inputs: files, options, compiled DDL.

        Raises:
            ConfigurationError: A file or module that the step names does not exist.
        """
        ...

    def declared(self, root: Path) -> Sequence[Path]:
        """Files and directories whose content is in `inputs`, so that the sandbox need not observe them."""
        ...

    def why_not_kept(self, root: Path) -> str:
        """Why the result must not outlive the run: an input is unknown. Empty where all inputs are known.

        With ``template.watch`` the project declares such inputs itself.
        """
        ...

    def describe(self, root: Path) -> tuple[Sequence[Input], str]:
        """Both `inputs` and `why_not_kept`, computed once where they come from the same work."""
        ...

    def run(self, target: BuildTarget) -> None:
        """Run the step on `target`.

        Raises:
            ConfigurationError: A file or module that the step names does not exist.
            MigrationError: Code or SQL of the project failed.
        """
        ...


def send(pipe: IO[bytes], message: Mapping[str, Any]) -> None:
    """Write one message as a line of JSON."""
    pipe.write(json.dumps(message).encode() + b"\n")
    pipe.flush()


def to_json(step: Step) -> dict[str, Any]:
    """A step as plain data, for `from_json`."""
    return {"step": type(step).__name__, **asdict(step)}  # type: ignore[call-overload]


def from_json(data: Mapping[str, Any]) -> Step:
    """The step that `to_json` made `data` from."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownArgumentType]
        for name, value in data.items()
        if name != "step"
    }
    module = importlib.import_module(_MODULES[data["step"]])
    step: Step = getattr(module, data["step"])(**fields)
    return step
