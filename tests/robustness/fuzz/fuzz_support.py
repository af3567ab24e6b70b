"""How long these tests are, and where their randomness comes from.

TEST_FUZZ_ROUNDS makes them longer, with another seed each time; TEST_FUZZ_SEED repeats one.
"""

from __future__ import annotations

import os
import random

__all__ = ["ROUNDS", "SEED"]

_USUAL = 24
ROUNDS = int(os.environ.get("TEST_FUZZ_ROUNDS", _USUAL))
SEED = int(os.environ.get("TEST_FUZZ_SEED", "0")) or (random.randrange(1, 10**9) if ROUNDS > _USUAL else 20261123)
