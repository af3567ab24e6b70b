"""Writes `docs/licences.md`: what elefast and each of its extras bring, and under which licences.

From the metadata of what is installed; run it in an environment that has all extras: `python docs/licences.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageMetadata, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PAGE = Path(__file__).parent / "licences.md"
HEAD = """\
# Licences of dependencies

<!-- Made by docs/licences.py; do not edit. -->

elefast is under the MIT licence.
It ships no code of others.
What `pip install` brings beside it is listed here, with what that needs in turn, as its metadata say.
psycopg is under the LGPL: it is used as a library, unchanged, and every user can replace it.
"""


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    known: set[str] = set()
    for extra in ("", "asyncio", "docker", "alembic", "embedded"):
        found = {name: licence for name, licence in sorted(_all("elefast", extra)) if name not in known}
        known |= found.keys()
        lines += [f"## {f'Extra `{extra}`' if extra else 'Always'}", "", "| Package | Licence |", "| --- | --- |"]
        lines += [f"| [{name}](https://pypi.org/project/{name}/) | {licence} |" for name, licence in found.items()]
        lines.append("")
    return "\n".join(lines)


def _all(name: str, extra: str = "", seen: set[str] | None = None) -> Iterator[tuple[str, str]]:
    """Name and licence of everything that a package needs here."""
    seen = set() if seen is None else seen
    for text in distribution(name).requires or ():
        wanted = Requirement(text)
        # Of the package itself only what the extra adds.
        marker = str(wanted.marker or "")
        if (wanted.marker and not wanted.marker.evaluate({"extra": extra})) or (extra and "extra" not in marker):
            continue
        key = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if key in seen:
            continue
        seen.add(key)
        try:
            found = distribution(wanted.name)
        except PackageNotFoundError:
            continue
        yield key, _licence(found.metadata)
        yield from _all(wanted.name, "", seen)
        for further in wanted.extras:
            yield from _all(wanted.name, further, seen)


def _licence(metadata: PackageMetadata) -> str:
    get = metadata.get_all
    if expression := get("License-Expression"):
        return str(expression[0])
    names = [line.rpartition(" :: ")[2] for line in get("Classifier") or () if line.startswith("License ::")]
    if names and names != ["OSI Approved"]:
        return ", ".join(names)
    return str((get("License") or ["not said"])[0]).splitlines()[0]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    print(f"wrote {PAGE}")
