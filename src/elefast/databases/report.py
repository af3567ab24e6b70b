"""The report: what a stack did and what it cost, as plain values that processes can send and add up."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from elefast.databases.histogram import Histogram
from elefast.runtime.text import one_line

__all__ = ["Kept", "Leak", "Report", "bypassed_policies"]


@dataclass(frozen=True, slots=True)
class Leak:
    """Something that a test left behind.

    Args:
        test: The node id of the test; empty where there was none.
        text: The session that was left open, with its last query, or the object that `what` is about.
        what: What the test did.
    """

    test: str
    text: str
    what: str = "left a connection open"


@dataclass(frozen=True, slots=True)
class Kept:
    """A database that was kept for inspection.

    Args:
        name: Its name on the server.
        test: The test that used it.
        dsn: A libpq URI with the password; ``repr`` leaves it out.
        psql: The command that opens it in the directory of the project; it has no password.
    """

    name: str
    test: str
    dsn: str = field(repr=False)
    psql: str


@dataclass(slots=True)
class Report:
    """What a stack did. Seconds and samples are summed over all processes, except in `wall_seconds`.

    Args:
        provider: ``url``, ``docker`` or ``local``; empty where no server was needed.
        reason: Why this provider was chosen.
        server: A description of the server.
        template: The name of the template; empty where databases are empty.
        template_reason: Why its uppermost layer was built or reused.
        strategy: How databases are copied: ``FILE_COPY`` or ``WAL_LOG``; empty where the server has no choice.
        hits: How often a process found a template of which all layers were valid.
        builds: How many layers were built.
        build_seconds: How long the builds took.
        template_seconds: How long it took to find a template, to build it, or to wait for the build of another process.
        load_seconds: How long the plugin took to read the settings and to import what they need.
        start_seconds: How long it took to get the server.
        stop_seconds: How long it took to release it at the end.
        databases: How many databases were checked out.
        from_pool: How many of them were ready.
        acquire: How long tests waited for their database.
        longest_waits: The tests that waited longest for their database, the longest first, with the seconds.
        connect: How long tests waited for the first connection of their engine.
        release: How long tests waited to release their database.
        clone: How long it took to create databases, mostly while tests ran.
        restore: How long it took to reset databases, mostly while tests ran.
        drop: How long it took to drop databases, mostly while tests ran.
        processes: How many processes these numbers come from.
        slowest: `wall_seconds` of the slowest process; 0 where there is one process.
        kept: Databases that were kept for inspection.
        layers: The layers of all templates, the lowest first: the name of each, why it was built or reused, and
            whether this process built it.
        warnings: What the project should change, such as policies that tests do not see.
    """

    provider: str = ""
    reason: str = ""
    server: str = ""
    template: str = ""
    template_reason: str = ""
    strategy: str = ""
    hits: int = 0
    builds: int = 0
    build_seconds: float = 0.0
    template_seconds: float = 0.0
    load_seconds: float = 0.0
    start_seconds: float = 0.0
    stop_seconds: float = 0.0
    databases: int = 0
    from_pool: int = 0
    acquire: Histogram = field(default_factory=Histogram)
    connect: Histogram = field(default_factory=Histogram)
    release: Histogram = field(default_factory=Histogram)
    clone: Histogram = field(default_factory=Histogram)
    restore: Histogram = field(default_factory=Histogram)
    drop: Histogram = field(default_factory=Histogram)
    processes: int = 1
    slowest: float = 0.0
    kept: list[Kept] = field(default_factory=list[Kept])
    warnings: list[str] = field(default_factory=list[str])
    longest_waits: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    layers: list[tuple[str, str, bool]] = field(default_factory=list[tuple[str, str, bool]])

    def waited(self, test: str, seconds: float) -> None:
        """Count how many `seconds` a test waited for its database."""
        self.acquire.add(seconds)
        if test and (len(self.longest_waits) < _LISTED or seconds > self.longest_waits[-1][0]):
            self.longest_waits = sorted([*self.longest_waits, (seconds, test)], reverse=True)[:_LISTED]

    @property
    def wall_seconds(self) -> float:
        """The seconds that elefast added to the wall clock; with several processes, to that of the slowest."""
        waited = self.acquire.seconds + self.connect.seconds + self.release.seconds
        once = self.load_seconds + self.start_seconds + self.template_seconds + self.stop_seconds
        return self.slowest or once + waited

    @property
    def server_seconds(self) -> float:
        """The seconds for creating, resetting and dropping databases, whether a test waited for that or not."""
        return self.clone.seconds + self.restore.seconds + self.drop.seconds

    def to_dict(self) -> dict[str, Any]:
        """As plain values, ready for JSON."""
        values = {name: getattr(self, name) for name in _NAMES}
        values |= {name: getattr(self, name).to_dict() for name in _SAMPLES}
        values["kept"] = [asdict(kept) for kept in self.kept]
        return values | {"wall_seconds": self.wall_seconds, "server_seconds": self.server_seconds}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From the result of `to_dict`."""
        made = cls(**{name: values[name] for name in _NAMES if name not in (*_LISTS, *_SAMPLES)})
        for name in _SAMPLES:
            setattr(made, name, Histogram.from_dict(values[name]))
        made.kept = [Kept(**item) for item in values["kept"]]
        made.longest_waits = [(seconds, test) for seconds, test in values["longest_waits"]]
        made.layers = [(name, reason, built) for name, reason, built in values["layers"]]
        return made

    @classmethod
    def merge(cls, reports: Iterable[Report]) -> Report:
        """One report over several processes. Numbers are summed; words are those of the process that built, if any."""
        used = sorted((report for report in reports if report.provider), key=lambda report: -report.builds)
        if not used:
            return cls(processes=0)
        merged = replace(used[0], kept=list(used[0].kept), warnings=list(dict.fromkeys(used[0].warnings)))
        for report in used[1:]:
            for name in (*_SUMMED, *_SAMPLES):
                setattr(merged, name, getattr(merged, name) + getattr(report, name))
            merged.kept += report.kept
            merged.layers = _merged_layers(merged.layers, report.layers)
            merged.warnings = list(dict.fromkeys([*merged.warnings, *report.warnings]))
            merged.longest_waits = sorted([*merged.longest_waits, *report.longest_waits], reverse=True)[:_LISTED]
        if len(used) > 1:
            merged.slowest = max(report.wall_seconds for report in used)
        return merged

    def __str__(self) -> str:
        return "\n".join(self.lines(costs=True)) or "no server was needed"

    def lines(self, costs: bool) -> list[str]:
        """The report line by line; none where no server was needed.

        Args:
            costs: Whether to add what the databases cost, summed over all processes.
        """
        if not self.provider:
            return []
        lines = [
            f"provider  {self.provider} ({self.reason})",
            f"server    {self.server}",
            *(f"{'template' if not number else '':<9} {text}" for number, text in enumerate(self._template_lines())),
        ]
        return lines + self._costs() if costs else lines

    def _template_lines(self) -> list[str]:
        """A line for each layer; its name is left out where there is one layer."""
        lines = [f"{name}: {reason}" for name, reason, _ in self.layers]
        if len(lines) < 2:
            lines = [self.template_reason if self.template else "none, databases are empty"]
        if self.builds:
            lines[-1] += f" ({self.build_seconds:.2f} s)"
        return lines

    def _costs(self) -> list[str]:
        several = self.processes != 1
        lines = [
            f"databases {self.databases}, {self.from_pool} of them ready"
            + (f", copied by {self.strategy}" if self.strategy else "")
        ]
        for name, what in _WAITS.items():
            samples: Histogram = getattr(self, name)
            if len(samples):
                lines.append(
                    f"{name:<9} p50 {_ms(samples.quantile(0.5))}, p99 {_ms(samples.quantile(0.99))}, "
                    f"longest {_ms(samples.longest)}: {what}"
                )
        waited = self.acquire.seconds + self.connect.seconds + self.release.seconds
        builds = f"{self.builds} build{'s' if self.builds != 1 else ''} {self.build_seconds:.2f} s"
        lines += [
            f"on server {self.server_seconds:.2f} s: {len(self.clone)} made in {self.clone.seconds:.2f} s, "
            f"{len(self.restore)} reset in {self.restore.seconds:.2f} s, "
            f"{len(self.drop)} dropped in {self.drop.seconds:.2f} s",
            f"cost      {self.wall_seconds:.2f} s of wall clock"
            + (f" in the slowest of {self.processes} processes; of all: " if several else ": ")
            + f"load {self.load_seconds:.2f} s, start {self.start_seconds:.2f} s, "
            f"template {self.template_seconds:.2f} s ({builds}), waiting {waited:.2f} s, "
            f"stop {self.stop_seconds:.2f} s",
        ]
        lines += [f"waited    {_ms(seconds)} {one_line(test, 200)}" for seconds, test in self.longest_waits]
        return lines


