"""Checks engine options with SQLAlchemy and the drivers, without a connection.

It must not know settings: the caller says where an option was written.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from sqlalchemy import URL, create_engine

from elefast.postgres.urls import libpq_options
from elefast.runtime.text import one_line

__all__ = ["invalid_options"]

# Arguments that the dialects remove before they call the driver.
_OF_DIALECTS = frozenset(
    "prepared_statement_cache_size prepared_statement_name_func async_creator_fn async_fallback".split()
)
_LONGEST = 300


def invalid_options(
    driver: str,
    async_driver: str,
    options: Mapping[str, Any],
    connect_args: Iterable[str],
    async_connect_args: Iterable[str],
) -> Iterator[tuple[str, str, str]]:
    """The options that no engine can be made with: dotted name, reason and error code of each.

    Args:
        driver: The driver of sync engines, such as ``postgresql+psycopg``.
        async_driver: The driver of async engines.
        options: Keywords of ``create_engine``.
        connect_args: Names of the arguments for the sync driver.
        async_connect_args: Names of the arguments for the async driver.
    """
    wrong = {**_wrong_options(driver, options, is_async=False), **_wrong_options(async_driver, options, is_async=True)}
    for name, why in wrong.items():
        yield f"options.{name}".rstrip("."), f"create_engine() does not take it: {why}", "wrong-value"
    for name in _unknown_arguments(driver, connect_args, is_async=False):
        yield f"connect_args.{name}", f"{driver} has no such argument", "unknown-key"
    for name in _unknown_arguments(async_driver, async_connect_args, is_async=True):
        yield f"async_connect_args.{name}", f"{async_driver} has no such argument", "unknown-key"


def _wrong_options(drivername: str, options: Mapping[str, Any], *, is_async: bool) -> dict[str, str]:
    """The wrong options, each with the reason; an empty name where each is right, but not all together."""
    alone = {name: _refused(drivername, {name: value}, is_async) for name, value in options.items()}
    wrong = {name: why for name, why in alone.items() if why}
    if not wrong and (why := _refused(drivername, options, is_async)):
        wrong[""] = why
    return wrong


def _refused(drivername: str, options: Mapping[str, Any], is_async: bool) -> str:
    url = URL.create(drivername)
    try:
        if is_async:
            from sqlalchemy.ext.asyncio import create_async_engine

            dialect = create_async_engine(url, **options).dialect
        else:
            dialect = create_engine(url, **options).dialect
        # SQLAlchemy checks this at the first connection only.
        if (dialect.label_length or 0) > dialect.max_identifier_length:
            return f"label_length is greater than max_identifier_length, {dialect.max_identifier_length}"
    except ImportError:
        return ""  # a missing driver is reported when it is needed
    except Exception as error:
        text = " ".join(str(error).split()).partition(", using configuration")[0]
        return f"{type(error).__name__}: {one_line(text, _LONGEST)}"
    return ""


def _unknown_arguments(drivername: str, arguments: Iterable[str], *, is_async: bool) -> list[str]:
    """The arguments that the driver's ``connect()`` does not have; none where the driver is not installed."""
    driver = drivername.partition("+")[2]
    try:
        module: Any = import_module(driver)
    except ImportError:
        return []
    connect = module.AsyncConnection.connect if driver == "psycopg" and is_async else module.connect
    known = {*inspect.signature(connect).parameters, *_OF_DIALECTS}
    if driver in ("psycopg", "psycopg2"):
        known |= {*libpq_options(), "async", "async_"}
    return [name for name in arguments if name not in known]
