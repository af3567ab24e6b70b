"""The output of a run: a line before the tests, a section after them, and the data that workers send for it.

It renders its arguments. It must not open a stack or read settings.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from elefast.errors import ConfigurationError, ElefastError, LeakWarning, explain_hint, full_text
from elefast.runtime.text import one_line

if TYPE_CHECKING:
    from elefast.config import Loaded
    from elefast.databases.cluster_leak_detector import ClusterChanges
    from elefast.databases.report import Kept, Leak, Report

__all__ = ["error_header", "failure_message", "header", "leak_line", "leaks_message", "pack", "unpack", "write_summary"]

_MAX_TYPED = 200
"""The length from which a database is named instead of its test in a command."""
_MAX_NODE_ID = 1000
"""The length to which node ids are cut."""

# The header shows these where the project sets them. It always shows the migrator and the provider.
_SHOWN_IF_SET = ("engine.url", "isolation", "keep", "leaks", "postgres", "scenario")


def header(loaded: Loaded) -> str:
    """The values that decide which database a test gets, with their sources."""
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
        for key in _SHOWN_IF_SET
        if str(loaded.provenance[key]) != "default"
    ]
    if loaded.profile:
        values.insert(0, f"profile {loaded.profile}")
    return f"elefast: {', '.join(values)}"


def error_header(error: ElefastError) -> str:
    """The full message of an error of the configuration, in one line."""
    if isinstance(error, ConfigurationError):
        first = str(error).splitlines()[0]
        text = f"{first}: {'; '.join(error.shown)}"
    else:
        text = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return f"elefast: {'; '.join(filter(None, [text, explain_hint(error)]))}"


def failure_message(error: ElefastError) -> str:
    """The message of a test that failed with this error.

    pytest's short summary shows its beginning, so the problems come before the line that counts them.
    """
    if not isinstance(error, ConfigurationError):
        return full_text(error)
    count = len(error.problems)
    counted = f"{count} problems in elefast's configuration" if count > 1 else ""
    return "\n".join(filter(None, [*error.shown, counted, error.hint, explain_hint(error)]))


def _value(loaded: Loaded, key: str) -> str:
    from elefast.runtime.redaction import redact

    value: Any = loaded.settings
    for part in key.split("."):
        value = getattr(value, part)
    return str(redact(key.rpartition(".")[2], value))


def write_summary(
    terminal: pytest.TerminalReporter,
    reports: Sequence[Report],
    leaks: Sequence[str],
    variable_changes: Sequence[str],
    *,
    costs: bool,
    profile: str = "",
) -> None:
    """Write the section after the tests; there is none where no database was used.

    With ``-q`` it has only leaks, kept databases, warnings, and variables of `export_env` that other code changed.

    Args:
        terminal: The terminal reporter of the run.
        reports: The reports of this process and of the workers.
        leaks: Leaks that make the run fail.
        variable_changes: Changes of the variables of `export_env` by other code.
        costs: Whether to show the time that the databases took.
        profile: The profile that was named on the command line, if any.
    """
    from elefast.databases.report import Report

    report = Report.merge(reports)
    lines = report.lines(costs) if terminal.verbosity >= 0 or costs else []
    for kept in report.kept:
        lines += [f"kept      {one_line(kept.test or kept.name, _MAX_NODE_ID)}", f"          {_psql(kept, profile)}"]
    if report.kept:
        lines.append(_cleanup_advice(report))
    lines += [f"warning   {one_line(warning, _MAX_NODE_ID)}" for warning in report.warnings]
    lines += [f"variable  {change}" for change in variable_changes]
    if not lines and not leaks:
        return
    terminal.section("elefast", "-")
    for line in lines:
        terminal.line(line)
    for leak in leaks:
        terminal.line(f"leak      {leak}", red=True)


def _psql(kept: Kept, profile: str) -> str:
    """The command that opens a kept database: by its test, unless a shell would take the name for something else."""
    wanted = kept.test if kept.test and one_line(kept.test, _MAX_TYPED) == kept.test else kept.name
    option = f"--profile {shlex.quote(profile)} " if profile else ""
    return f"elefast psql {option}{shlex.quote(wanted)}"


def _cleanup_advice(report: Report) -> str:
    """How to drop kept databases, and to stop the server that runs on because of them."""
    down = "; `elefast down` stops the server" if report.provider == "local" else ""
    return f"          `elefast prune` drops kept databases{down}"


def leak_line(leak: Leak) -> str:
    """A leak in one line, with its test."""
    return f"{one_line(leak.test, _MAX_NODE_ID) or 'a database of no test'} {leak.what}: {leak.text}"


def leaks_message(leaks: Sequence[Leak]) -> str:
    """The message of a test that fails because of leaks."""
    return full_text(LeakWarning("\n".join(leak_line(leak) for leak in leaks)))


def pack(
    reports: Sequence[Report],
    leaks: Sequence[Leak],
    cluster_changes: Sequence[ClusterChanges],
    variable_changes: Sequence[str],
) -> dict[str, Any]:
    """The data that a worker sends to the controller, as plain values."""
    return {
        "reports": [report.to_dict() for report in reports],
        "leaks": [asdict(leak) for leak in leaks],
        "cluster_changes": [item.to_dict() for item in cluster_changes],
        "variable_changes": list(variable_changes),
    }


def unpack(values: Mapping[str, Any]) -> tuple[list[Report], list[Leak], list[ClusterChanges], list[str]]:
    """The data that a worker sent, in the order of the arguments of `pack`."""
    from elefast.databases.cluster_leak_detector import ClusterChanges
    from elefast.databases.report import Leak, Report

    reports = [Report.from_dict(item) for item in values["reports"]]
    leaks = [Leak(**item) for item in values["leaks"]]
    cluster_changes = [ClusterChanges.from_dict(item) for item in values["cluster_changes"]]
    return reports, leaks, cluster_changes, values["variable_changes"]
