"""The first candidate that works, and the reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from elefast.errors import ConfigurationError, RefusedError, ServerStartError, ServerUnavailableError
from elefast.providers import AutoProvider, Candidate, Lease, UrlProvider
from elefast.providers.docker import probe


def _url(on_new: Callable[[], None]) -> Lease:
    return UrlProvider("postgresql://localhost/app").acquire()


def _broken(on_new: Callable[[], None]) -> Lease:
    raise ServerStartError("it does not start\nits log")


def _no_engine() -> str:
    return probe({"DOCKER_HOST": "unix:///nowhere"})


def _never(on_new: Callable[[], None]) -> Lease:
    raise AssertionError("must not be asked")


def test_the_first_wins() -> None:
    """Later candidates are not even asked."""
    lease = AutoProvider([Candidate("url", _url), Candidate("local", _never)]).acquire()
    assert lease.reason == "auto: url comes first"


def test_the_reason_names_what_was_passed_over() -> None:
    """By a probe, or by an error's first line."""
    candidates = [Candidate("docker", _never, _no_engine), Candidate("local", _broken), Candidate("url", _url)]
    lease = AutoProvider(candidates).acquire()
    assert lease.reason == (
        "auto: docker passed over (no Docker engine at unix:///nowhere (DOCKER_HOST): No such file or directory), "
        "local passed over (it does not start)"
    )


def test_none_works() -> None:
    """The error has every reason in full, and what to install."""
    with pytest.raises(ServerUnavailableError) as caught:
        AutoProvider([Candidate("docker", _never, _no_engine), Candidate("local", _broken)]).acquire()
    lines = str(caught.value).splitlines()
    assert lines.pop(2).startswith("    start it (Docker Desktop, ")
    assert lines[:4] == [
        'provider = "auto" found no way to a server',
        "  docker: no Docker engine at unix:///nowhere (DOCKER_HOST): No such file or directory",
        "  local: it does not start",
        "    its log",
    ]
    assert "elefast[embedded]" in str(caught.value)


@pytest.mark.parametrize("error", [ConfigurationError("wrong"), RefusedError("not ours")])
def test_what_is_wrong_is_not_passed_over(error: Exception) -> None:
    """A wrong configuration shows, also where a later candidate would work."""

    def wrong(on_new: Callable[[], None]) -> Lease:
        raise error

    with pytest.raises(type(error)):
        AutoProvider([Candidate("local", wrong), Candidate("url", _url)]).acquire()
