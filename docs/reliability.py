"""Writes `docs/reliability.md`, the table of faults, from `docs/reliability.json`, which holds what runs have told.

    TEST_FAULTS=/tmp/rows.json python -m pytest -m fault      # a run, of all tests of faults or of some
    python docs/reliability.py /tmp/rows.json                 # its rows take the place of those of earlier runs

A row of a long run stays if a shorter one of the same test follows; without files only the page is written.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE, ROWS = HERE / "reliability.md", HERE / "reliability.json"
HEAD = """\
# Reliability: what was made to go wrong

<!-- Made by docs/reliability.py from docs/reliability.json; do not edit. -->

Each row is a test, or several of its variants, which make something go wrong for real:
with real servers, processes, containers and connections.
They fail if a test sees what another one did, if something is left after one further run,
if something foreign was touched, or if anybody waits for ever.
*Times* is how often that was tried in the run that the row is from,
*left behind* what there was after the run that followed.
[`reliability.json`](reliability.json) has the same for programs, with a row for each variant.

A row is reproduced by `python -m pytest` and what stands in its last column;
`CONTRIBUTING.md` says how the long runs are started.
"""
SECTIONS = {
    "isolation": "What a test does to its database, and the next test",
    "resets": "Databases that are reset",
    "faults": "Servers, networks and what is left on them",
    "crashes": "Processes that are killed",
    "docker": "Containers",
    "hosts": "Several machines",
    "load": "Load",
    "passwords": "Passwords",
    "safety": "What is not elefast's",
    "companions": "Other plugins of pytest",
    "properties": "Input that is wrong",
}


def page(rows: Iterable[Mapping[str, Any]]) -> str:
    """The whole page."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(_section(row), []).append(row)
    lines = [HEAD]
    for title in [*SECTIONS.values(), *sorted(groups.keys() - set(SECTIONS.values()))]:
        found = groups.get(title, [])
        if not found:
            continue
        lines += [f"## {title}", "", "| Fault | How | Times | What happens | Left behind | Test |"]
        lines += ["| --- | --- | ---: | --- | --- | --- |"]
        for row in sorted(_together(found), key=lambda row: (row["fault"], row["test"])):
            cells = (row["fault"], row["how"], row["times"], row["happened"], row["left"])
            lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} | `{_cell(shlex.quote(row['test']))}` |")
        lines.append("")
    return "\n".join(lines)


def _together(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The variants of a test of which the same is to be said, as one row."""
    groups: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        function = row["test"].partition("[")[0]
        groups.setdefault((function, *(row[key] for key in ("fault", "how", "happened", "left"))), []).append(row)
    return [
        {**some[0], "times": sum(row["times"] for row in some), "test": key[0] if len(some) > 1 else some[0]["test"]}
        for key, some in groups.items()
    ]


def _section(row: Mapping[str, Any]) -> str:
    directory = row["test"].split("/")[2]
    return SECTIONS.get(directory, f"Others: {directory}")


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else " ".join(str(value).split()).replace("|", "\\|")


def merged(old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One row for each test: the newest, unless an earlier run tried it more often. Only of tests that passed.

    Raises:
        SystemExit: A test has failed.
    """
    rows = {row["test"]: row for row in old}
    for row in new:
        if row["outcome"] == "failed":
            sys.exit(f"{row['test']} has failed")
        earlier = rows.get(row["test"])
        if row["outcome"] == "passed" and (earlier is None or row["times"] >= earlier["times"]):
            rows[row["test"]] = row
    return sorted(rows.values(), key=lambda row: str(row["test"]))


def read(path: Path) -> list[Mapping[str, Any]]:
    """The rows of a file; none where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


if __name__ == "__main__":
    rows = merged(read(ROWS), [row for name in sys.argv[1:] for row in read(Path(name))])
    ROWS.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    PAGE.write_text(page(rows), encoding="utf-8", newline="\n")
    print(f"wrote {PAGE}, {len(rows)} rows")
