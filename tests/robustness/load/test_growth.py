"""What grows is told, and what only moves is not."""

from __future__ import annotations

import pytest
from benchmarks.load.verdict import TOLERANCES, growths

START = dict.fromkeys(TOLERANCES, 100.0)


def _samples(what: str, *, each: float, count: int = 40) -> list[dict[str, float]]:
    return [{**START, what: 100 + number * each} for number in range(count)]


@pytest.mark.parametrize("what", TOLERANCES)
def test_what_grows_is_told(what: str) -> None:
    """One figure that rises all the time, beyond its tolerance, and no other one."""
    tolerance = TOLERANCES[what]
    more = 2 * (tolerance.share * 130 + tolerance.more)
    found = growths(_samples(what, each=more / 20))
    assert [one.what for one in found if one.grew] == [what]


@pytest.mark.parametrize("what", TOLERANCES)
def test_what_was_as_high_before_is_not(what: str) -> None:
    """One figure that rises in the first quarter, as caches do, and one that falls."""
    risen = [{**START, what: min(100.0, 10.0 * number)} for number in range(40)]
    fallen = _samples(what, each=-1)
    assert not [one for samples in (risen, fallen) for one in growths(samples) if one.grew]


def test_few_samples_say_nothing() -> None:
    """It is an error, and not a verdict."""
    with pytest.raises(ValueError, match="too few"):
        growths(_samples("connections", each=0, count=7))
