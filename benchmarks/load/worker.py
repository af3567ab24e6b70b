"""``python -m benchmarks.load.worker PROJECT SEED HOARD``: acquires until its standard input ends.

It writes a line of JSON a second: how many databases it has had, what went wrong, how many objects Python has.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import elefast
from benchmarks.load.project import Work

__all__ = ["main"]

INTERVAL = 1.0


def main(project: str, seed: str, hoard: str) -> int:
    """Work until told to stop; 1 where anything went wrong."""
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    errors: list[str] = []
    failed = 0
    with elefast.from_config(Path(project)) as stack:
        work = Work(stack, random.Random(int(seed)), int(hoard))
        told = time.monotonic()
        while not over.is_set():
            try:
                work.one()
            except Exception as error:
                failed += 1
                if len(errors) < 5:
                    errors.append(f"{type(error).__name__}: {error}"[:1000])
                time.sleep(0.1)
            if time.monotonic() - told >= INTERVAL:
                told = time.monotonic()
                _tell(work, failed, errors)
    _tell(work, failed, errors, kinds=work.kinds)
    work.close()
    return 1 if failed else 0


def _tell(work: Work, failed: int, errors: list[str], **more: Any) -> None:
    gc.collect()
    told = {"acquires": work.acquires, "failed": failed, "errors": errors, "objects": len(gc.get_objects()), **more}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
