"""``python -m benchmarks.load``: acquire and give back databases in many processes, and see whether anything grows.

Each worker does as a test process does: it acquires a database, looks whether it is as its template made it, writes a
little, sync or async, and gives it back. Some are left so that they cannot be put back in place, some with a session
open. All share one server, which is elefast's own unless `--url` names another one.

It ends when there were so many acquires *and* so many minutes are over. It fails if anything went wrong, if anything
grew, or if anything is left at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import elefast
from benchmarks import machine
from benchmarks.load.project import environment, write
from benchmarks.load.samples import Sampler
from benchmarks.load.verdict import growths
from benchmarks.rounds import say

HERE = Path(__file__).parents[2]
SAMPLES = 60
"""So often at least is counted, as far as that is not more than once a second."""


class Worker:
    """One process, and what it last told."""

    def __init__(self, project: Path, env: dict[str, str], number: int, hoard: int) -> None:
        command = [sys.executable, "-m", "benchmarks.load.worker", str(project), str(number), str(hoard)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=HERE, env=env, stdin=pipe, stdout=pipe, text=True)
        self.told: dict[str, Any] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.told = json.loads(line)

    def stop(self) -> None:
        """Tell it to come to an end."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait(self, seconds: float) -> int:
        """Its exit status; it is killed if it takes longer."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self._reader.join(10)
        return status


def main(arguments: list[str]) -> int:
    """Parse the command line, let the workers work, and say what became of it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--acquires", type=int, default=100_000, help="databases at least (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=16, help="processes (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=10, help="minutes at least (default: %(default)s)")
    parser.add_argument("--pool-max", type=int, default=32, help="live in a process at once (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="a file for all samples and the verdict")
    parser.add_argument("--url", default="", help="a superuser's URL of a server to use; otherwise one is started")
    parser.add_argument("--bin-dir", default="", help="where PostgreSQL's programs are (default: found)")
    parser.add_argument("--work", default="", help="a directory for all that is written meanwhile (default: in memory)")
    parser.add_argument("--hoard", type=int, default=0, help="let things grow with each so many acquires, to see it")
    options = parser.parse_args(arguments)
    with machine.workplace(options.work) as work:
        work.chmod(0o711)
        results = run(options, work)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(text(results))
    return 1 if results["problems"] else 0


def run(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """All of it; what was counted, and what is wrong."""
    project, root = work / "project", work / "own"
    root.mkdir(mode=0o711)
    write(project)
    env = environment(options.url, options.bin_dir, root, options.pool_max)
    os.environ.update(env)  # elefast asks it where its own things are
    with elefast.from_config(project, env=env) as stack:
        url = stack.service.url_for("postgresql", "postgres").render_as_string(hide_password=False)
        sampler = Sampler(url, root)
        facts = machine.facts(url)
        began = time.monotonic()
        workers = [Worker(project, env, number, options.hoard) for number in range(options.workers)]
        try:
            samples = _watch(options, workers, sampler)
        finally:
            for worker in workers:
                worker.stop()
            statuses = [worker.wait(120) for worker in workers]
        seconds = time.monotonic() - began
        left = sampler.left(stack.settings.pool.size)
        sampler.close()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": facts,
        "workers": options.workers,
        "seconds": round(seconds, 1),
        **_summed(workers),
        **_judged(samples, workers, statuses, left),
        "samples": samples,
    }


def _watch(options: argparse.Namespace, workers: Sequence[Worker], sampler: Sampler) -> list[dict[str, float]]:
    """Samples from when all workers are at it until there was enough; fewer where one has gone."""
    while not all(worker.told for worker in workers):
        if any(worker.process.poll() is not None for worker in workers):
            return []
        time.sleep(0.1)
    start = said = time.monotonic()
    interval = max(1.0, options.minutes * 60 / SAMPLES)
    samples: list[dict[str, float]] = []
    while True:
        time.sleep(interval)
        if any(worker.process.poll() is not None for worker in workers):
            return samples
        acquires = sum(worker.told["acquires"] for worker in workers)
        pids = [worker.process.pid for worker in workers]
        counted = sampler.sample(pids, [worker.told["objects"] for worker in workers])
        now = time.monotonic()
        samples.append({"seconds": round(now - start, 1), "acquires": acquires, **counted})
        if now - said > 30:
            said = now
            say(f"{acquires} acquires, {sum(worker.told['failed'] for worker in workers)} of them failed")
        if acquires >= options.acquires and now - start >= options.minutes * 60:
            return samples


def _summed(workers: Sequence[Worker]) -> dict[str, Any]:
    kinds: dict[str, int] = {}
    for worker in workers:
        for kind, count in worker.told.get("kinds", {}).items():
            kinds[kind] = kinds.get(kind, 0) + count
    return {
        "acquires": sum(worker.told.get("acquires", 0) for worker in workers),
        "failed": sum(worker.told.get("failed", 0) for worker in workers),
        "kinds": kinds,
    }


def _judged(
    samples: list[dict[str, float]], workers: Sequence[Worker], statuses: Sequence[int], left: Sequence[str]
) -> dict[str, Any]:
    """What became of each figure, and all that is wrong."""
    errors = [error for worker in workers for error in worker.told.get("errors", [])]
    problems = [f"error: {error}" for error in errors[:20]]
    problems += [f"worker {number} ended with {status}" for number, status in enumerate(statuses) if status]
    problems += [f"left behind: {name}" for name in left]
    figures = []
    try:
        figures = growths(samples)
    except ValueError as error:
        problems.append(str(error))
    problems += [f"grew: {one.what}, from {one.second:,.1f} to {one.last:,.1f}" for one in figures if one.grew]
    return {"figures": [asdict(one) for one in figures], "problems": problems}


def text(results: dict[str, Any]) -> str:
    """For people."""
    lines = [
        f"{results['acquires']:,} acquires in {results['workers']} workers and {results['seconds']:,.0f} s, "
        f"{results['failed']} failed",
        f"  {', '.join(f'{count:,} {kind}' for kind, count in results['kinds'].items())}",
        "",
        f"{'':28}{'second quarter':>16}{'last quarter':>16}{'most':>14}",
    ]
    for one in results["figures"]:
        verdict = "  grew" if one["grew"] else ""
        lines.append(f"{one['what']:28}{one['second']:16,.1f}{one['last']:16,.1f}{one['most']:14,.1f}{verdict}")
    lines += ["", *(results["problems"] or ["no error, nothing grew, nothing is left"])]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
