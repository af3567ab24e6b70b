"""What a plan consists of: extensions, a migrator, seeds; each knows what it depends on and how to do it.

A part is a frozen dataclass of plain values, so that it can be sent to another interpreter as JSON.
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

__all__ = ["BuildTarget", "Step", "from_json", "say", "to_json"]

# The parts by name; where they are, so that only those that are used get imported.
_MODULES = {
    "Alembic": "elefast.migrators.alembic.step",
    "Command": "elefast.migrators.command",
    "Extensions": "elefast.migrators.extensions",
    "Function": "elefast.migrators.callable",
    "Metadata": "elefast.migrators.metadata",
    "Sql": "elefast.migrators.sql",
}


@dataclass(frozen=True, slots=True)
class BuildTarget:
    """The database that parts work on, and what their code is told of it.

    Args:
        url: The template that is being built: ``postgresql+psycopg://``, with its password.
        root: The project directory; the working directory of the project's code.
        driver: Driver of the connection that a function gets: ``psycopg``, ``psycopg2``, ``pg8000``.
        async_driver: Driver of the connection that an async function gets: ``psycopg`` or ``asyncpg``.
        variables: Environment variables that hold the URL or parts of it, each with its driver or its template:
            ``postgresql+asyncpg``, ``{host}``.
        application_name: What the server calls connections that do not name themselves.
        owned: Elefast has started the server, so libpq's environment variables are meant for another one.
        mark: The comment that roles and tablespaces get which are made; none where empty.
        answers: The pipe to the process that waits for the build; None in that process itself.
    """

    url: URL
    root: Path
    driver: str = "psycopg"
    async_driver: str = "psycopg"
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    application_name: str = "elefast build"
    owned: bool = False
    mark: str = ""
    answers: IO[bytes] | None = None

    def step(self, number: int, total: int, unit: str) -> None:
        """Tell the process that waits for the build that step `number` of `total` begins."""
        if self.answers is not None:
            say(self.answers, {"step": number, "of": total, "unit": unit})


class Step(Protocol):
    """One step of a plan."""

    runs_project_code: ClassVar[bool]
    """Whether it runs Python code of the project, and so needs a fresh interpreter."""

    @property
    def label(self) -> str:
        """What messages call it: ``alembic upgrade heads``."""
        ...

    def inputs(self, root: Path) -> Sequence[Input]:
        """Everything that is declared for it.

        Raises:
            ConfigurationError: What it names does not exist.
        """
        ...

    def declared(self, root: Path) -> Sequence[Path]:
        """Files and directories whose content is in `inputs`, and need not be observed."""
        ...

    def why_not_kept(self, root: Path) -> str:
        """What of it cannot be known, so that its result must not outlive the run; empty where nothing.

        ``template.watch`` makes up for it.
        """
        ...

    def describe(self, root: Path) -> tuple[Sequence[Input], str]:
        """Both `inputs` and `why_not_kept`, for the price of one where they come from one look."""
        ...

    def run(self, target: BuildTarget) -> None:
        """Do it."""
        ...


def say(answers: IO[bytes], answer: Mapping[str, Any]) -> None:
    """Write one line to the process that waits for the build."""
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


def to_json(part: Step) -> dict[str, Any]:
    """Plain data of a part, for `from_json`."""
    return {"part": type(part).__name__, **asdict(part)}  # type: ignore[call-overload]


def from_json(data: Mapping[str, Any]) -> Step:
    """The part that `to_json` gave `data` for."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownArgumentType]
        for name, value in data.items()
        if name != "part"
    }
    module = importlib.import_module(_MODULES[data["part"]])
    part: Step = getattr(module, data["part"])(**fields)
    return part
