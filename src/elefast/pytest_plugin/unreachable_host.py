"""The host that the variables of `export_env` name outside of tests, and the advice where code connected to it.

This module knows exceptions. It must not know settings or fixtures.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

__all__ = ["NOWHERE", "advice_on_unreachable", "is_unreachable_host_error"]

NOWHERE = "request-the-db-fixture.elefast.invalid"
"""The host of the URL outside of tests. Names under .invalid never resolve (RFC 6761), and this one gives advice."""

_WIDER = (
    "A fixture of class, module, package or session scope exists before any test has its database. Let the tests of "
    'that scope share one database: @pytest.mark.elefast(scope="module"). Or give the fixture a private database, '
    "to which {name} leads while it exists: `with elefast_stack.database(application=True):`, or `async_database(...)`."
)


def is_unreachable_host_error(error: BaseException) -> bool:
    """Whether this error, or one that caused it, comes from a connection to that host."""
    return any(NOWHERE in str(one) or _is_failed_lookup(one) for one in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__]
            if isinstance(one, BaseExceptionGroup):
                waiting += one.exceptions  # pyright: ignore[reportUnknownMemberType]


_HOSTS = ("host", "addr", "address", "params")
"""Variables in which asyncio and psycopg keep the name that they look up."""


def _is_failed_lookup(error: BaseException) -> bool:
    """Whether the lookup of this host failed. The errors of asyncpg and of psycopg 3.1 do not contain the name."""
    trace = error.__traceback__
    while trace is not None:
        local = trace.tb_frame.f_locals
        is_lookup_error = isinstance(error, socket.gaierror) or isinstance(local.get("last_exc"), socket.gaierror)
        if is_lookup_error and any(NOWHERE in str(local[name]) for name in _HOSTS if name in local):
            return True
        trace = trace.tb_next
    return False


def advice_on_unreachable(names: Sequence[str], *, has_database: bool, in_transaction: bool) -> str:
    """What it means that code in a test connected to the host, and what to do.

    Args:
        names: The variables that name the host.
        has_database: Whether the test has a database.
        in_transaction: Whether the test has ``isolation = "transaction"``, with which the variables keep the host.
    """
    listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    if in_transaction:
        meaning = (
            f'With isolation = "transaction", {listed} cannot lead to the test\'s transaction, so it names a host that '
            "does not exist."
        )
        ways = [
            "Name the engine in `patch`, or give the test a database of its own: "
            '@pytest.mark.elefast(isolation="database").'
        ]
    elif has_database:
        meaning = (
            f"The test has a database, but what connected here had read {listed} before: an engine that was made at "
            "import, or in a fixture of a wider scope."
        )
        ways = [
            'An engine of a module: name it in the configuration, patch = ["my_app.db:engine"].',
            _WIDER.format(name=names[0]),
        ]
    else:
        meaning = f"The test has no database, so {listed} names a host that does not exist."
        ways = [
            "Request `db`, `db_session` or another fixture of elefast's; `autouse = true` gives every test a database.",
            _WIDER.format(name=names[0]),
        ]
    return "\n".join([meaning, *(f"- {way}" for way in ways)])
