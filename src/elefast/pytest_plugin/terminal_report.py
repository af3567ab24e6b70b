"""What a run shows: one line before the tests, a section after them, and how workers send their part of it.

It renders what it is given, and must not start anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from elefast.errors import ConfigurationError, ElefastError, more, told
from elefast.runtime.text import one_line

if TYPE_CHECKING:
    from elefast.config import Loaded
    from elefast.databases.leak_detector import ClusterChanges
    from elefast.databases.report import Leak, Report

__all__ = ["broken_header", "failure", "header", "leak_line", "packed", "summary", "unpacked"]

_LONGEST = 1000
"""A node id may have any length, and any characters."""

# Shown in the header where the project set them; migrator and provider are always shown.
_NOTABLE = ("engine.url", "isolation", "keep", "leaks", "postgres")


def header(loaded: Loaded) -> str:
    """The configured values that decide what a test gets, with their sources; nothing has started yet."""
    selection = loaded.migrator
    origin = selection.reason
    if not origin.startswith("auto"):
        origin = str(loaded.provenance["migrator"])
    values = [
        f"migrator {selection.migrator} ({origin})",
        f"provider {loaded.settings.provider} ({loaded.provenance['provider']})",
    ]
    values += [
        f"{key} {_value(loaded, key)} ({loaded.provenance[key]})"
        for key in _NOTABLE
        if str(loaded.provenance[key]) != "default"
    ]
    if loaded.profile:
        values.insert(0, f"profile {loaded.profile}")
    return f"elefast: {', '.join(values)}"


def broken_header(error: ElefastError) -> str:
    """An error of the configuration, whole, in one line."""
    if isinstance(error, ConfigurationError):
        first = str(error).splitlines()[0]
        text = f"{first}: {'; '.join(error.shown)}"
    else:
        text = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return f"elefast: {'; '.join(filter(None, [text, more(error)]))}"


def failure(error: ElefastError) -> str:
    """The message of a test that failed with this error; pytest's short summary shows the beginning of it.

    So a problem of the configuration stands first, before the line that counts the problems.
    """
    if not isinstance(error, ConfigurationError):
        return told(error)
    count = len(error.problems)
    counted = f"{count} problems in elefast's configuration" if count > 1 else ""
    return "\n".join(filter(None, [*error.shown, counted, error.hint, more(error)]))


def _value(loaded: Loaded, key: str) -> str:
    from elefast.runtime.redaction import redact

    value: Any = loaded.settings
    for part in key.split("."):
        value = getattr(value, part)
    return str(redact(key.rpartition(".")[2], value))


def summary(
    terminal: pytest.TerminalReporter,
    reports: Sequence[Report],
    problems: Sequence[str],
    intrusions: Sequence[str],
    *,
    costs: bool,
) -> None:
    """The section after the tests; there is none where no database was used.

    With ``-q`` it has only what the reader must act on: problems, kept databases, and variables of `export_env` that
    other code changed.

    Args:
        terminal: Where to write.
        reports: Of this process and of the workers.
        problems: Leaks that make the run fail.
        intrusions: What other code tried to do with the variables of `export_env`.
        costs: Whether to say what the databases cost.
    """
    from elefast.databases.report import Report

    report = Report.merge(reports)
    lines = report.lines(costs) if terminal.verbosity >= 0 or costs else []
    for kept in report.kept:
        lines += [f"kept      {one_line(kept.test or kept.name, _LONGEST)}", f"          {kept.psql}"]
    if report.kept:
        lines.append(_way_out(report))
    lines += [f"variable  {intrusion}" for intrusion in intrusions]
    if not lines and not problems:
        return
    terminal.section("elefast", "-")
    for line in lines:
        terminal.line(line)
    for problem in problems:
        terminal.line(f"leak      {problem}", red=True)


def _way_out(report: Report) -> str:
    """How to get rid of kept databases, and of the server that runs on because of them."""
    down = "; `elefast down` stops the server" if report.provider == "local" else ""
    return f"          `elefast prune` drops kept databases{down}"


def leak_line(leak: Leak) -> str:
    """A leak in one line, with the test that it is of."""
    return f"{one_line(leak.test, _LONGEST) or 'a database of no test'} {leak.what}: {leak.text}"


def packed(
    reports: Sequence[Report], leaks: Sequence[Leak], findings: Sequence[ClusterChanges], intrusions: Sequence[str]
) -> dict[str, Any]:
    """What a worker sends to the controller: plain values only."""
    return {
        "reports": [report.to_dict() for report in reports],
        "leaks": [asdict(leak) for leak in leaks],
        "findings": [item.to_dict() for item in findings],
        "intrusions": list(intrusions),
    }


def unpacked(values: Mapping[str, Any]) -> tuple[list[Report], list[Leak], list[ClusterChanges], list[str]]:
    """What a worker sent."""
    from elefast.databases.leak_detector import ClusterChanges
    from elefast.databases.report import Leak, Report

    reports = [Report.from_dict(item) for item in values["reports"]]
    findings = [ClusterChanges.from_dict(item) for item in values["findings"]]
    return reports, [Leak(**item) for item in values["leaks"]], findings, values["intrusions"]
