"""``python -m benchmarks``: measure, and write JSON, Markdown and charts."""

from __future__ import annotations

import argparse
import json
import math
import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import environment

HERE = Path(__file__).parent


def main(arguments: list[str]) -> int:
    """Parse the command line, and run in an environment of the benchmarks' own unless told otherwise."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--items", default="1,2,3,4,5,7", help="which to measure, of 1 to 8 (default: all but 6 and 8)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each suite runs (default: 3)")
    parser.add_argument("--tests", type=int, default=0, help="tests in a suite (default: as many as the item wants)")
    parser.add_argument("--quick", action="store_true", help="one round of few tests: whether it works, not how fast")
    parser.add_argument("--suites", default="", help="only these, by name (default: all that can be run)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where results go (default: %(default)s)")
    parser.add_argument("--images", type=Path, help="where charts go (default: beside the results)")
    parser.add_argument("--draw", action="store_true", help="measure nothing, draw the results that are there")
    parser.add_argument("--url", default="", help="a superuser's URL of a server to use; otherwise one is started")
    parser.add_argument("--bin-dir", default="", help="where PostgreSQL's programs are (default: found)")
    parser.add_argument("--work", default="", help="a directory for all that is written meanwhile (default: in memory)")
    parser.add_argument("--venv", type=Path, help="keep the environment here for the next time")
    parser.add_argument("--here", action="store_true", help="use this environment, with what is installed in it")
    options = parser.parse_args(arguments)
    if options.draw:
        return _draw(options)
    if options.here or environment.is_inside():
        return _measure(options)
    from tempfile import TemporaryDirectory

    if options.venv:
        return environment.enter(options.venv.absolute(), arguments)
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with TemporaryDirectory(prefix="elefast-bench-venv-", dir=options.work or memory) as path:
        Path(path).chmod(0o755)
        return environment.enter(Path(path), arguments)


def _measure(options: argparse.Namespace) -> int:
    from benchmarks import machine
    from benchmarks.growth import growth
    from benchmarks.items import ITEMS, Plan
    from benchmarks.rounds import say
    from benchmarks.suites import SUITES, Where

    items = ITEMS | {"6": growth}
    wanted = options.items.split(",")
    if unknown := [item for item in wanted if item not in items]:
        raise SystemExit(f"no such item: {', '.join(unknown)}; there are {', '.join(items)}")
    named = options.suites.split(",") if options.suites else list(SUITES)
    if unknown := [name for name in named if name not in SUITES]:
        raise SystemExit(f"no such suite: {', '.join(unknown)}; there are {', '.join(SUITES)}")
    there = [name for name in named if not SUITES[name].needs or find_spec(SUITES[name].needs)]
    for name in sorted(set(named) - set(there)):
        say(f"left out, {SUITES[name].needs} is not installed: {name}")

    with machine.workplace(options.work) as work:
        server = machine.given(options.url) if options.url else machine.tuned_server(work / "server", options.bin_dir)
        with server as url:
            where = Where(work, url, root=work / "own", binaries=machine.binaries(options.bin_dir))
            plan = Plan(
                where,
                there,
                rounds=1 if options.quick else options.rounds,
                tests=options.tests or (4 if options.quick else 0),
                revisions=3 if options.quick else 100,
                user=machine.ordinary_user(),
                quick=options.quick,
            )
            results: dict[str, Any] = {
                "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
                "rounds": plan.rounds,
                "machine": machine.facts(url),
                "tables": [],
            }
            for item in wanted:
                others = machine.busy()
                results["tables"] += [{**table, "busy": others} for table in items[item](plan)]
                _write(options, _plain(results))
    return 0


def _write(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """JSON, Markdown and charts; after each item, so that an interrupt loses one only."""
    from benchmarks.chart import draw
    from benchmarks.render import markdown

    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = markdown(results)
    (options.out / "results.md").write_text(text)
    draw(results, options.images or options.out)
    print(text)


def _draw(options: argparse.Namespace) -> int:
    _write(options, json.loads((options.out / "results.json").read_text()))
    return 0


def _plain(value: Any) -> Any:
    """Without what JSON does not have, and to six digits: more were never measured."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.6g}")
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
