"""How long these tests are, where their randomness comes from, and what a new process knows.

TEST_FUZZ_ROUNDS makes them longer, with another seed each time; TEST_FUZZ_SEED repeats one.
"""

from __future__ import annotations

import os
import random

from elefast.templates import file_digests

__all__ = ["ROUNDS", "SEED", "SETTLED", "forget"]

_USUAL = 24
ROUNDS = int(os.environ.get("TEST_FUZZ_ROUNDS", _USUAL))
SEED = int(os.environ.get("TEST_FUZZ_SEED", "0")) or (random.randrange(1, 10**9) if ROUNDS > _USUAL else 20261123)
SETTLED = 40_000_000
"""What is edited here is looked at again at once, so that two seconds would leave nothing to trust."""


def forget() -> None:
    """Let this process know as much of files as a new one does."""
    for known in (
        file_digests._known,
        file_digests._seen,
        file_digests._memos,
        file_digests._used_memos,
        file_digests._loaded,
    ):
        known.clear()
    file_digests._news = False