def _merged_layers(
    ours: list[tuple[str, str, bool]], others: list[tuple[str, str, bool]]
) -> list[tuple[str, str, bool]]:
    """The layers of two processes; for a layer of both, the words of the process that built it."""
    found = {name: (name, reason, built) for name, reason, built in ours}
    for name, reason, built in others:
        if built or name not in found:
            found[name] = name, reason, built
    return list(found.values())


def bypassed_policies(tables: int, role: str, declared: Sequence[str]) -> str:
    """The warning that tests connect as a role which does not see the policies of the template.

    Args:
        tables: How many tables have policies.
        role: The role that tests connect as.
        declared: The declared roles that see them.
    """
    having = "1 table has" if tables == 1 else f"{tables} tables have"
    line = f"role = {json.dumps(declared[0] if declared else 'app', ensure_ascii=False)}"
    table = "" if declared else ", and the table [tool.elefast.roles.app] with grants for it"
    return (
        f"{having} row-level security, and tests connect as {role}, to which it does not apply: no test can fail "
        f"because of a policy. Add to [tool.elefast]: {line}{table}"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


_LISTED = 10
"""How many tests are listed by name."""
_NAMES = tuple(item.name for item in fields(Report))
_LISTS = ("kept", "longest_waits", "layers")
_SAMPLES = ("acquire", "connect", "release", "clone", "restore", "drop")
_WAITS = {
    "acquire": "a test waits for its database",
    "connect": "the first connection of its engine",
    "release": "it releases the database",
}
_SUMMED = (
    "hits",
    "builds",
    "build_seconds",
    "template_seconds",
    "load_seconds",
    "start_seconds",
    "stop_seconds",
    "databases",
    "from_pool",
    "processes",
)
