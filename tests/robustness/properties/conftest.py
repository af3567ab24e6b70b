"""What properties are tried with, and what is told of them.

A property counts what came of its examples with the fixture `tally`. The marker `comes_to` has all outcomes that
there are: if one of them never comes of any, the property has not been tried.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

import tests.robustness.properties.effort  # noqa: F401  before any test takes its settings
from tests.robustness.properties.tally import Tally

_TALLY = pytest.StashKey[Tally]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "comes_to(*outcomes, rare=()): what comes of the examples of this property")


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Counts what comes of the examples of this property."""
    made = Tally()
    request.node.stash[_TALLY] = made
    return made


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Behind the last example, see what came of all of them, and tell it."""
    result = yield
    tally = pyfuncitem.stash[_TALLY]
    tally.tell(pyfuncitem.user_properties.append)
    marker = pyfuncitem.get_closest_marker("comes_to")
    assert marker is not None
    tally.check(marker.args, **marker.kwargs)
    return result
