"""A report of several processes, as plain values and as text."""

from __future__ import annotations

import json

from elefast.databases.report import Kept, Report


def _report(*, builds: int, start: float, databases: int) -> Report:
    report = Report("local", "why", "here", "tpl", "built: asked for" if builds else "reused", "FILE_COPY")
    report.builds, report.hits = builds, 1 - builds
    report.start_seconds, report.template_seconds, report.build_seconds = start, 0.5, 0.5 * builds
    report.databases, report.from_pool, report.stop_seconds = databases, databases - 1, 0.25
    for _ in range(databases):
        report.acquire.add(0.002)
        report.clone.add(0.01)
    report.kept.append(Kept("k", "test_it.py::test", "postgresql://u:p@h/k", "psql"))
    return report


def test_it_goes_through_json() -> None:
    """A worker sends it, and tools read it."""
    report = _report(builds=1, start=1.0, databases=3)
    values = json.loads(json.dumps(report.to_dict()))
    assert Report.from_dict(values).to_dict() == report.to_dict()
    assert (values["acquire"]["count"], values["wall_seconds"]) == (3, 1.756)


def test_of_several_processes_the_slowest_is_what_the_run_waited_for() -> None:
    """Numbers are summed and samples merged, but processes wait side by side."""
    quick, slow = _report(builds=0, start=1.0, databases=3), _report(builds=1, start=2.0, databases=5)
    merged = Report.from_dict(Report.merge([quick, Report(), slow]).to_dict())
    assert (merged.processes, merged.databases, merged.builds, merged.hits) == (2, 8, 1, 1)
    assert (len(merged.acquire), len(merged.clone)) == (8, 8)
    assert merged.template_reason == "built: asked for"
    assert merged.wall_seconds == slow.wall_seconds == 2.76
    assert len(merged.kept) == 2
    assert (len(quick.acquire), len(slow.acquire), slow.processes) == (3, 5, 1)


def test_it_can_be_read() -> None:
    """Every number says what it is of; what was not measured is not shown."""
    merged = Report.merge([_report(builds=0, start=1.0, databases=3), _report(builds=1, start=2.0, databases=5)])
    assert str(merged).splitlines() == [
        "provider  local (why)",
        "server    here",
        "template  built: asked for (0.50 s)",
        "databases 8, 6 of them ready, copied by FILE_COPY",
        "acquire   p50 2.00 ms, p99 2.00 ms, longest 2.00 ms: a test waits for its database",
        "on server 0.08 s: 8 made in 0.08 s, 0 reset in 0.00 s, 0 dropped in 0.00 s",
        "cost      2.76 s of wall clock in the slowest of 2 processes; of all: load 0.00 s, start 3.00 s, "
        "template 1.00 s (1 build 0.50 s), waiting 0.02 s, stop 0.50 s",
    ]


def test_without_a_server_there_is_nothing_to_say() -> None:
    """A run whose tests needed no database costs nothing."""
    assert str(Report()) == "no server was needed"
    assert Report.merge([Report()]).lines(costs=True) == []


def test_the_tests_that_waited_longest_are_listed() -> None:
    """Ten of them, the longest first, over all processes; one that is of no test has no name to list."""
    reports = [Report(provider="local"), Report(provider="local", builds=1)]
    for number in range(30):
        reports[number % 2].waited(f"test_{number}", number / 1000)
    reports[0].waited("", 5)
    merged = Report.from_dict(json.loads(json.dumps(Report.merge(reports).to_dict())))
    assert [test for _, test in merged.longest_waits] == [f"test_{number}" for number in range(29, 19, -1)]
    lines = [line for line in merged.lines(costs=True) if line.startswith("waited")]
    assert lines[0] == "waited    29.00 ms test_29"
    assert len(lines) == 10
    assert not [line for line in merged.lines(costs=False) if line.startswith("waited")]
