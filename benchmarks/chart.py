"""Bar charts as SVG, for light and for dark pages, drawn from the results and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.render import label

__all__ = ["draw"]

WIDTH, LEFT, RIGHT, BAR, GAP, TOP = 720, 290, 78, 20, 10, 58
FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"


@dataclass(frozen=True)
class Theme:
    """Colours of a page."""

    text: str
    faint: str
    ours: str
    others: str


THEMES = {
    "light": Theme(text="#1f2328", faint="#59636e", ours="#0969da", others="#afb8c1"),
    "dark": Theme(text="#f0f6fc", faint="#9198a1", ours="#58a6ff", others="#484f58"),
}


def draw(results: dict[str, Any], directory: Path) -> None:
    """Write ``<chart>-light.svg`` and ``<chart>-dark.svg`` for each chart that there are results for."""
    tables = {table["key"]: table for table in results["tables"]}
    charts: dict[str, tuple[str, str, list[tuple[str, float, bool]]]] = {}
    for key, how in (("trivial", ""), ("trivial_n2", ", pytest -n 2")):
        if key in tables:
            charts[f"per-test{'-n2' if how else ''}"] = (
                f"A private database for each test{how}",
                "ms per test, over the same suite without a database; less is better",
                [
                    (label(tables[key], row["suite"]), row["overhead_ms"], row["suite"].startswith("elefast"))
                    for row in tables[key]["rows"]
                    if row["isolation"] == "database"
                ],
            )
    if "cold" in tables:
        charts["cold-start"] = (
            "Cold start on local binaries",
            "ms from the start of pytest to the first row of a migrated database; less is better",
            [
                (label(tables["cold"], row["suite"]), row["row_ms"], row["suite"].startswith("elefast"))
                for row in tables["cold"]["rows"]
                if row["row_ms"] is not None
            ],
        )
    directory.mkdir(parents=True, exist_ok=True)
    for name, (title, unit, bars) in charts.items():
        for theme, colours in THEMES.items():
            (directory / f"{name}-{theme}.svg").write_text(_bars(title, unit, bars, colours), encoding="utf-8")


def _bars(title: str, unit: str, bars: list[tuple[str, float, bool]], theme: Theme) -> str:
    bars = sorted(bars, key=lambda bar: bar[1])
    height = TOP + len(bars) * (BAR + GAP) + 6
    scale = (WIDTH - LEFT - RIGHT) / max([value for _, value, _ in bars] + [0.001])
    description = "; ".join(f"{name}: {_number(value)} ms" for name, value, _ in bars)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-labelledby="title description" font-family="{FONT}">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(description)}</desc>',
        f'<text x="8" y="22" font-size="17" font-weight="600" fill="{theme.text}">{escape(title)}</text>',
        f'<text x="8" y="42" font-size="12.5" fill="{theme.faint}">{escape(unit)}</text>',
    ]
    for number, (name, value, ours) in enumerate(bars):
        top = TOP + number * (BAR + GAP)
        middle = top + BAR / 2 + 4.5
        long = max(value * scale, 1.5)
        weight = "600" if ours else "400"
        lines += [
            f'<text x="{LEFT - 10}" y="{middle}" font-size="13" text-anchor="end" font-weight="{weight}" '
            f'fill="{theme.text}">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{top}" width="{long:.1f}" height="{BAR}" rx="3" '
            f'fill="{theme.ours if ours else theme.others}"/>',
            f'<text x="{LEFT + long + 7:.1f}" y="{middle}" font-size="13" font-weight="{weight}" '
            f'fill="{theme.text}">{_number(value)} ms</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"
