"""How hard the properties are tried: a few examples that are the same in every run, or very many random ones.

`TEST_PROPERTY_EXAMPLES=10000` is the long form. What it finds is printed with a line that repeats it
(`@reproduce_failure`). Hypothesis keeps its files in a directory of their own, which goes with the run.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, configuration, settings
from hypothesis import strategies as st

__all__ = ["EXAMPLES", "IS_LONG", "LETTERS", "examples"]

_SHORT = 30
_DEAR = 4
_WANTED = os.environ.get("TEST_PROPERTY_EXAMPLES", "")
IS_LONG = bool(_WANTED)
EXAMPLES = int(_WANTED) if IS_LONG else _SHORT

_home = tempfile.mkdtemp(prefix="elefast-hypothesis-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
configuration.set_hypothesis_home_dir(Path(_home))

settings.register_profile(
    "elefast",
    derandomize=not IS_LONG,
    database=None,
    # A machine that has other things to do is no reason to fail.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    print_blob=True,
    max_examples=EXAMPLES,
)
settings.load_profile("elefast")

LETTERS = st.characters(exclude_categories=["Cs"])
"""Every character that UTF-8 has. Hypothesis takes seconds to find out which ones those are, where none are named."""


def examples(cost: float = 1, least: int = 3) -> settings:
    """Settings for a property that takes `cost` times as long to try as one that only calls a function."""
    profile = settings.get_profile("elefast")
    # To find a smaller example that fails takes hundreds of tries.
    phases = [phase for phase in profile.phases if cost < _DEAR or phase not in (Phase.shrink, Phase.explain)]
    return settings(profile, max_examples=max(least, int(EXAMPLES / cost)), phases=phases)
