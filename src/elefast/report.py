"""What a stack did and what it cost, as plain numbers that can be sent between processes and added up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

__all__ = ["Kept", "Leak", "Report"]


@dataclass(frozen=True, slots=True)
class Leak:
    """A connection that a test left open.

    Args:
        test: The test's node id; empty where there was none.
        text: Which session it was, with its last query.
    """

    test: str
    text: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A database that was kept for a look.

    Args:
        name: Its name on the server.
        test: The test that used it.
        dsn: A libpq URI with the password; ``repr`` leaves it out.
        psql: The command that opens it. It has a password only if that is one of elefast's own making.
    """

    name: str
    test: str
    dsn: str = field(repr=False)
    psql: str


@dataclass(slots=True)
class Report:
    """What a stack did; seconds are summed over all databases.

    Args:
        provider: ``url``, ``docker`` or ``local``; empty where no server was needed.
        reason: Why this provider.
        server: The server in words.
        template: The template's name; empty where databases are empty.
        template_reason: Why it was built, or that it was reused.
        builds: How many templates were built.
        build_seconds: What that took.
        start_seconds: What it took to get the server.
        databases: How many databases were handed out.
        from_pool: How many of them were ready.
        acquire_seconds: What the tests waited for them.
        release_seconds: What the tests waited to give them back.
        processes: How many processes these numbers come from.
        kept: Databases that were kept for a look.
    """

    provider: str = ""
    reason: str = ""
    server: str = ""
    template: str = ""
    template_reason: str = ""
    builds: int = 0
    build_seconds: float = 0.0
    start_seconds: float = 0.0
    databases: int = 0
    from_pool: int = 0
    acquire_seconds: float = 0.0
    release_seconds: float = 0.0
    processes: int = 1
    kept: list[Kept] = field(default_factory=list[Kept])

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From what `to_dict` gave."""
        made = cls(**{name: value for name, value in values.items() if name != "kept"})
        made.kept = [Kept(**item) for item in values["kept"]]
        return made

    @classmethod
    def merge(cls, reports: Iterable[Report]) -> Report:
        """One report over several processes: numbers are summed; words are those of whoever built, else the first."""
        used = sorted((report for report in reports if report.provider), key=lambda report: -report.builds)
        if not used:
            return cls(processes=0)
        merged = replace(used[0], kept=list(used[0].kept))
        for report in used[1:]:
            for name in _SUMMED:
                setattr(merged, name, getattr(merged, name) + getattr(report, name))
            merged.kept += report.kept
        return merged

    def __str__(self) -> str:
        return "\n".join(self.lines(costs=True)) or "no server was needed"

    def lines(self, costs: bool) -> list[str]:
        """The report line by line; none where no server was needed.

        Args:
            costs: With what the databases cost, summed over all processes.
        """
        if not self.provider:
            return []
        template = self.template_reason if self.template else "none, databases are empty"
        if self.builds:
            template = f"{template} ({self.build_seconds:.2f} s)"
        lines = [
            f"provider  {self.provider} ({self.reason})",
            f"server    {self.server}",
            f"template  {template}",
        ]
        return lines + self._costs() if costs else lines

    def _costs(self) -> list[str]:
        ms = 1000 / max(self.databases, 1)
        waited = self.acquire_seconds + self.release_seconds
        spent = self.start_seconds + self.build_seconds + waited
        return [
            f"databases {self.databases}, {self.from_pool} of them ready; a test waited "
            f"{self.acquire_seconds * ms:.1f} ms for one and {self.release_seconds * ms:.1f} ms to give it back",
            f"cost      {spent:.2f} s in {self.processes} process{'es' if self.processes != 1 else ''}: "
            f"start {self.start_seconds:.2f} s, {self.builds} build{'s' if self.builds != 1 else ''} "
            f"{self.build_seconds:.2f} s, waiting {waited:.2f} s",
        ]


_SUMMED = (
    "builds",
    "build_seconds",
    "start_seconds",
    "databases",
    "from_pool",
    "acquire_seconds",
    "release_seconds",
    "processes",
)
