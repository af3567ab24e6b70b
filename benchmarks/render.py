"""Results as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.suites import SUITES

__all__ = ["company", "label", "markdown"]


def label(table: dict[str, Any], suite: str) -> str:
    """What a suite is called in a table."""
    own: dict[str, str] = table.get("labels", {})
    return own.get(suite) or SUITES[suite].label


def company(busy: float) -> list[str]:
    """A paragraph about what else the machine had to do, if it had.

    Args:
        busy: How many processors were at work for others before the measurement.
    """
    if busy <= 0.5:
        return []
    return ["", f"The machine had something else to do: {busy:.1f} of its processors were at work before."]


def markdown(results: dict[str, Any]) -> str:
    """All tables, with what they were measured on before them and how they stand to the targets after each."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    lines = [
        "# Benchmark results",
        "",
        f"PostgreSQL {machine['postgres']} with elefast's tuning, {machine['processors']} processors, "
        f"{machine['memory_gb']} GiB, {machine['system']}, Python {machine['python']}; {versions}.",
        f"Commit {machine['commit']}, {results['date']}; medians of {results['rounds']} interleaved rounds.",
        "",
        "Compare within one table only: the speed of a machine changes from minute to minute.",
    ]
    for table in results["tables"]:
        lines += ["", f"## {table['title'][0].upper()}{table['title'][1:]}", *company(table["busy"]), ""]
        lines += _TABLES[table["kind"]](table)
        if table["targets"]:
            lines += ["", "| target | measured | at most | |", "|---|--:|--:|---|"]
            lines += [
                f"| {target['text']} | {_number(target['value'])} | {target['limit']:g} | "
                f"{'met' if target['met'] else '**missed**'} |"
                for target in table["targets"]
            ]
    return "\n".join(lines) + "\n"


def _overheads(table: dict[str, Any]) -> list[str]:
    latencies = any(row["wait_p50_ms"] is not None and row["isolation"] != "none" for row in table["rows"])
    rows = [row for row in table["rows"] if row["isolation"] != "none"]
    best = min((row["overhead_ms"] for row in rows if row["isolation"] == "database"), default=None)
    lines = [
        "| | isolation | whole run, s | overhead per test, ms | each round | of elefast's |"
        + (" a test waits, p50 / p99 ms |" if latencies else ""),
        "|---|---|--:|--:|--:|--:|" + ("--:|" if latencies else ""),
    ]
    ours = next((row["overhead_ms"] for row in rows if row["suite"] == "elefast"), best)
    for row in sorted(table["rows"], key=lambda row: row["overhead_ms"]):
        idle = row["isolation"] == "none"
        ratio = (
            "" if idle or not ours or "asyncio" in SUITES[row["suite"]].plugins else f"{row['overhead_ms'] / ours:.2f}"
        )
        spread = "" if idle else f"{min(row['overheads_ms']):.1f} to {max(row['overheads_ms']):.1f}"
        line = f"| {label(table, row['suite'])} | {'' if idle else row['isolation']} | {row['wall_s']:.2f} | "
        line += f"{'' if idle else format(row['overhead_ms'], '.1f')} | {spread} | {ratio} |"
        if latencies:
            line += " |" if idle else f" {row['wait_p50_ms']:.2f} / {row['wait_p99_ms']:.1f} |"
        lines.append(line)
    return lines


def _starts(table: dict[str, Any]) -> list[str]:
    lines = [
        "| | first test's body after, ms | its first row after, ms | whole run, s |",
        "|---|--:|--:|--:|",
    ]
    for row in table["rows"]:
        first = "" if row["row_ms"] is None else f"{row['row_ms']:.0f}"
        lines.append(f"| {label(table, row['suite'])} | {row['body_ms']:.0f} | {first} | {row['wall_s']:.2f} |")
    return lines


def _columns(table: dict[str, Any]) -> list[str]:
    names: list[str] = table["columns"]
    lines = [f"| {' | '.join(names)} |", f"|{'--:|' * len(names)}"]
    return lines + [f"| {' | '.join(_number(row[name]) for name in names)} |" for row in table["rows"]]


def _number(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


_TABLES = {"overhead": _overheads, "start": _starts, "columns": _columns}
