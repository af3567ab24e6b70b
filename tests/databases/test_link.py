"""A connection of elefast's own that the server has ended."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
from sqlalchemy import URL, create_engine

from elefast.backing import links_to
from elefast.kernel.server import prepare


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")  # pg8000's
def test_it_is_closed_without_a_word(sync_url: URL, query: Callable[[str], list[tuple[object, ...]]]) -> None:
    """Whatever the driver thinks of that, there is nothing that anybody could do about it."""
    (link, *_) = links_to(create_engine(sync_url))
    opened = link(lambda connection: prepare(connection, "elefast ended"))
    opened.open(30)
    ended = "select pg_terminate_backend(pid, 10000) from pg_stat_activity where application_name = 'elefast ended'"
    assert query(ended) == [(True,)]
    opened.close()
    assert not opened.is_open
    gc.collect()
